"""The workflows on which a reader's engine is tried: small, and each reveals one classic mistake.

They use only the context that notebook 06 builds: `ctx.step(fn, *args)` and `ctx.submit(fn, *args)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WORLD: list[Callable[[str], None]] = []
"""Who is to be told of an effect. The rig puts itself here, in the process of each life."""


def act(what: str) -> None:
    """Change something in the world."""
    for tell in WORLD:
        tell(what)


# ---- steps


def reserve(item: str) -> str:
    """Have an effect, and return a text."""
    act(f"reserve {item}")
    return f"shelf of the {item}"


def charge(euros: int) -> int:
    """Have an effect, and return a number."""
    act(f"charge {euros}")
    return euros


def ship(item: str) -> str:
    """Have an effect, and return a text."""
    act(f"ship {item}")
    return f"parcel with a {item}"


def say_nothing(what: str) -> None:
    """Have an effect, and return None."""
    act(what)


def count_none(what: str) -> int:
    """Have an effect, and return zero."""
    act(what)
    return 0


def measure() -> tuple[int, int]:
    """Return a tuple, which JSON gives back as a list."""
    act("measure")
    return (30, 40)


# ---- workflows


def order(ctx: Any) -> list[Any]:
    """Run three steps."""
    return [ctx.step(reserve, "lamp"), ctx.step(charge, 40), ctx.step(ship, "lamp")]


def loop(ctx: Any) -> list[Any]:
    """Run the same step three times."""
    return [ctx.step(ship, item) for item in ("lamp", "desk", "chair")]


def falsy(ctx: Any) -> list[Any]:
    """Run steps whose results are falsy."""
    return [ctx.step(say_nothing, "wave"), ctx.step(count_none, "look"), ctx.step(ship, "lamp")]


def pair(ctx: Any) -> str:
    """Return the type of the value that the workflow gets."""
    return f"the workflow got {ctx.step(measure)!r}"


def two(ctx: Any) -> list[Any]:
    """Run under two ids."""
    return [ctx.step(charge, 40)]


def parallel(ctx: Any) -> list[Any]:
    """Run two steps at the same time, then one."""
    futures = [ctx.submit(ship, "lamp"), ctx.submit(ship, "desk")]
    return [*(future.result() for future in futures), ctx.step(charge, 40)]


def run(name: str, engine: Callable[..., Any]) -> Any:
    """Run one of the workflows by name; `two` under a second id as well."""
    workflow = globals()[name]
    if name == "two":
        return [engine("first", workflow), engine("second", workflow)]
    return engine("only", workflow)
