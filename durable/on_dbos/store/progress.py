"""Progress in PostgreSQL: what running steps say of theirs, in a table of our own beside those of large values.

DBOS has no row of a running step. So progress counts until a row says that its attempt has ended, or the workflow has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import psycopg

from durable.on_dbos.store.connection import connect
from durable.on_dbos.store.large import Tables
from durable.on_dbos.store.rows import StepRow
from durable.replay.log import Said
from durable.store.records import ProgressRecord, in_program_order

Ask: TypeAlias = Callable[..., list[Any]]

_LOCK = "select pg_advisory_xact_lock(5715)"  # two processes must not make the table at once
_TABLE = """
create schema if not exists durable;
create table if not exists durable.progress (
    workflow_id text    not null,
    step_key    text    not null,
    name        text    not null,
    value       text    not null,
    total       double precision,
    attempt     integer not null,
    at          text    not null,
    primary key (workflow_id, step_key, name)
)
"""
_SAY = """
insert into durable.progress (workflow_id, step_key, name, value, total, attempt, at)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict (workflow_id, step_key, name)
do update set value = excluded.value, total = excluded.total, attempt = excluded.attempt, at = excluded.at
"""
_FORGET_MAP = "delete from durable.progress where workflow_id = %s and step_key = %s and name = ''"
_FORGET = "delete from durable.progress where workflow_id = any(%s)"
_LIST = "select step_key, name, value, total, attempt, at from durable.progress where workflow_id = %s"


class RunProgress:
    """The rows of one run. Safe to use from any thread."""

    def __init__(self, tables: Tables, workflow_id: str, *, is_first: bool) -> None:
        """`is_first` says that no earlier run can have left rows."""
        self._tables, self._workflow_id = tables, workflow_id
        self._may_have_rows = not is_first
        self._is_closed = False
        self._lock = threading.Lock()

    def save(self, said: Sequence[Said], ended: Sequence[str]) -> None:
        """See `ProgressLog`."""
        with self._lock:
            if self._is_closed:
                return
            self._may_have_rows = True
            try:
                self._tables.transact(lambda db: self._save(db, said, ended))
            except psycopg.errors.UndefinedTable:
                self._tables.transact(_make)
                self._tables.transact(lambda db: self._save(db, said, ended))

    def close(self) -> None:
        """Delete them: the run has ended."""
        with self._lock:
            self._is_closed = True
            if self._may_have_rows:
                forget(self._tables, [self._workflow_id])

    def _save(self, db: psycopg.Connection[Any], said: Sequence[Said], ended: Sequence[str]) -> None:
        for each in said:
            db.execute(_SAY, (self._workflow_id, *each))
        for key in ended:
            db.execute(_FORGET_MAP, (self._workflow_id, key))


def forget(tables: Tables, workflow_ids: Sequence[str]) -> None:
    """Delete what is left of workflows."""
    tables.write(_FORGET, list(workflow_ids))


def list_progress(ask: Ask, workflow_id: str, rows: Iterable[StepRow]) -> list[ProgressRecord]:
    """Return the progress of the attempts that have no row yet; `rows` are those of a workflow that has not ended."""
    attempts = {row.key: row.attempt for row in rows if row.status != "running"}
    return in_program_order(
        ProgressRecord(workflow_id, key, name, value, total, datetime.fromisoformat(at))
        for key, name, value, total, attempt, at in ask(_LIST, workflow_id)
        if not name or attempt > attempts.get(key, 0)
    )


def asking(database_url: str) -> Ask:
    """Return what asks the database, over a connection of its own for each question."""

    def ask(sql: str, *parameters: Any) -> list[Any]:
        with connect(database_url) as db:
            try:
                return db.execute(sql, parameters).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    return ask


def _make(db: psycopg.Connection[Any]) -> None:
    db.execute(_LOCK)
    db.execute(_TABLE)
