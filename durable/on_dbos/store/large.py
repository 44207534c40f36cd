"""Large values in PostgreSQL: the tables of `durable/store/schema.sql` in a schema of our own, beside DBOS's.

DBOS saves a row in a transaction of its own, so a value is noted as used by its workflow before it is stored, and gc
looks in the rows of a workflow that has ended whether one names it. While a workflow has not ended, its values stay.
A part is committed without waiting for the disk. The row of its value is committed after it and does wait, and the
server flushes its log in order. So a crash of the server loses no part of a value that a row of DBOS's names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import psycopg
from dbos import DBOS, WorkflowStatus

from durable.errors import StoreError
from durable.on_dbos.outside import outside
from durable.on_dbos.store import workflows
from durable.on_dbos.store.connection import connect
from durable.on_dbos.store.serializer import row_of
from durable.signals import let_through
from durable.values.large import Freed, InParts, nothing

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

AWAY_SECONDS = 60.0  # how long to wait for a database that is away
RETRY_SECONDS = 0.2
GRACE = "1 hour"  # how long a value waits for the workflow that it is an argument of, or that a message is for
_LOCK = 5714  # the first key of the advisory locks
_TABLES = """
create schema if not exists durable;
create table if not exists durable.large_values (
    sha256      text    not null primary key,
    head        text    not null,
    sizes       text    not null,
    parts       integer not null,
    stored_at   timestamptz not null default clock_timestamp()
);
create table if not exists durable.value_parts (
    sha256      text    not null,
    number      integer not null,
    data        bytea   not null,
    primary key (sha256, number)
);
alter table durable.value_parts alter column data set storage external;
create table if not exists durable.value_uses (
    workflow_id text    not null,
    sha256      text    not null,
    noted_at    timestamptz not null default clock_timestamp(),
    primary key (workflow_id, sha256)
);
create index if not exists uses_of_values on durable.value_uses (sha256);
"""
_USE = """
insert into durable.value_uses values (%s, %s, clock_timestamp())
on conflict (workflow_id, sha256) do update set noted_at = excluded.noted_at
"""
_PART = """
insert into durable.value_parts values (%s, %s, %b)
on conflict (sha256, number) do update set data = excluded.data
"""
_VALUE = """
insert into durable.large_values values (%s, %s, %s, %s)
on conflict (sha256) do update set head = excluded.head, sizes = excluded.sizes, parts = excluded.parts
"""
_HEAD = """
select head, parts, sizes, coalesce(
    (select sum(length(data)) from durable.value_parts as part where part.sha256 = whole.sha256 and number < parts), 0)
from durable.large_values as whole where sha256 = %s
"""
_IS_WHOLE = """
select 1 from durable.large_values as whole where sha256 = %s and parts = (
    select count(*) from durable.value_parts as part where part.sha256 = whole.sha256 and number < parts)
"""
_UNUSED = """
select sha256 from (select sha256 from durable.large_values union select sha256 from durable.value_parts) as stored
where not exists (select 1 from durable.value_uses as use where use.sha256 = stored.sha256)
"""
_DROP = """
with gone as (
    delete from durable.value_parts where sha256 = %s and number in (
        select number from durable.value_parts where sha256 = %s order by number desc limit 4)
    returning length(data))
