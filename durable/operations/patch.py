"""Patches: new code for executions that have not reached a place yet, old code for those that are past it."""

from __future__ import annotations

from durable.operations.record import record
from durable.replay import Frame, Operation
from durable.values import codec


def patched(frame: Frame, name: str) -> bool:
    """Return whether the new code may run here. If not, no key is drawn, so that the old code's keys stay."""
    call = Operation("patch", name, codec.PLAIN)
    _, _, is_past = frame.draw(name, frame.run.history.is_past, peek=True)
    return not is_past and bool(record(frame, call, lambda: True)[1])
