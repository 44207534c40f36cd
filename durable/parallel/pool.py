"""Pool: threads that make the parallel steps of one run, and a foreman who looks after them.

They are the engine's, lent for the time of the run: to begin one takes as long as several steps.
"""

from __future__ import annotations

import contextlib
import threading
import time
from _queue import Empty, SimpleQueue  # see workers.py
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from durable.parallel.workers import Threads

Work: TypeAlias = Callable[[], object]

_PATIENCE_SECONDS = 0.001  # how long work may wait for a thread that comes free


class Pool:
    """At most so many threads. One does for work that is quick; more are begun where work would wait for a millisecond.

    The foreman, a thread of its own, begins them: each time as many as there are. He also does a chore whenever he is
    nudged: what may not wait behind steps that take long. Work and chore handle their own errors.
    """

    def __init__(self, max_threads: int, chore: Callable[[], bool], threads: Threads) -> None:
        """`chore` returns whether it will be needed again. Raises RuntimeError where no thread can be had."""
        self._max_threads = max_threads
        self._chore = chore
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._nudges: SimpleQueue[bool] = SimpleQueue()  # False: the pool is closed
        self._is_nudged = False
        self._taken = 0  # how much work the threads have taken on; roughly, since they count without a lock
        self._threads = threads
        self._serving: list[threading.Lock] = []  # for each thread a lock that it holds until it has done its service
        self._overseeing = threads.begin("foreman", self._oversee)

    def put(self, works: Iterable[Work]) -> None:
        """Have each done by a thread, in this order."""
        for work in works:
            self._work.put(work)
        self.nudge()

    def nudge(self) -> None:
        """Have the foreman do his chore, and look whether work waits."""
        if not self._is_nudged:
            self._is_nudged = True
            self._nudges.put(True)

    def close(self) -> None:
        """Wait until all work and the last chore have been done, and every thread has been given back."""
        self._nudges.put(False)
        self._overseeing.acquire()
        for _ in self._serving:
            self._work.put(None)
        for serving in self._serving:
            serving.acquire()

    # ---- the foreman

    def _oversee(self) -> None:
        is_open, is_needed, waited, seen, since = True, True, 0, 0, 0.0
        while is_open or is_needed:
            is_open = self._wait_for_a_nudge() and is_open
            self._is_nudged = False  # before the chore: what comes from now on is for the next one
            is_needed = self._chore()
            waiting, now = self._work.qsize(), time.monotonic()
            if not self._serving:
                self._begin_threads(min(waiting, 1))
            elif waiting and waited and now - since <= _PATIENCE_SECONDS:
                continue  # too early to tell
            elif waited and waiting * (now - since) > (self._taken - seen) * _PATIENCE_SECONDS:  # at the pace it goes
                self._begin_threads(min(waiting, len(self._serving)))
            waited, seen, since = waiting, self._taken, now

    def _wait_for_a_nudge(self) -> bool:
        """Up to a nudge, or for a millisecond while work waits and may be given another thread. False once closed."""
        is_watching = self._work.qsize() and len(self._serving) < self._max_threads
        try:
            return self._nudges.get(timeout=_PATIENCE_SECONDS if is_watching else None)
        except Empty:
            return True

    def _begin_threads(self, how_many: int) -> None:
        for _ in range(min(how_many, self._max_threads - len(self._serving))):
            with contextlib.suppress(RuntimeError):  # none can be had: those that are there do it
                self._serving.append(self._threads.begin(f"worker {len(self._serving) + 1}", self._serve))

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            self._taken += 1
            work()
