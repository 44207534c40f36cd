"""Record: a value that the engine itself provides, saved together with its row. It has no effect outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.replay import Frame, Operation, Step


def record(frame: Frame, call: Operation, provide: Callable[[], Any]) -> tuple[Step, Any]:
    """Return the step, and what `provide` gives on the first run; on every later run, what it gave then."""
    step = frame.reach(call)
    return step, frame.record(step, provide)
