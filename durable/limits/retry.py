"""Retry: pure arithmetic of attempts and delays. The life of a step does the waiting, and its waits are rows."""

from __future__ import annotations

import math

import msgspec


class Retry(msgspec.Struct, frozen=True):
    """Which failures of a step are tried again, how often, and after how long.

    `attempts` counts all tries, the first included, also those that a crash ended. The delay before the second is
    `delay_seconds`, before each further one `backoff` times as long, at most `max_delay_seconds`; `jitter` varies it by
    that share up and down, so that many do not come back at the same instant. Only an exception of a class in `on` is
    tried again; any other is the step's outcome at once.

    Raises ValueError for a number out of range, TypeError if `on` holds anything but exception classes.
    """

    attempts: int = 3
    delay_seconds: float = 1.0
    backoff: float = 2.0
    max_delay_seconds: float = 60.0
    jitter: float = 0.1
    on: tuple[type[Exception], ...] = (Exception,)

    def __post_init__(self) -> None:
        limits = {"attempts": 1, "delay_seconds": 0, "backoff": 1, "max_delay_seconds": 0, "jitter": 0}
        for name, least in limits.items():
            value = getattr(self, name)
            kinds = int if name == "attempts" else int | float
            if not (isinstance(value, kinds) and least <= value < math.inf):
                raise ValueError(f"retry: {name}: expected a number from {least}, got {value!r}")
        if self.jitter > 1:
            raise ValueError(f"retry: jitter: expected a share from 0 to 1, got {self.jitter!r}")
        if not isinstance(self.on, tuple) or not all(isinstance(c, type) and issubclass(c, Exception) for c in self.on):
            raise TypeError(f"retry: on: expected a tuple of exception classes, got {self.on!r}")

    def tries_again(self, error: Exception, attempt: int) -> bool:
        """Return whether another attempt follows one of this number that failed so."""
        return attempt < self.attempts and isinstance(error, self.on)

    def delay(self, attempt: int, seed: str) -> float:
        """Seconds from the end of an attempt to the next. The jitter follows from the seed, so it can be tested."""
        import random

        try:
            exact = min(self.delay_seconds * self.backoff ** (attempt - 1), self.max_delay_seconds)
        except OverflowError:
            exact = self.max_delay_seconds if self.delay_seconds else 0.0
        return exact * (1 + self.jitter * random.Random(f"{seed}/{attempt}").uniform(-1, 1))
