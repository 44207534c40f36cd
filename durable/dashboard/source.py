"""Source: the questions that the dashboard asks of a database, be it a file or PostgreSQL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from durable.store.reader import Reader

if TYPE_CHECKING:
    from durable.dashboard.shared import SharedSource


Source: TypeAlias = "Reader | SharedSource"  # where DBOS keeps no list of something, that of PostgreSQL is empty


def is_url(database: str | os.PathLike[str]) -> bool:
    """Return whether a database is named by a URL, and not by its file."""
    return "://" in os.fspath(database)


def open_source(database: str | os.PathLike[str]) -> Source:
    """Open a file, or the PostgreSQL of a URL, for looking.

    Raises StoreError, CorruptionError or SchemaVersionError for a file that is missing or cannot be read; ValueError
    for a URL of another database, ImportError if the extra dbos is not installed.
    """
    if not is_url(database):
        return Reader(database)
    from durable.dashboard.shared import SharedSource

    return SharedSource(os.fspath(database))
