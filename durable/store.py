"""The only module that speaks SQL: one method, one transaction, on one connection that all threads share.

Threads that want to save at the same time are served by one transaction (group commit): each queues its write, one of
them takes the lock and commits all that is queued. A thread alone pays for no hand-over.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from durable.codec import checksum
from durable.errors import CorruptionError, SchemaVersionError, StoreError
from durable.interrupt import held_back
from durable.records import RunRecord, StepRecord, WorkflowRecord, program_order

_T = TypeVar("_T")

SCHEMA_VERSION = 1
BUSY_SECONDS = 60.0  # how long to wait for another process's transaction

_STEP_COLUMNS = (
    "workflow_id, step_key, status, output, name, kind, position, attempt, epoch, fingerprint, error, checksum, "
    "started_at, ended_at, thread"
)
_STEP_RECORD = _STEP_COLUMNS.replace("checksum, ", "")
_WORKFLOW_RECORD = "id, function, arguments, status, output, error, epoch, created_at, updated_at"


class Checkpoint(NamedTuple):
    """What a run needs to know of a recorded step."""

    step_key: str
    status: str
    output: str | None
    name: str
    kind: str
    attempt: int
    epoch: int
    fingerprint: str | None
    error: str | None
    checksum: int | None

    def is_intact(self) -> bool:
        """Whether the stored outcome is what was saved."""
        return self.status == "running" or self.checksum == checksum(self.step_key, self.status, self.output, self.error)


class NewStep(NamedTuple):
    """A step about to be tried, in the order of its SQL parameters."""

    step_key: str
    name: str
    kind: str
    position: int
    attempt: int
    fingerprint: str | None
    started_at: str
    thread: str


class _Write:
    """A queued change: what it wants done, and what became of it."""

    __slots__ = ("change", "done", "durable", "error", "result")

    def __init__(self, change: Callable[[sqlite3.Connection], Any], durable: bool) -> None:
        self.change = change
        self.durable = durable
        self.done = False
        self.error: Exception | None = None
        self.result: Any = None


class Store:
    """One database file. Safe to use from any thread of the process that opened it, and from no other process."""

    def __init__(self, path: Path, *, synchronous: str = "full", read_only: bool = False) -> None:
        """Opens the file, or makes it. Raises StoreError, CorruptionError or SchemaVersionError, nothing changed."""
        self.path = path
        self._synchronous = synchronous
        self._read_only = read_only
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._queue: deque[_Write] = deque()
        self._level = ""
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._closed = False
        with self._lock:
            self._connect()

    # ---- a workflow's life

    def begin_run(self, workflow_id: str, function: str, arguments: str, pid: int, host: str, at: str) -> int:
        """Record a new run, and the workflow where it is new; returns the run's epoch.

        A life that ended without a word is marked crashed. Failed steps that ended the last run move to `attempts`, to
        be tried anew.
        """

        def change(db: sqlite3.Connection) -> int:
            row = db.execute("select epoch, status, error from workflows where id = ?", (workflow_id,)).fetchone()
            if row is None:
                db.execute(
                    "insert into workflows values (?, ?, ?, 'running', null, null, 1, ?, ?, ?)",
                    (workflow_id, function, arguments, checksum(arguments, None, None), at, at),
                )
                epoch = 1
            else:
                epoch = row[0] + 1
                if row[1] == "failed":
                    self._supersede(db, workflow_id, _steps_that_ended(db, row[2]), epoch)
                db.execute(
                    "update workflows set status = 'running', output = null, error = null, epoch = ?, checksum = ?,"
                    " updated_at = ? where id = ?",
                    (epoch, checksum(arguments, None, None), at, workflow_id),
                )
                db.execute(
                    "update runs set ended = 'crashed' where workflow_id = ? and ended is null", (workflow_id,)
                )
            db.execute(
                "insert into runs values (?, ?, ?, ?, ?, null, null)", (workflow_id, epoch, pid, host, at)
            )
            return epoch

        return self._write(change)

    def complete_workflow(self, workflow_id: str, epoch: int, output: str, arguments: str, at: str) -> bool:
        """Save the result of a workflow and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("completed", output, None, workflow_id, epoch, arguments, at)

    def fail_workflow(self, workflow_id: str, epoch: int, error: str, arguments: str, at: str) -> bool:
        """Save the error of a workflow and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("failed", None, error, workflow_id, epoch, arguments, at)

    def _end_workflow(
        self, status: str, output: str | None, error: str | None, workflow_id: str, epoch: int, arguments: str, at: str
    ) -> bool:
        values = (status, output, error, checksum(arguments, output, error), at)

        def change(db: sqlite3.Connection) -> bool:
            saved = db.execute(
                "update workflows set status = ?, output = ?, error = ?, checksum = ?, updated_at = ?"
                " where id = ? and epoch = ?",
                (*values, workflow_id, epoch),
            ).rowcount
            if saved:
                _end_run(db, workflow_id, epoch, status, at)
            return bool(saved)

        return self._write(change)

    def end_run(self, workflow_id: str, epoch: int, ended: str, at: str) -> None:
        """Note how a run ended that brought no outcome."""
        self._write(lambda db: _end_run(db, workflow_id, epoch, ended, at))

    def delete_workflow(self, workflow_id: str) -> None:
        """Forget a workflow and all its rows."""

        def change(db: sqlite3.Connection) -> None:
            db.execute("delete from workflows where id = ?", (workflow_id,))
            for table in ("runs", "steps", "attempts"):
                db.execute(f"delete from {table} where workflow_id = ?", (workflow_id,))

        self._write(change)

    # ---- a step's life; each returns False where a newer run has taken over, and then has changed nothing

    def start_step(self, workflow_id: str, epoch: int, step: NewStep) -> bool:
        """Write the running row. Not flushed to disk: a power cut that loses it loses an attempt's number, no outcome."""

        def change(db: sqlite3.Connection) -> bool:
            if step.attempt > 1 and _is_current(db, workflow_id, epoch):
                self._supersede(db, workflow_id, [step.step_key], epoch)
            return bool(
                db.execute(
                    "insert into steps (workflow_id, epoch, status, step_key, name, kind, position, attempt,"
                    " fingerprint, started_at, thread)"
                    " select id, epoch, 'running', ?, ?, ?, ?, ?, ?, ?, ? from workflows where id = ? and epoch = ?",
                    (*step, workflow_id, epoch),
                ).rowcount
            )

        return self._write(change, durable=False)

    def complete_step(self, workflow_id: str, epoch: int, step_key: str, output: str, at: str) -> bool:
        """Save a step's output. It is on the disk when this returns."""
        return self._end_step("completed", output, None, at, workflow_id, epoch, step_key)

    def fail_step(self, workflow_id: str, epoch: int, step_key: str, error: str, at: str) -> bool:
        """Save a step's error. It is on the disk when this returns."""
        return self._end_step("failed", None, error, at, workflow_id, epoch, step_key)

    def _end_step(
        self, status: str, output: str | None, error: str | None, at: str, workflow_id: str, epoch: int, step_key: str
    ) -> bool:
        values = (status, output, error, checksum(step_key, status, output, error), at)
        return self._write(
            lambda db: bool(
                db.execute(
                    "update steps set status = ?, output = ?, error = ?, checksum = ?, ended_at = ?"
                    " where workflow_id = ? and step_key = ? and epoch = ?"
                    " and epoch = (select epoch from workflows where id = ?)",
                    (*values, workflow_id, step_key, epoch, workflow_id),
                ).rowcount
            )
        )

    def supersede_steps(self, workflow_id: str, epoch: int, step_keys: Iterable[str]) -> bool:
        """Move rows to `attempts`: the workflow took another way after a failed step was tried anew."""

        def change(db: sqlite3.Connection) -> bool:
            is_current = _is_current(db, workflow_id, epoch)
            if is_current:
                self._supersede(db, workflow_id, step_keys, epoch)
            return is_current

        return self._write(change)

    @staticmethod
    def _supersede(db: sqlite3.Connection, workflow_id: str, step_keys: Iterable[str], epoch: int) -> None:
        current = "from steps where workflow_id = ? and step_key = ?"
        for key in step_keys:
            db.execute(f"insert into attempts select {_STEP_COLUMNS}, ? {current}", (epoch, workflow_id, key))
            db.execute(f"delete {current}", (workflow_id, key))

    # ---- reading

    def list_checkpoints(self, workflow_id: str) -> list[Checkpoint]:
        """All recorded steps of a workflow."""
        columns = ", ".join(Checkpoint._fields)
        rows = self._read(f"select {columns} from steps where workflow_id = ?", (workflow_id,))
        return list(map(Checkpoint._make, rows))

    def list_tries(self, workflow_id: str) -> list[tuple[str, int, bool]]:
        """Of each step with superseded attempts: its key, how many there were, whether one of them failed."""
        return self._read(
            "select step_key, max(attempt), max(status = 'failed') from attempts where workflow_id = ? group by step_key",
            (workflow_id,),
        )

    def find_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """The row of a workflow, or None. Raises CorruptionError where it does not match its checksum."""
        rows = self._read(f"select {_WORKFLOW_RECORD}, checksum from workflows where id = ?", (workflow_id,))
        if not rows:
            return None
        *row, stored = rows[0]
        record = _workflow_record(row)
        if stored != checksum(record.arguments, record.output, record.error):
            raise CorruptionError(
                f"workflow {workflow_id!r}: its stored arguments or outcome do not match their checksum; restore the "
                f"database {str(self.path)!r} from a copy, or delete this workflow",
                path=self.path,
            )
        return record

    def list_workflows(self, status: str | None = None) -> list[WorkflowRecord]:
        """All workflows, oldest first."""
        rows = self._read(
            f"select {_WORKFLOW_RECORD} from workflows where status = coalesce(?, status) order by created_at, id",
            (status,),
        )
        return list(map(_workflow_record, rows))

    def list_steps(self, workflow_id: str) -> list[StepRecord]:
        """The steps of a workflow, in program order."""
        rows = self._read(f"select {_STEP_RECORD} from steps where workflow_id = ?", (workflow_id,))
        return sorted(map(_step_record, rows), key=lambda step: program_order(step.step_key))

    def list_attempts(self, workflow_id: str) -> list[StepRecord]:
        """The superseded attempts of a workflow, in program order, the older first."""
        rows = self._read(f"select {_STEP_RECORD}, superseded_by from attempts where workflow_id = ?", (workflow_id,))
        return sorted(map(_step_record, rows), key=lambda step: (program_order(step.step_key), step.attempt))

    def list_runs(self, workflow_id: str) -> list[RunRecord]:
        """The lives of a workflow, oldest first."""
        rows = self._read(
            "select workflow_id, epoch, pid, host, started_at, ended_at, ended from runs where workflow_id = ?"
            " order by epoch",
            (workflow_id,),
        )
        return [RunRecord(*row[:4], _instant(row[4]), _optional_instant(row[5]), row[6]) for row in rows]

    def check_integrity(self) -> list[str]:
        """What SQLite and our checksums find wrong with the file; an empty list where nothing is."""
        found = [row[0] for row in self._read("pragma integrity_check") if row[0] != "ok"]
        columns = ", ".join(Checkpoint._fields)
        for workflow_id, *row in self._read(f"select workflow_id, {columns} from steps"):
            if not Checkpoint._make(row).is_intact():
                found.append(f"workflow {workflow_id!r}: the outcome of step {row[0]!r} does not match its checksum")
        for workflow_id, *values, stored in self._read("select id, arguments, output, error, checksum from workflows"):
            if stored != checksum(*values):
                found.append(f"workflow {workflow_id!r}: its arguments or outcome do not match their checksum")
        return found

    def read_pragma(self, name: str) -> Any:
        """The value of a pragma on the engine's own connection."""
        return self._read(f"pragma {name}")[0][0]

    def close(self) -> None:
        """Close the connection. May be called twice."""
        with held_back(), self._lock:
            self._closed = True
            if os.getpid() == self._pid:
                self._abandon()

    # ---- transactions

    def _read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with held_back() as hold, self._lock:
            try:
                db = self._connect()
                return _patiently(lambda: db.execute(sql, parameters).fetchall(), hold)
            except (sqlite3.Error, InterruptedError) as error:
                self._abandon()
                raise self._explain(error) from error

    def _write(self, change: Callable[[sqlite3.Connection], Any], *, durable: bool = True) -> Any:
        """Have a change committed, together with whatever other threads have queued. Returns what it returned."""
        write = _Write(change, durable)
        with held_back() as hold:
            self._queue.append(write)
            with self._lock:
                if not write.done:
                    self._commit(write, [self._queue.popleft() for _ in range(len(self._queue))], hold)
        if write.error is not None:
            raise write.error
        return write.result

    def _commit(self, own: _Write, batch: list[_Write], hold: held_back) -> None:
        """One transaction. Whatever goes wrong ends the connection: what a failed COMMIT did is unknown."""
        try:
            db = self._connect()
            self._set_synchronous(db, any(write.durable for write in batch))
            _patiently(lambda: db.execute("begin immediate"), hold)
            for write in batch:
                write.result = write.change(db)
            db.execute("commit")  # a crash before it: none of the batch has happened; after it: all of it has
            self._check_same_file()
        except BaseException as error:
            self._abandon()
            if isinstance(error, InterruptedError):  # only this thread was: the others' writes stay queued
                self._queue.extend(write for write in batch if write is not own)
                batch = [own]
            for write in batch:
                write.error = self._explain(error)
            if not isinstance(error, Exception):
                raise
        finally:
            for write in batch:
                write.done = True

    def _set_synchronous(self, db: sqlite3.Connection, durable: bool) -> None:
        level = self._synchronous if durable or self._synchronous == "off" else "normal"
        if level != self._level:
            db.execute(f"pragma synchronous = {level}")
            self._level = level

    # ---- the connection

    def _connect(self) -> sqlite3.Connection:
        """The open connection, or a new one to the same file after a failure. Called with the lock held."""
        if os.getpid() != self._pid:
            raise StoreError(
                f"database {str(self.path)!r}: this engine was opened in process {self._pid} and cannot be used in its "
                f"fork {os.getpid()}; open an Engine in the child",
                path=self.path,
            )
        if self._closed:
            raise StoreError(f"database {str(self.path)!r}: the engine is closed; open a new Engine", path=self.path)
        if self._connection is None:
            self._level = ""
            try:
                self._connection = self._open()
            except (sqlite3.Error, OSError) as error:
                raise self._explain(error) from error
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if self._identity is not None:
            self._check_same_file()  # before SQLite would make a new, empty one
        db = sqlite3.connect(
            f"{self.path.as_uri()}?mode={'ro' if self._read_only else 'rwc'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=0.1,  # see _patiently
        )
        try:
            with held_back() as hold:
                version = _patiently(lambda: _read_version(db, self.path), hold)
                if not self._read_only:
                    _patiently(lambda: db.execute("pragma journal_mode = wal"), hold)
                    if sys.platform == "darwin":  # there, fsync alone does not reach the disk
                        db.execute("pragma fullfsync = 1")
                        db.execute("pragma checkpoint_fullfsync = 1")
                    if version < SCHEMA_VERSION:
                        _patiently(lambda: db.execute("begin immediate"), hold)
                        _create_tables(db, self.path)
                        db.execute("commit")
        except BaseException:
            db.close()
            raise
        stat = os.stat(self.path)
        self._identity = (stat.st_dev, stat.st_ino)
        return db

    def _check_same_file(self) -> None:
        """SQLite goes on writing into a deleted file as if nothing were wrong; this notices."""
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            stat = None
        if stat is None or (stat.st_dev, stat.st_ino) != self._identity:
            raise StoreError(
                f"database {str(self.path)!r}: the file was deleted or replaced while it was in use; put it back and open "
                f"a new Engine, or begin with a new file",
                path=self.path,
            )

    def _abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()  # rolls back
            except sqlite3.Error:
                pass

    def _explain(self, error: BaseException) -> Exception:
        """A StoreError that says what happened and what to do."""
        if isinstance(error, StoreError):
            return type(error)(str(error), path=self.path)
        text, cls = str(error), StoreError
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            cls = CorruptionError
        remedy = _REMEDIES.get(primary or -1, "mend the cause and run the workflow again")
        explained = cls(f"database {str(self.path)!r}: {text}; {remedy}", path=self.path)
        explained.__cause__ = error
        return explained


