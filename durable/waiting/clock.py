"""Where the time comes from. The engine never asks the operating system itself, so that tests need not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

GLANCE_SECONDS = 0.002  # how often a clock that skips looks whether it may


class Clock(Protocol):
    """Anything that can tell the time."""

    def now(self) -> datetime:
        """Return the current instant, in UTC."""
        ...

    def wait(
        self, bell: threading.Event, until: datetime | None, at_most_seconds: float, is_idle: Callable[[], bool]
    ) -> None:
        """Let time pass: until the instant has come or the bell rings, and never longer than so many real seconds.

        `is_idle` returns whether nothing goes on meanwhile, so that the time might as well be skipped.
        """
        ...


class SystemClock:
    """The time of the machine."""

    def now(self) -> datetime:
        """Return the current instant, in UTC, to the microsecond."""
        return datetime.now(UTC)

    def wait(
        self, bell: threading.Event, until: datetime | None, at_most_seconds: float, is_idle: Callable[[], bool]
    ) -> None:
        """Sleep."""
        left = at_most_seconds if until is None else (until - self.now()).total_seconds()
        bell.wait(max(0.0, min(left, at_most_seconds)))


class ManualClock:
    """A clock that moves on request, by `tick_seconds` each time that it is read, and over what is waited for.

    With `skip` (the default) a durable timer, a retry's delay or the timeout of an event takes no time: as soon as all
    workflows of the engine only wait, the clock jumps to the next instant that one of them waits for. So a step ends
    before a timer beside it, however long it really takes, and timers end in the order of their instants. A message has
    to be sent beforehand: a wait with a timeout does not wait for it. Without `skip`, they all wait for `advance`.
    """

    def __init__(
        self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, tick_seconds: float = 0.0, skip: bool = True
    ) -> None:
        self._now = start
        self._tick = timedelta(seconds=tick_seconds)
        self._skip = skip
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the instant that was set, plus the ticks since."""
        with self._lock:
            self._now += self._tick
            return self._now

    def wait(
        self, bell: threading.Event, until: datetime | None, at_most_seconds: float, is_idle: Callable[[], bool]
    ) -> None:
        """Jump to the instant, once all is idle; without `skip`, wait for `advance`, or for the bell."""
        if until is None or not self._skip:
            bell.wait(at_most_seconds)
        elif not is_idle():
            bell.wait(min(at_most_seconds, GLANCE_SECONDS))
        elif not bell.is_set():
            self._jump(until)

    def _jump(self, instant: datetime) -> None:
        with self._lock:
            self._now = max(self._now, instant)

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
