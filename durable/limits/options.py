"""Options: what `@step` notes on a function, in the form that the core reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from durable.limits.retry import Retry
from durable.parallel.workers import Workers
from durable.replay.call import Call, Options
from durable.replay.keys import check_name

F = TypeVar("F", bound=Callable[..., Any])


class Limits(Options, frozen=True):
    """A step that asks for more than a plain call."""

    retry: Retry | None = None
    timeout_seconds: float | None = None
    isolate: bool = False

    @property
    def is_plain(self) -> bool:
        """Return whether it is one call of its function, in whichever thread."""
        return False

    @property
    def runs_apart(self) -> bool:
        """Return whether another process runs the function, so that this one only waits for it."""
        return self.isolate

    def wrap(self, call: Call, workers: Workers) -> Callable[..., Any]:
        """Return the call's function within its limits. Raises PayloadError if it cannot be given to a process."""
        from durable.limits.timeout import limited

        return limited(call, workers, self.timeout_seconds, isolate=self.isolate)

    def next_delay(self, error: Exception, attempt: int, seed: str) -> float | None:
        """Return the seconds until the next attempt, or None if this failure is the outcome."""
        if self.retry is None or not self.retry.tries_again(error, attempt):
            return None
        return self.retry.delay(attempt, seed)


def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout_seconds: float | timedelta | None = None,
    isolate: bool = False,
) -> Callable[[F], F]:
    """Mark a function with how it is to be run as a step. Called directly, it stays what it was.

    `retry` says which failures are tried again, and when; without it, the first failure is the outcome. A step that
    takes longer than `timeout_seconds` fails with StepTimeoutError: a coroutine is cancelled; a thread cannot be
    killed, so the effect may still happen; with `isolate` the step runs in a child process, and that is killed.

    Raises InvalidNameError, and ValueError for a timeout that is not positive.
    """
    if name is not None:
        check_name(name)
    if isinstance(timeout_seconds, timedelta):
        timeout_seconds = timeout_seconds.total_seconds()
    if timeout_seconds is not None and not 0 < timeout_seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout_seconds: expected a number above 0, got {timeout_seconds!r}")
    has_limits = retry is not None or timeout_seconds is not None or isolate
    options = Limits(name, retry, timeout_seconds, isolate) if has_limits else Options(name)

    def mark(fn: F) -> F:
        try:
            fn.__durable_step__ = options  # type: ignore[attr-defined]
        except AttributeError:
            raise TypeError(f"@step: {fn!r} cannot be marked; write a function that calls it, and mark that") from None
        return fn

    return mark
