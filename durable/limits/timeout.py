"""Limits: a time limit, and a process of its own, for the function of a step.

The time is the machine's: code that runs does not hear a ManualClock.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import Any

from durable.errors import NoThreadError, RunStopped, StepTimeoutError
from durable.parallel.future import Future, wait
from durable.parallel.threads import NO_THREAD, start_thread
from durable.parallel.workers import Workers
from durable.replay.call import Call
from durable.replay.step_info import current_step
from durable.signals import held_back


def limited(call: Call, workers: Workers, seconds: float | None, *, isolate: bool) -> Callable[..., Any]:
    """Return the call's function within its limits. It is to be called as a step, with the same arguments.

    Raises PayloadError if a process of its own is asked for, and the function cannot be given to one.
    """
    if isolate:
        from durable.limits.isolation import isolated

        return isolated(call, workers, seconds)
    if seconds is None:
        return call.fn
    return _cancelled_after(seconds, call.fn) if call.is_async else _left_after(seconds, call.fn)


def _left_after(seconds: float, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` in a thread of its own, which is ignored once the time is up or Ctrl+C was pressed."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with held_back():
            step = current_step()
            future: Future[Any] = Future()
            work = functools.partial(contextvars.copy_context().run, fn, *args, **kwargs)
            name = f"{step.key} of {step.workflow_id}"
            try:
                start_thread(name, future.settle, work)
            except NoThreadError as error:
                raise RunStopped(f"workflow {step.workflow_id!r}: {NO_THREAD}") from error
            wait([future], seconds)
            if not future.done():
                raise StepTimeoutError(
                    f"{step} did not end within {seconds} s, and its thread goes on, without effect on the "
                    f"outcome; give it more time, or isolate=True to have it killed"
                )
            return future.result()

    return call


def _cancelled_after(seconds: float, fn: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        import asyncio

        late = StepTimeoutError(
            f"{current_step()} did not end within {seconds} s, and was cancelled; give it more time"
        )
        try:
            async with asyncio.timeout(seconds) as limit:
                value = await fn(*args, **kwargs)
        except Exception as error:
            if limit.expired():
                raise late from (None if type(error) is TimeoutError else error)
            raise
        if limit.expired():  # it ignored the cancellation
            raise late
        return value

    return call
