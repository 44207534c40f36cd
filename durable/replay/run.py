"""Run: one life of a workflow, and what all of its threads share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from durable.errors import Abandoned, CancelRequested, FencedError, RunStopped, StoreError, Suspended
from durable.parallel.future import Future, wait
from durable.parallel.workers import Workers
from durable.replay.call import Call, Plans
from durable.replay.history import History
from durable.replay.keys import Scope
from durable.replay.moments import Moment, Observer, notify
from durable.signals import let_through
from durable.store.owner import Owner
from durable.store.store import Store
from durable.waiting.alarm import Alarm, Idle
from durable.waiting.clock import Clock, as_text

if TYPE_CHECKING:
    from pathlib import Path

    from durable.parallel.batch import Batch
    from durable.replay.attempt import Attempt

T = TypeVar("T")

MAX_CRASHES = 3  # in a row, after which a workflow may be what kills its processes


class Interruptible(Protocol):
    """A workflow that this process runs, or wakes when it is due."""

    def interrupt(self) -> None:
        """Let nothing more of it begin."""


class Running(Interruptible, Protocol):
    """A workflow that was started in the background."""

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""

    @property
    def ending(self) -> BaseException | None:
        """The error with which it has ended, or None."""

    def when_done(self, call: Callable[[], object]) -> None:
        """Have something called once it has ended."""


class Run:
    """From the moment it owns the workflow id until the last of its threads has ended.

    `stopped` is why it may do nothing more: an error of the engine, which is nobody's outcome and no `except Exception`
    in the workflow can undo; RunStopped after an interrupt; CancelRequested. `suspends` says whether what only waits
    gives its thread back.
    """

    def __init__(
        self,
        workflow_id: str,
        epoch: int,
        *,
        is_new: bool = False,
        store: Store,
        owner: Owner,
        clock: Clock,
        observers: Sequence[Observer],
        workers: Workers,
        alarm: Alarm,
        suspends: bool,
        start_child: Callable[..., Running | None],
    ) -> None:
        self.workflow_id, self.epoch = workflow_id, epoch
        self.store, self.clock, self.workers, self.alarm = store, clock, workers, alarm
        self.suspends, self.start_child = suspends, start_child
        self.stopped: BaseException | None = None
        self.plans = Plans()
        self._waiting: dict[str, Callable[[BaseException], object]] = {}
        self._waiting_lock = threading.Lock()
        self.compensations: dict[str, tuple[Call, Scope]] = {}  # by the key of their registration
        self.is_undoing = False  # whether they run: a cancellation ends none of their waits
        self._abandoned: set[str] = set()  # keys of the losers of a race
        self.frames: set[Idle] = set()  # its functions that have not ended
        self._batch: Batch[Attempt] | None = None
        self._batch_lock = threading.Lock()
        self._owner = owner
        self._observers = observers
        self.is_watched = bool(observers)  # whether anyone is told of its moments
        self._is_interrupted = False
        self._is_abandoned = False  # whether Ctrl+C has ended the wait for parallel work
        self._failures: dict[int, tuple[BaseException, list[str]]] = {}
        self.history = History(
            workflow_id,
            iter(()) if is_new else store.read_pages(workflow_id),
            [] if is_new else store.list_tries(workflow_id),
            {} if is_new else alarm.waits.list_instants(workflow_id),
            supersede=lambda keys: self.save(store.supersede_steps, keys),
        )
        alarm.runs.add(self)

    @property
    def batch(self) -> Batch[Attempt]:
        """Of its parallel steps; made with the first of them."""
        if self._batch is None:
            from durable.parallel.batch import Batch

            with self._batch_lock:
                self._batch = self._batch or Batch(self._begin_steps, self._end_steps, self.workers)
        return self._batch

    def _begin_steps(self, attempts: list[Attempt]) -> None:
        now, usual = self.now(), self.workers.max_workers
        self.save(self.store.start_steps, [attempt.new_step(attempt.thread_of(usual), now) for attempt in attempts])

    def _end_steps(self, attempts: list[Attempt]) -> None:
        self.save(self.store.end_steps, [attempt.ended for attempt in attempts])

    @property
    def database(self) -> Path:
        """The file that it is saved in."""
        return self.store.path

    def now(self) -> str:
        """The current instant, as it is stored."""
        return as_text(self.clock.now())

    def notify(
        self, name: str, key: str | None = None, step_name: str | None = None, attempt: int | None = None
    ) -> None:
        """Tell the observers of a moment."""
        if self._observers:
            let_through(  # one that blocks, for single-stepping, hears Ctrl+C
                notify,
                self._observers,
                Moment(name, self.workflow_id, self.epoch, self.clock.now(), key, step_name, attempt),
            )

    def check(self) -> None:
        """Raise what has stopped the run, if anything has."""
        if self.stopped is not None:
            raise self.stopped

    def stop(self, error: BaseException) -> BaseException:
        """Let nothing more begin, and return the error to raise. The first reason stays."""
        if self.stopped is None:
            self.stopped = error
            self._end_waits(lambda _: True, error)
        return error

    def interrupt(self) -> None:
        """Let nothing more begin: Ctrl+C, a cancelled cell, a cancelled task. No outcome."""
        if self._is_interrupted:
            return
        self._is_interrupted = True
        self.stop(RunStopped(f"workflow {self.workflow_id!r}: its run was interrupted; run the same id again to go on"))
        self.workers.stop()

    def find_no_thread(self) -> RunStopped:
        """None can be had, as the interpreter ends, say: that is an interrupt. Returns the error to raise."""
        self.interrupt()
        return RunStopped(f"workflow {self.workflow_id!r}: no thread could be started")

    def cancel(self) -> BaseException:
        """Let nothing more begin, since somebody has cancelled the workflow; the error to raise."""
        return self.stop(CancelRequested(f"workflow {self.workflow_id!r}: it was cancelled"))

    def save(self, method: Callable[..., T | None], *args: Any) -> T:
        """Have the store save something under this run's epoch. Raises, and stops the run, where it does not."""
        try:
            saved = method(self.workflow_id, self.epoch, *args)
            if not saved:
                cancelled = self.store.is_cancel_requested(self.workflow_id, self.epoch)
                raise self.cancel() if cancelled else self.stop(FencedError(self.workflow_id, self.epoch))
        except StoreError as error:
            raise self.stop(error) from error.__cause__
        return saved

    def save_if(self, method: Callable[..., bool], *args: Any) -> bool:
        """The same, where the store may also find that there is nothing to save."""
        try:
            return method(self.workflow_id, self.epoch, *args) or not self.save(self.store.is_current)
        except StoreError as error:
            raise self.stop(error) from error.__cause__

    # ---- what waits

    def sleep_until(self, key: str, wake_at: str) -> Future[None]:
        """A future that is done when the instant has come; or ends with Suspended, see `suspend_if_idle`."""
        instant = datetime.fromisoformat(wake_at)
        ended: Future[None] = Future(self.workers.event_loop.is_current)

        def look() -> None:
            try:
                is_over = self.clock.now() >= instant or (
                    not self.is_undoing and self.store.is_cancel_requested(self.workflow_id, self.epoch)
                )
            except StoreError as error:
                ended.set_exception(self.stop(error))
                return
            if is_over:
                ended.set_result(None)
                return
            self.begin_wait(key, ended.set_exception)
            self.set_alarm(key, instant, wake)
            self.suspend_if_idle()

        def wake() -> None:
            if self.end_wait(key):  # it may have been woken for an earlier wait of the same step
                look()

        look()
        return ended

    def set_alarm(self, key: str, instant: datetime | None, wake: Callable[[], object]) -> None:
        """Have `wake` called when what a step waits for is due; not where the wait has been given up meanwhile."""
        try:
            self.alarm.set((self.workflow_id, key), instant, wake)
        except RuntimeError:
            self.find_no_thread()  # ends the wait
        if self.stopped is not None or self._is_abandoned_wait(key):
            self.alarm.take((self.workflow_id, key))

    def begin_wait(self, key: str, give_up: Callable[[BaseException], object]) -> None:
        """Have `give_up` called where the wait has lost its race, or the run is stopped; at once, if it is already."""
        with self._waiting_lock:
            self._waiting[key] = give_up
        if self.stopped is not None:
            self._end_waits(lambda _: True, self.stopped)
        elif self._is_abandoned_wait(key):
            self.abandon(key)

    def is_idle(self) -> bool:
        """Whether nothing goes on in it until something that it waits for has come."""
        return all(frame.is_idle() for frame in list(self.frames))

    def end_frame(self, frame: Idle) -> None:
        """One of its functions has ended, and all that it had begun."""
        self.frames.discard(frame)
        self.suspend_if_idle()

    def suspend_if_idle(self) -> None:
        """Where all that is left of it waits, and such waits give their threads back: end them.

        To be called wherever it may have become so: a function blocks, or what ran beside it has ended.
        """
        if self.suspends and self._waiting and self.is_idle():
            self._end_waits(lambda _: True, Suspended(f"workflow {self.workflow_id!r} waits"))

    def is_waiting(self, key: str) -> bool:
        """Whether this step waits for something that has not come."""
        return key in self._waiting

    def end_wait(self, key: str) -> bool:
        """Whether it was still waited for."""
        with self._waiting_lock:
            return self._waiting.pop(key, None) is not None

    def abandon(self, key: str) -> None:
        """Give up what a step or a branch still waits for, and will: it has lost its race, and nobody waits for it."""
        self._abandoned.add(key)
        self._end_waits(self._is_abandoned_wait, Abandoned(f"step {key!r} of {self.workflow_id!r} has lost its race"))

    def _is_abandoned_wait(self, key: str) -> bool:
        return any(key == lost or key.startswith(f"{lost}/") for lost in self._abandoned)

    def _end_waits(self, which: Callable[[str], bool], error: BaseException) -> None:
        with self._waiting_lock:
            ended = {key: give_up for key, give_up in self._waiting.items() if which(key)}
            for key in ended:
                del self._waiting[key]
        for key, give_up in ended.items():
            self.alarm.take((self.workflow_id, key))
            give_up(error)

    # ---- which steps are behind an error

    def note_failure(self, error: BaseException, step_keys: Iterable[str]) -> None:
        """Remember the steps that an exception, given to the workflow, stands for."""
        self._failures[id(error)] = (error, list(step_keys))  # the exception is kept, so that its id stays its own

    def steps_behind(self, error: BaseException | None) -> list[str]:
        """The failed steps that an exception stands for: its own, its group's, or those of what it was raised from."""
        seen = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            if id(error) in self._failures:
                return self._failures[id(error)][1]
            if isinstance(error, BaseExceptionGroup):
                return [key for member in error.exceptions for key in self.steps_behind(member)]
            error = error.__cause__ or error.__context__
        return []

    def merge(self, errors: Sequence[BaseException]) -> BaseException:
        """The first of several errors, with the others noted on it."""
        first, *others = errors
        for other in others:
            if other is not first:  # what has stopped the run is the error of each of its steps
                first.add_note(f"also failed: {type(other).__name__}: {other}")
        self.note_failure(first, dict.fromkeys(key for error in errors for key in self.steps_behind(error)))
        return first

    # ---- the end

    def wait(self, futures: Iterable[Future[Any]]) -> None:
        """Wait for parallel work. The first Ctrl+C stops what has not begun and waits on, the second is raised.

        So does an exit, as the user's handler of another signal asks for it.
        """
        waiting = list(futures)
        try:
            wait(waiting)
        except (KeyboardInterrupt, SystemExit):
            if self._is_interrupted:
                self._is_abandoned = True
            else:
                self.interrupt()
                self.wait(waiting)
            raise

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the event loop, and wait for its value here."""
        try:
            spawned = self.workers.spawn(coroutine)
        except RuntimeError as error:
            raise self.find_no_thread() from error
        try:
            self.wait([spawned])
        except Exception:  # out of a signal handler: nobody would hear of the coroutine any more
            self.interrupt()
            self.wait([spawned])
            raise
        return spawned.result()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let the next owner in, once the last thread has ended. If that was not waited for, a thread does it then."""
        if self._is_abandoned:
            threading.Thread(target=self._release, name=f"end of {self.workflow_id}", daemon=True).start()
        else:
            self._release()

    def _release(self) -> None:
        self.workers.join()
        self.alarm.runs.discard(self)
        self._owner.release()
