"""Large values in the SQLite file: saved part by part, read and checked, and dropped once no row names them.

`schema.sql` says which rows there are. A row that is there after a power cut has its value, for these reasons. The
parts are committed at `synchronous=normal`, which writes them to the -wal without a flush. The row is committed at
`full`, and its flush is of the whole file, so it covers all that was written before. A checkpoint in between flushes
the -wal before it copies a page, and the database before the -wal is written anew. And SQLite uses no frame of a -wal
after a damaged one.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from durable.errors import FencedError, StoreError
from durable.store.database.connection import Connection, apply, patiently
from durable.store.ownership.owner import find_owner
from durable.values.large import PART_BYTES, Freed, InParts, describe_damage

if TYPE_CHECKING:
    from pathlib import Path

SENT = "run 0"  # in `used_by`, while a call or a message is saved, which is of no run
PARTS_AT_ONCE = 4  # deleted in one transaction
_CLAIM = "insert or replace into value_uses select id, 'run ' || epoch, ? from workflows where id = ? and epoch = ?"
_HEAD = (
    "select cast(head as blob), parts, cast(sizes as blob), (select coalesce(sum(length(data)), 0) from value_parts"
    " where value_parts.sha256 = large_values.sha256 and number < parts) from large_values where sha256 = ?"
)
_IS_WHOLE = (
    "select 1 from large_values where sha256 = ?1"
    " and parts = (select count(*) from value_parts where sha256 = ?1 and number < parts)"
)
_USE = "insert or replace into value_uses values (?, ?, ?)"
_IS_UNUSED = "not exists (select 1 from value_uses where sha256 = ?1)"
_UNUSED = """
select sha256, max(bytes) from (
    select sha256, 0 as bytes from large_values
    union all
    select sha256, sum(length(data)) from value_parts group by sha256)
where sha256 not in (
    select sha256 from value_uses
    where not exists (
        select 1 from json_each(?)
        where json_extract(value, '$[0]') = workflow_id and json_extract(value, '$[1]') = used_by))
