"""What is asked of the database, in SQL: one method, one transaction. How those are made is in `connection.py`.

The statements for a step are in `step_row.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from durable.errors import CorruptionError
from durable.replay.checkpoint import ROWS, Checkpoint, Row, read_pages
from durable.store.connection import Connection, begin
from durable.store.step_row import (
    ABANDONED,
    STEP_COLUMNS,
    EndedStep,
    Ending,
    NewStep,
    completing,
    end_rows,
    ending,
    recording,
    start_rows,
    starting,
)
from durable.values.codec import checksum

if TYPE_CHECKING:  # what is only read is imported only where it is read
    from pathlib import Path

WORKFLOW_COLUMNS = (
    "id, function, arguments, status, output, error, epoch, created_at, updated_at, parent_id, cancel_requested_at"
)

_FAMILY = (
    "with recursive family (id) as (select ? union select workflows.id from workflows join family"
    " on workflows.parent_id = family.id)"
)


class WorkflowState(msgspec.Struct, frozen=True):
    """What a run needs to know of its workflow. To make the class of a `WorkflowRecord` takes as long as 500 steps."""

    workflow_id: str
    function: str
    arguments: str
    status: str
    output: str | None
    error: str | None
    epoch: int


class Store:
    """The workflows, runs, steps and attempts of one file, for any thread of the process that opened it."""

    def __init__(self, path: Path, *, synchronous: str = "full", read_only: bool = False) -> None:
        """Opens the file, or makes it. Raises StoreError, CorruptionError or SchemaVersionError, nothing changed."""
        self.path = path
        self.connection = Connection(path, synchronous=synchronous, read_only=read_only)
        self._read, self._write = self.connection.read, self.connection.write

    # ---- a workflow's life

    def begin_run(
        self,
        workflow_id: str,
        function: str,
        arguments: str,
        seen: WorkflowState | None,
        pid: int,
        host: str,
        at: str,
        parent_id: str | None = None,
    ) -> int | None:
        """Record a new run, and the workflow where it is new; returns the run's epoch.

        None, and nothing is recorded, where the row is no longer as the caller has seen it. A life that ended without a
        word is marked crashed. Failed steps that ended the last run move to `attempts`, to be tried anew.
        """
        expected = None if seen is None else (seen.epoch, seen.status)

        def change(db: sqlite3.Connection) -> int | None:
            found = "select epoch, status, error from workflows where id = ?"
            row = db.execute(found, (workflow_id,)).fetchone()
            if row != expected and (row is None or row[:2] != expected):
                return None
            if row is None:
                deleted = db.execute("select epoch from deleted where workflow_id = ?", (workflow_id,)).fetchone()
                epoch = int(deleted[0]) + 1 if deleted else 1
                db.execute(
                    "insert into workflows values (?, ?, ?, 'running', null, null, ?, ?, ?, ?, ?8,"
                    " (select cancel_requested_at from workflows where id = ?8))",  # it is cancelled with its parent
                    (workflow_id, function, arguments, epoch, checksum(arguments, None, None), at, at, parent_id),
                )
            else:
                epoch = int(row[0]) + 1
                if row[1] == "failed":
                    self.supersede(db, workflow_id, steps_that_ended(db, row[2]), epoch)
                db.execute(
                    "update workflows set status = 'running', output = null, error = null, epoch = ?, checksum = ?,"
                    " updated_at = ? where id = ?",
                    (epoch, checksum(arguments, None, None), at, workflow_id),
                )
                db.execute("update runs set ended = 'crashed' where workflow_id = ? and ended is null", (workflow_id,))
            db.execute(
                "insert into runs (workflow_id, epoch, pid, host, started_at) values (?, ?, ?, ?, ?)",
                (workflow_id, epoch, pid, host, at),
            )
            return epoch

        return self._write(change)

    def complete_workflow(self, workflow_id: str, epoch: int, output: str, arguments: str, at: str) -> bool:
        """Save the result of a workflow and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("completed", output, None, workflow_id, epoch, arguments, at)

    def fail_workflow(self, workflow_id: str, epoch: int, error: str, arguments: str, at: str) -> bool:
        """Save the error of a workflow and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("failed", None, error, workflow_id, epoch, arguments, at)

    def cancel_workflow(self, workflow_id: str, epoch: int, error: str, arguments: str, at: str) -> bool:
        """Save that a workflow was cancelled, and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("cancelled", None, error, workflow_id, epoch, arguments, at)

    def request_cancel(self, workflow_id: str, at: str) -> list[str]:
        """Ask a workflow and its children, and theirs, to end. Returns those that have not; none if it has itself."""

        def change(db: sqlite3.Connection) -> list[str]:
            running = f"{_FAMILY} select id from workflows join family using (id) where status = 'running'"
            ids = [row[0] for row in db.execute(running, (workflow_id,))]
            if workflow_id not in ids:
                return []
            for each in ids:
                db.execute(
                    "update workflows set cancel_requested_at = coalesce(cancel_requested_at, ?) where id = ?",
                    (at, each),
                )
            return ids

        return self._write(change)

    def is_current(self, workflow_id: str, epoch: int) -> bool:
        """Whether this is the latest run of the workflow."""
        return bool(self._read("select 1 from workflows where id = ? and epoch = ?", (workflow_id, epoch)))

    def is_cancel_requested(self, workflow_id: str, epoch: int) -> bool:
        """Whether a run of the workflow, unless a newer one has taken over, is to end."""
        sql = "select 1 from workflows where id = ? and epoch = ? and cancel_requested_at is not null"
        return bool(self._read(sql, (workflow_id, epoch)))

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
                if status != "failed":  # a failed one may be run again, and waits on
                    _abandon_waits(db, workflow_id, epoch, at)
            return bool(saved)

        return self._write(change)

    def end_run(self, workflow_id: str, epoch: int, ended: str, at: str) -> None:
        """Note how a run ended that brought no outcome."""
        self._write(lambda db: _end_run(db, workflow_id, epoch, ended, at))

    def has_workflow(self, workflow_id: str) -> bool:
        """Whether there is a row of this id, sound or not."""
        return bool(self._read("select 1 from workflows where id = ?", (workflow_id,)))

    def list_family(self, workflow_id: str) -> list[str]:
        """A workflow, its children, and theirs, the elder first."""
        return [row[0] for row in self._read(f"{_FAMILY} select id from family", (workflow_id,))]

    def delete_workflows(self, workflow_ids: Iterable[str]) -> None:
        """Forget workflows and all their rows, but not how far their epochs had come."""

        def change(db: sqlite3.Connection) -> None:
            for each in workflow_ids:
                db.execute("insert or replace into deleted select id, epoch from workflows where id = ?", (each,))
                db.execute("delete from workflows where id = ?", (each,))
                for table in ("runs", "steps", "attempts", "waits", "messages"):
                    db.execute(f"delete from {table} where workflow_id = ?", (each,))

        self._write(change)

    # ---- a step's life; each returns False where a newer run has taken over, and then has changed nothing

    def start_step(self, workflow_id: str, epoch: int, step: NewStep) -> bool:
        """Write the running row. Not flushed to disk: a power cut may lose the number of an attempt, no outcome."""
        insert = starting(workflow_id, epoch, step)
        if step.attempt == 1:
            return bool(self._write(insert, durable=False))

        def change(db: sqlite3.Connection) -> bool:
            if _is_current(db, workflow_id, epoch):
                self.supersede(db, workflow_id, [step.step_key], epoch)
            return bool(db.execute(*insert).rowcount)

        return self._write(change, durable=False)

    def record_step(self, workflow_id: str, epoch: int, step: NewStep, output: str) -> bool:
        """Save a step that has no effect outside, its row and its output in one: it cannot become a zombie step."""
        return bool(self._write(recording(workflow_id, epoch, step, output)))

    def transact(
        self, workflow_id: str, epoch: int, step: NewStep, work: Callable[[sqlite3.Connection], Ending]
    ) -> Ending | None:
        """Save a step, what `work` changes in the file, and how it ended. Where it failed, its changes are undone.

        None where this run may begin nothing; then `work` is not called. Whatever it raises undoes everything.
        """
        start = starting(workflow_id, epoch, step)

        def change(db: sqlite3.Connection) -> Ending | None:
            if not db.execute(*start).rowcount:
                return None
            db.execute("savepoint work")
            end = work(db)
            if end.status == "failed" and db.in_transaction:
                db.execute("rollback to work")
            elif end.status == "failed":  # undone by SQLite, together with our row
                begin(db)
                if not db.execute(*start).rowcount:
                    return None
            db.execute(*ending(*end, workflow_id, epoch, step.step_key))
            return end

        return self.connection.write_alone(change)

    def complete_step(self, workflow_id: str, epoch: int, step_key: str, output: str, at: str) -> bool:
        """Save a step's output. It is on the disk when this returns."""
        return bool(self._write(completing(workflow_id, epoch, step_key, output, at)))

    def fail_step(self, workflow_id: str, epoch: int, step_key: str, error: str, at: str) -> bool:
        """Save a step's error. It is on the disk when this returns."""
        return bool(self._write(ending("failed", None, error, at, workflow_id, epoch, step_key)))

    def start_steps(self, workflow_id: str, epoch: int, steps: Sequence[NewStep]) -> bool:
        """`start_step` for several, in one transaction."""
        again = [step.step_key for step in steps if step.attempt > 1]

        def change(db: sqlite3.Connection) -> bool:
            if again and _is_current(db, workflow_id, epoch):
                self.supersede(db, workflow_id, again, epoch)
            return start_rows(db, workflow_id, epoch, steps) == len(steps)

        return self._write(change, durable=False)

    def end_steps(self, workflow_id: str, epoch: int, steps: Sequence[EndedStep]) -> bool:
        """Save the outcomes of several steps in one transaction. They are on the disk when this returns."""
        return self._write(lambda db: end_rows(db, workflow_id, epoch, steps)) == len(steps)

    def supersede_steps(self, workflow_id: str, epoch: int, step_keys: Iterable[str]) -> bool:
        """Move rows to `attempts`: the workflow took another way after a failed step was tried anew."""

        def change(db: sqlite3.Connection) -> bool:
            is_current = _is_current(db, workflow_id, epoch)
            if is_current:
                self.supersede(db, workflow_id, step_keys, epoch)
            return is_current

        return self._write(change)

    @staticmethod
    def supersede(db: sqlite3.Connection, workflow_id: str, step_keys: Iterable[str], epoch: int) -> None:
        """Within a transaction: move rows to `attempts`. What they waited for is waited for no more."""
        current = "from steps where workflow_id = ? and step_key = ?"
        for key in step_keys:
            db.execute(f"insert into attempts select {STEP_COLUMNS}, ? {current}", (epoch, workflow_id, key))
            db.execute(f"delete {current}", (workflow_id, key))
            db.execute("delete from waits where workflow_id = ? and step_key = ?", (workflow_id, key))

    # ---- reading

    def list_checkpoints(self, workflow_id: str) -> list[Checkpoint]:
        """All recorded steps of a workflow."""
        return list(map(Checkpoint.of, self._read(ROWS, (workflow_id,))))

    def read_pages(self, workflow_id: str) -> Iterator[list[Row]]:
        """The same as SQLite gives them, for a replay, see `checkpoint.py`."""
        return read_pages(self._read, workflow_id)

    def list_tries(self, workflow_id: str) -> list[tuple[str, int, bool, int]]:
        """Of each step with superseded attempts: its key, how many, whether one of them failed.

        And how many were made before the workflow last failed.
        """
        return self._read(
            "select step_key, max(attempt), max(status = 'failed'), coalesce(max(case when epoch <= failed.last then"
            " attempt end), 0) from attempts, (select max(epoch) as last from runs where workflow_id = ?1"
            " and ended = 'failed') as failed where workflow_id = ?1 group by step_key",
            (workflow_id,),
        )

    def find_state(self, workflow_id: str) -> WorkflowState | None:
        """Return what a run needs to know of a workflow, or None. Raises CorruptionError, see `find_workflow_row`."""
        row = find_workflow_row(self.connection, workflow_id)
        return None if row is None else WorkflowState(*row[:7])

    def latest_runs(self, workflow_id: str, count: int) -> list[tuple[int, str | None]]:
        """Return the epochs of the latest runs of a workflow, oldest first, and how each ended."""
        sql = "select epoch, ended from runs where workflow_id = ? order by epoch desc limit ?"
        return self._read(sql, (workflow_id, count))[::-1]

    def has_compensated(self, workflow_id: str) -> bool:
        """Whether a compensation of the workflow was ever begun."""
        return bool(
            self._read("select 1 from steps where workflow_id = ? and kind = 'compensation' limit 1", (workflow_id,))
        )

    def has_registered(self, workflow_id: str) -> bool:
        """Whether the workflow has something to undo when it is cancelled."""
        return bool(
            self._read("select 1 from steps where workflow_id = ? and kind = 'on_failure' limit 1", (workflow_id,))
        )

    def list_left(self) -> list[tuple[str, int]]:
        """The workflows that neither have ended nor are suspended, oldest first: id and epoch."""
        sql = (
            "select id, epoch from workflows where status = 'running' and not exists (select 1 from runs"
            " where workflow_id = id and runs.epoch = workflows.epoch and ended = 'suspended') order by created_at, id"
        )
        return self._read(sql)

    def list_over(self, workflow_ids: Iterable[str]) -> list[str]:
        """Those of the workflows that have ended, or were deleted."""
        ids = msgspec.json.encode(list(workflow_ids)).decode()
        running = "select 1 from workflows where id = value and status = 'running'"
        return [row[0] for row in self._read(f"select value from json_each(?) where not exists ({running})", (ids,))]

    def close(self) -> None:
        """Close the file. May be called twice."""
        self.connection.close()


