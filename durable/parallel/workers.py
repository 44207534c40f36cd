"""Where parallel work runs: the threads of one run, and the engine's event loop for coroutines."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import functools
import threading
from _queue import Empty, SimpleQueue  # where `queue` has them from, which takes 0.4 ms for more than is needed here
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from durable.errors import RunStopped
from durable.parallel.future import Future, wait

if TYPE_CHECKING:
    import asyncio

    from durable.parallel.pool import Pool

T = TypeVar("T")
_Piece: TypeAlias = tuple[str, Callable[[], object], threading.Lock]

IDLE_SECONDS = 0.01  # so long a thread waits for more work, and the end of the interpreter for it


class Stoppable(Protocol):
    """Something that need not be waited for."""

    def stop(self) -> object:
        """End it, from any thread."""
        ...


class Spawned:
    """A coroutine on the event loop, and a future that ends when it has really ended, also after `stop`."""

    __slots__ = ("_context", "_coroutine", "_on_end", "_task", "future")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        future: Future[Any],
        context: contextvars.Context,
        on_end: Callable[[Spawned], object],
    ) -> None:
        self._coroutine, self.future, self._context, self._on_end = coroutine, future, context, on_end
        self._task: asyncio.Task[Any] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the loop: begin."""
        self._task = loop.create_task(self._guard(), context=self._context)
        self._task.add_done_callback(self._settle)  # also of a task that is cancelled before its first turn

    def stop(self) -> None:
        """On the loop: cancel the coroutine."""
        if self._task is not None:
            self._task.cancel()

    async def _guard(self) -> tuple[Any, BaseException | None]:
        """Hand these two over as values: out of a task they would end the loop for everybody."""
        try:
            return await self._coroutine, None
        except (KeyboardInterrupt, SystemExit) as error:
            return None, error

    def _settle(self, task: asyncio.Task[Any]) -> None:
        import asyncio

        self._coroutine.close()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        value = None
        if error is None:
            value, error = task.result()
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)
        self._on_end(self)


class EventLoop:
    """One asyncio loop in a thread of its own, started with the first coroutine.

    So it works in sync code, and where a loop runs already, as in a notebook cell.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def is_current(self) -> bool:
        """Whether the caller runs on this loop, and must not block it."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def spawn(self, spawned: Spawned) -> None:
        """Run a coroutine as a task: at once where the caller is on the loop."""
        if self._loop is not None and self.is_current():
            spawned.start(self._loop)
        else:
            loop = self._start()
            loop.call_soon_threadsafe(spawned.start, loop)

    def call(self, fn: Callable[[], object]) -> None:
        """Have it called on the loop."""
        self._start().call_soon_threadsafe(fn)

    def close(self) -> None:
        """Stop the loop. What is still on it, of a run in another thread or left by a step, is cancelled and ends."""
        if self._loop is not None and not self.is_current():
            import asyncio

            wait([asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop)])
        with self._lock:
            if self._loop is not None and self._thread is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._loop = self._thread = None

    def _start(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run, args=(loop,), name="event loop", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # none can be had
                    loop.close()
                    raise
                self._loop, self._thread = loop, thread
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped. A task of the user's that raises one of these two ends a loop: then it goes on."""
    is_stopped = False
    while not is_stopped:
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            loop.run_forever()
            is_stopped = True


async def _cancel_all() -> None:
    import asyncio

    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others)


class Threads:
    """A thread for each piece of work, however many; one that has come free waits a moment for more.

    For a thread takes as long to begin as a workflow of a few steps.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait, and have not been given anything
        self._is_closed = False
        self._work: SimpleQueue[_Piece | None] = SimpleQueue()

    def begin(self, name: str, fn: Callable[[], object]) -> threading.Lock:
        """Call it in a thread, under this name. Returns a lock that is held until it has ended.

        Raises RuntimeError where no thread can be had.
        """
        ended = threading.Lock()
        ended.acquire()
        work = name, fn, ended
        with self._lock:
            if is_at_hand := self._idle > 0:
                self._idle -= 1
                self._work.put(work)
        if not is_at_hand:
            threading.Thread(target=self._serve, args=(work,)).start()
        return ended

    def close(self) -> None:
        """Let those go that wait, and the others as they come free."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._idle):
                self._work.put(None)
            self._idle = 0

    def _serve(self, work: _Piece | None) -> None:
        while work is not None:
            threading.current_thread().name, fn, ended = work
            try:
                contextvars.Context().run(fn)
            finally:
                threading.current_thread().name = "idle"
                ended.release()
            work = self._next()

    def _next(self) -> _Piece | None:
        with self._lock:
            if self._is_closed:
                return None
            self._idle += 1
        while True:
            try:
                return self._work.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._work.empty():  # nobody counts on this thread
                        self._idle -= 1
                        return None


