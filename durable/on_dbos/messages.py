"""Messages to a workflow, and what it publishes: between any processes, through the mailbox and the events of DBOS."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from dbos import DBOS, WorkflowStatus

from durable import codec
from durable.errors import NotPublishedError, WorkflowEndedError
from durable.on_dbos import workflows
from durable.on_dbos.outside import outside
from durable.on_dbos.rows import MessageRow, StepRow
from durable.on_dbos.waits import TOPIC
from durable.records import Published
from durable.scope import check_name

LOOK_SECONDS = 0.2  # how often it is looked whether something was published


def send(found: WorkflowStatus, event: str, value: Any, kind: Any, key: str | None) -> None:
    """See `DBOSEngine.send`."""
    check_name(event)
    workflow_id, status = found.workflow_id, workflows.record_of(found).status
    subject = f"message {event!r} to {workflow_id!r}: its value"
    text = codec.codec_of_value(value, kind, subject).encode(value, subject)
    if status != "running":
        raise WorkflowEndedError(
            f"workflow {workflow_id!r} is {status} and receives nothing; send it to one that runs",
            workflow_id=workflow_id,
            status=status,
        )
    row = MessageRow(str(uuid.uuid4()), event, msgspec.Raw(text.encode()))
    outside(lambda: DBOS.send(workflow_id, row, TOPIC, idempotency_key=key))


def read(workflow_id: str, name: str, kind: Any) -> Any:
    """See `DBOSEngine.read`."""
    row = outside(lambda: DBOS.get_event(workflow_id, name, timeout_seconds=0))
    if not isinstance(row, StepRow) or row.output_text is None:
        raise NotPublishedError(f"workflow {workflow_id!r} has published no {name!r} yet; wait for it, or watch it")
    subject = f"workflow {workflow_id!r}: its published {name!r}"
    return codec.codec_of(kind, subject).decode(row.output_text, subject)


def watch(workflow_id: str) -> Iterator[Published]:
    """See `DBOSEngine.watch`."""
    seen = 0
    while True:
        found = workflows.find_status(workflow_id)
        has_ended = found is None or workflows.record_of(found).status != "running"
        for each in list_published(workflow_id)[seen:]:
            seen = each.number
            yield each
        if has_ended:
            return
        time.sleep(LOOK_SECONDS)


def list_published(workflow_id: str) -> list[Published]:
    """What a workflow has published, in this order."""
    record, _ = workflows.read_record(workflow_id)
    rows = [row for row in record.steps.values() if row.kind == "publish"]
    return [
        Published(number, workflow_id, row.name, row.output_text or "null", datetime.fromisoformat(row.started_at))
        for number, row in enumerate(rows, 1)
    ]
