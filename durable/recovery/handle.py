"""Handle: a workflow that runs in the background, to be asked or awaited."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from durable.parallel.future import Future, wait
from durable.replay.run import Interruptible
from durable.signals import held_back, is_interrupt, reason_of

T = TypeVar("T")


class Handle(Generic[T]):
    """A workflow that was started in the background. Ask it for the result, or await it."""

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
        """Have `call` called, in any thread, once it has ended."""
        self._future.add_done_callback(lambda _: call())

    def interrupt(self, reason: str = "its handle was interrupted") -> None:
        """Let nothing more of it begin, as Ctrl+C would. The steps in flight end first; what is left can be resumed.

        The run keeps the reason.

        Where it has ended, nothing is done: by now another caller may have asked for it again.
        """
        if self._run is not None and not self.done():
            self._run.interrupt(reason)

    def end(self, reason: str = "its handle was interrupted") -> None:
        """Interrupt it, and wait until the steps in flight have ended."""
        self.interrupt(reason)
        with held_back():
            wait([self._future])

    def result(self, timeout: float | None = None) -> T:
        """Wait for the workflow's value and return it. Raises its error, or TimeoutError after so many seconds.

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
