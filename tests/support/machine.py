"""The two clocks of a machine, which a test sets and lets run."""

from __future__ import annotations

from durable.clock import SystemClock

BEGAN_AT = 1_800_000_000.0  # seconds since 1970


class Machine:
    """Its time passes on request. The wall clock can be set, the monotonic one cannot."""

    def __init__(self) -> None:
        self.passed = self.ahead = 0.0
        self.stops_for = 0.0  # how long the process is stopped, just before it gets the time of the wall clock
        self.clock = SystemClock(self._wall, self._steady)

    def _wall(self) -> float:
        self.passed, self.stops_for = self.passed + self.stops_for, 0.0
        return BEGAN_AT + self.passed + self.ahead

    def _steady(self) -> float:
        return self.passed

    def seconds(self) -> float:
        """What its clock says, since it began."""
        return self.clock.now().timestamp() - BEGAN_AT
