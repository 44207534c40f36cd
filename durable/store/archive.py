"""Archive: rewind takes back what was recorded from a step on, restart all of it; fork copies what came before.

Each is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from durable.errors import StepNotFoundError, WorkflowNotFoundError
from durable.replay.keys import program_order
from durable.replay.log import Checkpoint
from durable.store.ownership.owner import Owner
from durable.store.records import fork_is_taken, step_not_found
from durable.store.rows.pages import list_checkpoints
from durable.store.rows.steps import ABANDONED, COLUMNS, list_steps_that_ended, supersede
from durable.store.rows.workflows import Workflows
from durable.values.codec import checksum, names_in


def rewind(workflows: Workflows, workflow_id: str, to: str | None, at: str) -> None:
    """See `Engine.rewind`."""
    owner = Owner(workflows.path, workflow_id)
    try:
        rows = list_checkpoints(workflows.connection.read, workflow_id)
        if to is None:
            gone = failed_and_later(workflow_id, rows)
        else:
            gone = {row.step_key for row in rows} - keys_before(workflow_id, rows, to)
        reopened = [row.step_key for row in rows if row.error == ABANDONED and row.step_key not in gone]
        workflows.connection.write(lambda db: _rewind(db, workflow_id, gone, reopened, at))
    finally:
        owner.release()


def restart(workflows: Workflows, workflow_id: str, function: str, arguments: str, at: str) -> None:
    """See `Engine.restart`."""
    owner = Owner(workflows.path, workflow_id)
    try:
        gone = {row.step_key for row in list_checkpoints(workflows.connection.read, workflow_id)}

        def change(db: sqlite3.Connection) -> None:
            _rewind(db, workflow_id, gone, [], at)
            call = (function, arguments, checksum(arguments, None, None), workflow_id)
            db.execute("update workflows set function = ?, arguments = ?, checksum = ? where id = ?", call)
            db.execute("delete from value_uses where workflow_id = ? and used_by = 'arguments'", (workflow_id,))
            if values := names_in(arguments):
                from durable.store.rows.large import note_sent

                note_sent(db, workflows.path, workflow_id, "arguments", values)

        workflows.connection.write(change)
    finally:
        owner.release()


def fork(workflows: Workflows, workflow_id: str, new_id: str, at_key: str, at: str) -> None:
    """See `Engine.fork`."""
    owner = Owner(workflows.path, new_id)  # so that no other process begins to run it meanwhile
    try:
        if (taken := workflows.find_state(new_id)) is not None:
            raise fork_is_taken(workflow_id, new_id, f"{taken.function} with {taken.arguments}")
        kept = keys_before(workflow_id, list_checkpoints(workflows.connection.read, workflow_id), at_key)
        if not workflows.connection.write(lambda db: _fork(db, workflow_id, new_id, kept, at)):
            raise WorkflowNotFoundError(f"no workflow {workflow_id!r}: it was deleted", workflow_id=workflow_id)
    finally:
        owner.release()


def keys_before(workflow_id: str, rows: Iterable[Checkpoint], step_key: str) -> set[str]:
    """Return the steps before a step or a branch, in program order. Compensations come after all others."""
    keys = {row.step_key: row.kind for row in rows}
    branches = {key[:end] for key in keys for end, letter in enumerate(key) if letter == "/"}
    if step_key not in keys | dict.fromkeys(branches):
        raise step_not_found(workflow_id, step_key, keys)
    place = program_order(step_key)
    return {key for key, kind in keys.items() if program_order(key) < place and kind != "compensation"}


def failed_and_later(workflow_id: str, rows: Iterable[Checkpoint]) -> set[str]:
    """Return the failed steps, and those that come after one of them and its fan-out. Compensations come last.

    A fan-out is steps, or branches, that follow each other in one scope under the same name.
    """
    kinds = {row.step_key: row.kind for row in rows}
    failed = {
        row.step_key for row in rows if row.status == "failed" and row.kind != "compensation" and row.error != ABANDONED
    }
    if not failed:
        raise StepNotFoundError(
            f"workflow {workflow_id!r} has no failed step on record; name the step to go back to, as in to='charge_1'",
            workflow_id=workflow_id,
            step_key="",
        )
    names: dict[tuple[int, ...], str] = {}  # the name of the step or the branch at each place
    for key in kinds:
        place = program_order(key)
        names |= {place[: end + 1]: part.rpartition("_")[0] for end, part in enumerate(key.split("/"))}
    ends: dict[tuple[int, ...], int] = {}  # the last number of the fan-out of a place
    bounds: dict[tuple[int, ...], int] = {}  # the last number of a scope that stays
    for place in map(program_order, sorted(failed)):
        for depth in range(len(place)):
            scope, number = place[:depth], place[depth]
            if (*scope, number) not in ends:
                last = number
                while names.get((*scope, last + 1)) == names[*scope, number]:
                    last += 1
                ends |= {(*scope, each): last for each in range(number, last + 1)}
            bounds[scope] = min(bounds.get(scope, ends[*scope, number]), ends[*scope, number])

    def is_later(place: tuple[int, ...]) -> bool:
        return any(number > bounds.get(place[:depth], number) for depth, number in enumerate(place))

    return failed | {key for key, kind in kinds.items() if kind == "compensation" or is_later(program_order(key))}


def _rewind(db: sqlite3.Connection, workflow_id: str, gone: set[str], reopened: list[str], at: str) -> None:
    """Take steps back. A wait that was given up as the workflow ended is left as a crash would leave it."""
    epoch, status, arguments, error = db.execute(
        "select epoch, status, arguments, error from workflows where id = ?", (workflow_id,)
    ).fetchone()
    epoch += 1  # no run has this epoch, so an earlier run that is still alive saves nothing more
    if status == "failed":
        gone = gone | set(list_steps_that_ended(db, error))
    supersede(db, workflow_id, gone, epoch)
    for key in gone:
        db.execute(
            "update messages set received_by = null where workflow_id = ? and received_by = ?", (workflow_id, key)
        )
    for key in reopened:
        db.execute(
            "update steps set status = 'running', error = null, checksum = null, ended_at = null"
            " where workflow_id = ? and step_key = ?",
            (workflow_id, key),
        )
    db.execute("delete from value_uses where workflow_id = ? and used_by = 'output'", (workflow_id,))
    db.execute(
        "update workflows set status = 'running', output = null, error = null, cancel_requested_at = null, epoch = ?,"
        " checksum = ?, updated_at = ? where id = ?",
        (epoch, checksum(arguments, None, None), at, workflow_id),
    )


def _fork(db: sqlite3.Connection, workflow_id: str, new_id: str, kept: set[str], at: str) -> bool:
    """Copy rows with their epochs, which tell older from newer; the new workflow goes on counting from them.

    A failed step that ended the original comes along as a try only, so that the new one tries it again too.
    """
    row = db.execute(
        "select max(epoch, coalesce((select epoch + 1 from deleted where workflow_id = ?), 0)), function, arguments,"
        " case status when 'failed' then error end from workflows where id = ?",
        (new_id, workflow_id),
    ).fetchone()
    if row is None:
        return False
    epoch, function, arguments, error = row
    db.execute(
        "insert into workflows values (?, ?, ?, 'running', null, null, ?, ?, ?, ?, null, null)",
        (new_id, function, arguments, epoch, checksum(arguments, None, None), at, at),
    )
    failed = set(list_steps_that_ended(db, error)) if error else set()
    columns = COLUMNS.replace("workflow_id", "?", 1)
    place = "where workflow_id = ? and step_key = ?"
    for used_by in ("arguments", "messages", *kept):
        db.execute(
            "insert into value_uses select ?, used_by, sha256 from value_uses where workflow_id = ? and used_by = ?",
            (new_id, workflow_id, used_by),
        )
    for key in sorted(kept, key=program_order):
        db.execute(
            f"insert into attempts ({COLUMNS}, superseded_by) select {columns}, superseded_by from attempts {place}",
            (new_id, workflow_id, key),
        )
        if key in failed:
            db.execute(
                f"insert into attempts ({COLUMNS}, superseded_by) select {columns}, ? from steps {place}",
                (new_id, epoch, workflow_id, key),
            )
            continue
        db.execute(
            f"insert into steps ({COLUMNS}) select {columns} from steps {place} and status <> 'running'"
            " and error is not ? and step_key not in (select step_key from waits"
            " where workflow_id = steps.workflow_id)",
            (new_id, workflow_id, key, ABANDONED),
        )
        db.execute(
            "insert into messages select null, ?, event, value, message_key, checksum, sent_at, received_by"
            " from messages where workflow_id = ? and received_by = ?",
            (new_id, workflow_id, key),
        )
    return True
