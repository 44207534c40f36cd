"""Inside: what an engine on a file is made of, for tests that look behind its face."""

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
