"""The public names of moments and observers, see `durable.replay.moments`."""

from durable.replay.moments import MOMENTS, Moment, Observer, crash, crash_at

__all__ = ["MOMENTS", "Moment", "Observer", "crash", "crash_at"]
