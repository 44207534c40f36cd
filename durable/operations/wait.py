"""Wait: a step that ends when something has come: an instant, a message, the end of a child workflow.

Its row says `running` while it waits, and a row in `waits` says for what. After a crash the next run takes both rows
over, and waits for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from durable.errors import CancelRequested, RunStopped, SerializationError, Suspended, Unwinding
from durable.parallel.future import Future
from durable.replay import Frame, Operation, Outcome, Step, Wait
from durable.replay.frame import check_call
from durable.replay.log import keeping_waits
from durable.replay.run import Run
from durable.replay.step import life
from durable.signals import is_interrupt
from durable.values.codec import names_in
from durable.values.failures import decode_error, encode_error
from durable.values.instants import as_text
from durable.waiting.waits import waits_of

if TYPE_CHECKING:
    from durable.operations.bounds import Bounds


class WaitFor(Operation):
    """An operation that waits for something."""

    __slots__ = ()

    def wait(self, run: Run, key: str) -> Wait:
        """Return the row that says so, at the first time."""
        raise NotImplementedError

    def begin(self, run: Run, key: str, *, is_new: bool) -> Callable[[BaseException], object] | None:
        """Start what it waits for, if that has to be started. Return a function to call if the run ends before."""

    def look(self, run: Run, key: str, wake_at: datetime | None) -> Outcome | None:
        """Return what has come, or None."""
        raise NotImplementedError

    def look_again_at(self, run: Run) -> datetime | None:
        """Return when to look again although nothing was notified, or None."""

    def on_end(self, wake: Callable[[], object]) -> None:
        """Call `wake` when it may have come, if no row says so."""

    def refuse(self, run: Run, outcome: Outcome, misfit: SerializationError) -> Outcome:
        """Return the outcome of what does not fit the code; by default the code has changed, and that ends the run."""
        raise run.stop(misfit) from misfit.__cause__


def start(frame: Frame, call: WaitFor, bounds: Bounds | None = None) -> Future[Any]:
    """Begin to wait, or answer from the record. Return a future of what has come.

    With bounds, it begins alongside what follows, when they allow it.
    """
    step = frame.reach(call)
    if step.outcome is not None:
        return frame.answer(step)
    check_call(call, frame.run)
    waiting = _Waiting(frame, call, step)
    if bounds is not None and not step.is_begun:
        future = frame.future(step.key)
        bounds.enter(future, lambda: waiting.begin_alongside(future, bounds))
        return future
    try:
        waiting.begin()
    except CancelRequested as error:  # the future raises it: the operations that follow may be on record
        future = frame.future(step.key)
        future.set_exception(error)
        return future
    return waiting.watch(frame.future(step.key))


class _Waiting:
    """A wait that has not ended. Exactly one of its own look, a stopped run and a lost race settles the future."""

    _future: Future[Any]

    def __init__(self, frame: Frame, call: WaitFor, step: Step) -> None:
        self._frame, self._run, self._call, self._step = frame, frame.run, call, step
        self._log, self._waits = keeping_waits(frame.run.log), waits_of(frame.run)
        self._wake_at: datetime | None = None
        self._on_end: Callable[[BaseException], object] | None = None
        self._come: Outcome | None = None
        if step.is_begun:  # an earlier run left it waiting: this one goes on with the same attempt
            step.attempt -= 1
        step.wake_at = None
        self._requests = life(step, self._judge)
        next(self._requests)  # begin

    def begin(self) -> None:
        """Write the rows, and start what it waits for."""
        run, step, call = self._run, self._step, self._call
        run.notify("step.scheduled", step)
        run.check()
        step.started_at = run.now()
        with run.stopping:
            wake_at, is_new = self._log.begin_wait(step, call.wait(run, step.key))
            self._wake_at = None if wake_at is None else datetime.fromisoformat(wake_at)
            run.notify("step.started", step)
            self._on_end = call.begin(run, step.key, is_new=is_new)
        next(self._requests)  # call: wait until it has come

    def begin_alongside(self, future: Future[Any], bounds: Bounds) -> None:
        """Begin, and settle the future when it has come; in another thread, since the caller's may be the alarm's."""

        def work() -> None:
            try:
                bounds.note_begin()
                self.begin()
                self.watch(future)
            except BaseException as error:
                if not future.has_ended():
                    future.set_exception(error)

        self._frame.launch(future, lambda: self._run.workers.book(work))

    def watch(self, future: Future[Any]) -> Future[Any]:
        """Settle the future when it has come. Look once even if the race is lost already, or the wait stays due."""
        self._future = future
        if self._run.stopped is None:
            self._look(is_first=True)
        else:
            self._waits.begin(self._step.key, self._give_up)  # gives it up at once
        return future

    def _look(self, *, is_first: bool = False) -> None:
        """Settle the future if it has come, else wait on. The caller has ended the wait."""
        run, call, key = self._run, self._call, self._step.key
        self._waits.alarm.take((run.workflow_id, key))
        try:
            with run.stopping:
                self._log.check()
                self._come = call.look(run, key, self._wake_at)
                if self._come is not None and self._end():
                    return
        except BaseException as error:
            self._future.set_exception(error)
            if is_first and is_interrupt(error) and not isinstance(error, Unwinding | RunStopped):
                raise
            return
        self._waits.begin(key, self._give_up)
        self._waits.set_alarm(key, self._wake_at or call.look_again_at(run), self._wake)
        call.on_end(self._wake)
        self._waits.look()

    def _wake(self) -> None:
        """Look in another thread, since the alarm's must not block. From here on the run is not idle."""
        if self._waits.end(self._step.key):
            self._frame.launch(self._future, lambda: self._run.workers.book(self._look))

    def _judge(self, step: Step) -> Outcome:
        """Decode what has come, as a replay would."""
        outcome = self._come
        assert outcome is not None
        if outcome.error is None:
            if values := names_in(outcome.output or ""):  # those of a message, or of the result of a child
                outcome = msgspec.structs.replace(outcome, values=values)
            try:
                step.value = step.call.codec.decode(outcome.output or "null", step, self._run.read)
            except SerializationError as misfit:
                outcome = self._call.refuse(self._run, outcome, misfit)
        if outcome.error is not None:
            step.error = self._run.blame(decode_error(outcome.error), step.key)
        return outcome

    def _end(self) -> bool:
        """Save what has come, and settle the future. False if another wait received the message first."""
        run, step = self._run, self._step
        next(self._requests)  # end: what has come is decoded
        run.notify("step.executed", step)
        if not self._log.end_wait(step):
            step.outcome, self._requests = None, life(step, self._judge)  # as if nothing had come
            next(self._requests), next(self._requests)
            return False
        run.ended(step)
        if step.error is not None:
            self._future.set_exception(step.error)
        else:
            self._future.set_result(step.value)
        return True

    def _give_up(self, error: BaseException) -> None:
        if self._on_end is not None and not isinstance(error, Suspended):
            self._on_end(error)
        self._future.set_exception(error)


def came(run: Run, output: str | None, error: Exception | None = None, message: Any = None) -> Outcome:
    """Return the outcome of what has come just now."""
    if error is not None:
        return Outcome("failed", None, encode_error(error), run.now(), message=message)
    return Outcome("completed", output, None, run.now(), message=message)


def deadline(run: Run, seconds: float | None) -> str | None:
    """Return the instant so many seconds from now, as it is stored."""
    return None if seconds is None else as_text(run.clock() + timedelta(seconds=seconds))
