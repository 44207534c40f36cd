"""Batch: performs many pieces of work in threads, and begins, or ends, many of them in one call.

A worker that has performed a piece does not wait for the disk: it hands the piece in and takes the next. The
supervisor, a thread of its own, ends all waiting pieces in one call, and only then settles them. So a thousand quick
pieces cost a few calls, and a slow one is ended as soon as it is done.
"""

from __future__ import annotations

import contextlib
import time
from _queue import Empty, SimpleQueue  # see threads.py
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from durable.errors import NoThreadError
from durable.parallel.workers import Workers

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

_QUICK_SECONDS = 0.01
_QUICK_FACTOR = 8
_SEVERAL = 8
_WATCH_SECONDS = 0.001
_PAUSE_SECONDS = 0.0001  # less than the saved call takes


class Piece(Protocol[S_co]):
    """One piece of work, as the batch sees it."""

    @property
    def step(self) -> S_co:
        """The argument of `begin` and `end` for it."""
        ...

    @property
    def is_ended(self) -> bool:
        """Return whether there is an outcome to pass to `end`. After an interrupt there is none."""
        ...

    def perform(self) -> None:
        """Have the effect, in a thread of the pool. Must not raise."""
        ...

    def settle(self, error: BaseException | None) -> None:
        """Notify the callers: the piece is over, or `error` kept it from being begun or ended.

        The supervisor calls it, so it must be quick. It must not raise.
        """
        ...


class Batch(Generic[S]):
    """Takes pieces in, and sees each through: `begin`, its effect in a thread of the pool, `end`.

    At most `max_workers` pieces are in flight, since after a crash each stands for an effect that may have happened.
    Only while pieces end within milliseconds are more of them begun in one call, up to eight times as many.
    """

    def __init__(self, begin: Callable[[list[S]], object], end: Callable[[list[S]], object], workers: Workers) -> None:
        """An error of `begin` or `end` is the error of all pieces of that call.

        Raises NoThreadError.
        """
        self._begin, self._end, self._workers = begin, end, workers
        self._wakes: SimpleQueue[bool] = SimpleQueue()  # False: no more pieces come
        self._is_woken = False
        self._waiting: deque[Piece[S]] = deque()
        self._begun: deque[Piece[S]] = deque()
        self._performed: deque[Piece[S]] = deque()
        self._starts: deque[tuple[S, asyncio.Future[None]]] = deque()  # these two are of coroutines
        self._ends: deque[tuple[S, asyncio.Future[None]]] = deque()
        self._in_flight = 0  # this and what follows are the supervisor's own
        self._limit = workers.max_workers
        self._begun_at = 0.0
        self._supervising = workers.threads.begin("supervisor", self._supervise)
        workers.on_join.append(self._close)

    def submit(self, piece: Piece[S]) -> None:
        """Begin a piece as soon as there is room."""
        self._waiting.append(piece)
        self._wake()

    def start(self, step: S) -> asyncio.Future[None]:
        """For a coroutine that performs a piece itself: begin it, together with others. To be awaited."""
        return self._request(self._starts, step)

    def end(self, step: S) -> asyncio.Future[None]:
        """For a coroutine that has performed a piece itself: end it, together with others. To be awaited."""
        return self._request(self._ends, step)

    def _request(self, requests: deque[tuple[S, asyncio.Future[None]]], step: S) -> asyncio.Future[None]:
        import asyncio

        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        requests.append((step, done))
        self._wake()
        return done

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self._wakes.put(True)

    def _close(self) -> None:
        self._wakes.put(False)
        self._supervising.acquire()

    # ---- in the supervisor

    def _supervise(self) -> None:
        is_open = is_needed = True
        is_watching = False  # whether work waits that may need another thread
        while is_open or is_needed:
            with contextlib.suppress(Empty):
                is_open = self._wakes.get(timeout=_WATCH_SECONDS if is_watching else None) and is_open
            self._is_woken = False  # before the commit: what comes from now on is for the next one
            is_needed = self._commit()
            is_watching = self._workers.pool.watch()

    def _commit(self) -> bool:
        self._answer(self._starts, self._begin)
        self._answer(self._ends, self._end)
        performed = self._take_performed()
        self._adapt(len(performed))
        if self._limit > self._workers.max_workers:  # the threads have work while this one waits for the disk
            self._begin_pieces()
            if performed and self._in_flight and not self._waiting:  # the last: quick ones may join the same call
                time.sleep(_PAUSE_SECONDS)
                performed += self._take_performed()
            self._end_pieces(performed)
        else:
            self._end_pieces(performed)
            self._begin_pieces()
        return bool(self._in_flight or self._waiting)

    def _take_performed(self) -> list[Piece[S]]:
        performed = _take(self._performed)
        self._in_flight -= len(performed)
        return performed

    def _adapt(self, performed: int) -> None:
        """Raise the limit while batches finish quickly; reset it after a slow one."""
        usual, seconds = self._workers.max_workers, time.monotonic() - self._begun_at
        if seconds > _QUICK_SECONDS:
            self._limit = usual
        elif performed >= _SEVERAL and not self._in_flight:
            self._limit = min(max(usual, int(performed * _QUICK_SECONDS / max(seconds, 1e-6))), _QUICK_FACTOR * usual)

    def _begin_pieces(self) -> None:
        while pieces := _take(self._waiting, self._limit - self._in_flight):
            try:
                self._begin([piece.step for piece in pieces])
            except BaseException as error:
                for piece in pieces:
                    piece.settle(error)
                continue  # the next pieces have no other occasion if nothing is in flight
            self._in_flight += len(pieces)
            self._begun_at = time.monotonic()
            self._begun.extend(pieces)
            with contextlib.suppress(NoThreadError):  # no thread can be started now: `watch` tries again
                self._workers.pool.put([self._perform] * len(pieces))

    def _perform(self) -> None:
        """In a thread of the pool: the next piece that was begun."""
        piece = self._begun.popleft()
        piece.perform()
        self._performed.append(piece)
        self._wake()

    def _end_pieces(self, pieces: list[Piece[S]]) -> None:
        error: BaseException | None = None
        if steps := [piece.step for piece in pieces if piece.is_ended]:
            try:
                self._end(steps)  # durable once this returns
            except BaseException as failure:
                error = failure
        for piece in pieces:
            piece.settle(error if piece.is_ended else None)

    def _answer(self, requests: deque[tuple[S, asyncio.Future[None]]], perform: Callable[[list[S]], object]) -> None:
        taken, error = _take(requests), None
        if not taken:
            return
        try:
            perform([step for step, _ in taken])
        except BaseException as failure:
            error = failure
        self._workers.event_loop.call(lambda: _resolve([done for _, done in taken], error))


def _take(queue: deque[T], at_most: int | None = None) -> list[T]:
    count = len(queue)
    return [queue.popleft() for _ in range(count if at_most is None else min(count, at_most))]


def _resolve(waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
    """On the loop: let the coroutines go on."""
    for done in waiting:
        if done.done():  # its coroutine was cancelled
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
