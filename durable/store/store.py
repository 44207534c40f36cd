"""What is asked of the database for the steps of a run. It is going: the core turns to `log.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from durable.replay.log import Row
from durable.store.connection import Connection, begin
from durable.store.pages import read_pages
from durable.store.step_row import (
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
from durable.store.steps import abandon_waits, supersede
from durable.store.workflows import Workflows
from durable.values.codec import checksum


class Store(Workflows):
    """The workflows, runs, steps and attempts of one file, for any thread of the process that opened it."""

    def __init__(self, path: Path, *, synchronous: str = "full", read_only: bool = False) -> None:
        """Open the file, or make it. Raises StoreError, CorruptionError or SchemaVersionError, nothing changed."""
        super().__init__(Connection(path, synchronous=synchronous, read_only=read_only))

    def complete_workflow(self, workflow_id: str, epoch: int, output: str, arguments: str, at: str) -> bool:
        """Save the result of a workflow and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("completed", output, None, workflow_id, epoch, arguments, at)

    def fail_workflow(self, workflow_id: str, epoch: int, error: str, arguments: str, at: str) -> bool:
        """Save the error of a workflow and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("failed", None, error, workflow_id, epoch, arguments, at)

    def cancel_workflow(self, workflow_id: str, epoch: int, error: str, arguments: str, at: str) -> bool:
        """Save that a workflow was cancelled, and the end of its run. False where a newer run has taken over."""
        return self._end_workflow("cancelled", None, error, workflow_id, epoch, arguments, at)

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
                    abandon_waits(db, workflow_id, epoch, at)
            return bool(saved)

        return self._write(change)

    def end_run(self, workflow_id: str, epoch: int, ended: str, at: str) -> None:
        """Note how a run ended that brought no outcome."""
        self._write(lambda db: _end_run(db, workflow_id, epoch, ended, at))

    # ---- a step's life; each returns False where a newer run has taken over, and then has changed nothing

    def start_step(self, workflow_id: str, epoch: int, step: NewStep) -> bool:
        """Write the running row. Not flushed to disk: a power cut may lose the number of an attempt, no outcome."""
        insert = starting(workflow_id, epoch, step)
        if step.attempt == 1:
            return bool(self._write(insert, durable=False))

        def change(db: sqlite3.Connection) -> bool:
            if _is_current(db, workflow_id, epoch):
                supersede(db, workflow_id, [step.step_key], epoch)
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
                supersede(db, workflow_id, again, epoch)
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
                supersede(db, workflow_id, step_keys, epoch)
            return is_current

        return self._write(change)

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


def _is_current(db: sqlite3.Connection, workflow_id: str, epoch: int) -> bool:
    return bool(db.execute("select 1 from workflows where id = ? and epoch = ?", (workflow_id, epoch)).fetchone())


def _end_run(db: sqlite3.Connection, workflow_id: str, epoch: int, ended: str, at: str) -> None:
    db.execute(
        "update runs set ended = ?, ended_at = ? where workflow_id = ? and epoch = ? and ended is null",
        (ended, at, workflow_id, epoch),
    )
