"""Bounds: how many calls of a map are under way at once, and how many begin in a second."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from durable.parallel.future import Future
from durable.replay import Step
from durable.replay.run import Run
from durable.waiting.waits import waits_of

SLACK_SECONDS = 0.01  # between the noted instant and the one at which the function itself reads a clock


class Bounds:
    """Lets the calls of one map begin, each when there is room and time for it."""

    def __init__(self, run: Run, max_concurrent: int | None, per_second: float | None) -> None:
        """Raises ValueError for numbers that cannot be bounds."""
        self._room = None if max_concurrent is None else _Room(max_concurrent)
        self._pace = None if per_second is None else _Pace(run, per_second)

    def enter(self, future: Future[Any], begin: Callable[[], object]) -> None:
        """Begin now, or as soon as the bounds allow it. The future ends with the call."""
        if self._room is None:
            self._wait(future, begin)
        else:
            future.on_end(self._room.leave)
            self._room.enter(future, lambda: self._wait(future, begin))

    def note_begin(self) -> None:
        """Note that a call begins now."""
        if self._pace is not None:
            self._pace.note_begin()

    def paced(self, step: Step, effect: Callable[[], Any]) -> Callable[[], Any]:
        """Return the effect of a step, to be called once `enter` has begun it. A further attempt waits for its turn."""
        pace = self._pace
        if pace is None:
            return effect
        is_again = False

        def call() -> Any:
            nonlocal is_again
            if is_again:
                pace.admit(step.key).result()
            is_again = True
            pace.note_begin()
            return effect()

        async def call_async() -> Any:
            nonlocal is_again
            if is_again:
                await pace.admit(step.key)
            is_again = True
            pace.note_begin()
            return await effect()

        return call_async if step.call.is_async else call

    def _wait(self, future: Future[Any], begin: Callable[[], object]) -> None:
        if self._pace is None:
            begin()
            return

        def go_on(admitted: Future[None]) -> None:
            if admitted.ending is not None:
                future.set_exception(admitted.ending)
            else:
                begin()

        self._pace.admit(future.key).on_end(go_on)


class _Room:
    """Limits how many calls run at once; another begins whenever one has ended."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"max_concurrent: expected at least 1, got {limit}")
        self._limit = limit
        self._inside: dict[Future[Any], None] = {}
        self._waiting: deque[tuple[Future[Any], Callable[[], None]]] = deque()
        self._lock = threading.Lock()

    def enter(self, future: Future[Any], begin: Callable[[], None]) -> None:
        """Begin now, or as soon as there is room."""
        with self._lock:
            if len(self._inside) >= self._limit:
                future.after = self._inside
                self._waiting.append((future, begin))
                return
            self._inside[future] = None
        begin()

    def leave(self, ended: Future[Any]) -> None:
        """Note that a call has ended."""
        with self._lock:
            self._inside.pop(ended, None)
            if not self._waiting:
                return
            future, begin = self._waiting.popleft()
            future.after = None
            self._inside[future] = None
        begin()


class _Pace:
    """Limits how many calls begin in any second, counted by the instants at which they really begin.

    A call that was admitted and has not begun counts as one that begins now. A run that continues an earlier one
    assumes that the earlier calls were made just now: their instants are not on record.
    """

    def __init__(self, run: Run, per_second: float) -> None:
        if per_second <= 0 or (per_second > 1 and per_second != int(per_second)):
            raise ValueError(f"per_second: expected a whole number, or less than 1, got {per_second}")
        self._run, self._waits = run, waits_of(run)
        self._calls, seconds = (int(per_second), 1.0) if per_second >= 1 else (1, 1 / per_second)
        self._period = timedelta(seconds=seconds + SLACK_SECONDS)
        self._begun: deque[datetime] = deque([run.clock()] * self._calls if run.epoch > 1 else [])
        self._admitted = 0  # those that have not begun
        self._place = f"/{id(self)}"  # in the alarm; no step has such a key
        self._queue: deque[tuple[str, Future[None]]] = deque()
        self._lock = threading.Lock()

    def admit(self, step_key: str) -> Future[None]:
        """Return a future that is done when the call of a step may begin; or ends with what has stopped the run."""
        admitted: Future[None] = Future(self._run.workers.event_loop.is_current)

        def give_up(error: BaseException) -> None:
            admitted.set_exception(error)
            self._waits.alarm.take((self._run.workflow_id, self._place))
            self._look()  # sets it again if others wait on

        self._waits.begin(step_key, give_up, is_stored=False)
        with self._lock:
            self._queue.append((step_key, admitted))
        self._look()
        return admitted

    def note_begin(self) -> None:
        """Note that a call begins now."""
        with self._lock:
            self._admitted -= 1
            self._begun.append(self._run.clock())
        self._look()

    def _look(self) -> None:
        """Admit all that may begin, and look again when the next may."""
        while True:
            with self._lock:
                if not self._queue:
                    return
                now = self._run.clock()
                while self._begun and self._begun[0] + self._period <= now:
                    self._begun.popleft()
                step_key, admitted = self._queue[0]
                if has_room := self._admitted + len(self._begun) < self._calls:
                    self._queue.popleft()
                    if not self._waits.end(step_key):  # the run was stopped, and the future has ended
                        continue
                    self._admitted += 1
                due = self._begun[0] + self._period if self._begun else None
            if not has_room:
                if due is not None:
                    self._waits.set_alarm(self._place, due, self._look)
                    self._waits.look()
                return
            admitted.set_result(None)
