"""Wait: a step whose effect is that something has come: an instant, a message, the end of a child workflow.

Its row says `running` while it waits, and a row in `waits` says for what. A crash in between changes nothing: the next
run takes both over, and waits for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from durable.errors import CancelRequested, DurableError, SerializationError, Suspended
from durable.parallel.future import Future
from durable.replay.attempt import Recorded, thread_label
from durable.replay.call import Operation
from durable.replay.frame import Frame
from durable.replay.run import Run
from durable.store.step_row import NewStep
from durable.store.waits import Wait
from durable.values import failures as failure
from durable.waiting.clock import as_text


class Outcome(NamedTuple):
    """How a wait ended: with an output, or with an error; `message_id` names the message that it received."""

    output: str | None
    error: str | None = None
    message_id: int | None = None


class WaitFor(Operation):
    """What is waited for, as an operation."""

    __slots__ = ()

    def wait(self, run: Run, key: str) -> Wait:
        """The row that says so, at the first time."""
        raise NotImplementedError

    def begin(self, run: Run, key: str, *, is_new: bool) -> Callable[[BaseException], object] | None:
        """Do what has to be done for it to come. Returns what is to be told where the run ends before."""

    def look(self, run: Run, key: str, wake_at: datetime | None) -> Outcome | None:
        """Whether it has come."""
        raise NotImplementedError

    def look_again_at(self, run: Run) -> datetime | None:
        """When to look again, though nobody has said that it has come."""

    def tell(self, wake: Callable[[], object]) -> None:
        """Have `wake` called when it may have come, where no row tells of it."""

    def refuse(self, run: Run, outcome: Outcome, misfit: SerializationError) -> Outcome:
        """What has come does not fit what the code expects: the code has changed, so this ends the run."""
        raise run.stop(misfit) from misfit.__cause__


def start(frame: Frame, call: WaitFor) -> Future[Any]:
    """Begin to wait, or answer from the record; the future is what has come."""
    found = frame._replay(call, lambda key, position, row: (key, position, row))
    if isinstance(found, Recorded):
        future = frame._new_future(found.key)
        future.settle(found.result)
        return future
    key, position, row = found
    number = row.attempt if row is not None else frame._run.history.count_tries(key) + 1
    waiting = _Waiting(frame, call, key, number)
    try:
        waiting.begin(position)
    except CancelRequested as error:  # for who asks: what comes next may be on record, see Frame._draw
        future = frame._new_future(key)
        future.set_exception(error)
        return future
    return waiting.watch(frame._new_future(key))


class _Waiting:
    """One that has not ended. Exactly one of its own look, a stopped run and a lost race settles the future."""

    _future: Future[Any]

    def __init__(self, frame: Frame, call: WaitFor, key: str, number: int) -> None:
        self._frame, self._run, self._scope = frame, frame._run, frame._scope
        self._call, self._key, self._number = call, key, number
        self._wake_at: datetime | None = None
        self._on_end: Callable[[BaseException], object] | None = None

    def __str__(self) -> str:
        return f"step {self._key!r} of {self._run.workflow_id!r}: its result"

    def begin(self, position: int) -> None:
        """Write the rows, and do what has to be done for it to come."""
        run, call, key = self._run, self._call, self._key
        self._notify("step.scheduled")
        run.check()
        row = NewStep(
            key, call.name, call.kind, position, self._number, call.fingerprint, run.now(), thread_label(self._scope)
        )
        wake_at, is_new = run.save(run.alarm.waits.begin, row, call.wait(run, key))
        self._wake_at = None if wake_at is None else datetime.fromisoformat(wake_at)
        self._notify("step.started")
        try:
            self._on_end = call.begin(run, key, is_new=is_new)
        except DurableError as error:
            raise run.stop(error) from error.__cause__

    def watch(self, future: Future[Any]) -> Future[Any]:
        """Settle the future when it has come. What is due is seen to also where its race is lost, or it stays due."""
        self._future = future
        if self._run.stopped is None:
            self._look(is_first=True)
        else:
            self._run.begin_wait(self._key, self._give_up)  # gives it up at once
        return future

    def _look(self, *, is_first: bool = False) -> None:
        """Settle the future if it has come, else wait on. Whoever calls it has ended the wait."""
        run = self._run
        run.alarm.take((run.workflow_id, self._key))
        try:
            if run.store.is_cancel_requested(run.workflow_id, run.epoch):
                raise run.cancel()
            outcome = self._call.look(run, self._key, self._wake_at)
            if outcome is not None and self._end(outcome):
                return
        except BaseException as error:
            self._future.set_exception(run.stop(error) if isinstance(error, DurableError) else error)
            if is_first and isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return
        run.begin_wait(self._key, self._give_up)
        run.set_alarm(self._key, self._wake_at or self._call.look_again_at(run), self._wake)
        self._call.tell(self._wake)
        run.suspend_if_idle()

    def _wake(self) -> None:
        """Have a clerk look: the alarm's thread must not block. From here on the run is not idle."""
        if self._run.end_wait(self._key):
            self._frame._launch(self._future, lambda: self._run.workers.book(self._look))

    def _end(self, outcome: Outcome) -> bool:
        """Save it, and hand it over. False where another wait was quicker to receive the message."""
        run, call = self._run, self._call
        value, error = None, None
        if outcome.error is None:
            try:
                value = call.codec.decode(outcome.output or "null", self)
            except SerializationError as misfit:
                outcome = call.refuse(run, outcome, misfit)
        status = "completed" if outcome.error is None else "failed"
        self._notify("step.executed")
        ended = (status, outcome.output, outcome.error, run.now(), self._key, outcome.message_id)
        if not run.save_if(run.alarm.waits.end, *ended):
            return False
        run.history.note_outcome(self._scope, self._key, run.epoch)
        self._notify("step.checkpointed" if outcome.error is None else "step.failed")
        if outcome.error is not None:
            error = failure.decode_error(outcome.error)
            run.note_failure(error, [self._key])
            self._future.set_exception(error)
        else:
            self._future.set_result(value)
        return True

    def _give_up(self, error: BaseException) -> None:
        if self._on_end is not None and not isinstance(error, Suspended):
            self._on_end(error)
        self._future.set_exception(error)

    def _notify(self, name: str) -> None:
        self._run.notify(name, self._key, self._call.name, self._number)


def deadline(run: Run, seconds: float | None) -> str | None:
    """So many seconds from now, as it is stored."""
    from datetime import timedelta

    return None if seconds is None else as_text(run.clock.now() + timedelta(seconds=seconds))
