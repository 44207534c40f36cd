"""The workflow of notebook 12. It imports nothing of the lab, so that a copy of the engine has it at once."""

from durable import Context
from durable.examples.effects import have_effect


def photograph(room: str) -> str:
    """Take a picture of a room."""
    have_effect(f"photographed the {room}")
    return f"{room}.jpg"


def tour(ctx: Context) -> list[str]:
    """Photograph three rooms, one after the other."""
    return [ctx.step(photograph, room) for room in ("kitchen", "hall", "attic")]