def _is_current(db: sqlite3.Connection, workflow_id: str, epoch: int) -> bool:
    return bool(db.execute("select 1 from workflows where id = ? and epoch = ?", (workflow_id, epoch)).fetchone())


def _end_run(db: sqlite3.Connection, workflow_id: str, epoch: int, ended: str, at: str) -> None:
    db.execute(
        "update runs set ended = ?, ended_at = ? where workflow_id = ? and epoch = ? and ended is null",
        (ended, at, workflow_id, epoch),
    )


def _abandon_waits(db: sqlite3.Connection, workflow_id: str, epoch: int, at: str) -> None:
    """What a workflow still waited for as it ended: the losers of a race, or everything when it was cancelled."""
    waiting = "from waits where workflow_id = ?"
    if not db.execute(f"select 1 {waiting}", (workflow_id,)).fetchone():
        return
    rows = db.execute(
        "select step_key from waits join steps using (workflow_id, step_key) where workflow_id = ? and"
        " status = 'running'",
        (workflow_id,),
    ).fetchall()
    for (key,) in rows:
        db.execute("update steps set epoch = ? where workflow_id = ? and step_key = ?", (epoch, workflow_id, key))
        db.execute(*ending("failed", None, ABANDONED, at, workflow_id, epoch, key))
    db.execute(f"delete {waiting}", (workflow_id,))


def steps_that_ended(db: sqlite3.Connection, error: str) -> list[str]:
    """The failed steps whose errors ended a workflow, as its error names them."""
    return [row[0] for row in db.execute("select value from json_each(?, '$.steps')", (error,))]


def find_workflow_row(connection: Connection, workflow_id: str) -> list[Any] | None:
    """Return the columns of a workflow's row, or None. Raises CorruptionError if they do not match their checksum."""
    rows = connection.read(f"select {WORKFLOW_COLUMNS}, checksum from workflows where id = ?", (workflow_id,))
    if not rows:
        return None
    row: list[Any] = list(rows[0])
    stored = row.pop()
    _, _, arguments, _, output, error, *_ = row
    if stored != checksum(arguments, output, error):
        raise CorruptionError(
            f"workflow {workflow_id!r}: its stored arguments or outcome do not match their checksum; restore the "
            f"database {str(connection.path)!r} from a copy, or delete this workflow",
            path=connection.path,
        )
    return row
