"""The public names of the clocks, see `durable.waiting.clock`."""

from durable.waiting.clock import Clock, ManualClock, SystemClock

__all__ = ["Clock", "ManualClock", "SystemClock"]
