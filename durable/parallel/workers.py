"""Workers: everything that one run does in parallel."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

from durable.errors import NoThreadError, RunStopped
from durable.parallel.future import Future, wait
from durable.parallel.loop import EventLoop
from durable.parallel.threads import NO_THREAD, Pool, Threads, Work

T = TypeVar("T")


class Stoppable(Protocol):
    """Work that need not be waited for."""

    def stop(self) -> object:
        """End it, from any thread."""
        ...


class Workers:
    """A pool of threads for steps and one for bookkeeping, a thread for each branch, coroutines on the engine's loop.

    A branch has a thread of its own since it may wait for steps. Bookkeeping has a pool of its own since it must not
    wait until a step has ended.
    """

    def __init__(self, max_workers: int, event_loop: EventLoop, threads: Threads) -> None:
        self.event_loop, self.threads, self.max_workers = event_loop, threads, max_workers
        self.pool = Pool(threads, "worker", max_workers)
        self._bookkeeping = Pool(threads, "bookkeeping", max_workers)
        self.on_join: list[Callable[[], object]] = []  # these end once all branches and coroutines have ended
        self._branches: list[threading.Lock] = []
        self._spawned: set[Future[Any]] = set()
        self._stoppable: set[Stoppable] = set()
        self._is_stopped = False

    def submit(self, fn: Work) -> None:
        """Call `fn` in the pool, in the caller's context. Raises NoThreadError."""
        self._put(self.pool, fn)

    def book(self, fn: Work) -> None:
        """The same for bookkeeping, which must not wait until a step has ended."""
        if not threading.main_thread().is_alive():  # that may be the cause of a failure now
            raise NoThreadError("the interpreter is ending")
        self._put(self._bookkeeping, fn)

    async def call(self, fn: Callable[..., T], *args: Any) -> T:
        """For a coroutine: call `fn` as bookkeeping, in the caller's context, and await the result."""
        ended: Future[T] = Future()
        try:
            self.book(functools.partial(ended.settle, functools.partial(fn, *args)))
        except NoThreadError as error:
            raise RunStopped(f"{NO_THREAD}; run the same workflow id again to go on") from error
        return await ended

    def start_thread(self, name: str, fn: Work) -> None:
        """Call `fn` in a thread of its own, in the caller's context. Raises NoThreadError."""
        self._branches.append(self.threads.begin(name, functools.partial(contextvars.copy_context().run, fn)))

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, Any],
        future: Future[Any] | None = None,
        context: contextvars.Context | None = None,
    ) -> Future[Any]:
        """Run a coroutine on the event loop, in this context or the caller's. Returns the future that it ends.

        Raises NoThreadError if the loop's thread cannot be started.
        """
        future = Future() if future is None else future
        self._spawned.add(future)
        try:
            self.event_loop.spawn(coroutine, future, context or contextvars.copy_context())
        except NoThreadError:
            self._spawned.discard(future)
            coroutine.close()
            raise
        future.on_end(self._spawned.discard)
        if self._is_stopped:  # just before: `stop` may not have seen it
            self.event_loop.cancel([future])
        return future

    @contextlib.contextmanager
    def stopping(self, work: Stoppable) -> Iterator[None]:
        """Return a block in which `stop` stops this too."""
        self._stoppable.add(work)
        try:
            if self._is_stopped:
                work.stop()
            yield
        finally:
            self._stoppable.discard(work)

    def stop(self) -> None:
        """Cancel the coroutines, kill the processes. Threads cannot be stopped: they end with the step they are in."""
        self._is_stopped = True
        if self._spawned:
            self.event_loop.cancel(list(self._spawned))
        for work in list(self._stoppable):
            work.stop()

    def join(self) -> None:
        """Wait until all of it has ended."""
        while self._branches or self._spawned:
            while self._branches:
                self._branches.pop().acquire()
            wait(list(self._spawned))
        for end in self.on_join:
            end()
        self.pool.close()
        self._bookkeeping.close()

    def _put(self, pool: Pool, fn: Work) -> None:
        pool.grow(1)  # this work is known to take long, or to wait for the disk
        pool.put([functools.partial(contextvars.copy_context().run, fn)])
