"""How long a test waits for something that must come: longer on a slower or busier machine."""

from __future__ import annotations

import time

REFERENCE_SECONDS = 0.03  # the loop below, on a quiet machine of today


def measure_slowness() -> float:
    """Return how many times longer than the reference this machine takes for a fixed loop; never less than 1."""
    began = time.perf_counter()
    sum(number * number for number in range(500_000))
    return max(1.0, (time.perf_counter() - began) / REFERENCE_SECONDS)


SLOWNESS = measure_slowness()


def patient(seconds: float) -> float:
    """Return the time to wait here for what takes less than `seconds` on a quiet machine."""
    return seconds * SLOWNESS


PATIENCE_SECONDS = patient(20)  # after this time, what is waited for never comes
