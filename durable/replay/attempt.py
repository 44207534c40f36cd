"""Attempt: one try of one step, from its running row to its checkpoint."""

from __future__ import annotations

import contextvars
import threading
from datetime import timedelta
from typing import Any

from durable.errors import DurableError, SerializationError
from durable.parallel.future import Future
from durable.replay.call import Call, Operation
from durable.replay.checkpoint import Checkpoint
from durable.replay.keys import Scope
from durable.replay.run import Run
from durable.replay.step_info import StepInfo, current
from durable.signals import let_through
from durable.store.step_row import EndedStep, NewStep
from durable.values import failures as failure
from durable.waiting.clock import as_text


class Attempt:
    """A try that has not begun. `result` or `result_async` make it: the running row, the effect, the checkpoint.

    An Exception out of the step is an outcome, and saved; anything else (Ctrl+C, SystemExit, cancellation) is none.
    Where the step asks for retries, the failure of a try that is not the last is saved with the instant of the next.
    """

    __slots__ = (
        "_context",
        "_due",
        "_error",
        "_fn",
        "_future",
        "_position",
        "_run",
        "_scope",
        "_tries_before",
        "_value",
        "_wake_at",
        "call",
        "ended",
        "key",
        "number",
    )

    def __init__(self, run: Run, scope: Scope, call: Call, key: str, position: int, row: Checkpoint | None) -> None:
        """`row` is what an earlier run has left of it."""
        self.call, self.key = call, key
        self._run, self._scope, self._position = run, scope, position
        superseded = run.history.count_tries(key)
        self.number = (superseded if row is None else row.attempt) + 1
        # a failed workflow that is run again has all its retries
        self._tries_before = superseded if row is None else run.history.count_tries_before(key)
        self._wake_at = run.history.waits.get(key)
        self._due: Future[None] | None = None
        self.ended: EndedStep | None = None  # these three are of one that the batch sees through
        self._value: Any = None
        self._error: BaseException | None = None
        try:
            self._fn = call.options.wrap(call, run.workers)
        except DurableError as error:
            raise run.stop(error) from error.__cause__

    def __str__(self) -> str:
        return f"step {self.key!r} of {self._run.workflow_id!r}: its result"

    def info(self) -> StepInfo:
        """What the step may know of itself."""
        return StepInfo(self._run.workflow_id, self.key, self.number, self._run.database)

    def is_plain(self) -> bool:
        """Whether it is one call of its function, and nothing more: no retries, no limits."""
        return self.call.options.is_plain and self.key not in self._run.history.waits

    def result(self) -> Any:
        """Make the tries in this thread. Returns what the checkpoint says, or raises what it says."""
        value = None
        while value is None:
            if self._wake_at is not None and (due := self.due()) is not None:
                self._run.wait([due])
            value = self.once()
        return value[0]

    def due(self) -> Future[None] | None:
        """Done when the next try is to be made, or ends with Suspended (`Run.sleep_until`); None where that is now."""
        if self._due is None and self._wake_at is not None:
            self._due = self._run.sleep_until(self.key, self._wake_at)
        return self._due

    def once(self) -> tuple[Any] | None:
        """Make a try that is due, in this thread: its value, or None where another is to follow. Raises its error."""
        if self._due is not None:
            self._due.result()
        self._begin(thread_label(self._scope))
        token = current.set(self.info)
        try:
            value = let_through(self._fn, *self.call.args, **self.call.kwargs)
        except Exception as error:
            ending = self._fail(error)
        else:
            return (self._complete(value),)
        finally:
            current.reset(token)
        self._go_on(ending)  # out here, so that its error does not say that it came while another was handled
        return None

    def _go_on(self, ending: BaseException | str) -> None:
        if isinstance(ending, BaseException):
            raise ending
        self._wake_at, self._due, self.number = ending, None, self.number + 1

    async def result_async(self) -> Any:
        """Make the try of a coroutine function, with the bookkeeping in other threads."""
        call = self._run.workers.call
        while True:
            if (due := self.due()) is not None:
                await due
            await self._begin_async()
            token = current.set(self.info)
            try:
                value = await self._fn(*self.call.args, **self.call.kwargs)
            except Exception as error:
                ending = await call(self._fail, error)
            else:
                return await self._complete_async(value)
            finally:
                current.reset(token)
            self._go_on(ending)

    def _begin(self, thread: str) -> None:
        self._notify("step.scheduled")  # an observer may hold us here until the run has ended
        self._run.save(self._run.store.start_step, self.new_step(thread, self._run.now()))
        self._notify("step.started")

    def _complete(self, value: Any) -> Any:
        run = self._run
        self._notify("step.executed")  # a crash here repeats the effect: the gap that idempotency keys close
        output, decoded = self._round_trip(value)
        run.save(run.store.complete_step, self.key, output, run.now())  # durable once this returns
        self._note_outcome()
        self._notify("step.checkpointed")
        return decoded  # also on the first run, so that it sees what a replay would

    def _fail(self, error: Exception) -> BaseException | str:
        """Save how the try ended: with an error, to be raised, or with the instant of the next try."""
        run, number = self._run, self.number - self._tries_before
        if isinstance(run.stopped, DurableError):  # the step may have failed because of it
            return run.stopped
        self._notify("step.executed")
        record = failure.encode_error(error)
        delay = self.call.options.next_delay(error, number, self.info().idempotency_key)
        if delay is not None:
            now = run.clock.now()
            wake_at = as_text(now + timedelta(seconds=delay))
            run.save(run.alarm.waits.retry_later, self.key, record, as_text(now), wake_at)
            self._notify("step.failed")
            return wake_at
        run.save(run.store.fail_step, self.key, record, run.now())
        self._note_outcome()
        self._notify("step.failed")
        return self._rebuild(record, error)

    async def _begin_async(self) -> None:
        if self._run.is_watched:  # an observer may block
            await self._run.workers.call(self._begin, "event loop")
        else:
            await self._run.batch.start(self)

    async def _complete_async(self, value: Any) -> Any:
        if self._run.is_watched:
            return await self._run.workers.call(self._complete, value)
        self.ended, decoded = self._completed(value, None)
        await self._run.batch.end(self)
        self._note_outcome()
        return decoded

    # ---- as a piece of the batch, beside others

    def submit(self, future: Future[Any], context: contextvars.Context) -> None:
        """Have it made as soon as there is room, in this context; the future is how it ends."""
        self._future, self._context = future, context
        self._run.batch.submit(self)

    @property
    def step(self) -> Attempt:
        """What the batch begins and ends."""
        return self

    @property
    def is_ended(self) -> bool:
        """Whether there is an outcome to save."""
        return self.ended is not None

    def perform(self) -> None:
        """Have the effect, in this thread. What is to be saved of it is then in `ended`, if anything."""
        try:
            self._context.run(self._perform)
        except BaseException as error:
            self._error = error

    def settle(self, error: BaseException | None) -> None:
        """End the future. A thread does it if that calls the user back."""
        if error is not None:
            self._error = error
        elif self.ended is not None:
            self._note_outcome()
        if self._future.is_watched:
            self._run.workers.submit(self._tell)
        else:
            self._tell()

    def _perform(self) -> None:
        """Raises what is no outcome."""
        run, thread, token = self._run, threading.current_thread().name, current.set(self.info)
        try:
            value = self.call.fn(*self.call.args, **self.call.kwargs)
        except Exception as error:
            if isinstance(run.stopped, DurableError):  # the step may have failed because of it
                raise run.stopped from None
            record = failure.encode_error(error)
            self._error = self._rebuild(record, error)
            self.ended = EndedStep.of(self.key, "failed", None, record, run.now(), thread)
        else:
            self.ended, self._value = self._completed(value, thread)
        finally:
            current.reset(token)

    def _tell(self) -> None:
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            self._future.set_result(self._value)

    # ---- in common

    def new_step(self, thread: str, at: str) -> NewStep:
        """Its running row. Raises what has stopped the run."""
        call = self.call
        self._run.check()
        return NewStep(self.key, call.name, call.kind, self._position, self.number, call.fingerprint, at, thread)

    def thread_of(self, max_workers: int) -> str:
        """Where a piece of the batch is about to run. Its outcome names the worker that has really performed it."""
        return "event loop" if self.call.is_async else f"worker {(self._position - 1) % max_workers + 1}"

    def _note_outcome(self) -> None:
        """It is saved."""
        self._run.history.note_outcome(self._scope, self.key, self._run.epoch)

    def _completed(self, value: Any, thread: str | None) -> tuple[EndedStep, Any]:
        output, decoded = self._round_trip(value)
        return EndedStep.of(self.key, "completed", output, None, self._run.now(), thread), decoded

    def _round_trip(self, value: Any) -> tuple[str, Any]:
        try:
            return self.call.codec.round_trip(value, self)
        except SerializationError as error:
            raise self._run.stop(error) from error.__cause__

    def _rebuild(self, record: str, error: Exception) -> BaseException:
        rebuilt = failure.decode_error(record).with_traceback(error.__traceback__)
        self._run.note_failure(rebuilt, [self.key])
        return rebuilt

    def _notify(self, name: str) -> None:
        if self._run.is_watched:
            self._run.notify(name, self.key, self.call.name, self.number)


class Recorded:
    """An outcome on record: what `result` returns or raises is what the first run was given."""

    def __init__(self, run: Run, call: Operation, row: Checkpoint) -> None:
        self._run, self._call, self._row = run, call, row

    @property
    def key(self) -> str:
        """The step's."""
        return self._row.step_key

    def __str__(self) -> str:
        return f"step {self._row.step_key!r} of {self._run.workflow_id!r}: its recorded result"

    def result(self) -> Any:
        """Decode the value, or raise the error."""
        row = self._row
        if row.status == "failed" and row.error is not None:
            error = failure.decode_error(row.error)
            self._run.note_failure(error, [row.step_key])
            raise error
        try:
            return self._call.codec.decode(row.output or "null", self)
        except SerializationError as misfit:  # the code has changed, so this ends the run, not the workflow
            raise self._run.stop(misfit) from misfit.__cause__


def thread_label(scope: Scope) -> str:
    """For the table: a worker's name, else the branch that runs the step itself, or `main`."""
    if scope.is_owner():
        return scope.path or "main"
    return threading.current_thread().name
