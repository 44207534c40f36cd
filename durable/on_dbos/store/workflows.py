"""Workflows as DBOS knows them, read as our records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from dbos import DBOS, DBOSClient, WorkflowStatus

from durable.on_dbos.outside import outside
from durable.on_dbos.store.rows import AnyRow, OutcomeRow, Record
from durable.on_dbos.store.serializer import WorkflowFailed, row_of
from durable.store.records import WorkflowRecord
from durable.values.failures import encode_error

Asked = type[DBOS] | DBOSClient  # DBOS where it is launched, else its client: both are asked the same

WORKFLOW = "durable.workflow"  # the one DBOS workflow that calls all functions
BEHIND_ALL = 2**31 - 1  # a step number that none has: who rewinds to it takes nothing back
UNREADABLE = "(not readable)"  # in place of a function
CANCEL = "durable.cancel_requested_at"  # an attribute of a workflow

_STATUS = {
    "SUCCESS": "completed",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
    "PENDING": "running",
    "ENQUEUED": "running",
    "DELAYED": "running",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "running",
}
BARE: dict[str, Any] = {"load_input": False, "load_output": False}  # for who asks only how a workflow stands
STATUSES = {ours: [theirs for theirs in _STATUS if _STATUS[theirs] == ours] for ours in _STATUS.values()}


def find_status(workflow_id: str, asked: Asked = DBOS, **conditions: Any) -> WorkflowStatus | None:
    """Return what DBOS says of one of our workflows, or None."""
    return next(iter(list_statuses(asked, workflow_ids=[workflow_id], **conditions)), None)


def find_workflow(workflow_id: str) -> WorkflowRecord | None:
    """One workflow, or None."""
    found = find_status(workflow_id)
    return None if found is None else record_of(found)


def list_statuses(asked: Asked = DBOS, **conditions: Any) -> list[WorkflowStatus]:
    """Return what DBOS says of all of our workflows that meet its conditions, oldest first."""
    found: list[WorkflowStatus] = outside(lambda: asked.list_workflows(name=WORKFLOW, **conditions))
    return found


def record_of(found: WorkflowStatus) -> WorkflowRecord:
    """A workflow of DBOS as a row of ours. Its epoch is how often DBOS has dispatched it since it was last resumed."""
    function, arguments = call_of(found)
    return WorkflowRecord(
        workflow_id=found.workflow_id,
        function=function,
        arguments=arguments,
        status=status_of(found),
        output=bytes(found.output.output).decode() if isinstance(found.output, OutcomeRow) else None,
        error=_error_of(found),
        epoch=found.recovery_attempts or 1,
        created_at=_instant(found.created_at),
        updated_at=_instant(found.updated_at),
        parent_id=found.parent_workflow_id,
        cancel_requested_at=_cancel_requested_at(found),
    )


def status_of(found: WorkflowStatus) -> str:
    """Our word for how it stands."""
    return _STATUS[found.status]


def call_of(found: WorkflowStatus) -> tuple[str, str]:
    """The function of a workflow and its arguments as JSON. `UNREADABLE` if its input is in another serialization."""
    function, arguments, *_ = input_of(found) or ("", {})
    return function, msgspec.json.encode(arguments).decode()


def read_record_of(found: WorkflowStatus, asked: Asked = DBOS) -> Record:
    """How the steps of a workflow stand."""
    return read_record(found.workflow_id, forked_rows(found), asked)[0]


def forked_rows(found: WorkflowStatus) -> list[Any]:
    """The rows that a workflow was forked with."""
    return [row for rows in input_of(found)[2:] for row in rows]


def plain_arguments(text: str) -> dict[str, Any]:
    """A workflow's arguments as DBOS is given them: plain JSON values, so that its own tools show them."""
    arguments: dict[str, Any] = msgspec.json.decode(text)
    return arguments


def has_cancel_request(found: WorkflowStatus | None, *, or_parent: bool = False) -> bool:
    """Return whether the workflow is to be cancelled, or DBOS has cancelled it; or has its parent, if so."""
    if found is None or found.status == "CANCELLED" or _cancel_requested_at(found) is not None:
        return found is not None
    parent_id = found.parent_workflow_id if or_parent else None
    return parent_id is not None and has_cancel_request(find_status(parent_id, **BARE))


def read_record(workflow_id: str, forked: Sequence[Any] = (), asked: Asked = DBOS) -> tuple[Record, int]:
    """All rows of a workflow, after those that it was forked with, and the last number that is taken."""
    steps = outside(asked.list_workflow_steps, workflow_id)
    rows = [row_of(step, workflow_id) for step in steps]
    taken = max((step["function_id"] for step in steps), default=0)
    # a wait for a message takes two numbers, and may have used the first alone
    return Record(_decoded(forked) + [row for row in rows if row is not None]), taken + 1


def read_forked_record(found: WorkflowStatus) -> Record:
    """How the steps stood with which a workflow was forked."""
    return Record(_decoded(forked_rows(found)))


def input_of(found: WorkflowStatus) -> Sequence[Any]:
    """Return the input of the workflow; empty if that was not asked for."""
    given: Any = found.input
    if isinstance(given, str):  # as DBOS gives what was refused
        return (UNREADABLE, {})
    return given["args"] if given else ()


def _decoded(rows: Sequence[Any]) -> list[Any]:
    decoded: list[Any] = msgspec.json.decode(msgspec.json.encode(rows), type=list[AnyRow])
    return decoded


def _error_of(found: WorkflowStatus) -> str | None:
    if found.error is None:
        return None
    if isinstance(found.error, WorkflowFailed):
        return found.error.record
    return encode_error(found.error if isinstance(found.error, Exception) else Exception(str(found.error)))


def _cancel_requested_at(found: WorkflowStatus) -> datetime | None:
    text = (found.attributes or {}).get(CANCEL)
    return None if text is None else datetime.fromisoformat(text)


def _instant(epoch_ms: int | None) -> datetime:
    return datetime.fromtimestamp((epoch_ms or 0) / 1000, UTC)
