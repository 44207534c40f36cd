"""Observers: callables that an engine calls at each moment of its workflows, and the one that crashes at a moment.

    >>> seen = []
    >>> def watch(moment: Moment) -> None:
    ...     seen.append((moment.name, moment.step_key))
    >>> def greet(ctx: Context) -> str:
    ...     return ctx.step(str.upper, "ann")
    >>> with Engine("observed.db", observers=[watch]) as observed:
    ...     observed.run("greet_1", greet)
    'ANN'
    >>> [name for name, key in seen if key == "upper_1"]
    ['step.scheduled', 'step.started', 'step.executed', 'step.checkpointed']

An observer is called in the thread of the step, which waits for it. So it may print, block (single-stepping) or kill
the process (a crash point). An exception out of it is logged and does not touch the workflow. The names, in `MOMENTS`:

    workflow.started       its run is recorded, nothing of it has been called
    workflow.completed     its result is saved; or .failed, .cancelled
    workflow.suspended     it only waits, and has given its thread back
    step.scheduled         its key is drawn, nothing is recorded yet
    step.started           the row says running, no effect yet
    step.executed          the effect is done, not saved: a crash here makes a zombie step
    step.part_stored       a part of a large value is stored, which no row names yet
    step.checkpointed      its output is saved; or step.failed: its error
    step.replayed          answered from its row, not run
"""

from __future__ import annotations

import difflib
import os
import signal
from typing import NoReturn

from durable.replay.moments import MOMENTS, Moment, Observer

__all__ = ["MOMENTS", "Moment", "Observer", "crash", "crash_at"]


class crash_at:  # noqa: N801 - reads as a verb where it is used: observers=[crash_at("charge", "executed")]
    """An observer that kills its own process, for real, when a step reaches a moment.

    `step` is a step's name or its key, or `workflow`; with the id of a workflow before it, as in `emp_001/order_2` or
    `emp_001/workflow`, it is that one's alone. `moment` is one of scheduled, started, executed, part_stored,
    checkpointed, failed, replayed (completed for a workflow). Raises ValueError for any other.
    """

    def __init__(self, step: str, moment: str = "executed") -> None:
        subject = "workflow" if step.rpartition("/")[2] == "workflow" else "step"
        names = [name.partition(".")[2] for name in MOMENTS if name.startswith(f"{subject}.")]
        if moment not in names:
            close = difflib.get_close_matches(moment, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"crash point {step}:{moment}: a {subject} has the moments {', '.join(names)}{hint}")
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
        """Return whether the moment is one of the step, or of the workflow."""
        key = moment.step_key or "workflow"
        return self.step in (key, moment.step_name, f"{moment.workflow_id}/{key}")


def crash() -> NoReturn:
    """End this process at once, as a power failure would: no clean-up, no flush, no exit handlers."""
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)
