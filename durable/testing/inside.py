"""Inside: the parts of an engine on a file, for tests that look behind its face or wait for a change."""

from __future__ import annotations

from durable.engine import Engine
from durable.recovery.local import LocalBackend
from durable.store.file import File


def file_of(engine: Engine) -> LocalBackend:
    """Return the backend of an engine on a file."""
    assert isinstance(engine._backend, LocalBackend)
    return engine._backend


def stored(engine: Engine) -> File:
    """Return the file of an engine."""
    records = file_of(engine).records
    assert isinstance(records, File)
    return records


def wait_for_change(engine: Engine) -> None:
    """Return when the database may have changed, or after a short while. Call it in a loop that looks for the change.

    With a `ManualClock` the caller counts as one that waits, so time may be skipped meanwhile.
    """
    file_of(engine).alarm.wait_for_change()
