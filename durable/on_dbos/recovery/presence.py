"""Presence: how workers on many machines know which of them are alive, through the database that they share.

Each holds a PostgreSQL session lock named by its executor id. When its process dies the operating system closes the
connection, and the lock is free at once; when its machine vanishes the server notices by its keepalives.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from durable.on_dbos.store.connection import connect

PREFIX = "durable-worker"
GRACE_SECONDS = 3.0  # after a restart of the server all locks are free, and the living need time to take theirs again
VANISHED_SECONDS = 11  # 5 s without a word, then 3 questions, 2 s apart
_SESSION = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3"
_LOCK = "select pg_try_advisory_lock(hashtextextended(%s, 5713))"
_UNLOCK = "select pg_advisory_unlock(hashtextextended(%s, 5713))"
_HELD = """
    select name
    from unnest(%s::text[]) as name
    where hashtextextended(name, 5713) in (
        select (classid::bigint << 32) | objid::bigint
        from pg_locks
        where locktype = 'advisory' and granted and objsubid = 1
        and database = (select oid from pg_database where datname = current_database()))
"""
# The checkpointer is as old as the server, or as its last crash; who may not see it takes the age of the own session.
_AGE = """
    select extract(epoch from clock_timestamp() - coalesce(
        (select backend_start from pg_stat_activity where backend_type = 'checkpointer'),
        (select backend_start from pg_stat_activity where pid = pg_backend_pid())))
"""


def list_held(database_url: str, names: list[str]) -> list[str]:
    """Return those of them whose lock is held now. It takes none, so one look does not hinder another."""
    with connect(database_url) as connection:
        return [name for (name,) in connection.execute(_HELD, [names])]


def new_executor_id(queue: str) -> str:
    """An executor id that no other process has or will have, of a worker of this queue."""
    return f"{PREFIX}:{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}:{queue}"


def queue_of(executor_id: str) -> str:
    """The queue of a worker; earlier versions did not name it."""
    return "".join(executor_id.split(":", 4)[4:]) or "default"


def is_worker(executor_id: str | None) -> bool:
    """Return whether it is one of ours, which holds a lock while it lives."""
    return executor_id is not None and executor_id.startswith(f"{PREFIX}:")


class Presence:
    """The session and the lock of this process, for one thread. A pooler that shares sessions (PgBouncer) breaks it."""

    def __init__(self, database_url: str, executor_id: str) -> None:
        self.executor_id = executor_id
        self._url = database_url
        self._connection: psycopg.Connection[Any] | None = None
        self._is_held = False

    def keep(self) -> None:
        """Have the lock, again where the connection was lost. Raises psycopg.Error while that is not possible."""
        try:
            if self._connection is None:
                self._connection = connect(self._url)
                self._connection.execute(_SESSION)
            if not self._is_held:
                self._is_held = self._try_lock(self.executor_id)
            else:
                self._connection.execute("select 1")
        except psycopg.Error:
            self.close()
            raise

    @property
    def is_held(self) -> bool:
        """Return whether the lock was ours at the last look."""
        return self._is_held

    def may_judge(self) -> bool:
        """Return whether a free lock means a dead process: not soon after a server restarts, nor without a lock."""
        return self._is_held and float(self._ask(_AGE)) >= GRACE_SECONDS

    def is_free(self, executor_id: str) -> bool:
        """Return whether the lock of this executor is free now."""
        with self.claim(executor_id) as is_mine:
            return is_mine

    @contextmanager
    def claim(self, executor_id: str) -> Iterator[bool]:
        """Hold the lock of another executor for the block; False where it is not free."""
        is_mine = self._try_lock(executor_id)
        try:
            yield is_mine
        finally:
            if is_mine:
                self._ask(_UNLOCK, executor_id)

    def close(self) -> None:
        """End the session: from here on this process counts as dead."""
        self._is_held = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try_lock(self, executor_id: str) -> bool:
        return bool(self._ask(_LOCK, executor_id))

    def _ask(self, question: str, *parameters: str) -> Any:
        assert self._connection is not None, "keep() comes first"
        row = self._connection.execute(question, parameters).fetchone()
        assert row is not None
        return row[0]
