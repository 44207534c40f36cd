"""The steps of a workflow as records, for people and programs to read."""

from __future__ import annotations

from datetime import datetime

from dbos import WorkflowStatus

from durable.on_dbos import workflows
from durable.on_dbos.rows import StepRow
from durable.replay.keys import program_order
from durable.replay.step import Outcome
from durable.store.records import StepRecord, WaitRecord
from durable.store.rows.steps import ABANDONED


def list_steps(found: WorkflowStatus, asked: workflows.Asked) -> list[StepRecord]:
    """As they stand, in program order."""
    is_final = _is_final(found)
    rows = workflows.read_record_of(found, asked).steps.values()
    steps = [_step_record(found.workflow_id, _given_up(row) if is_final else row, None) for row in rows]
    return sorted(steps, key=lambda step: program_order(step.step_key))


def list_attempts(found: WorkflowStatus, asked: workflows.Asked) -> list[StepRecord]:
    """The tries that a later one superseded."""
    tries = [_step_record(found.workflow_id, row, run) for row, run in workflows.read_record_of(found, asked).attempts]
    return sorted(tries, key=lambda step: (program_order(step.step_key), step.attempt))


def list_waits(found: WorkflowStatus, asked: workflows.Asked) -> list[WaitRecord]:
    """Return what the steps wait for, in program order."""
    if _is_final(found):
        return []
    record = workflows.read_record_of(found, asked)
    waiting = record.list_waiting()
    waits = [as_wait(found.workflow_id, row) for key, row in record.steps.items() if key in waiting]
    return sorted(waits, key=lambda wait: program_order(wait.step_key))


def as_wait(workflow_id: str, row: StepRow) -> WaitRecord:
    """Return what a row that waits waits for."""
    wake_at = None if row.wake_at is None else datetime.fromisoformat(row.wake_at)
    return WaitRecord(workflow_id, row.key, wake_at, row.event, row.child_id)


def _is_final(found: WorkflowStatus) -> bool:
    """Return whether it waits for nothing more; a failed one may be run again, and waits on."""
    return workflows.status_of(found) in ("completed", "cancelled")


def _given_up(row: StepRow) -> StepRow:
    """Return the row of a step that still waited when the workflow ended, as a file has it."""
    return row.ended(Outcome("failed", None, ABANDONED, row.started_at)) if row.status == "running" else row


def _step_record(workflow_id: str, row: StepRow, superseded_by: int | None) -> StepRecord:
    return StepRecord(
        workflow_id=workflow_id,
        step_key=row.key,
        status=row.status,
        output=row.output_text,
        name=row.name,
        kind=row.kind,
        position=row.position,
        attempt=row.attempt,
        epoch=row.run,
        fingerprint=row.fingerprint,
        error=row.error_text,
        started_at=datetime.fromisoformat(row.started_at),
        ended_at=None if row.ended_at is None else datetime.fromisoformat(row.ended_at),
        thread=row.thread,
        superseded_by=superseded_by,
    )
