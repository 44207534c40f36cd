"""Handle: a workflow that runs in the background, to be asked or awaited."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from durable.parallel.future import Future, wait
from durable.replay.run import Interruptible
from durable.signals import held_back, is_interrupt, reason_of

T = TypeVar("T")


class Handle(Generic[T]):
    """A workflow that was started in the background, as `Engine.start` returns it. Ask it for the result, or await it.

    >>> def add(ctx: Context, *numbers: int) -> int:
    ...     return ctx.step(sum, numbers)
    >>> handle = engine.start("add_1", add, 1, 2)
    >>> handle.result(timeout=60)
    3
    >>> handle.done(), handle.ending
    (True, None)
    """

    def __init__(self, workflow_id: str, future: Future[T], run: Interruptible | None) -> None:
        self.workflow_id = workflow_id
        self._future, self._run = future, run

    def __repr__(self) -> str:
        return f"<Handle of workflow {self.workflow_id!r}, {'done' if self.done() else 'running'}>"

    def done(self) -> bool:
        """Return whether it has ended, in whatever way."""
        return self._future.done()

    @property
    def ending(self) -> BaseException | None:
        """The error with which it has ended, or None. Defined once it has ended."""
        return self._future.ending

    def when_done(self, call: Callable[[], object]) -> None:
        """Call `call`, without arguments and in any thread, once it has ended; at once if it has."""
        self._future.add_done_callback(lambda _: call())

    def interrupt(self, reason: str = "its handle was interrupted") -> None:
        """Let nothing more of it begin, as Ctrl+C would, and return at once. The run records the reason.

        The steps in flight end and are saved; the rest can be resumed. A workflow that has ended stays as it is.
        """
        if self._run is not None and not self.done():
            self._run.interrupt(reason)

    def end(self, reason: str = "its handle was interrupted") -> None:
        """Interrupt it, and wait until the steps in flight have ended and are saved. It can be resumed.

        Unlike `Engine.cancel` it gives the workflow no outcome: its row stays `running`, its run ends as `interrupted`
        with the reason, and `result` raises RunStopped. It waits as long as the steps take, and does not raise the
        error of the workflow.
        """
        self.interrupt(reason)
        with held_back():
            wait([self._future])

    def result(self, timeout: float | None = None) -> T:
        """Wait for the workflow's value and return it. Raises its error, or TimeoutError after `timeout` seconds.

        Ctrl+C while waiting interrupts the workflow too: nothing is recorded of the steps in flight. So does any error
        that the handler of another signal raises.
        """
        with held_back():
            try:
                return self._future.result(timeout)
            except BaseException as error:
                if is_interrupt(error):
                    self.end(reason_of(error))
                raise

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        import asyncio

        ticking = asyncio.ensure_future(_tick())
        try:
            return await self._future
        except asyncio.CancelledError:  # as with any task, cancelling the wait cancels the work
            self.interrupt("the task that awaited it was cancelled")
            raise
        finally:
            ticking.cancel()


async def _tick() -> None:
    """Wake the loop now and then: a kernel's stop button is heard only when its loop wakes for another reason."""
    import asyncio

    while True:  # noqa: ASYNC110 - it waits for nothing but the time
        await asyncio.sleep(0.2)
