"""Clock: the source of the time. The engine never asks the operating system itself, so that tests need not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

GLANCE_SECONDS = 0.002  # how often a clock that skips checks whether it may
STEP_SECONDS = 0.5  # less is no step of the wall clock: it is being adjusted
COMPARE_SECONDS = 60.0  # how often the clocks are compared while a workflow waits
DRIFT = 0.001  # by which share one may be faster than the other


class Clock(Protocol):
    """Anything that can tell the time."""

    def now(self) -> datetime:
        """Return the current instant, in UTC."""
        ...

    def wait(
        self, bell: threading.Event, until: datetime | None, at_most_seconds: float, is_idle: Callable[[], bool]
    ) -> None:
        """Let time pass until the instant has come or the bell rings, and no longer than a number of real seconds.

        `is_idle` returns whether nothing goes on meanwhile: then the time may be skipped.
        """
        ...


class SystemClock:
    """The time of the machine, but it never goes back: if the machine's is set back, no wait gets longer.

    A step back is found by comparing the wall clock with the monotonic one. From then on this clock is ahead of the
    wall clock, until that is set forward again. A step forward ends waits early.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        """`wall` returns the seconds since 1970, `steady` those since any instant."""
        self._wall, self._steady = wall, steady
        # the first takes half as long, and each step reads it twice
        self._read: Callable[[], datetime] = partial(datetime.now, UTC)
        if wall is not time.time:
            self._read = lambda: datetime.fromtimestamp(wall(), UTC)
        self._lock = threading.Lock()
        self._ahead = 0.0  # seconds by which it is ahead of the wall clock
        self._apart, self._compared_at = self._compare()
        self._note()

    def now(self) -> datetime:
        """Return the current instant, in UTC, to the microsecond."""
        ahead, low, high = self._state
        instant = self._read()  # before the comparison, which then finds each step back up to here
        if not low < self._wall() - self._steady() < high:
            ahead, instant = self._adjust(), self._read()
        return instant + timedelta(seconds=ahead) if ahead else instant

    def _adjust(self) -> float:
        """Compare the clocks again. Return by how much this one is ahead."""
        with self._lock:
            apart, steady = self._compare()
            back, drift = self._apart - apart, DRIFT * (steady - self._compared_at)
            if abs(back) > STEP_SECONDS + drift:
                self._ahead = max(0.0, self._ahead + back)
            self._apart, self._compared_at = apart, steady
            self._note()
            return self._ahead

    def _note(self) -> None:
        """Note how much this clock is ahead, and for which differences that holds: at once, for other threads."""
        low, high = self._apart - STEP_SECONDS, self._apart + STEP_SECONDS
        self._state = self._ahead, low, high

    def _compare(self) -> tuple[float, float]:
        """Return by how much the clocks are apart, and when; read at once, though the process may be stopped."""
        while True:
            before, wall, after = self._steady(), self._wall(), self._steady()
            if after - before < STEP_SECONDS / 10:
                return wall - before, before

    def wait(
        self, bell: threading.Event, until: datetime | None, at_most_seconds: float, is_idle: Callable[[], bool]
    ) -> None:
        """Sleep."""
        if self._steady() > self._compared_at + COMPARE_SECONDS:
            self._adjust()  # the clocks may run a little apart
        left = at_most_seconds if until is None else (until - self.now()).total_seconds()
        bell.wait(max(0.0, min(left, at_most_seconds)))


class ManualClock:
    """A clock that moves on request, by `tick_seconds` each time that it is read, and over what is waited for.

    With `skip` (the default) a durable timer, a retry's delay or the timeout of an event takes no time. As soon as all
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
        """Move on by a number of seconds."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