class Workers:
    """Everything that one run does in parallel.

    A pool for steps; a thread for each branch, which may wait for steps of its own; coroutines on the engine's loop.
    """

    def __init__(self, max_workers: int, event_loop: EventLoop, threads: Threads) -> None:
        self.event_loop = event_loop
        self._reserve = threads
        self.max_workers = max_workers
        self.chore: Callable[[], bool] = lambda: False  # of the pool's foreman
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._clerks: concurrent.futures.ThreadPoolExecutor | None = None
        self._branches: list[threading.Lock] = []
        self._spawned: set[Spawned] = set()
        self._stoppable: set[Stoppable] = set()
        self._is_stopped = False

    @property
    def pool(self) -> Pool:
        """The threads for steps, begun when they are first needed. Raises RuntimeError where none can be had."""
        if self._pool is None:
            from durable.parallel.pool import Pool

            with self._lock:
                self._pool = self._pool or Pool(self.max_workers, self._do_chore, self._reserve)
        return self._pool

    def _do_chore(self) -> bool:
        return self.chore()  # the pool may begin before there is one

    def submit(self, fn: Callable[[], object]) -> None:
        """Call it in the pool, in the caller's context."""
        self.pool.put([functools.partial(contextvars.copy_context().run, fn)])

    def book(self, fn: Callable[[], object]) -> None:
        """The same for the engine's own bookkeeping, which may not wait until a step has ended."""
        self._begin_clerks().submit(contextvars.copy_context().run, fn)

    async def call(self, fn: Callable[..., T], *args: Any) -> T:
        """From a coroutine: call it as bookkeeping, in the caller's context, and await the result."""
        import asyncio

        loop = asyncio.get_running_loop()
        try:
            ended = loop.run_in_executor(self._begin_clerks(), lambda: contextvars.copy_context().run(fn, *args))
        except RuntimeError as error:  # as the interpreter ends
            raise RunStopped("no thread could be started; run the same workflow id again to go on") from error
        return await ended

    def start_thread(self, name: str, fn: Callable[[], object]) -> None:
        """Call it in a thread of its own, in the caller's context."""
        self._branches.append(self._reserve.begin(name, functools.partial(contextvars.copy_context().run, fn)))

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, Any],
        future: Future[Any] | None = None,
        context: contextvars.Context | None = None,
    ) -> Future[Any]:
        """Run a coroutine on the event loop, in the context given or the caller's. Returns the future that it ends.

        Raises RuntimeError where the loop's thread cannot be had.
        """
        future = Future() if future is None else future
        spawned = Spawned(coroutine, future, context or contextvars.copy_context(), self._spawned.discard)
        self._spawned.add(spawned)
        try:
            self.event_loop.spawn(spawned)
        except RuntimeError:
            self._spawned.discard(spawned)
            coroutine.close()
            raise
        if self._is_stopped:  # just before: `stop` has not seen it
            self.event_loop.call(spawned.stop)
        return future

    @contextlib.contextmanager
    def stopping(self, work: Stoppable) -> Iterator[None]:
        """A block in which `stop` stops this too."""
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
        for spawned in list(self._spawned):
            self.event_loop.call(spawned.stop)
        for work in list(self._stoppable):
            work.stop()

    def join(self) -> None:
        """Wait until all of it has ended."""
        while self._branches or self._spawned:
            while self._branches:
                self._branches.pop().acquire()
            concurrent.futures.wait([spawned.future for spawned in list(self._spawned)])
        if self._pool is not None:
            self._pool.close()
        if self._clerks is not None:
            self._clerks.shutdown()

    def _begin_clerks(self) -> concurrent.futures.ThreadPoolExecutor:
        with self._lock:
            if self._clerks is None:
                self._clerks = concurrent.futures.ThreadPoolExecutor(self.max_workers, thread_name_prefix="clerk")
            return self._clerks
