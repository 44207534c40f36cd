"""Future: the result of parallel work, for sync and async workflows alike."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures._base import FINISHED, PENDING  # as those who wait by that module know the state
from typing import TYPE_CHECKING, Any, TypeVar

from durable.errors import Abandoned, CancelRequested, ScopeError, Suspended, Unwinding
from durable.replay.keys import Scope
from durable.signals import held_back, let_through

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

TURN_SECONDS = 0.2


class Future(concurrent.futures.Future[T]):
    """What `submit` and `branch` return: a `concurrent.futures.Future` that can also be awaited.

    An error is raised where the future is asked for its result. It cannot be cancelled: a step that may or may not have
    run would be a decision that nobody recorded.

    It makes a Condition only for who waits by the functions of `concurrent.futures`, and a list only for callbacks. The
    rest are operations that Python does not tear. Who ends it sets the state and then looks who waits; who comes to
    wait says so and then looks at the state. A callback is called by the one that has taken it out of the list.
    """

    _made_condition: threading.Condition | None = None
    _callbacks: list[Callable[[Any], object]] | None = None
    raced = False  # whether it is in a race: who loses one need not come to an end, see Run.abandon
    is_queued = False  # whether it begins only when another has ended
    is_watched = False  # whether it has callbacks of the user's, which may take long

    def __init__(
        self,
        is_loop_thread: Callable[[], bool] = lambda: False,
        key: str = "",
        scope: Scope | None = None,
        *,
        is_compound: bool = False,
    ) -> None:
        """Of the step or branch with this key, called for in this scope; a compound one is brought about by others."""
        self.key, self.scope, self.is_compound = key, scope, is_compound
        self._is_loop_thread = is_loop_thread
        # set from the start, though they come late: an object that gets more attributes than others had is made a dict
        self._state: str = PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self.asked = False  # whether anyone has seen how it ended

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        condition: threading.Condition = self.__dict__.setdefault("_made_condition", threading.Condition())
        return condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        waiters: list[Any] = self.__dict__.setdefault("_made_waiters", [])
        return waiters

    def done(self) -> bool:
        """Whether it has ended."""
        return self._state == FINISHED

    def result(self, timeout: float | None = None) -> T:
        """The value, once there is one. Raises the step's error, or TimeoutError after so many seconds."""
        if (error := self.exception(timeout)) is not None:
            raise error
        return self._result  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The step's error, or None. Raises TimeoutError after so many seconds."""
        if self._state != FINISHED:
            if self._is_loop_thread():
                raise ScopeError(
                    "an async workflow must await a future; result() would block the event loop that runs it"
                )
            with held_back(), blocked(self.scope, [self]):
                wait([self], timeout)
            if self._state != FINISHED:
                raise TimeoutError
        error = self._exception
        if isinstance(error, Unwinding) and self.scope is not None:
            self.scope.unwinding = error  # whoever asked is on its way out, and begins nothing more
        self.asked = True  # only now: a wait that timed out has seen nothing
        return error

    def cancel(self) -> bool:
        """Does nothing, and says so: False."""
        return False

    def unasked_error(self) -> BaseException | None:
        """The error with which it ended, if no caller has seen it; the loser of a race that only waited has none.

        The same when that wait was ended by a cancellation: code after the race is on record, and is to be reached.
        """
        error = None if self.asked else self.ending
        return None if self.raced and isinstance(error, Suspended | Abandoned | CancelRequested) else error

    @property
    def ending(self) -> BaseException | None:
        """The error with which it ended, or None, without asking for it."""
        return self._exception

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have it called with this future once it has ended, in the thread that ends it; at once, if it has."""
        self.is_watched = True
        if self._state == FINISHED:  # what is no Exception comes out here, as Ctrl+C does
            self._tell(fn)
        else:
            self.on_end(fn)

    def on_end(self, fn: Callable[[Any], object]) -> None:
        """`add_done_callback` for the engine's own, which are quick."""
        self.__dict__.setdefault("_callbacks", []).append(fn)
        if self._state == FINISHED:
            self._call_back()

    def set_result(self, result: T) -> None:
        """End with a value."""
        self._end(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """End with an error."""
        self._end(None, exception)

    def _end(self, result: T | None, exception: BaseException | None) -> None:
        if self._state == FINISHED:
            raise concurrent.futures.InvalidStateError(f"{self!r} has ended before")
        self._result, self._exception = result, exception
        self._state = FINISHED
        if self._made_condition is not None:
            with self._made_condition:
                for waiter in self._waiters:
                    (waiter.add_result if exception is None else waiter.add_exception)(self)
                self._made_condition.notify_all()
        if self.scope is not None:
            self.scope.on_ended(self)
        if self._callbacks is not None:
            self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            try:
                fn = self._callbacks.pop(0)
            except IndexError:  # another thread was quicker to take it
                return
            try:
                self._tell(fn)
            except BaseException:  # it has asked for what was interrupted, say; others wait for this thread
                continue

    def _tell(self, fn: Callable[[Any], object]) -> None:
        try:
            fn(self)
        except Exception:
            logging.getLogger("durable").exception("a callback of %r failed", self)

    def settle(self, work: Callable[[], T]) -> None:
        """Do the work here, and take its outcome."""
        try:
            self.set_result(work())
        except BaseException as error:
            self.set_exception(error)

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done():
            with blocked(self.scope, [self]):
                yield from _end_of(self)
        return self.result()  # the very error that was recorded: asyncio's own wrap_future makes another of some


class blocked:  # noqa: N801 - reads as a phrase: with blocked(scope, futures):
    """A block in which a scope's function waits for all of these: so a clock may tell whether time can be skipped."""

    __slots__ = ("_futures", "_scope")

    def __init__(self, scope: Scope | None, futures: list[Future[Any]]) -> None:
        self._scope, self._futures = scope, futures

    def __enter__(self) -> None:
        if self._scope is not None:
            self._scope.blocked_on[self] = self._futures
            self._scope.on_blocked()

    def __exit__(self, *_: object) -> None:
        if self._scope is not None:
            del self._scope.blocked_on[self]
            if self._scope.blocked_on:  # a coroutine goes on that had gathered several
                self._scope.on_blocked()


def wait(futures: Iterable[concurrent.futures.Future[Any]], timeout: float | None = None) -> None:
    """Wait until all have ended, each for at most so many seconds, without asking them. Ctrl+C is heard meanwhile.

    To be called with SIGINT held back. It waits in calls of C code: the waiting of `concurrent.futures` is Python, and
    a KeyboardInterrupt in the middle of it leaves a future locked, on which its worker then hangs for ever. The calls
    are short, since CPython hears a signal that comes just before one of them blocks only after it.
    """
    for future in futures:
        if not future.done():
            ended = threading.Lock()
            ended.acquire()
            tell = future.on_end if isinstance(future, Future) else future.add_done_callback
            tell(functools.partial(_release, ended))
            give_up_at = None if timeout is None else time.monotonic() + timeout
            while not let_through(ended.acquire, timeout=next_turn(give_up_at)):
                if give_up_at is not None and time.monotonic() >= give_up_at:
                    break


def next_turn(give_up_at: float | None) -> float:
    """For how long to wait at once, in seconds, towards an instant of the monotonic clock."""
    return TURN_SECONDS if give_up_at is None else max(0.0, min(TURN_SECONDS, give_up_at - time.monotonic()))


def _release(ended: threading.Lock, _: object) -> None:
    ended.release()


class _Teller:
    """Ends a future of a loop, on the loop."""

    __slots__ = ("_loop", "ended")

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def __call__(self, _: object) -> None:
        import asyncio

        if asyncio._get_running_loop() is self._loop:
            self._finish()
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.ended.done():  # nobody has cancelled the wait
            self.ended.set_result(None)


def _end_of(future: Future[Any]) -> asyncio.Future[None]:
    """A future of the running loop that is done when the given one is, whatever came of it."""
    tell = _Teller()
    with held_back():
        future.on_end(tell)
    return tell.ended


async def wait_async(futures: Iterable[Future[Any]], on_cancel: Callable[[], object]) -> BaseException | None:
    """Wait until all have ended, without asking them. A cancellation is told to `on_cancel` and returned."""
    import asyncio

    waiting = set(map(_end_of, futures))
    cancelled = None
    while waiting:
        try:
            _, waiting = await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    return cancelled
