"""Executor: the name of a process in the database, which belongs to one living process at a time.

DBOS takes up what an executor has left as soon as a process opens under its name. With two alive at once, that would be
what the other is just running.
"""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from durable.errors import ExecutorBusyError, StoreError
from durable.on_dbos.recovery.presence import Presence, list_held

PREFIX = "engine:"  # begins the names of their locks
KEEP_SECONDS = 5.0  # how often it is looked whether the lock is still ours: a restart of the server frees it
DYING_SECONDS = 1.0  # until the server has noticed that a process was killed just now


def list_living(database_url: str, executor_ids: list[str]) -> set[str]:
    """Return those of them that a living process has now. A worker's own lock is back first after a restart."""
    held = set(list_held(database_url, [*executor_ids, *(f"{PREFIX}{each}" for each in executor_ids)]))
    return {each for each in executor_ids if each in held or f"{PREFIX}{each}" in held}


class Executor:
    """Holds the name from when it is made until `close`, or until the process dies. For one thread at a time."""

    def __init__(self, database_url: str, executor_id: str, database: str) -> None:
        """Raises ExecutorBusyError if another process has it, StoreError if the database cannot be reached."""
        self.executor_id = executor_id
        self._presence = Presence(database_url, f"{PREFIX}{executor_id}")
        self._kept_at = time.monotonic()
        try:
            self._take(database_url)
        except (psycopg.Error, SQLAlchemyError) as error:
            self.close()
            why = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StoreError(
                f"database {database!r} cannot be reached ({why}); start its server, or correct the URL",
                path=Path(database),
            ) from error
        if not self._presence.is_held:
            self.close()
            raise ExecutorBusyError(executor_id)

    def keep(self) -> None:
        """Take the name again where the connection was lost, now and then."""
        if time.monotonic() - self._kept_at < KEEP_SECONDS:
            return
        self._kept_at = time.monotonic()
        try:
            self._presence.keep()
        except psycopg.Error:  # the database is away: next time
            return

    def close(self) -> None:
        """Give the name free."""
        self._presence.close()

    def _take(self, database_url: str) -> None:
        try:
            self._presence.keep()
        except psycopg.OperationalError as error:
            if "does not exist" not in str(error):
                raise
            DBOS.migrate(database_url)  # makes the database, too
        give_up_at = time.monotonic() + DYING_SECONDS
        while not self._presence.is_held and time.monotonic() < give_up_at:
            self._presence.keep()
            time.sleep(0.02)
