"""The engine's asyncio loop, for coroutines of sync code and of code that runs in another loop already."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from durable.errors import NoThreadError
from durable.parallel.future import Future, wait
from durable.parallel.threads import start_thread

if TYPE_CHECKING:
    import asyncio


class EventLoop:
    """One asyncio loop in a thread of its own, started with the first coroutine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: dict[Future[Any], asyncio.Task[Any]] = {}  # by the future that each ends; used on the loop only

    def is_current(self) -> bool:
        """Return whether the caller runs on this loop, and must not block it."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def spawn(self, coroutine: Coroutine[Any, Any, Any], future: Future[Any], context: contextvars.Context) -> None:
        """Run a coroutine as a task: at once if the caller is on the loop. Ends the future once the task has ended.

        Raises NoThreadError if the loop's thread cannot be started.
        """
        if self._loop is not None and self.is_current():
            self._begin(self._loop, coroutine, future, context)
        else:
            loop = self._start()
            loop.call_soon_threadsafe(self._begin, loop, coroutine, future, context)

    def cancel(self, futures: Iterable[Future[Any]]) -> None:
        """Cancel the coroutines that are to end these. They end when their coroutines really have."""

        def cancel_each() -> None:
            for future in futures:
                if (task := self._tasks.get(future)) is not None:
                    task.cancel()

        self.call(cancel_each)

    def call(self, fn: Callable[[], object]) -> None:
        """Call `fn` on the loop."""
        self._start().call_soon_threadsafe(fn)

    def close(self) -> None:
        """Stop the loop. Tasks that are still on it, of a run in another thread or left by a step, are cancelled."""
        if self._loop is not None and not self.is_current():
            cancelled: Future[None] = Future()
            self.spawn(_cancel_all(), cancelled, contextvars.Context())
            wait([cancelled])
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
                try:
                    self._thread = start_thread("event loop", _run, loop)
                except NoThreadError:
                    loop.close()
                    raise
                self._loop = loop
            return self._loop

    # ---- on the loop

    def _begin(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any],
        future: Future[Any],
        context: contextvars.Context,
    ) -> None:
        import asyncio

        # not by `create_task`: a task of the engine's own is no task of the hosted code that may have asked for it
        self._tasks[future] = task = asyncio.Task(coroutine, loop=loop, context=context)
        task.add_done_callback(functools.partial(self._end, future))

    def _end(self, future: Future[Any], task: asyncio.Task[Any]) -> None:
        import asyncio

        del self._tasks[future]
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped. A task that raises one of these two stops the loop: it is started again."""
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
