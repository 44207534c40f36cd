"""Waits: what waits in one run, for an instant, a message, the end of a child, or the next attempt of a step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

from durable.errors import Abandoned, CancelRequested, DurableError, NoThreadError, NotSupportedError, Suspended
from durable.parallel.future import Future
from durable.replay.run import Run
from durable.replay.step import Step
from durable.waiting.alarm import Alarm


class Waits:
    """The steps of a run that wait, each with what to call if its wait is given up.

    With `suspends`, a run that only waits gives its thread back: its waits end with Suspended.
    """

    def __init__(self, run: Run, alarm: Alarm, *, suspends: bool) -> None:
        self._run, self.alarm, self._suspends = run, alarm, suspends
        self._waiting: dict[str, Callable[[BaseException], object]] = {}
        self._unstored: set[str] = set()  # those without a row: another run could not be woken for them
        self._lock = threading.Lock()
        self._abandoned: set[str] = set()  # the keys of the losers of races
        run.waits = self
        alarm.runs.add(self)

    def close(self) -> None:
        """Note that the run has ended."""
        self.alarm.ring()  # first: no clock may skip to an instant for which this run alone has waited
        self.alarm.runs.discard(self)

    def until(self, step: Step) -> Future[None]:
        """Return a future that is done when the next attempt of a step is due; or ends with Suspended."""
        assert step.wake_at is not None
        run, key, instant = self._run, step.key, datetime.fromisoformat(step.wake_at)
        ended: Future[None] = Future(run.workers.event_loop.is_current)

        def look() -> None:
            try:
                if run.clock() < instant:
                    if not run.is_undoing:
                        run.log.check()
                    self.begin(key, ended.set_exception)
                    self.set_alarm(key, instant, wake)
                    self.look()
                    return
            except CancelRequested:
                pass  # the attempt will meet it as it begins
            except DurableError as error:
                ended.set_exception(run.stop(error))
                return
            ended.set_result(None)

        def wake() -> None:
            if self.end(key):  # it may have been woken for an earlier wait of the same step
                look()

        look()
        return ended

    def set_alarm(self, step_key: str, instant: datetime | None, wake: Callable[[], object]) -> None:
        """Call `wake` when the wait of a step is due, unless the wait was given up meanwhile."""
        try:
            self.alarm.set((self._run.workflow_id, step_key), instant, wake)
        except NoThreadError:
            self._run.find_no_thread()  # ends the wait
        if self._run.stopped is not None or self._is_abandoned(step_key):
            self.alarm.take((self._run.workflow_id, step_key))

    def begin(self, step_key: str, give_up: Callable[[BaseException], object], *, is_stored: bool = True) -> None:
        """Call `give_up` if the wait loses its race or the run is stopped; at once, if that has happened already."""
        with self._lock:
            self._waiting[step_key] = give_up
            if not is_stored:
                self._unstored.add(step_key)
        if self._run.stopped is not None:
            self.stop(self._run.stopped)
        elif self._is_abandoned(step_key):
            self.abandon(step_key)

    def end(self, step_key: str) -> bool:
        """End a wait. Return whether it had not ended before."""
        with self._lock:
            self._unstored.discard(step_key)
            return self._waiting.pop(step_key, None) is not None

    def is_waiting(self, step_key: str) -> bool:
        """Return whether this step waits for something that has not come."""
        return step_key in self._waiting

    def is_idle(self) -> bool:
        """Return whether all that the run does is wait."""
        return all(frame.is_idle() for frame in list(self._run.frames))

    def is_kept_awake(self) -> bool:
        """Return whether it waits for something that has no row, so that it cannot be suspended."""
        return bool(self._unstored)

    def leave(self, reason: str) -> None:
        """Interrupt the run if all that is left of it waits."""
        if self._waiting and self.is_idle():
            self._run.interrupt(reason)

    def look(self) -> None:
        """Suspend the run if all that is left of it waits. Call this whenever that may have become true."""
        if self._suspends and self._waiting and not self._unstored and self.is_idle():
            self.stop(Suspended(f"workflow {self._run.workflow_id!r} waits"))

    def abandon(self, step_key: str) -> None:
        """Give up what a step or a branch waits for, now and later: it has lost its race."""
        self._abandoned.add(step_key)
        lost = Abandoned(f"step {step_key!r} of {self._run.workflow_id!r} has lost its race")
        self._give_up(self._is_abandoned, lost)

    def stop(self, error: BaseException) -> None:
        """End every wait with this error."""
        self._give_up(lambda _: True, error)

    def _is_abandoned(self, step_key: str) -> bool:
        return any(step_key == lost or step_key.startswith(f"{lost}/") for lost in self._abandoned)

    def _give_up(self, which: Callable[[str], bool], error: BaseException) -> None:
        with self._lock:
            ended = {key: give_up for key, give_up in self._waiting.items() if which(key)}
            for key in ended:
                del self._waiting[key]
                self._unstored.discard(key)
        for key, give_up in ended.items():
            self.alarm.take((self._run.workflow_id, key))
            give_up(error)


def waits_of(run: Run) -> Waits:
    """Return what waits in a run. Raises NotSupportedError if it was begun without an alarm."""
    if isinstance(run.waits, Waits):
        return run.waits
    raise NotSupportedError(
        f"workflow {run.workflow_id!r}: this run has no alarm, so nothing can wait", operation="wait"
    )
