"""Waits: the waits of all workflows in the file, for the alarm of an engine, and the messages that are sent to them.

How a step begins and ends a wait is in `log.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from durable.store.database.connection import Connection
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


class Waits:
    """The waits and messages of one file. Safe to use from any thread of the process that opened it."""

    def __init__(self, connection: Connection) -> None:
        self._read, self._write, self._path = connection.read, connection.write, connection.path

    def list_due(self, at: str) -> list[tuple[str, str]]:
        """Return the waits that are due, as workflow id and step key."""
        return self._read(_DUE, (at,))

    def list_parents(self, child_ids: list[str]) -> list[tuple[str, str]]:
        """Return the workflows that wait for one of these to end, each with the id of that child."""
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

    def has_message(self, workflow_id: str, message_key: str) -> bool:
        """Return whether a message with this key was sent, received or not."""
        sql = "select 1 from messages where workflow_id = ? and message_key = ?"
        return bool(self._read(sql, (workflow_id, message_key)))

    def send(
        self,
        workflow_id: str,
        event: str,
        value: str,
        message_key: str | None,
        at: str,
        values: Sequence[str] = (),
    ) -> bool:
        """Save a message, whose value names these large values. False if there is one with this key already."""
        insert = "insert or ignore into messages values (null, ?, ?, ?, ?, ?, ?, null)"
        row = insert, (workflow_id, event, value, message_key, checksum(event, value), at)
        if not values:
            return bool(self._write(row))
        from durable.store.rows.large import note_sent

        def change(db: sqlite3.Connection) -> int:
            saved = db.execute(*row).rowcount
            if saved:
                note_sent(db, self._path, workflow_id, "messages", values)
            return saved

        return bool(self._write(change))
