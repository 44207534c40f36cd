"""Wait in a test for what another thread or process does to the database."""

from __future__ import annotations

from durable.engine import Engine
from durable.testing.inside import file_of


def wait_for_change(engine: Engine) -> None:
    """Return when the database may have changed, or after a short while. Call it in a loop that looks for the change.

    With a `ManualClock` the caller counts as one that waits, so time may be skipped meanwhile.
    """
    file_of(engine).alarm.wait_for_change()
