"""Forks: a new workflow that is given the rows of another before a step, in program order.

DBOS's own fork copies all numbers below one, and our numbers mean nothing: it would run finished steps again.
"""

from __future__ import annotations

from typing import Any

import msgspec
from dbos import DBOS, SetWorkflowID, WorkflowStatus, error

from durable.on_dbos import process
from durable.on_dbos.outside import outside
from durable.on_dbos.store import workflows
from durable.on_dbos.store.rows import Record, StepRow, SupersededRow
from durable.store.archive import keys_before
from durable.store.records import fork_is_taken
from durable.store.rows.steps import ABANDONED

QUEUE = "durable.forks"  # no process serves it: a fork waits there until it is resumed


def fork(found: WorkflowStatus, new_id: str, at_key: str) -> None:
    """See `DBOSEngine.fork`."""
    workflow_id = found.workflow_id
    record = workflows.read_record_of(found)
    kept = keys_before(workflow_id, [row.checkpoint() for row in record.steps.values()], at_key)
    record.begin_run()
    rows: list[Any] = msgspec.json.decode(msgspec.json.encode(_rows_to_take(record, kept)))
    function, arguments = workflows.call_of(found)
    try:
        outside(_enqueue, new_id, function, workflows.plain_arguments(arguments), rows)
    except error.DBOSWorkflowIDInUseError:
        taken = workflows.find_status(new_id)
        recorded = "another DBOS workflow" if taken is None else " with ".join(workflows.call_of(taken))
        raise fork_is_taken(workflow_id, new_id, recorded) from None


def is_waiting(found: WorkflowStatus) -> bool:
    """Return whether it is a fork that was not resumed yet."""
    return found.status == "ENQUEUED" and found.queue_name == QUEUE


def _enqueue(new_id: str, function: str, arguments: dict[str, Any], rows: list[Any]) -> None:
    with SetWorkflowID(new_id, workflow_id_reuse_policy="reject"):
        DBOS.enqueue_workflow(QUEUE, process.workflow, function, arguments, rows)


def _rows_to_take(record: Record, kept: set[str]) -> list[StepRow | SupersededRow]:
    """Return the rows that make `Record` read as it stood, without the steps that wait.

    A step that ended the original comes as a try.
    """
    tries = [row for row, _ in record.attempts if row.key in kept]
    current = [row for key, row in record.steps.items() if key in kept and _is_ended(row)]
    there = {row.key for row in current}
    gone = list(dict.fromkeys(row.key for row in tries if row.key not in there))
    put_aside = [SupersededRow(gone, record.last_run, has_failed=False)] if gone else []
    return [*tries, *put_aside, *current]


def _is_ended(row: StepRow) -> bool:
    return row.status != "running" and row.wake_at is None and row.error_text != ABANDONED
