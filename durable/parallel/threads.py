"""Threads that are lent for a piece of work and taken back, and pools of such threads with a limit."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from _queue import Empty, SimpleQueue  # `queue` has them from there, and takes 0.4 ms for more than is needed here
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from durable.errors import NoThreadError

Work: TypeAlias = Callable[[], object]

IDLE_SECONDS = 0.01  # how long a thread waits for more work, and the end of the interpreter for the thread
NO_THREAD = "no thread could be started"  # why a run ended
_SLOW_SECONDS = 0.001  # how long work of a pool may wait for a thread before the limit is raised


def is_process_ending() -> bool:
    """Return whether the interpreter waits for its last threads: the main thread has nothing more to do.

    `concurrent.futures` waits for its threads before the main thread counts as ended; of that, only `threading` knows.
    """
    return getattr(threading, "_SHUTTING_DOWN", False) or not threading.main_thread().is_alive()


def start_thread(name: str, fn: Callable[..., object], *args: Any, daemon: bool = True) -> threading.Thread:
    """Call `fn` in a new thread of this name. Raises NoThreadError."""
    thread = threading.Thread(target=fn, args=args, name=name, daemon=daemon)
    try:
        thread.start()
    except RuntimeError as error:
        raise NoThreadError(str(error)) from error
    return thread


class Threads:
    """One thread for each piece of work, however many. A thread that has become free waits a moment for more.

    Starting a thread takes as long as a workflow of a few steps.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait, and have not been given anything
        self._is_closed = False
        self._work: SimpleQueue[tuple[str, Work, threading.Lock] | None] = SimpleQueue()

    def begin(self, name: str, fn: Work) -> threading.Lock:
        """Call `fn` in a thread of this name, in a fresh context. Returns a lock that is held until it has ended.

        Raises NoThreadError.
        """
        ended = threading.Lock()
        ended.acquire()
        with self._lock:
            if is_at_hand := self._idle > 0:
                self._idle -= 1
                self._work.put((name, fn, ended))
        if not is_at_hand:
            start_thread(name, self._serve, (name, fn, ended), daemon=False)
        return ended

    def close(self) -> None:
        """Let the waiting threads end, and the others as they become free."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._idle):
                self._work.put(None)
            self._idle = 0

    def _serve(self, work: tuple[str, Work, threading.Lock] | None) -> None:
        while work is not None:
            threading.current_thread().name, fn, ended = work
            try:
                contextvars.Context().run(fn)
            finally:
                threading.current_thread().name = "idle"
                ended.release()
            work = self._next()

    def _next(self) -> tuple[str, Work, threading.Lock] | None:
        with self._lock:
            if self._is_closed:
                return None
            self._idle += 1
        while True:
            try:
                return self._work.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._work.empty():  # no work was put for this thread
                        self._idle -= 1
                        return None


class Pool:
    """Does work in lent threads, at most `limit` at once, and keeps them until it is closed. Work must not raise."""

    def __init__(self, threads: Threads, name: str, max_threads: int) -> None:
        self._threads, self._name, self._max_threads = threads, name, max_threads
        self.limit = 1
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle: deque[None] = deque()  # one entry for each thread that waits, and has not been given anything
        self._taken = 0  # pieces of work; roughly, since a lock for each piece costs a third of a fan-out of 1,000
        self._serving: list[threading.Lock] = []  # for each thread, a lock that it holds until it is given back
        self._seen = 0, 0, 0.0  # by `watch`: how much work waited, was done, and when

    def put(self, works: Sequence[Work]) -> None:
        """Let threads do each piece, in this order. Raises NoThreadError if there is no thread at all."""
        with self._lock:
            idle = 0
            while self._idle and idle < len(works):
                self._idle.pop()
                idle += 1
            for work in works:
                self._work.put(work)
            self._begin_threads(len(works) - idle)
            if not self._serving:
                raise NoThreadError(NO_THREAD)

    def grow(self, count: int) -> None:
        """Raise the limit."""
        self.limit = min(self.limit + count, self._max_threads)

    def watch(self) -> bool:
        """Double the limit if work waits too long. Returns whether to look again in a moment.

        One thread does for quick work. More are needed if work waits for a millisecond at the pace of the threads.
        """
        waiting, done, now = self._work.qsize(), self._taken, time.monotonic()
        seen_waiting, seen_done, seen_at = self._seen
        elapsed = now - seen_at
        if waiting <= 0 or seen_waiting <= 0 or elapsed > _SLOW_SECONDS:
            self._seen = waiting, done, now
            if waiting > 0 and seen_waiting > 0 and waiting * elapsed > (done - seen_done) * _SLOW_SECONDS:
                self.grow(min(waiting, self.limit))
            with self._lock:
                self._begin_threads(waiting)
        return waiting > 0 and self.limit < self._max_threads

    def close(self) -> None:
        """Wait until all work has been done and every thread has been given back."""
        with self._lock:  # `put` may have begun a thread that has done its work already, and not noted it yet
            serving = list(self._serving)
        for _ in serving:
            self._work.put(None)
        for ended in serving:
            ended.acquire()

    def _begin_threads(self, at_most: int) -> None:
        with contextlib.suppress(NoThreadError):  # no more can be started: those that are there do the work
            for _ in range(min(at_most, self.limit - len(self._serving))):
                name = f"{self._name} {len(self._serving) + 1}"
                self._serving.append(self._threads.begin(name, self._serve))

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            self._taken += 1
            work()

    def _next(self) -> Work | None:
        try:
            return self._work.get_nowait()
        except Empty:
            self._idle.append(None)
            return self._work.get()
