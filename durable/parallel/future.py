"""Future: the result of parallel work, for sync and async callers alike."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from durable.errors import Abandoned, CancelRequested, ScopeError, Suspended
from durable.signals import held_back, is_interrupt, let_through

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

TURN_SECONDS = 0.2


class Owner(Protocol):
    """The function that asked for a future, as its futures see it."""

    def waiting_for(self, futures: list[Any]) -> contextlib.AbstractContextManager[object]:
        """Return a block in which the function waits until all of these futures have ended."""
        ...

    def on_ended(self, future: Any) -> object:
        """One of its futures has ended."""
        ...

    def on_raised(self, error: BaseException) -> object:
        """The function got an error, as an outcome or instead of one."""
        ...

    def on_cancelled(self) -> object:
        """A task of the function was cancelled while it waited."""
        ...

    def refuse_to_tell(self, question: str, key: str) -> object:
        """Raise ScopeError if the function itself asks what is not on record."""
        ...


class Future(concurrent.futures.Future[T]):
    """The result of `submit` and `branch`: a `concurrent.futures.Future` that can also be awaited.

    An error is raised when the future is asked for its result. A future cannot be cancelled: a step that may or may not
    have run would be a decision that is not recorded. So would be an answer that depends on the time: the workflow gets
    ScopeError if it asks with a timeout, or whether a future is done that is not. It can race the future with a timer:
    `ctx.first(future, ctx.timer(seconds))`. Code outside of the workflow may ask both.

    The setter writes the state first, then looks for callbacks. A callback is added first, then the state is read. So
    no callback is lost, and no lock is needed. The condition of a standard future is made only for a caller that waits
    by `concurrent.futures`: to make one for each costs a tenth of a fan-out of 1,000.
    """

    _callbacks: list[Callable[[Any], object]] | None = None
    _is_standard = False
    raced = False  # whether it is in a race: the loser of one need not come to an end, see Run.abandon
    is_watched = False  # whether it has callbacks of the user's, which may take long

    def __init__(
        self,
        is_loop_thread: Callable[[], bool] = lambda: False,
        key: str = "",
        owner: Owner | None = None,
        *,
        after: Collection[Any] | None = None,
    ) -> None:
        """`key` names its step or branch. With `after`, nothing is done for it until one of those futures has ended."""
        self.key, self.after = key, after
        self._owner, self._is_loop_thread = owner, is_loop_thread
        # all are set here: an object that gets more attributes than others of its class needs a dict of its own
        self._has_ended = False
        self._value: Any = None
        self.ending: BaseException | None = None  # the error with which it ended; reading it does not count as asking
        self.asked = False  # whether a caller has seen how it ended

    if not TYPE_CHECKING:  # to a type checker a future would have attributes of every name

        def __getattr__(self, name: str) -> Any:
            """Make the parts of a standard future, once a function of `concurrent.futures` looks for them."""
            with _making:
                if is_new := not self._is_standard:
                    super().__init__()
                    self._is_standard = True
            if is_new:
                self.on_end(_end_standard)
            if name not in self.__dict__:
                raise AttributeError(name, name=name, obj=self)
            return self.__dict__[name]

    def done(self) -> bool:
        """Return whether it has ended. Raises ScopeError if the workflow asks and it has not."""
        if not self._has_ended and self._owner is not None:
            self._owner.refuse_to_tell("done()", self.key)
        return self._has_ended

    def has_ended(self) -> bool:
        """Return whether it has ended, to the engine."""
        return self._has_ended

    def is_held(self) -> bool:
        """Return whether nothing is done for it until another future ends, and none of those has ended."""
        return self.after is not None and not any(future.has_ended() for future in list(self.after))

    def result(self, timeout: float | None = None) -> T:
        """Return the value, once there is one. Raises the step's error.

        Raises TimeoutError after so many seconds; ScopeError if the workflow sets a timeout, see `Future`.
        """
        if (error := self.exception(timeout)) is not None:
            raise error
        return self._value  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the step's error, or None. Raises as `result` does for a timeout."""
        if timeout is not None and self._owner is not None:
            self._owner.refuse_to_tell("a result within a timeout", self.key)
        if not self.has_ended():
            if self._is_loop_thread():
                raise ScopeError(
                    "an async workflow must await a future; result() would block the event loop that runs it"
                )
            try:
                with held_back(), waiting_for(self._owner, [self]):
                    wait([self], timeout)
            except BaseException as interrupt:
                if self._owner is not None:
                    self._owner.on_raised(interrupt)
                raise
            if not self.has_ended():
                raise TimeoutError
        error = self.ending
        if error is not None and self._owner is not None:
            self._owner.on_raised(error)
        self.asked = True  # only now: a wait that timed out has seen nothing
        return error

    def cancel(self) -> bool:
        """Do nothing, and return False."""
        return False

    def unasked_error(self) -> BaseException | None:
        """Return the error with which it ended, if no caller has seen it.

        The loser of a race that only waited has none, also if a cancellation ended that wait: code after the race is on
        record, and is to be reached. Nor has a race that no code asks for, whose futures are all given up.
        """
        error = None if self.asked else self.ending
        if isinstance(error, Abandoned) or (self.raced and isinstance(error, Suspended | CancelRequested)):
            return None
        return error

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn` with this future once it has ended, in the thread that ends it; at once, if it has."""
        self.is_watched = True
        if self._has_ended:  # an error that is no Exception is raised here, as Ctrl+C is
            self._notify(fn)
        else:
            self.on_end(fn)

    def on_end(self, fn: Callable[[Any], object]) -> None:
        """Do what `add_done_callback` does, for the engine's own callbacks, which are quick."""
        self.__dict__.setdefault("_callbacks", []).append(fn)
        if self._has_ended:
            self._call_back()

    def set_result(self, result: T) -> None:
        """End with a value."""
        self._end(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """End with an error."""
        self._end(None, exception)

    def settle(self, work: Callable[[], T]) -> None:
        """Do the work in this thread, and end with its outcome."""
        try:
            self.set_result(work())
        except BaseException as error:
            self.set_exception(error)

    def _end(self, value: T | None, error: BaseException | None) -> None:
        if self._has_ended:
            raise concurrent.futures.InvalidStateError(f"{self!r} has ended before")
        self._value, self.ending = value, error
        self._has_ended = True
        if self._owner is not None:
            self._owner.on_ended(self)
        if self._callbacks is not None:
            self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            try:
                fn = self._callbacks.pop(0)
            except IndexError:  # another thread has just taken it
                return
            try:
                self._notify(fn)
            except BaseException:  # an interrupt, say: the callers behind the other callbacks wait
                continue

    def _notify(self, fn: Callable[[Any], object]) -> None:
        try:
            fn(self)
        except Exception as error:
            if is_interrupt(error):
                raise
            logging.getLogger("durable").exception("a callback of %r failed", self)

    def __await__(self) -> Generator[Any, None, T]:
        if not self._has_ended:
            try:
                with waiting_for(self._owner, [self]):
                    yield from _end_of(self)
            except BaseException:  # CancelledError: its future of the loop has no other
                if self._owner is not None:
                    self._owner.on_cancelled()
                raise
        return self.result()  # the error that was recorded; asyncio's own wrap_future makes another of some


_making = threading.Lock()


def _end_standard(future: Future[Any]) -> None:
    """Wake the callers that wait by `concurrent.futures`."""
    standard = concurrent.futures.Future
    if future.ending is None:
        standard.set_result(future, None)
    else:
        standard.set_exception(future, future.ending)


def waiting_for(owner: Owner | None, futures: list[Any]) -> contextlib.AbstractContextManager[object]:
    """Return a block in which the owner, if there is one, waits until all of these futures have ended."""
    return contextlib.nullcontext() if owner is None else owner.waiting_for(futures)


def wait(futures: Iterable[concurrent.futures.Future[Any]], timeout: float | None = None) -> None:
    """Wait until all have ended, each for at most so many seconds, without asking them. Ctrl+C is heard meanwhile.

    To be called with SIGINT held back. It waits in calls of C code: the waiting of `concurrent.futures` is Python, and
    a KeyboardInterrupt in the middle of it leaves a future locked, so that its worker hangs for ever. The calls are
    short, since CPython hears a signal that comes just before one of them blocks only after it.
    """
    for future in futures:
        if not (future.has_ended() if isinstance(future, Future) else future.done()):
            ended = threading.Lock()
            ended.acquire()
            add = future.on_end if isinstance(future, Future) else future.add_done_callback
            add(functools.partial(_release, ended))
            give_up_at = None if timeout is None else time.monotonic() + timeout
            while not let_through(ended.acquire, timeout=next_turn(give_up_at)):
                if give_up_at is not None and time.monotonic() >= give_up_at:
                    break


def next_turn(give_up_at: float | None) -> float:
    """Return for how many seconds to wait at once, towards an instant of the monotonic clock."""
    return TURN_SECONDS if give_up_at is None else max(0.0, min(TURN_SECONDS, give_up_at - time.monotonic()))


def _release(ended: threading.Lock, _: object) -> None:
    ended.release()


def _end_of(future: Future[Any]) -> asyncio.Future[None]:
    """Return a future of the running loop that is done when the given one has ended, with either outcome."""
    import asyncio

    loop, thread = asyncio.get_running_loop(), threading.get_ident()
    ended: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not ended.done():  # its coroutine was not cancelled
            ended.set_result(None)

    def notify(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and its coroutines are gone
            if threading.get_ident() == thread:
                finish()
            else:
                loop.call_soon_threadsafe(finish)

    with held_back():
        future.on_end(notify)
    return ended


async def wait_async(futures: Iterable[Future[Any]], on_cancel: Callable[[], object]) -> BaseException | None:
    """Wait until all have ended, without asking them. A cancellation has `on_cancel` called, and is returned."""
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
