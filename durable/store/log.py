"""FileLog: the log of one run in the SQLite file. One method, one transaction."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable.errors import CancelRequested, CorruptionError, FencedError
from durable.replay.log import Message, Row, Said, Wait
from durable.replay.step import Outcome, Step
from durable.store.database.connection import Change, Connection, apply, begin
from durable.store.rows import steps as rows
from durable.store.rows.pages import read_pages
from durable.store.rows.workflows import find_workflow
from durable.store.transaction import Transaction, guarded
from durable.values.codec import checksum

if TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.store.rows.large import FileValues


class FileLog:
    """See `durable.replay.log`: a `Log`, a `WaitingLog`, a `ProgressLog` and a `TransactingLog`."""

    def __init__(
        self, connection: Connection, workflow_id: str, epoch: int, arguments: str, now: Callable[[], str]
    ) -> None:
        """`arguments` is the text in the row of the workflow, whose checksum covers it; `now` gives the instant."""
        self.workflow_id, self.epoch = workflow_id, epoch
        self._arguments, self._now = arguments, now
        self._connection, self._read, self._write = connection, connection.read, connection.write
        self._may_have_progress = epoch > 1  # left by a crash

    @property
    def path(self) -> Path:
        """The file."""
        return self._connection.path

    @functools.cached_property
    def values(self) -> FileValues:
        """See `Log`."""
        from durable.store.rows.large import FileValues

        return FileValues(self._connection, self.workflow_id, self.epoch, self._now)

    # ---- the history

    def read(self) -> Iterator[list[Row]]:
        """See `Log`."""
        return read_pages(self._read, self.workflow_id)

    def list_tries(self) -> list[tuple[str, int, bool, int]]:
        """See `Log`."""
        return self._read(
            "select step_key, max(attempt), max(status = 'failed'), coalesce(max(case when epoch <= failed.last then"
            " attempt end), 0) from attempts, (select max(epoch) as last from runs where workflow_id = ?1"
            " and ended = 'failed') as failed where workflow_id = ?1 group by step_key",
            (self.workflow_id,),
        )

    def list_waiting(self) -> dict[str, str | None]:
        """See `Log`."""
        return dict(self._read("select step_key, wake_at from waits where workflow_id = ?", (self.workflow_id,)))

    # ---- steps

    def begin(self, steps: Sequence[Step]) -> None:
        """See `Log`. Not flushed to disk: a power cut may lose the number of an attempt, never an outcome."""
        if len(steps) == 1 and steps[0].attempt == 1:
            saved = self._write(self._beginning(steps[0]), durable=False)
        else:
            saved = self._write(lambda db: self._begin(db, steps), durable=False)
        if saved != len(steps):
            raise self._refusal()

    def _beginning(self, step: Step) -> rows.Statement:
        return rows.BEGIN, (*step.row(), "running", self.workflow_id, self.epoch)

    def _begin(self, db: sqlite3.Connection, steps: Sequence[Step]) -> int:
        superseded = [step.key for step in steps if step.attempt > 1]
        if superseded and self._may_begin(db, steps):
            rows.supersede(db, self.workflow_id, superseded, self.epoch)
        begun = [(*step.row(), "running") for step in steps]
        return rows.write_rows(db, rows.BEGIN, rows.BEGIN_SEVERAL, begun, self.workflow_id, self.epoch)

    def _may_begin(self, db: sqlite3.Connection, steps: Sequence[Step]) -> bool:
        sql = "select 1 from workflows where id = ? and epoch = ? and (cancel_requested_at is null or ?)"
        is_undoing = all(step.call.kind == "compensation" for step in steps)
        return db.execute(sql, (self.workflow_id, self.epoch, is_undoing)).fetchone() is not None

    def end(self, steps: Sequence[Step]) -> None:
        """See `Log`."""
        outcome = steps[0].outcome if len(steps) == 1 else None
        if outcome is not None and outcome.status == "completed" and not outcome.values:
            key, output = steps[0].key, outcome.output
            stored = checksum(key, "completed", output, "")
            values = output, stored, outcome.ended_at, steps[0].thread or None, key, self.workflow_id, self.epoch
            if not self._write((rows.COMPLETE, values)):
                raise self._refusal()
            return
        place = self.workflow_id, self.epoch, self.workflow_id
        ended = [rows.ended(step) for step in steps]
        due = [(step.key, step.outcome.wake_at) for step in steps if step.outcome and step.outcome.wake_at]

        def change(db: sqlite3.Connection) -> int:
            saved = rows.write_rows(db, rows.END, rows.END_SEVERAL, ended, *place)
            if saved == len(steps):
                for retry in due:
                    db.execute("insert or replace into waits values (?, ?, ?, null, null)", (self.workflow_id, *retry))
            return saved

        saved = self._save((rows.END, (*ended[0], *place)) if len(steps) == 1 and not due else change, steps)
        if saved != len(steps):
            raise self._refusal()

    def record(self, step: Step) -> None:
        """See `Log`."""
        row = *step.row(), *rows.outcome(step), self.workflow_id, self.epoch
        if not self._save((rows.RECORD, row), (step,)):
            raise self._refusal()

    def supersede(self, step_keys: Sequence[str]) -> None:
        """See `Log`."""

        def change(db: sqlite3.Connection) -> bool:
            is_current = self._is_current(db)
            if is_current:
                rows.supersede(db, self.workflow_id, step_keys, self.epoch)
            return is_current

        if not self._write(change):
            raise self._refusal()

    # ---- the run

    def check(self) -> None:
        """See `Log`."""
        sql = "select cancel_requested_at is not null from workflows where id = ? and epoch = ?"
        found = self._read(sql, (self.workflow_id, self.epoch))
        if not found:
            raise FencedError(self.workflow_id, self.epoch)
        if found[0][0]:
            raise CancelRequested(f"workflow {self.workflow_id!r}: it was cancelled")

    def close(self, ended: str, outcome: Outcome | None = None, reason: str | None = None) -> None:
        """See `Log`."""
        if outcome is None:
            at = self._now()
            self._write(lambda db: self._end_run(db, ended, reason, at))
            return
        change = functools.partial(self._end_workflow, status=ended, outcome=outcome, reason=reason)
        if not self._write(self._naming(change, {"output": outcome.values} if outcome.values else {})):
            raise self._refusal()

    def _end_workflow(self, db: sqlite3.Connection, status: str, outcome: Outcome, reason: str | None) -> bool:
        output, error, at = outcome.output, outcome.error, outcome.ended_at
        saved = db.execute(
            "update workflows set status = ?, output = ?, error = ?, checksum = ?, updated_at = ?"
            " where id = ? and epoch = ?",
            (status, output, error, checksum(self._arguments, output, error), at, self.workflow_id, self.epoch),
        ).rowcount
        if saved:
            self._end_run(db, status, reason, at)
            if status != "failed":  # a failed one may be run again, and waits on
                rows.abandon_waits(db, self.workflow_id, self.epoch, at)
        return bool(saved)

    def _end_run(self, db: sqlite3.Connection, ended: str, reason: str | None, at: str) -> None:
        db.execute(
            "update runs set ended = ?, reason = ?, ended_at = ? where workflow_id = ? and epoch = ? and ended is null",
            (ended, reason, at, self.workflow_id, self.epoch),
        )
        if self._may_have_progress:
            db.execute("delete from step_progress where workflow_id = ?", (self.workflow_id,))
        if "values" in self.__dict__:
            from durable.store.rows.large import end_claims

            end_claims(db, self.workflow_id, self.epoch)

    # ---- progress

    def save_progress(self, said: Sequence[Said], ended: Sequence[str]) -> None:
        """See `ProgressLog`. The rows of steps that have ended since are dropped, so that the table stays small."""
        self._may_have_progress = True

        def change(db: sqlite3.Connection) -> None:
            for each in said:
                db.execute(rows.SAY, (self.workflow_id, *each, self.workflow_id, self.epoch))
            db.execute(rows.FORGET_ENDED, (self.workflow_id,))
            for key in ended:
                db.execute(rows.FORGET_MAP, (self.workflow_id, key))

        self._write(change, durable=False)

    # ---- large values

    def _save(self, change: Change[Any], steps: Sequence[Step]) -> Any:
        """Commit the rows of steps that have ended."""
        return self._write(self._naming(change, _named(steps)))

    def _naming(self, change: Change[Any], named: dict[str, tuple[str, ...]]) -> Change[Any]:
        """Return a change that also notes which rows name which large values. Most name none.

        It raises CorruptionError, and its transaction is undone, if one of the values is not stored whole.
        """
        if not named:
            return change
        from durable.store.rows import large

        def change_and_name(db: sqlite3.Connection) -> Any:
            for used_by, values in named.items():
                if (missing := large.find_missing(db, values)) is not None:
                    raise self.values.damaged(missing, f"{used_by!r} of {self.workflow_id!r}")
            changed = apply(change, db)
            for used_by, values in named.items() if changed else ():
                large.note_uses(db, self.workflow_id, used_by, values)
            return changed

        return change_and_name

    def _is_current(self, db: sqlite3.Connection) -> bool:
        sql = "select 1 from workflows where id = ? and epoch = ?"
        return db.execute(sql, (self.workflow_id, self.epoch)).fetchone() is not None

    def _refusal(self) -> FencedError | CancelRequested:
        """Return why nothing was saved."""
        try:
            self.check()
        except (FencedError, CancelRequested) as refusal:
            return refusal
        return FencedError(self.workflow_id, self.epoch)

    # ---- waits and messages

    def begin_wait(self, step: Step, wait: Wait) -> tuple[str | None, bool]:
        """See `WaitingLog`."""
        place = (self.workflow_id, step.key)

        def change(db: sqlite3.Connection) -> tuple[str | None, bool] | None:
            known = db.execute(
                "update steps set epoch = ?, thread = ? where workflow_id = ? and step_key = ? and status = 'running'"
                " and ? = (select epoch from workflows where id = ? and cancel_requested_at is null)",
                (self.epoch, step.thread, *place, self.epoch, self.workflow_id),
            ).rowcount
            if not known and not db.execute(*self._beginning(step)).rowcount:
                return None
            db.execute("insert or ignore into waits values (?, ?, ?, ?, ?)", (*place, *wait))
            found = db.execute("select wake_at from waits where workflow_id = ? and step_key = ?", place).fetchone()
            return found[0], not known

        begun = self._write(change)
        if begun is None:
            raise self._refusal()
        return begun

    def end_wait(self, step: Step) -> bool:
        """See `WaitingLog`."""
        assert step.outcome is not None
        message, place = step.outcome.message, (self.workflow_id, self.epoch, self.workflow_id)

        def change(db: sqlite3.Connection) -> bool:
            receive = "update messages set received_by = ? where id = ? and received_by is null"
            if message is not None and not db.execute(receive, (step.key, message)).rowcount:
                return False
            if not db.execute(rows.END, (*rows.ended(step), *place)).rowcount:
                db.execute("update messages set received_by = null where id = ?", (message,))
                return False
            db.execute("delete from waits where workflow_id = ? and step_key = ?", (self.workflow_id, step.key))
            return True

        saved = bool(self._save(change, (step,)))
        if not saved:
            with contextlib.suppress(CancelRequested):  # a compensation may wait on
                self.check()
        return saved

    def find_message(self, event: str) -> Message | None:
        """See `WaitingLog`. Raises CorruptionError for a message that was changed since it was sent."""
        found = self._read(
            "select id, value, checksum from messages where workflow_id = ? and event = ? and received_by is null"
            " order by id limit 1",
            (self.workflow_id, event),
        )
        if not found:
            return None
        message_id, value, stored = found[0]
        if stored != checksum(event, value):
            raise CorruptionError(
                f"workflow {self.workflow_id!r}: the message {event!r} does not match its checksum; restore the "
                f"database {str(self.path)!r} from a copy, or delete the message {message_id}",
                path=self.path,
            )
        return Message(message_id, value)

    def find_end(self, workflow_id: str) -> tuple[str, str | None, str | None] | None:
        """See `WaitingLog`. Raises CorruptionError."""
        found = find_workflow(self._connection, workflow_id)
        return None if found is None or found.status == "running" else (found.status, found.output, found.error)

    # ---- transactions

    def guard(self, connection: sqlite3.Connection, subject: str) -> AbstractContextManager[Transaction]:
        """See `TransactingLog`."""
        return guarded(connection, subject)

    def transact(self, step: Step, work: Callable[[sqlite3.Connection], Outcome]) -> Outcome:
        """See `TransactingLog`; `work` gets the connection."""
        row = self._beginning(step)

        def change(db: sqlite3.Connection) -> Outcome | None:
            if not db.execute(*row).rowcount:
                return None
            db.execute("savepoint work")
            step.outcome = work(db)
            if step.outcome.status == "failed" and db.in_transaction:
                db.execute("rollback to work")
            elif step.outcome.status == "failed":  # undone by SQLite, together with our row
                begin(db)
                if not db.execute(*row).rowcount:
                    return None
            end = rows.END, (*rows.ended(step), self.workflow_id, self.epoch, self.workflow_id)
            apply(self._naming(end, _named((step,))), db)
            return step.outcome

        outcome = self._connection.write_alone(change)
        if outcome is None:
            raise self._refusal()
        return outcome


def _named(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """Return the large values that the outcomes of steps name, by the keys of the steps."""
    return {step.key: step.outcome.values for step in steps if step.outcome and step.outcome.values}