_REMEDIES = {
    sqlite3.SQLITE_NOTADB: "give the path of a SQLite database, or of a file that does not exist yet",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy",
    sqlite3.SQLITE_CANTOPEN: "the path must name a file in a folder that exists and is writable",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_FULL: "make room on the disk and run the workflow again",
    sqlite3.SQLITE_IOERR: "the disk reported an error; see to it and run the workflow again",
    sqlite3.SQLITE_BUSY: f"another process has held its transaction for {BUSY_SECONDS:.0f} s; end that process",
}


def _patiently(attempt: Callable[[], _T], hold: held_back) -> _T:
    """Wait for other processes in short turns: the switch to WAL ignores SQLite's own timeout, and between the turns
    Ctrl+C is heard. Raises InterruptedError for it, and SQLite's own error after BUSY_SECONDS."""
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if hold.arrived:
                raise InterruptedError("interrupted while another process held the database") from error
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.001)


def _read_version(db: sqlite3.Connection, path: Path) -> int:
    version: int = db.execute("pragma user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"database {str(path)!r} has schema version {version}, this package knows up to {SCHEMA_VERSION}; use a "
            f"newer version of durable-lab, or another file",
            path=path,
        )
    return version


def _create_tables(db: sqlite3.Connection, path: Path) -> None:
    """Make our tables in a new file. Migrations of older versions go here, in order."""
    if _read_version(db, path) == SCHEMA_VERSION:  # another process was first
        return
    taken = db.execute(
        "select name from sqlite_master where name in ('workflows', 'runs', 'steps', 'attempts')"
    ).fetchall()
    if taken:
        raise SchemaVersionError(
            f"database {str(path)!r} already has a table {taken[0][0]!r} of another program; use another file", path=path
        )
    schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    for statement in schema.split(";\n"):  # executescript would commit
        db.execute(statement)
    db.execute(f"pragma user_version = {SCHEMA_VERSION}")


def _is_current(db: sqlite3.Connection, workflow_id: str, epoch: int) -> bool:
    return bool(db.execute("select 1 from workflows where id = ? and epoch = ?", (workflow_id, epoch)).fetchone())


def _end_run(db: sqlite3.Connection, workflow_id: str, epoch: int, ended: str, at: str) -> None:
    db.execute(
        "update runs set ended = ?, ended_at = ? where workflow_id = ? and epoch = ?", (ended, at, workflow_id, epoch)
    )


def _steps_that_ended(db: sqlite3.Connection, error: str) -> list[str]:
    """The failed steps whose errors ended a workflow, as its error names them."""
    return [row[0] for row in db.execute("select value from json_each(?, '$.steps')", (error,))]


def _workflow_record(row: Any) -> WorkflowRecord:
    *values, created_at, updated_at = row
    return WorkflowRecord(*values, _instant(created_at), _instant(updated_at))


def _step_record(row: Any) -> StepRecord:
    values = list(row)
    values[11], values[12] = _instant(row[11]), _optional_instant(row[12])
    return StepRecord(*values)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _optional_instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