select coalesce(sum(length), 0) from gone
"""


class Tables:
    """The tables of large values in one database, over one connection. Safe to use from any thread."""

    def __init__(self, database_url: str, path: Path) -> None:
        self.path, self._url = path, database_url
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._is_made = False
        self._opened = 0  # how often

    def close(self) -> None:
        """Leave the database; the next question opens it again."""
        with self._lock:
            self._abandon()

    def count_connections(self) -> int:
        """Return how many connections were opened: if one more was, the server may have lost the last parts."""
        self.ask("select 1")
        return self._opened

    def make(self) -> None:
        """Make the tables, unless they are there. Only a workflow with a large value needs them."""
        if not self._is_made:
            self.transact(_make)
            self._is_made = True

    def ask(self, sql: str, *parameters: Any) -> list[Any]:
        """Return the rows of one query; none if there are no tables."""
        try:
            return self.transact(lambda db: db.execute(sql, parameters, binary=True).fetchall())
        except psycopg.errors.UndefinedTable:
            return []

    def write(self, sql: str, *parameters: Any) -> None:
        """Execute one statement. Without tables, there is nothing to change."""
        with suppress(psycopg.errors.UndefinedTable):
            self.transact(lambda db: db.execute(sql, parameters))

    def transact(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do something in a transaction, again if the connection was lost. Raises StoreError."""
        give_up_at = time.monotonic() + AWAY_SECONDS
        while True:
            with self._lock:
                try:
                    db = self._get()
                    with db.transaction():
                        return work(db)
                except psycopg.OperationalError as error:
                    self._abandon()
                    if time.monotonic() > give_up_at:
                        why = " ".join(str(error).split())
                        raise StoreError(
                            f"database {str(self.path)!r} cannot be reached ({why}); start its server, and run the "
                            f"workflow again",
                            path=self.path,
                        ) from error
            let_through(time.sleep, RETRY_SECONDS)

    def drop_unused(self) -> Freed:
        """Drop the values that no workflow uses, in small transactions."""
        count = total = 0
        for (sha256,) in self.ask(_UNUSED):
            freed = self.transact(partial(_drop_some, sha256=sha256, is_first=True))
            count += freed is not None
            while freed:
                total += freed
                freed = self.transact(partial(_drop_some, sha256=sha256))
        return Freed(count, total)

    def _get(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._url)
            self._connection.execute("set synchronous_commit = off")
            self._opened += 1
        return self._connection

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SharedValues(InParts):
    """The large values that one workflow saves and reads."""

    remedy = "fork the workflow at the step that made it, which saves it anew"

    def __init__(self, tables: Tables, workflow_id: str) -> None:
        self._tables, self._workflow_id, self.path = tables, workflow_id, tables.path

    def put(self, head: bytes, buffers: Sequence[Buffer], on_part: Callable[[], object] = nothing) -> str:
        """See `LargeValues`."""
        while True:
            before = self._tables.count_connections()
            sha256 = super().put(head, buffers, on_part)
            if self._tables.count_connections() == before:
                return sha256

    def adopt(self, values: Iterable[str]) -> None:
        """Note that this workflow names values that another has stored. Raises CorruptionError as `check` does."""
        for sha256 in values:
            self._claim(sha256)
            self.check([sha256])

    def check(self, values: Iterable[str]) -> None:
        """Raise CorruptionError if one of them is not stored whole: then no row may name it."""
        for sha256 in values:
            if not self._tables.ask(_IS_WHOLE, sha256):
                raise self.damaged(sha256, f"workflow {self._workflow_id!r}")

    def _claim(self, sha256: str) -> None:
        def claim(db: psycopg.Connection[Any]) -> None:
            _lock(db, sha256)
            db.execute(_USE, (self._workflow_id, sha256))

        self._tables.make()
        self._tables.transact(claim)

    def _has_parts(self, sha256: str) -> bool:
        return bool(self._tables.ask("select 1 from durable.value_parts where sha256 = %s limit 1", sha256))

    def _is_same(self, sha256: str, number: int, part: memoryview | bytes) -> bool:
        same = "select data = %b from durable.value_parts where sha256 = %s and number = %s"
        return self._tables.ask(same, part, sha256, number) == [(True,)]

    def _write_part(self, sha256: str, number: int, part: memoryview | bytes) -> None:
        self._tables.write(_PART, sha256, number, part)

    def _write_value(self, sha256: str, head: str, sizes: str, parts: int) -> None:
        def write(db: psycopg.Connection[Any]) -> None:
            db.execute("set local synchronous_commit = on")
            db.execute(_VALUE, (sha256, head, sizes, parts))

        self._tables.transact(write)

    def _read_value(self, sha256: str) -> tuple[bytes, int, bytes, int] | None:
        for head, parts, sizes, stored in self._tables.ask(_HEAD, sha256):
            return head.encode(), parts, sizes.encode(), int(stored)
        return None

    def _read_part(self, sha256: str, number: int) -> Any:
        sql = "select data from durable.value_parts where sha256 = %s and number = %s"
        found = self._tables.ask(sql, sha256, number)
        return found[0][0] if found else None


