"""Races: which of several futures ended first is a decision, so it is recorded, and a replay goes the same way."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from durable.errors import RunStopped, Suspended, Unwinding
from durable.parallel.future import Future
from durable.replay.attempt import Recorded, thread_label
from durable.replay.call import Operation
from durable.replay.frame import Frame
from durable.signals import held_back
from durable.store.step_row import NewStep
from durable.values import codec

T = TypeVar("T")


def first(frame: Frame, futures: tuple[Future[T], ...]) -> Future[Future[T]]:
    """A future of the one that ends first, in whatever way."""
    if not futures or not all(isinstance(future, Future) and future.key for future in futures):
        raise TypeError("ctx.first: expected futures of this workflow, as ctx.submit, ctx.branch and ctx.timer return")
    call = Operation("first", "first", codec.PLAIN, *[future.key for future in futures])
    found = frame._replay(call, lambda key, position, _: (key, position))
    for future in futures:
        future.raced = True
    if isinstance(found, Recorded):
        winner, race = futures[found.result()], frame._new_future(found.key, is_compound=True)
        winner.on_end(lambda _: race.set_result(winner))
        return race
    key, position = found
    frame._run.notify("step.scheduled", key, call.name, frame._run.history.count_tries(key) + 1)
    return _Race(frame, call, key, position, futures).race


class _Race:
    """One that is not decided."""

    def __init__(
        self, frame: Frame, call: Operation, key: str, position: int, futures: tuple[Future[Any], ...]
    ) -> None:
        self.race: Future[Future[Any]] = frame._new_future(key, is_compound=True)
        self._frame, self._run, self._call, self._key, self._futures = frame, frame._run, call, key, futures
        self._position, self._thread = position, thread_label(frame._scope)
        self._number = self._run.history.count_tries(key) + 1
        self._left = len(futures)
        self._is_decided = False
        self._lock = threading.Lock()
        for future in futures:
            future.on_end(self._arrive)

    def _arrive(self, future: Future[Any]) -> None:
        """One has ended. One that was suspended has not, and the race is suspended once only such are left."""
        ending = future.ending
        with self._lock:
            self._left -= 1
            if self._is_decided or (isinstance(ending, Suspended) and self._left):
                return
            self._is_decided = True
            self.race.is_compound = False  # from here on it is being saved
        if isinstance(ending, RunStopped | Unwinding):
            self.race.set_exception(ending)
        else:  # by a clerk, since this thread may be the one that commits for others
            self._frame._launch(
                self.race, lambda: self._run.workers.book(lambda: self.race.settle(lambda: self._save(future)))
            )

    def _save(self, winner: Future[Any]) -> Future[Any]:
        run, key, call = self._run, self._key, self._call
        run.notify("step.executed", key, call.name, self._number)
        row = NewStep(
            key, call.name, call.kind, self._position, self._number, call.fingerprint, run.now(), self._thread
        )
        run.save(run.store.record_step, row, str(self._futures.index(winner)))
        run.notify("step.checkpointed", key, call.name, self._number)
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
