"""Durable timers: a wake-up time that is a row. After a crash only the rest is slept."""

from __future__ import annotations

from datetime import UTC, datetime

from durable.operations.wait import WaitFor, came, deadline, start
from durable.parallel.future import Future
from durable.replay import Frame, Outcome, Wait
from durable.replay.run import Run
from durable.values import codec
from durable.values.instants import as_text


class Timer(WaitFor):
    """So many seconds from its first start, or an instant."""

    __slots__ = ("_until",)

    def __init__(self, until: float | datetime) -> None:
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise ValueError(f"sleep_until: expected an instant with a time zone, got {until!r}; add tzinfo=UTC")
            super().__init__("sleep", "sleep", codec.PLAIN, as_text(until.astimezone(UTC)))
        else:
            if not 0 <= until < float("inf"):
                raise ValueError(f"sleep: expected a number of seconds from 0, got {until!r}")
            super().__init__("sleep", "sleep", codec.PLAIN, until)
        self._until = until

    def wait(self, run: Run, key: str) -> Wait:
        """Return the instant, counted from now."""
        until = self._until
        return Wait(as_text(until.astimezone(UTC)) if isinstance(until, datetime) else deadline(run, until))

    def look(self, run: Run, key: str, wake_at: datetime | None) -> Outcome | None:
        """Return null, once the instant has come."""
        return came(run, "null") if wake_at is None or run.clock() >= wake_at else None


def timer(frame: Frame, until: float | datetime) -> Future[None]:
    """Return a future that is done when the time has come."""
    return start(frame, Timer(until))
