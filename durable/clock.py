"""Where the time comes from. The engine never asks the operating system itself, so that tests need not wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Anything that can tell the time."""

    def now(self) -> datetime:
        """The current instant, in UTC."""
        ...


class SystemClock:
    """The time of the machine."""

    def now(self) -> datetime:
        """The current instant, in UTC, to the microsecond."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves when it is told to, and by `tick_seconds` each time that it is read."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, tick_seconds: float = 0.0) -> None:
        self._now = start
        self._tick = timedelta(seconds=tick_seconds)

    def now(self) -> datetime:
        """The instant that was set, plus the ticks since."""
        self._now += self._tick
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self._now += timedelta(seconds=seconds)


def as_text(instant: datetime) -> str:
    """An instant as it is stored: ISO 8601 in UTC with microseconds, so that text order is time order."""
    return instant.isoformat(timespec="microseconds")
