"""Workflows: the rows of `workflows` and `runs`, from the beginning of a run to the deletion of its workflow.

Its steps, and how a run ends, are in `log.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from durable.errors import CorruptionError
from durable.store.database.connection import Connection
from durable.store.records import WorkflowRecord, columns, from_row
from durable.store.rows.steps import list_steps_that_ended, supersede
from durable.values.codec import checksum

if TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.values.large import Freed

WORKFLOW = columns(WorkflowRecord).replace("workflow_id", "id", 1)
_FAMILY = (
    "with recursive family (id) as (select ? union select workflows.id from workflows join family"
    " on workflows.parent_id = family.id)"
)
# all ended at the same place: the first of these runs may have got there, the others added no checkpoint
# (a rewind takes an epoch for which there is no run, so that fewer are counted)
_GOT_NOWHERE = """
select count(*) = ?2 from workflows join runs on workflow_id = id
where id = ?1 and runs.epoch > workflows.epoch - ?2 and coalesce(ended, 'crashed') in ('crashed', 'stopped')
and not exists (
    select 1 from steps
    where workflow_id = id and steps.epoch > workflows.epoch - ?2 + 1 and steps.status <> 'running')
and not exists (
    select 1 from attempts
    where workflow_id = id and attempts.epoch > workflows.epoch - ?2 + 1 and attempts.status <> 'running')
"""


class Workflows:
    """The workflows and runs of one file. Safe to use from any thread of the process that opened it."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self._read, self._write = connection, connection.read, connection.write

    @property
    def path(self) -> Path:
        """The file."""
        return self.connection.path

    def close(self) -> None:
        """Close the file. May be called twice."""
        self.connection.close()

    # ---- changes

    def begin_run(
        self,
        workflow_id: str,
        function: str,
        arguments: str,
        seen: WorkflowRecord | None,
        pid: int,
        host: str,
        at: str,
        parent_id: str | None = None,
        values: Sequence[str] = (),
    ) -> int | None:
        """Record a new run, and the workflow if it is new. Return the epoch of the run.

        `values` are the large values that the arguments name. Return None, and record nothing, if the row is no longer
        as the caller has seen it. A run that has no end yet is marked crashed. Failed steps that ended the last run
        move to `attempts`, to be tried anew.
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
                if values:
                    from durable.store.rows.large import note_sent

                    note_sent(db, self.path, workflow_id, "arguments", values)
            else:
                epoch = int(row[0]) + 1
                if row[1] == "failed":
                    supersede(db, workflow_id, list_steps_that_ended(db, row[2]), epoch)
                db.execute(
                    "update workflows set status = 'running', output = null, error = null, epoch = ?, checksum = ?,"
                    " updated_at = ? where id = ?",
                    (epoch, checksum(arguments, None, None), at, workflow_id),
                )
                db.execute("update runs set ended = 'crashed' where workflow_id = ? and ended is null", (workflow_id,))
            run = (workflow_id, epoch, pid, host, at)
            db.execute("insert into runs (workflow_id, epoch, pid, host, started_at) values (?, ?, ?, ?, ?)", run)
            return epoch

        return self._write(change)

    def request_cancel(self, workflow_id: str, at: str) -> list[str]:
        """Ask a workflow and its descendants to end. Return those that run; none if the workflow itself has ended."""

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

    def delete_workflows(self, workflow_ids: Iterable[str]) -> None:
        """Delete workflows and all their rows, but not their last epochs."""

        def change(db: sqlite3.Connection) -> None:
            for each in workflow_ids:
                db.execute("insert or replace into deleted select id, epoch from workflows where id = ?", (each,))
                db.execute("delete from workflows where id = ?", (each,))
                for table in ("runs", "steps", "attempts", "waits", "messages", "step_progress"):
                    db.execute(f"delete from {table} where workflow_id = ?", (each,))
                used = "from value_uses where workflow_id = ?"
                values.update(row[0] for row in db.execute(f"select sha256 {used}", (each,)))
                db.execute(f"delete {used}", (each,))

        values = set[str]()
        self._write(change)
        if values:  # a crash from here on leaves them to gc
            from durable.store.rows.large import drop_unused

            drop_unused(self.connection, sorted(values))

    def collect(self) -> Freed:
        """See `Engine.gc`."""
        from durable.store.rows.large import collect

        return collect(self.connection)

    def give_space_back(self) -> None:
        """Make the file smaller, if more than half of it is free; else new rows fill what is free."""
        self.connection.vacuum()

    # ---- questions of the engine

    def find_state(self, workflow_id: str) -> WorkflowRecord | None:
        """Return a workflow, or None. Raises CorruptionError if its row does not match its checksum."""
        return find_workflow(self.connection, workflow_id)

    def has_step(self, workflow_id: str, kind: str) -> bool:
        """Return whether a step of a kind was ever begun."""
        return bool(self._read("select 1 from steps where workflow_id = ? and kind = ? limit 1", (workflow_id, kind)))

    def find_dead(self, workflow_id: str, epoch: int) -> str | None:
        """Return the process of a run, as `process 4711 on host`, if it has died in that run."""
        sql = "select pid, host from runs where workflow_id = ? and epoch = ? and ended = 'crashed'"
        found = self._read(sql, (workflow_id, epoch))
        return "process {} on {!r}".format(*found[0]) if found else None

    def has_got_nowhere(self, workflow_id: str, times: int) -> bool:
        """Return whether its last runs crashed, or stopped, this many times at one place. No process may run it now."""
        return has_got_nowhere(self.connection, workflow_id, times)

    def list_family(self, workflow_id: str) -> list[str]:
        """Return a workflow and its descendants, parents first."""
        return [row[0] for row in self._read(f"{_FAMILY} select id from family", (workflow_id,))]

    def list_left(self) -> list[str]:
        """Return the workflows that neither have ended nor are suspended, oldest first."""
        sql = (
            "select id from workflows where status = 'running' and not exists (select 1 from runs"
            " where workflow_id = id and runs.epoch = workflows.epoch and ended = 'suspended') order by created_at, id"
        )
        return [row[0] for row in self._read(sql)]

    def list_over(self, workflow_ids: Iterable[str]) -> list[str]:
        """Return those of the workflows that have ended, or were deleted."""
        ids = msgspec.json.encode(list(workflow_ids)).decode()
        running = "select 1 from workflows where id = value and status = 'running'"
        return [row[0] for row in self._read(f"select value from json_each(?) where not exists ({running})", (ids,))]


def find_workflow(connection: Connection, workflow_id: str) -> WorkflowRecord | None:
    """Return a workflow, or None. Raises CorruptionError if its row does not match its checksum."""
    rows = connection.read(f"select {WORKFLOW}, checksum from workflows where id = ?", (workflow_id,))
    if not rows:
        return None
    *values, stored = rows[0]
    record = from_row(WorkflowRecord, values)
    if stored != checksum(record.arguments, record.output, record.error):
        raise CorruptionError(
            f"workflow {workflow_id!r}: its stored arguments or outcome do not match their checksum; restore the "
            f"database {str(connection.path)!r} from a copy, or delete this workflow",
            path=connection.path,
        )
    return record


def has_got_nowhere(connection: Connection, workflow_id: str, times: int) -> bool:
    """Return whether its last runs crashed, or stopped, this many times at one place. No process may run it now."""
    return bool(connection.read(_GOT_NOWHERE, (workflow_id, times))[0][0])
