"""Moments: the named instants of a workflow that others may watch, or crash at.

The panel, the trace of the command line, crash tests: all are observers, and the engine knows none of them.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NoReturn

import msgspec

MOMENTS = (
    "workflow.started",  # its run is recorded, nothing of it has been called
    "workflow.completed",  # its result is saved
    "workflow.failed",  # its error is saved
    "workflow.cancelled",  # that it was cancelled is saved
    "workflow.suspended",  # it only waits, and has given its thread back
    "step.scheduled",  # its key is drawn, nothing is recorded yet
    "step.started",  # the row says running, no effect yet
    "step.executed",  # the effect is done, not saved: a crash here makes a zombie step
    "step.checkpointed",  # its output is saved
    "step.failed",  # its error is saved
    "step.replayed",  # answered from its row, not run
)


class Moment(msgspec.Struct, frozen=True):
    """One instant in the life of a workflow (`step_key` is None) or of one attempt of a step."""

    name: str
    workflow_id: str
    epoch: int
    at: datetime
    step_key: str | None = None
    step_name: str | None = None
    attempt: int | None = None


Observer = Callable[[Moment], object]
"""Is called in the step's own thread, so it may print, block (single-stepping), or kill the process (a crash point).
An exception out of it is logged and does not touch the workflow."""


def notify(observers: Sequence[Observer], moment: Moment) -> None:
    """Tell every observer, in order."""
    for observer in observers:
        try:
            observer(moment)
        except Exception:  # what watches must not change what is watched
            logging.getLogger("durable").exception("observer %r failed at %s", observer, moment.name)


class crash_at:  # noqa: N801 - reads as a verb where it is used: observers=[crash_at("charge", "executed")]
    """An observer that kills its own process, for real, when a step reaches a moment.

    `step` is a step's name or its key, or `workflow`; with the id of a workflow before it, as in `emp_001/order_2` or
    `emp_001/workflow`, it is that one's alone. `moment` is one of scheduled, started, executed, checkpointed, failed,
    replayed (completed for a workflow). Raises ValueError for any other.
    """

    def __init__(self, step: str, moment: str = "executed") -> None:
        subject = "workflow" if step.rpartition("/")[2] == "workflow" else "step"
        names = [name.partition(".")[2] for name in MOMENTS if name.startswith(f"{subject}.")]
        if moment not in names:
            raise ValueError(f"crash point {step}:{moment}: a {subject} has the moments {', '.join(names)}")
        self.step, self.moment = step, f"{subject}.{moment}"

    @classmethod
    def parse(cls, text: str) -> crash_at:
        """From `STEP[:MOMENT]`, as the command line and DURABLE_CRASH_AT spell it."""
        step, _, moment = text.partition(":")
        if not step:
            raise ValueError(f"crash point {text!r}: expected STEP[:MOMENT], as in provision_laptop:executed")
        return cls(step, moment or ("started" if step == "workflow" else "executed"))

    def __call__(self, moment: Moment) -> None:
        """Kill the process, if this is the moment."""
        if moment.name == self.moment and self.is_of(moment):
            crash()

    def is_of(self, moment: Moment) -> bool:
        """Whether the moment is one of the step, or of the workflow."""
        key = moment.step_key or "workflow"
        return self.step in (key, moment.step_name, f"{moment.workflow_id}/{key}")


def crash() -> NoReturn:
    """End this process at once, as a power failure would: no clean-up, no flush, no exit handlers."""
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)