group by sha256
"""


class FileValues(InParts):
    """The large values that one run saves, or the sender of a call or a message; or a reader reads."""

    def __init__(
        self, connection: Connection, workflow_id: str = "", epoch: int | None = None, now: Callable[[], str] = str
    ) -> None:
        """Without an epoch, the values are for the arguments of a workflow, or for a message to it."""
        self._connection, self._workflow_id, self._epoch, self._now = connection, workflow_id, epoch, now
        self.path = connection.path

    def _claim(self, sha256: str) -> None:
        if self._epoch is None:
            self._write(_USE, self._workflow_id, SENT, sha256)
        elif not self._write(_CLAIM, sha256, self._workflow_id, self._epoch):
            raise FencedError(self._workflow_id, self._epoch)

    def _has_parts(self, sha256: str) -> bool:
        return bool(self._read("select 1 from value_parts where sha256 = ? limit 1", sha256))

    def _is_same(self, sha256: str, number: int, part: memoryview | bytes) -> bool:
        same = "select data = ? from value_parts where sha256 = ? and number = ?"
        return self._read(same, part, sha256, number) == [(1,)]

    def _write_part(self, sha256: str, number: int, part: memoryview | bytes) -> None:
        write = "insert or replace into value_parts values (?, ?, ?)", sha256, number, part
        if self._connection.transaction() is not None:  # then no other thread can write
            self._write(*write)
            return
        with self._connection.one_part:  # else those of several threads would share a long transaction
            if len(part) == PART_BYTES:
                self._connection.wal.grow(PART_BYTES)
            self._write(*write)

    def _write_value(self, sha256: str, head: str, sizes: str, parts: int) -> None:
        row = sha256, head, sizes, parts, self._now()
        self._write("insert or replace into large_values values (?, ?, ?, ?, ?)", *row)

    def _settle(self, size: int) -> None:
        if size >= PART_BYTES:
            self._connection.wal.settle()

    def _read_value(self, sha256: str) -> tuple[bytes, int, bytes, int] | None:
        return next(iter(self._read(_HEAD, sha256)), None)

    def _read_part(self, sha256: str, number: int) -> Any:
        """Read a part as a blob: a query would take memory for two more copies, and that takes as long as reading."""
        db = self._connection.transaction()
        read = functools.partial(_read_part, sha256=sha256, number=number)
        return self._connection.use(lambda db: patiently(read, db)) if db is None else read(db)

    # within ctx.transaction, what is saved goes into that transaction

    def _read(self, sql: str, *parameters: Any) -> list[Any]:
        db = self._connection.transaction()
        return self._connection.read(sql, parameters) if db is None else db.execute(sql, parameters).fetchall()

    def _write(self, sql: str, *parameters: Any) -> int:
        db = self._connection.transaction()
        change = sql, parameters
        return self._connection.write(change, durable=False) if db is None else int(apply(change, db))


def _read_part(db: sqlite3.Connection, sha256: str, number: int) -> bytes | None:
    """Return the data of a part; None if there is none, or it is no blob."""
    place = "select rowid from value_parts where sha256 = ? and number = ? and typeof(data) = 'blob'"
    found = db.execute(place, (sha256, number)).fetchone()
    if found is None:
        return None
    try:
        with db.blobopen("value_parts", "data", found[0], readonly=True) as blob:
            return blob.read()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # another process has deleted it just now
            return None
        raise


# ---- which rows name them; to be called in the transaction of the row


def find_missing(db: sqlite3.Connection, values: Iterable[str]) -> str | None:
    """Return a value that is not stored whole, or None. Then no row may name it."""
    return next((each for each in values if not db.execute(_IS_WHOLE, (each,)).fetchone()), None)


def note_uses(db: sqlite3.Connection, workflow_id: str, used_by: str, values: Iterable[str]) -> None:
    """Note that a row names these values."""
    db.executemany(_USE, [(workflow_id, used_by, each) for each in values])


def note_sent(db: sqlite3.Connection, path: Path, workflow_id: str, used_by: str, values: Iterable[str]) -> None:
    """Note that the call of a workflow, or a message to it, names these values. Raises StoreError.

    Only a run is known to be alive, so gc may have dropped a value between its last part and this transaction.
    """
    if (missing := find_missing(db, values)) is not None:
        raise StoreError(
            f"workflow {workflow_id!r}: the large value {missing[:12]}... of its {used_by} was dropped by gc as it was "
            f"sent; nothing was saved, so send it again",
            path=path,
        )
    note_uses(db, workflow_id, used_by, values)
    end_claims(db, workflow_id)


def end_claims(db: sqlite3.Connection, workflow_id: str, epoch: int = 0) -> None:
    """Note that a run has ended and saves nothing more; or that a call or a message is saved."""
    db.execute("delete from value_uses where workflow_id = ? and used_by = 'run ' || ?", (workflow_id, epoch))


# ---- dropping


def collect(connection: Connection) -> Freed:
    """Drop what no row names, and what runs that are dead have begun to save."""
    for workflow_id, used_by in list_dead_claims(connection):
        connection.write(
            ("delete from value_uses where workflow_id = ? and used_by = ?", (workflow_id, used_by)), durable=False
        )
    return drop_unused(connection, [sha256 for sha256, _ in connection.read(_UNUSED, ("[]",))])


def list_dead_claims(connection: Connection) -> list[tuple[str, str]]:
    """Return the runs that have begun to save values and are no longer alive, as they stand in `value_uses`."""
    claims = connection.read(
        "select distinct workflow_id, used_by, used_by = 'run ' || epoch from value_uses"
        " left join workflows on workflows.id = workflow_id where used_by like 'run %'"
    )
    # a run that begins after this look has a higher epoch, and so other rows
    return [(each, by) for each, by, is_last in claims if not is_last or find_owner(connection.path, each) is None]


def list_unused(connection: Connection) -> list[tuple[str, int]]:
    """Return the values that `collect` would drop, each with its bytes."""
    dead = msgspec.json.encode(list_dead_claims(connection)).decode()
    return connection.read(_UNUSED, (dead,))


def drop_unused(connection: Connection, values: Iterable[str]) -> Freed:
    """Drop those of the values that no row names, in small transactions, between which other threads save."""
    count = total = 0
    for sha256 in values:
        if not connection.write(functools.partial(_begin_drop, sha256=sha256), durable=False):
            continue
        count += 1
        while freed := connection.write(functools.partial(_drop_parts, sha256=sha256), durable=False):
            total += freed
    return Freed(count, total)


def _begin_drop(db: sqlite3.Connection, sha256: str) -> bool:
    """Mark a value as missing. A run that puts it from now on writes the parts that are gone, and keeps the rest."""
    if db.execute(f"select {_IS_UNUSED}", (sha256,)).fetchone() == (0,):
        return False
    db.execute("delete from large_values where sha256 = ?", (sha256,))
    return True


def _drop_parts(db: sqlite3.Connection, sha256: str) -> int:
    """Delete some parts, unless a run has claimed the value meanwhile. Return their bytes."""
    some = (
        f"select rowid, length(data) from value_parts where sha256 = ?1 and {_IS_UNUSED}"
        f" order by number desc limit {PARTS_AT_ONCE}"
    )
    found = db.execute(some, (sha256,)).fetchall()
    db.executemany("delete from value_parts where rowid = ?", [(rowid,) for rowid, _ in found])
    return sum(size for _, size in found)


# ---- looking


def check_values(connection: Connection) -> Iterator[str]:
    """Yield the faults of the large values, each with the rows that name the value."""
    known = connection.read("select sha256 from large_values union select sha256 from value_uses")
    for sha256 in FileValues(connection).list_damaged(sha256 for (sha256,) in known):
        uses = connection.read("select workflow_id, used_by from value_uses where sha256 = ?", (sha256,))
        named = [f"{by!r} of {each!r}" for each, by in uses if not by.startswith("run ")]
        if named or not uses:
            yield describe_damage(sha256, named)
