"""Record: a value that the engine itself provides, saved together with its row. It has no effect outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.replay import Frame, Operation, Step


def record(frame: Frame, call: Operation, provide: Callable[[], Any]) -> tuple[Step, Any]:
    """Return the step with the value that `provide` returned on the first run. Later runs do not call it."""
    step = frame.reach(call)
    return step, frame.record(step, provide)
