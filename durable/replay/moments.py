"""Moments: the named instants of a workflow that observers may watch.

The panel, the trace of the command line and crash points are observers, and the core knows none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from durable.signals import is_interrupt

MOMENTS = (
    "workflow.started",  # its run is recorded, nothing of it has been called
    "workflow.completed",  # its result is saved
    "workflow.failed",  # its error is saved
    "workflow.cancelled",  # that it was cancelled is saved
    "workflow.suspended",  # it only waits, and has given its thread back
    "step.scheduled",  # its key is drawn, nothing is recorded yet
    "step.started",  # the row says running, no effect yet
    "step.executed",  # the effect is done, not saved: a crash here makes a zombie step
    "step.part_stored",  # a part of a large value is stored, which no row names yet: a crash here leaves it to gc
    "step.checkpointed",  # its output is saved
    "step.failed",  # its error is saved
    "step.replayed",  # answered from its row, not run
)


class Moment(msgspec.Struct, frozen=True):
    """One instant in the life of a workflow (`step_key` is None) or of one attempt of a step.

    `name` is one of `MOMENTS`. `epoch` is the number of the run, `at` the instant in UTC, and `attempt` counts from 1.
    """

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
    """Call every observer, in order."""
    for observer in observers:
        try:
            observer(moment)
        except Exception as error:  # an observer must not change the workflow
            if is_interrupt(error):
                raise
            logging.getLogger("durable").exception("observer %r failed at %s", observer, moment.name)