def collect(tables: Tables, asked: workflows.Asked = DBOS) -> Freed:
    """Drop what the workflows that have ended or were deleted do not name, and what they have begun to save."""
    for workflow_id, sha256, noted_at in list_dead_uses(tables, asked):
        # one that a new run has claimed meanwhile was noted again
        place = "workflow_id = %s and sha256 = %s and noted_at = %s"
        tables.write(f"delete from durable.value_uses where {place}", workflow_id, sha256, noted_at)
    return tables.drop_unused()


def list_dead_uses(tables: Tables, asked: workflows.Asked) -> Iterator[tuple[str, str, Any]]:
    """Yield the notes that a workflow uses a value, with their instants, which no row of it bears out any more."""
    uses: dict[str, list[tuple[str, Any, bool]]] = {}
    old = f"noted_at < clock_timestamp() - interval '{GRACE}'"
    for workflow_id, *use in tables.ask(f"select workflow_id, sha256, noted_at, {old} from durable.value_uses"):
        uses.setdefault(workflow_id, []).append(tuple(use))
    for workflow_id, noted in uses.items():
        found = workflows.find_status(workflow_id, asked)
        if found is not None and workflows.status_of(found) == "running":
            continue
        texts = None if found is None else _texts(found, asked)
        for sha256, noted_at, is_old in noted:
            if is_old if texts is None else not any(sha256 in text for text in texts):
                yield workflow_id, sha256, noted_at


def is_named(sha256: str, workflow_id: str, asked: workflows.Asked) -> bool:
    """Return whether a row of a workflow names a value."""
    found = workflows.find_status(workflow_id, asked)
    return found is not None and any(sha256 in text for text in _texts(found, asked))


def forget(tables: Tables, workflow_ids: list[str]) -> None:
    """Drop what workflows that were deleted have named, unless others name it."""
    tables.write("delete from durable.value_uses where workflow_id = any(%s)", workflow_ids)
    tables.drop_unused()


def share(tables: Tables, workflow_id: str, new_id: str) -> None:
    """Note that a fork may name all that its original names."""
    tables.write(
        "insert into durable.value_uses select %s, sha256 from durable.value_uses where workflow_id = %s"
        " on conflict do nothing",
        new_id,
        workflow_id,
    )


def _texts(found: WorkflowStatus, asked: workflows.Asked) -> list[str]:
    """Return all that is on record of a workflow, as text."""
    steps = outside(lambda: asked.list_workflow_steps(found.workflow_id))
    rows = [row_of(step, found.workflow_id) for step in steps]
    output, error = found.output, found.error
    parts = [workflows.input_of(found), output, str(error), *[row for row in rows if row is not None]]
    return [msgspec.json.encode(part).decode() for part in parts if not isinstance(part, Exception)]


def _drop_some(db: psycopg.Connection[Any], sha256: str, *, is_first: bool = False) -> int | None:
    """Delete some parts and return their bytes; None if the value is used meanwhile.

    A run that puts it from now on writes the parts that are gone, and keeps the rest.
    """
    _lock(db, sha256)
    if db.execute("select 1 from durable.value_uses where sha256 = %s limit 1", (sha256,)).fetchone():
        return None
    if is_first:
        db.execute("delete from durable.large_values where sha256 = %s", (sha256,))
    row = db.execute(_DROP, (sha256, sha256)).fetchone()
    return 0 if row is None else int(row[0])


def _make(db: psycopg.Connection[Any]) -> None:
    db.execute("select pg_advisory_xact_lock(%s, 0)", (_LOCK,))  # two processes at once would each find nothing
    if db.execute("select to_regclass('durable.value_uses')").fetchone() == (None,):
        db.execute(_TABLES)


def _lock(db: psycopg.Connection[Any], sha256: str) -> None:
    """Have the claims and the drops of a value wait for each other, to the end of their transactions.

    Without it, a drop that has looked before a claim could delete parts that the put has found after it.
    """
    db.execute("select pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, sha256))
