"""Journal: saves the parallel steps of one run, many in one transaction.

A thread that has made a step does not wait for the disk: it hands the outcome in and makes the next step. The foreman
of the pool saves what has come together, and only then are the futures given their results. So a thousand quick steps
cost a few commits, and a slow one is saved as it ends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from durable.parallel.pool import Work
from durable.parallel.workers import Workers
from durable.store.step_row import EndedStep, NewStep
from durable.store.store import Store

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_QUICK_SECONDS = 0.01
_QUICK_FACTOR = 8
_SEVERAL = 8
_PAUSE_SECONDS = 0.0001  # less than the transaction takes that is spared


class Entry(Protocol):
    """One parallel step, as the journal sees it."""

    ended: EndedStep | None  # what is to be saved of it: None after an interrupt

    def new_step(self, thread: str, at: str) -> NewStep:
        """Its running row. Raises what has stopped the run."""
        ...

    def perform(self) -> None:
        """Have the effect. Does not raise."""
        ...

    def settle(self, error: BaseException | None) -> Work | None:
        """It is saved, or `error` is why not: tell who waits for it. Returns what a thread has yet to do, if anything.

        Called by the foreman, whom nothing may hold up.
        """
        ...


class Journal:
    """Takes entries in and sees them through: the running row, the effect in a thread of the pool, the checkpoint.

    At most `max_workers` rows say `running` at once, since after a crash each stands for an effect that may have
    happened. Only while steps end within milliseconds are more of them begun in one transaction, up to eight times so
    many.
    """

    def __init__(self, store: Store, save: Callable[..., None], now: Callable[[], str], workers: Workers) -> None:
        """`save` is the run's: it has a method of the store save something, or raises what stops the run."""
        self._store, self._save, self._now, self._workers = store, save, now, workers
        self._threads = [f"worker {number + 1}" for number in range(workers.max_workers)]
        workers.chore = self._write
        self._waiting: deque[Entry] = deque()
        self._begun: deque[Entry] = deque()
        self._ended: deque[Entry] = deque()
        self._starts: deque[tuple[NewStep, asyncio.Future[None]]] = deque()  # these two are of coroutines
        self._ends: deque[tuple[EndedStep, asyncio.Future[None]]] = deque()
        self._running = 0  # this and what follows are the foreman's own
        self._limit = workers.max_workers
        self._begun_at = 0.0

    def submit(self, entry: Entry) -> None:
        """Have a step begun as soon as there is room. Raises RuntimeError where no thread can be had."""
        self._waiting.append(entry)
        self._workers.pool.nudge()

    def start(self, step: NewStep) -> asyncio.Future[None]:
        """To be awaited by a coroutine: its running row is saved, together with those of others."""
        return self._request(self._starts, step)

    def end(self, step: EndedStep) -> asyncio.Future[None]:
        """To be awaited by a coroutine: its outcome is on the disk."""
        return self._request(self._ends, step)

    def _request(self, requests: deque[tuple[Any, asyncio.Future[None]]], row: Any) -> asyncio.Future[None]:
        import asyncio

        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        requests.append((row, saved))
        self._workers.pool.nudge()
        return saved

    # ---- the foreman's chore

    def _write(self) -> bool:
        self._answer(self._starts, self._store.start_steps)
        self._answer(self._ends, self._store.end_steps)
        ended = self._take_ended()
        self._adapt(len(ended))
        if self._limit > self._workers.max_workers:  # have work for the threads while the disk is waited for
            self._begin()
            if ended and self._running and not self._waiting:  # these are the last: the quick may be saved with those
                time.sleep(_PAUSE_SECONDS)
                ended += self._take_ended()
            self._end(ended)
        else:
            self._end(ended)
            self._begin()
        return bool(self._running or self._waiting)

    def _take_ended(self) -> list[Entry]:
        ended = _take_all(self._ended)
        self._running -= len(ended)
        return ended

    def _adapt(self, ended: int) -> None:
        """Where all were done, and several, as many may be begun as would be quick; where it takes long, no more."""
        usual, seconds = self._workers.max_workers, time.monotonic() - self._begun_at
        if seconds > _QUICK_SECONDS:
            self._limit = usual
        elif ended >= _SEVERAL and not self._running:
            self._limit = min(max(usual, int(ended * _QUICK_SECONDS / max(seconds, 1e-6))), _QUICK_FACTOR * usual)

    def _begin(self) -> None:
        room = self._limit - self._running
        begun: list[Entry] = []
        rows: list[NewStep] = []
        now = self._now()
        while self._waiting and len(begun) < room:
            entry = self._waiting.popleft()
            try:
                rows.append(entry.new_step(self._threads[(self._running + len(begun)) % len(self._threads)], now))
                begun.append(entry)
            except BaseException as error:
                self._settle(entry, error)
        if not begun:
            return
        try:
            self._save(self._store.start_steps, rows)
        except BaseException as error:
            for entry in begun:
                self._settle(entry, error)
            return
        self._running += len(begun)
        self._begun_at = time.monotonic()
        self._begun.extend(begun)
        self._workers.pool.put([self._perform] * len(begun))

    def _perform(self) -> None:
        """In a thread of the pool: the next that was begun."""
        entry = self._begun.popleft()
        entry.perform()
        self._ended.append(entry)
        self._workers.pool.nudge()

    def _end(self, ended: list[Entry]) -> None:
        error: BaseException | None = None
        rows = [entry.ended for entry in ended if entry.ended is not None]
        if rows:
            try:
                self._save(self._store.end_steps, rows)  # durable once this returns
            except BaseException as failure:
                error = failure
        for entry in ended:
            self._settle(entry, None if entry.ended is None else error)

    def _settle(self, entry: Entry, error: BaseException | None) -> None:
        left = entry.settle(error)
        if left is not None:
            self._workers.pool.put([left])

    def _answer(self, requests: deque[tuple[Any, asyncio.Future[None]]], method: Callable[..., bool]) -> None:
        taken, error = _take_all(requests), None
        if not taken:
            return
        try:
            self._save(method, [row for row, _ in taken])
        except BaseException as failure:
            error = failure
        self._workers.event_loop.call(lambda: _resolve([saved for _, saved in taken], error))


def _take_all(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(len(queue))]


def _resolve(waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
    """On the loop: let the coroutines go on."""
    for saved in waiting:
        if saved.done():  # cancelled
            continue
        if error is None:
            saved.set_result(None)
        else:
            saved.set_exception(error)
