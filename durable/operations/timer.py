"""Durable timers: a wake-up time that is a row. After a crash only the rest is slept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from durable.operations.wait import WaitFor, came, deadline, start
from durable.parallel.future import Future
from durable.replay import Frame, Outcome, Wait
from durable.replay.run import Run
from durable.values import codec
from durable.values.instants import as_text, check_instant, seconds_of


class Timer(WaitFor):
    """A number of seconds from its first start, or an instant."""

    __slots__ = ("_until",)

    def __init__(self, until: float | timedelta | datetime) -> None:
        if isinstance(until, datetime):
            check_instant(until, "sleep_until")
            super().__init__("sleep", "sleep", codec.PLAIN, as_text(until.astimezone(UTC)))
        else:
            until = seconds_of(until, "sleep")
            super().__init__("sleep", "sleep", codec.PLAIN, until)
        self._until = until

    def wait(self, run: Run, key: str) -> Wait:
        """Return the instant, counted from now."""
        until = self._until
        return Wait(as_text(until.astimezone(UTC)) if isinstance(until, datetime) else deadline(run, until))

    def look(self, run: Run, key: str, wake_at: datetime | None) -> Outcome | None:
        """Return null once the instant has come."""
        return came(run, "null") if wake_at is None or run.clock() >= wake_at else None


def timer(frame: Frame, until: float | timedelta | datetime) -> Future[None]:
    """Return a future that is done when the time has come."""
    return start(frame, Timer(until))
