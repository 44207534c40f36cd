"""Logs: how workflows start, resume, fail and end, as records of `logging.getLogger("durable")`; no handler is added.

A record has the fields `workflow_id`, `run`, `step_key` and `attempt`, for a formatter that writes JSON, say. The
filter `fields` adds them to what a step logs itself.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from durable.replay.run import Run
from durable.replay.step import Step
from durable.replay.step_info import find_current_step

logger = logging.getLogger("durable")

_FIELDS = ("workflow_id", "run", "step_key", "attempt")
_ENDINGS = {"failed": logging.ERROR, "stopped": logging.ERROR}  # the level of each other one is INFO


def fields(record: logging.LogRecord) -> bool:
    """Give a record the fields of the step that logs it; outside of a step they are None. It is a filter of `logging`.

    Add it to a handler, as in `handler.addFilter(durable.logs.fields)`: then the records of all loggers have them, and
    a format may name them, as in `%(workflow_id)s %(step_key)s %(message)s`. It lets every record through.
    """
    step = find_current_step()
    values = (None,) * 4 if step is None else (step.workflow_id, step.run, step.key, step.attempt)
    for name, value in zip(_FIELDS, values, strict=True):
        if not hasattr(record, name):
            setattr(record, name, value)
    return True


def extra(workflow_id: str, run: int | None = None, step_key: str | None = None, attempt: int | None = None) -> Any:
    """Return the fields of one of our records, to be passed to `logging` as `extra`."""
    return {"workflow_id": workflow_id, "run": run, "step_key": step_key, "attempt": attempt}


def warn(message: str, workflow_id: str, *rest: object) -> None:
    """Log a warning about a workflow, whose id is the first argument of the message."""
    if is_on(logging.WARNING):
        logger.warning(message, workflow_id, *rest, extra=extra(workflow_id))


def is_on(level: int) -> bool:
    """Return whether a program that has set up logging wants to see records of this level.

    Python prints warnings on stderr if no logging is set up. Such warnings would only repeat what the caller gets.
    """
    return logger.isEnabledFor(level) and logger.hasHandlers()


class Reporter:
    """Logs the news of one run, see `Run.on_news`."""

    is_shown = False  # whether this program shows each failure itself, like our commands

    def __init__(
        self, run: Run, function: str, *, is_new: bool, is_awaited: bool, find_dead: Callable[[], str | None]
    ) -> None:
        """`find_dead` tells which process has left the workflow unfinished, if one has died.

        `is_awaited` says whether a caller gets the error. If none does, it is logged even where no logging is set up.
        """
        self._run, self._function = run, function
        self._is_new, self._is_awaited, self._find_dead = is_new, is_awaited, find_dead

    def __call__(self, name: str, step: Step | None, error: BaseException | None) -> None:
        """Log it. An error of a filter or a formatter of the user does not touch the workflow."""
        with contextlib.suppress(Exception):
            if step is not None:
                self._log_attempt(step, error)
            elif name == "workflow.started":
                self._log_start()
            else:
                self._log_end(name.partition(".")[2], error)

    def _log_attempt(self, step: Step, error: BaseException | None) -> None:
        outcome = step.outcome
        if outcome is not None and outcome.wake_at is not None and is_on(logging.WARNING):
            logger.warning(
                "step %r of workflow %r: attempt %d failed (%s: %s); the next is due at %s",
                *(step.key, self._run.workflow_id, step.attempt, type(error).__name__, error, outcome.wake_at),
                extra=extra(self._run.workflow_id, self._run.epoch, step.key, step.attempt),
            )

    def _log_start(self) -> None:
        if not is_on(logging.WARNING):
            return
        run, dead = self._run, None if self._is_new else self._find_dead()
        known = extra(run.workflow_id, run.epoch)
        if dead is not None:
            logger.warning("workflow %r is taken over from %s, which has died", run.workflow_id, dead, extra=known)
        what = "started" if self._is_new else f"resumed, run {run.epoch}"
        logger.info("workflow %r %s: %s", run.workflow_id, what, self._function, extra=known)

    def _log_end(self, ended: str, error: BaseException | None) -> None:
        level = _ENDINGS.get(ended, logging.INFO)
        if not is_on(level) and (level < logging.ERROR or self._is_awaited or self.is_shown):
            return
        run = self._run
        why = f": {run.reason}" if ended == "interrupted" and run.reason else ""
        cause, known = error if level == logging.ERROR else None, extra(run.workflow_id, run.epoch)
        logger.log(level, "workflow %r %s%s", run.workflow_id, ended, why, exc_info=cause, extra=known)
