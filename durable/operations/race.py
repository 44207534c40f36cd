"""Races: which of several futures ended first is a decision, so it is recorded, and a replay goes the same way."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from durable.errors import RunStopped, Suspended, Unwinding
from durable.parallel.future import Future
from durable.replay import Frame, Operation, Step
from durable.signals import held_back
from durable.values import codec

T = TypeVar("T")


def first(frame: Frame, futures: tuple[Future[T], ...]) -> Future[Future[T]]:
    """Return a future of the one that ends first, in whatever way."""
    if not futures or not all(isinstance(future, Future) and future.key for future in futures):
        raise TypeError("ctx.first: expected futures of this workflow, as ctx.submit, ctx.branch and ctx.timer return")
    step = frame.reach(Operation("first", "first", codec.PLAIN, *[future.key for future in futures]))
    for future in futures:
        future.raced = True
    if step.outcome is not None:
        winner = futures[frame.run.give(step)]
        race: Future[Future[Any]] = frame.future(step.key, after=(winner,))
        winner.on_end(lambda _: race.set_result(winner))
    else:
        race = frame.future(step.key, after=futures)
        _Race(frame, step, race, futures).watch()
    return race


class _Race:
    """A race that is not decided."""

    def __init__(self, frame: Frame, step: Step, race: Future[Future[Any]], futures: tuple[Future[Any], ...]) -> None:
        self._frame, self._step, self._race, self._futures = frame, step, race, futures
        self._left = len(futures)
        self._is_decided = False
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Begin to wait for the first of them."""
        for future in self._futures:
            future.on_end(self._arrive)

    def _arrive(self, future: Future[Any]) -> None:
        """Note that a future has ended. One that is suspended has not: if no other is left, the race is suspended."""
        ending = future.ending
        with self._lock:
            self._left -= 1
            if self._is_decided or (isinstance(ending, Suspended) and self._left):
                return
            self._is_decided = True
        if isinstance(ending, RunStopped | Unwinding):
            self._race.set_exception(ending)
        else:  # in another thread, since this one may be the one that commits for others
            workers = self._frame.run.workers
            self._frame.launch(self._race, lambda: workers.book(lambda: self._race.settle(lambda: self._save(future))))

    def _save(self, winner: Future[Any]) -> Future[Any]:
        self._frame.record(self._step, lambda: self._futures.index(winner))
        return winner


class AsCompleted(Generic[T]):
    """The futures in the order in which they end, each a race of those that are left; for `for` and `async for`."""

    def __init__(self, frame: Frame, futures: Iterable[Future[T]]) -> None:
        self._frame, self._left = frame, list(futures)

    def __iter__(self) -> Iterator[Future[T]]:
        while self._left:
            with held_back():
                race = first(self._frame, tuple(self._left))
            winner = race.result()
            self._left.remove(winner)
            yield winner

    async def __aiter__(self) -> AsyncIterator[Future[T]]:
        while self._left:
            with held_back():
                race = first(self._frame, tuple(self._left))
            winner = await race
            self._left.remove(winner)
            yield winner
