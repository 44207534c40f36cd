"""Slots: the places in DBOS where the rows of one run go. They are numbered, and the numbers mean nothing.

DBOS draws a step's number when it is called, so a number drawn in a thread is chance, and as an identity it would swap
results between runs. Here it is none: a run begins behind the last number that is taken, and each save takes the next.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dbos import DBOS, StepReservation, error
from sqlalchemy.exc import SQLAlchemyError

from durable.errors import StoreError
from durable.on_dbos.outside import off_loop
from durable.on_dbos.store.rows import Row, StepRow
from durable.on_dbos.store.serializer import StepFailed

T = TypeVar("T")


class NotOurs(Exception):  # noqa: N818 - callers get CancelRequested or FencedError
    """DBOS has refused to save: the workflow was cancelled, or another process runs it."""


class Slots:
    """To be made within the DBOS workflow, in its thread."""

    def __init__(self, taken: int, place: Path) -> None:
        """`taken` is the last number that is taken, `place` the name of the database for errors."""
        self._place = place
        self._lock = threading.Lock()
        self._home = contextvars.copy_context()
        for _ in range(taken):
            DBOS.reserve_step()

    def save(self, name: str, row: Row) -> None:
        """Record a row whose effect, if it has any, has happened. Durable once this returns. From any thread."""

        def provide() -> Row:
            if isinstance(row, StepRow) and row.status == "failed":
                raise StepFailed(row)
            return row

        with self.refusals():
            try:
                self.run_here(lambda: self._reserve().run({"name": name}, provide))
            except StepFailed:
                return

    def perform(self, name: str, effect: Callable[[], T]) -> T:
        """Call the effect and record what it returns, or the StepFailed that it raises. In the caller's context."""
        with self.refusals():
            reservation = self._reserve()
            return off_loop(lambda: reservation.run({"name": name}, effect))

    async def perform_async(self, name: str, effect: Callable[[Any], Coroutine[Any, Any, T]], step: Any) -> T:
        """The same for a coroutine function, on the loop that runs here. DBOS must see that it is one: no lambda."""
        with self.refusals():
            return await self._reserve().run_async({"name": name}, effect, step)

    def draw_within(self, fn: Callable[[], T]) -> T:
        """Call what draws numbers of its own, and does not take long."""
        with self._lock:
            return self.run_here(fn)

    def draw_first(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Await what draws its numbers before its first pause, and may pause long."""
        return _DrawFirst(coroutine, self._lock)

    def run_here(self, fn: Callable[[], T]) -> T:
        """Call it as the workflow, from any thread."""
        home = self._home.copy()
        return off_loop(lambda: home.run(fn))

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """A block in which DBOS may refuse to save, or cannot."""
        try:
            yield
        except (error.DBOSWorkflowCancelledError, error.DBOSWorkflowConflictIDError) as refusal:
            raise NotOurs(str(refusal)) from None
        except SQLAlchemyError as failed:
            raise StoreError(
                f"database {str(self._place)!r}: {failed}; once it is there again, run the same id again",
                path=self._place,
            ) from failed

    def _reserve(self) -> StepReservation:
        with self._lock:
            return self._home.copy().run(DBOS.reserve_step)


class _DrawFirst(Awaitable[T]):
    """A coroutine whose part before the first pause is run under a lock."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], lock: threading.Lock) -> None:
        self._coroutine, self._lock = coroutine, lock

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._coroutine.__await__()
        try:
            with self._lock:
                pause = next(steps)
        except StopIteration as ended:
            value: T = ended.value
            return value
        try:
            yield pause
        except BaseException as thrown:  # it is being cancelled, and may pause to tidy up
            try:
                pause = steps.throw(thrown)
            except StopIteration as ended:
                value = ended.value
                return value
            yield pause
        return (yield from steps)
