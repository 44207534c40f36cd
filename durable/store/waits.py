"""Waits: the rows of `waits` and `messages`: instants, messages, the end of a child. One method, one transaction."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from durable.errors import CorruptionError
from durable.store.step_row import NewStep, ending, starting
from durable.store.store import Store
from durable.values.codec import checksum

# a wait is due when its instant has come, its message or the end of its child is there, or its workflow is cancelled;
# while a compensation waits for its next attempt, only the instant of that counts
_DUE = """
select workflow_id, step_key from waits
join workflows on workflows.id = waits.workflow_id
where wake_at <= ? and workflows.status = 'running' and (cancel_requested_at is null or exists (
    select 1 from steps where steps.workflow_id = id and steps.step_key = waits.step_key and kind = 'compensation'))
union
select waits.workflow_id, waits.step_key from messages
join waits on waits.workflow_id = messages.workflow_id and waits.event = messages.event
join workflows on workflows.id = waits.workflow_id
where messages.received_by is null and workflows.status = 'running' and cancel_requested_at is null
union
select waits.workflow_id, waits.step_key from waits
join workflows as child on child.id = waits.child_id
join workflows on workflows.id = waits.workflow_id
where waits.child_id is not null and child.status <> 'running' and workflows.status = 'running'
and workflows.cancel_requested_at is null
union
select waits.workflow_id, waits.step_key from workflows
join waits on waits.workflow_id = workflows.id
where workflows.cancel_requested_at is not null and workflows.status = 'running'
and not exists (
    select 1 from waits as retry join steps using (workflow_id, step_key)
    where retry.workflow_id = id and kind = 'compensation')
"""


class Wait(NamedTuple):
    """What a step waits for. If several are set, for the first that comes."""

    wake_at: str | None = None
    event: str | None = None
    child_id: str | None = None


class Message(NamedTuple):
    """A message that no step has received."""

    id: int
    value: str


class Waits:
    """The waits and messages of one file, for any thread of the process that opened it."""

    def __init__(self, store: Store) -> None:
        self._path = store.path
        self._read, self._write = store.connection.read, store.connection.write

    def begin(self, workflow_id: str, epoch: int, step: NewStep, wait: Wait) -> tuple[str | None, bool] | None:
        """Write that a step waits, or take over an earlier run's wait with its instant.

        Returns the instant, and whether the wait is new; None where this run may begin nothing.
        """

        def change(db: sqlite3.Connection) -> tuple[str | None, bool] | None:
            place = (workflow_id, step.step_key)
            known = db.execute(
                "update steps set epoch = ?, thread = ? where workflow_id = ? and step_key = ? and status = 'running'"
                " and ? = (select epoch from workflows where id = ? and cancel_requested_at is null)",
                (epoch, step.thread, *place, epoch, workflow_id),
            ).rowcount
            if not known and not db.execute(*starting(workflow_id, epoch, step)).rowcount:
                return None
            db.execute("insert or ignore into waits values (?, ?, ?, ?, ?)", (*place, *wait))
            found = db.execute("select wake_at from waits where workflow_id = ? and step_key = ?", place).fetchone()
            return found[0], not known

        return self._write(change)

    def end(
        self,
        workflow_id: str,
        epoch: int,
        status: str,
        output: str | None,
        error: str | None,
        at: str,
        step_key: str,
        message_id: int | None,
    ) -> bool:
        """Save the outcome of a wait, and which message was received. False if another step has received it."""

        def change(db: sqlite3.Connection) -> bool:
            if (
                message_id is not None
                and not db.execute(
                    "update messages set received_by = ? where id = ? and received_by is null", (step_key, message_id)
                ).rowcount
            ):
                return False
            if not db.execute(*ending(status, output, error, at, workflow_id, epoch, step_key)).rowcount:
                db.execute("update messages set received_by = null where id = ?", (message_id,))
                return False
            db.execute("delete from waits where workflow_id = ? and step_key = ?", (workflow_id, step_key))
            return True

        return self._write(change)

    def retry_later(self, workflow_id: str, epoch: int, step_key: str, error: str, at: str, wake_at: str) -> bool:
        """Save that an attempt failed and when the next one is due. False if a newer run has taken over."""

        def change(db: sqlite3.Connection) -> bool:
            saved = db.execute(*ending("failed", None, error, at, workflow_id, epoch, step_key)).rowcount
            if saved:
                due = (workflow_id, step_key, wake_at)
                db.execute("insert or replace into waits values (?, ?, ?, null, null)", due)
            return bool(saved)

        return self._write(change)

    def list_instants(self, workflow_id: str) -> dict[str, str | None]:
        """Return the keys of the steps that wait, each with its instant if it has one."""
        return dict(self._read("select step_key, wake_at from waits where workflow_id = ?", (workflow_id,)))

    def list_due(self, at: str) -> list[tuple[str, str]]:
        """Return the waits that are due, as workflow id and step key."""
        return self._read(_DUE, (at,))

    def list_parents(self, child_ids: list[str]) -> list[tuple[str, str]]:
        """Return the workflows that wait for one of these to end, each with the id of that child."""
        import msgspec

        sql = (
            "select workflow_id, child_id from waits join workflows on workflows.id = child_id"
            " where status = 'running' and child_id in (select value from json_each(?))"
        )
        return self._read(sql, (msgspec.json.encode(child_ids).decode(),))

    def find_next_instant(self, after: str) -> str | None:
        """Return when the next timer of any workflow is due."""
        found: str | None = self._read("select min(wake_at) from waits where wake_at > ?", (after,))[0][0]
        return found

    def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed something."""
        version: int = self._read("pragma data_version")[0][0]
        return version

    # ---- messages

    def send(self, workflow_id: str, event: str, value: str, message_key: str | None, at: str) -> bool:
        """Save a message. False if there is one with this key already."""
        insert = "insert or ignore into messages values (null, ?, ?, ?, ?, ?, ?, null)"
        return bool(self._write((insert, (workflow_id, event, value, message_key, checksum(event, value), at))))

    def find_message(self, workflow_id: str, event: str) -> Message | None:
        """Return the oldest message that no step has received. Raises CorruptionError if it was changed since."""
        rows = self._read(
            "select id, value, checksum from messages where workflow_id = ? and event = ? and received_by is null"
            " order by id limit 1",
            (workflow_id, event),
        )
        if not rows:
            return None
        message_id, value, stored = rows[0]
        if stored != checksum(event, value):
            raise CorruptionError(
                f"workflow {workflow_id!r}: the message {event!r} does not match its checksum; restore the database "
                f"{str(self._path)!r} from a copy, or delete the message {message_id}",
                path=self._path,
            )
        return Message(message_id, value)
