"""Patches: new code for executions that have not come to a place yet, the old one for those that are past it."""

from __future__ import annotations

from durable.operations.record import record
from durable.replay.call import Operation
from durable.replay.frame import Frame
from durable.values import codec


def patched(frame: Frame, name: str) -> bool:
    """Whether the new code is to run here. Where not, no key is drawn, so that the old code's keys stay."""
    call = Operation("patch", name, codec.PLAIN)
    if frame._draw(name, frame._run.history.is_past, draw=frame._scope.peek)[2]:
        return False
    return bool(record(frame, call, lambda: True)[1])
