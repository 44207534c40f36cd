"""Run: one life of a workflow, and what all of its threads share."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, TypeVar

from durable.errors import (
    CancelRequested,
    DurableError,
    NonDeterminismError,
    NoThreadError,
    RunStopped,
    SerializationError,
)
from durable.parallel.future import Future, wait
from durable.parallel.threads import NO_THREAD, start_thread
from durable.parallel.workers import Workers
from durable.replay.call import Call, Plans
from durable.replay.history import History
from durable.replay.keys import Scope, idempotency_key
from durable.replay.log import Log
from durable.replay.moments import Moment, Observer, notify
from durable.replay.step import Outcome, Step
from durable.replay.step_info import Reporter, StepInfo, current
from durable.signals import is_interrupt, let_through, reason_of
from durable.values.failures import decode_error, encode_error
from durable.values.instants import as_text

T = TypeVar("T")

CANCELLED = "cancelled by engine.cancel"  # why a run ended
UNREAD: Any = object()  # the value of a recorded step that no code has asked for


class Waiter(Protocol):
    """The waits of a run, as the core sees them, see `durable.waiting.waits`."""

    def until(self, step: Step) -> Future[None]:
        """Return a future that is done when the next attempt of a step is due; it may end with Suspended."""
        ...

    def abandon(self, step_key: str) -> None:
        """Give up what a step or a branch waits for: it has lost its race."""
        ...

    def look(self) -> None:
        """Suspend the run if all that is left of it waits. Call this whenever that may have become true."""
        ...

    def is_waiting(self, step_key: str) -> bool:
        """Return whether this step waits for something that has not come."""
        ...

    def stop(self, error: BaseException) -> None:
        """End every wait with this error."""
        ...


class Interruptible(Protocol):
    """A workflow that this process runs, or wakes when it is due."""

    def interrupt(self, reason: str) -> None:
        """Let nothing more of it begin."""
        ...


class Running(Protocol):
    """A workflow that was started in the background."""

    def interrupt(self) -> None:
        """Let nothing more of it begin."""
        ...

    def done(self) -> bool:
        """Return whether it has ended, in whatever way."""
        ...

    @property
    def ending(self) -> BaseException | None:
        """The error with which it has ended, or None."""
        ...

    def when_done(self, call: Callable[[], object]) -> None:
        """Call a function once it has ended."""
        ...


class Idle(Protocol):
    """A function of a workflow that has not ended."""

    def is_idle(self) -> bool:
        """Return whether all that it does is wait."""
        ...

    def is_calling(self) -> bool:
        """Return whether this thread and task runs the function itself."""
        ...


class Run:
    """The time from owning the workflow id until the last thread of the run has ended.

    `stopped` is why it may do nothing more: an error of the engine, which is no outcome and which no `except Exception`
    in the workflow can undo; RunStopped after an interrupt; CancelRequested. `reason` says it in words.
    """

    can_batch = True  # whether parallel steps share transactions

    def __init__(
        self,
        log: Log,
        *,
        clock: Callable[[], datetime],
        observers: Sequence[Observer],
        workers: Workers,
        start_child: Callable[..., Running | None],
        is_new: bool = False,
    ) -> None:
        self.log, self.clock, self.observers, self.workers = log, clock, observers, workers
        self.workflow_id, self.epoch = log.workflow_id, log.epoch
        self.start_child = start_child
        self.waits: Waiter  # set by what waits in it, which knows the run
        self.progress: Reporter | None = None  # gets what its steps publish
        self.on_close: list[Callable[[], object]] = []  # called in order once its last thread has ended
        # called for rare events: a failed attempt of a step, the begin and the end of the run, with the error
        self.on_news: Callable[[str, Step | None, BaseException | None], object] = _ignore
        self.stopped: BaseException | None = None
        self.reason: str | None = None
        self.plans = Plans()
        self.compensations: dict[str, tuple[Call, Scope]] = {}  # by the key of their registration
        self.undo: Callable[[Any, BaseException], None] | None = None  # runs them, once one is registered
        self.is_undoing = False  # whether they run: a cancellation ends none of their waits
        self.frames: set[Idle] = set()  # its functions that have not ended
        self.stopping = _Stopping(self)
        self._is_interrupted = False
        self._is_abandoned = False  # whether a second Ctrl+C has ended the wait for parallel work
        self._blamed: dict[int, tuple[BaseException, tuple[str, ...]]] = {}
        self._batch: Any = None
        self._batch_lock = threading.Lock()
        self.history = History(log, self._supersede, is_new=is_new)

    def now(self) -> str:
        """Return the current instant, as it is stored."""
        return as_text(self.clock())

    def notify(self, name: str, step: Step | None = None) -> None:
        """Notify the observers of a moment."""
        if self.observers:
            at = self.clock()
            moment = (
                Moment(name, self.workflow_id, self.epoch, at)
                if step is None
                else Moment(name, self.workflow_id, self.epoch, at, step.key, step.call.name, step.attempt)
            )
            let_through(notify, self.observers, moment)  # one that blocks, for single-stepping, hears Ctrl+C

    # ---- requests of a step's life

    def begin(self, step: Step) -> None:
        """Write that a step is running. Its effect comes next."""
        if self.observers:
            self.notify("step.scheduled", step)  # an observer may hold us here until the run has ended
        if self.stopped is not None:
            raise self.stopped
        step.started_at = self.now()
        self._save(self.log.begin, (step,))
        if self.observers:
            self.notify("step.started", step)

    def call(self, step: Step) -> None:
        """Perform the effect, in this thread. Only an Exception can become an outcome.

        The workflow does not see the context variables that it sets, since a replay would not set them.
        """
        try:
            step.value = contextvars.copy_context().run(self._have_effect, step)
        except Exception as error:
            if is_interrupt(error):
                raise
            step.raised = error
        if self.observers or step.raised is not None:
            self.executed(step)

    def _have_effect(self, step: Step) -> Any:
        current.set((self.info, step))
        return let_through(step.fn)

    async def call_async(self, step: Step) -> None:
        """Perform the effect of a coroutine function, on the event loop."""
        token = current.set((self.info, step))
        try:
            step.value = await step.fn()
        except Exception as error:
            if not threading.main_thread().is_alive():  # the interpreter ends, and the coroutine has met that
                raise self.find_no_thread() from error
            step.raised = error
        finally:
            current.reset(token)
        if self.observers:  # they may block
            await self.workers.call(self.executed, step)
        else:
            self.executed(step)

    def executed(self, step: Step) -> None:
        """Notify that the effect is done and not saved. A step may have failed because the run was stopped."""
        if step.raised is not None and isinstance(self.stopped, DurableError):
            raise self.stopped from None
        if self.observers:
            self.notify("step.executed", step)  # a crash here repeats the effect: the gap that idempotency keys close

    def judge(self, step: Step) -> Outcome:
        """Return the outcome of what the effect returned or raised, and set what a replay would see.

        Raises NonDeterminismError if it has changed an argument in place: a replay would go on without the change.
        """
        if (change := step.call.find_change()) is not None:
            raise self.stop(_changed(step, change)) from step.raised
        if step.raised is None:
            step.error = None
            try:
                output, step.value = step.call.codec.round_trip(step.value, step, functools.partial(self.put, step))
            except SerializationError as error:
                raise self.stop(error) from error.__cause__
            return Outcome("completed", output, None, self.now(), None, None, step.values)
        raised, number = step.raised, step.attempt - step.earlier_attempts
        text, now = encode_error(raised), self.clock()
        delay = step.call.options.next_delay(raised, number, idempotency_key(self.workflow_id, step.key))
        wake_at = None if delay is None else as_text(now + timedelta(seconds=delay))
        step.error = self.blame(decode_error(text).with_traceback(raised.__traceback__), step.key)
        return Outcome("failed", None, text, as_text(now), wake_at)

    def put(self, step: Step, head: bytes, buffers: Sequence[Any]) -> str:
        """Store a large value that the output of a step is to name, and return its hash."""
        with self.stopping:
            sha256 = self.log.values.put(head, buffers, functools.partial(self.notify, "step.part_stored", step))
        step.values += (sha256,)
        return sha256

    def read(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """Read a large value that a row names. Raises CorruptionError if it is missing or was changed."""
        return self.log.values.get(sha256, subject)

    def end(self, step: Step) -> None:
        """Save the outcome of a step."""
        self._save(self.log.end, (step,))  # durable once this returns
        self.ended(step)

    def record(self, step: Step) -> None:
        """Save a step and its outcome at once."""
        step.started_at = step.outcome.ended_at if step.outcome else self.now()
        self._save(self.log.record, step)
        self.ended(step)

    def ended(self, step: Step) -> None:
        """Note that the outcome of a step, or the failure of an attempt, is saved."""
        outcome = step.outcome
        if outcome is not None and outcome.wake_at is None:
            self.history.note_outcome(step.scope, step.key, self.epoch)
        if self.observers:
            self.notify("step.failed" if step.error is not None else "step.checkpointed", step)
        if step.error is not None:
            self.on_news("step.failed", step, step.error)

    def give(self, step: Step) -> Any:
        """Return the value of a step that has an outcome, or raise its error, as on record."""
        outcome = step.outcome
        if step.error is None and outcome is not None and outcome.error is not None:
            step.error = self.blame(decode_error(outcome.error), step.key)
        if step.error is not None:
            raise step.error
        if step.value is UNREAD:
            text = "null" if outcome is None or outcome.output is None else outcome.output
            with self.stopping:  # the code has changed, so this ends the run, not the workflow
                subject = f"step {step.key!r} of {self.workflow_id!r}: its recorded result"
                step.value = step.call.codec.decode(text, subject, self.read)
        return step.value

    def info(self, step: Step) -> StepInfo:
        """Return what a step may know of itself."""
        return StepInfo(self.workflow_id, step.key, step.attempt, self.log.path, self.epoch, self.progress)

    # ---- which steps are behind an error

    def blame(self, error: Exception, *step_keys: str) -> Exception:
        """Remember which failed steps an exception stands for, and return it."""
        self._blamed[id(error)] = (error, step_keys)  # the exception is kept, so that its id stays its own
        return error

    def steps_behind(self, error: BaseException | None) -> list[str]:
        """Return the failed steps behind an exception: its own, its group's, or those of what it was raised from."""
        seen = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            if id(error) in self._blamed:
                return list(self._blamed[id(error)][1])
            if isinstance(error, BaseExceptionGroup):
                return [key for member in error.exceptions for key in self.steps_behind(member)]
            error = error.__cause__ or error.__context__
        return []

    def merge(self, errors: Sequence[BaseException]) -> BaseException:
        """Return the first of several errors, with the others noted on it."""
        first, *others = errors
        for other in others:
            if other is not first:  # an error that stopped the run is the error of each of its steps
                first.add_note(f"also failed: {type(other).__name__}: {other}")
        keys = dict.fromkeys(key for error in errors for key in self.steps_behind(error))
        self._blamed[id(first)] = (first, tuple(keys))
        return first

    # ---- parallel steps, many in one transaction

    @property
    def batch(self) -> Any:
        """The batch of its parallel steps, made with the first of them."""
        if self._batch is None:
            from durable.parallel.batch import Batch

            with self._batch_lock:
                self._batch = self._batch or Batch(self.begin_all, self.end_all, self.workers)
        return self._batch

    def begin_all(self, steps: Sequence[Step]) -> None:
        """Write that many steps are running."""
        self.check()
        now = self.now()
        for step in steps:
            step.started_at = now
        self._save(self.log.begin, steps)

    def end_all(self, steps: Sequence[Step]) -> None:
        """Save the outcomes of many steps."""
        self._save(self.log.end, steps)  # durable once this returns

    def _supersede(self, step_keys: Sequence[str]) -> None:
        self._save(self.log.supersede, step_keys)

    def _save(self, save: Callable[[T], object], subject: T) -> None:
        """Have the log save something. Its error stops the run."""
        try:
            save(subject)
        except (DurableError, CancelRequested) as error:
            raise self.stop(error) from error.__cause__

    # ---- the end

    def check(self) -> None:
        """Raise what has stopped the run, if anything has."""
        if self.stopped is not None:
            raise self.stopped

    def stop(self, error: BaseException) -> BaseException:
        """Let nothing more begin, and return the error to raise. The first reason stays."""
        if self.stopped is None:
            self.stopped = error
            is_cancelled = isinstance(error, CancelRequested)
            self.reason = self.reason or (CANCELLED if is_cancelled else f"{type(error).__name__}: {error}")
            self.waits.stop(error)
        return error

    def interrupt(self, reason: str) -> None:
        """Let nothing more begin: Ctrl+C, a cancelled cell, a closed engine. It is no outcome."""
        if not self._is_interrupted:
            self.wind_down(reason)
            self.workers.stop()

    def wind_down(self, reason: str) -> None:
        """Interrupt the run, and let all steps in flight end, also coroutines and processes."""
        self._is_interrupted = True
        self.reason = self.reason or reason
        self.stop(RunStopped(f"workflow {self.workflow_id!r}: its run was interrupted; run the same id again to go on"))

    def find_no_thread(self) -> RunStopped:
        """Interrupt the run because no thread can be started. Return the error to raise."""
        self.interrupt(NO_THREAD)
        return RunStopped(f"workflow {self.workflow_id!r}: {NO_THREAD}")

    def cancel(self) -> BaseException:
        """Let nothing more begin, since the workflow is to be cancelled. Return the error to raise."""
        return self.stop(CancelRequested(f"workflow {self.workflow_id!r}: it was cancelled"))

    def end_frame(self, frame: Idle) -> None:
        """Note that one of its functions has ended, and all that it had begun."""
        self.frames.discard(frame)
        self.waits.look()

    def wait(self, futures: Iterable[Future[Any]]) -> None:
        """Wait for parallel work. The first Ctrl+C stops what has not begun and waits on, the second is raised.

        So does each error that the user's handler of another signal raises.
        """
        waiting = list(futures)
        try:
            wait(waiting)
        except BaseException as interrupt:
            if self._is_interrupted:
                self._is_abandoned = True
            else:
                self.interrupt(reason_of(interrupt))
                self.wait(waiting)
            raise

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the event loop, and wait for its value here."""
        try:
            spawned = self.workers.spawn(coroutine)
        except NoThreadError as error:
            raise self.find_no_thread() from error
        self.wait([spawned])
        return spawned.result()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Release the workflow id once the last thread has ended: now, or in a thread that waits for them."""
        if self._is_abandoned:
            start_thread(f"end of {self.workflow_id}", self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        self.workers.join()
        for call in self.on_close:
            call()


def _ignore(name: str, step: Step | None, error: BaseException | None) -> None:
    """Do nothing."""


class _Stopping:
    """A block in which an error of the engine stops the run."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None and isinstance(error, (DurableError, CancelRequested)):
            self._run.stop(error)


def _changed(step: Step, change: str) -> NonDeterminismError:
    return NonDeterminismError(
        f"step {step.key!r}: {change}, and a replay would not see that; change a copy in the step, and return it",
        workflow_id=step.scope.workflow_id,
        step_key=step.key,
        recorded=str(step.call),
        called=change,
    )
