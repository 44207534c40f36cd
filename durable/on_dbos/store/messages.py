"""Messages to a workflow, and what it publishes: between any processes, through the mailbox and the events of DBOS."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from dbos import WorkflowStatus

from durable.on_dbos.outside import outside
from durable.on_dbos.store import workflows
from durable.on_dbos.store.progress import Ask, list_progress
from durable.on_dbos.store.rows import MessageRow, Record, StepRow
from durable.store.records import NewProgress, ProgressRecord, Published, not_published, receives_nothing
from durable.values import codec
from durable.values.large import Read

TOPIC = "durable"  # the topic of all messages, whatever they are about, so that a run can empty its mailbox
KEYS = uuid.UUID("6f1c5f0e-4a0b-4f43-9d5e-0c6e2b7d8a11")  # the namespace of the ids of messages with a key
LOOK_SECONDS = 0.2  # how often it is looked whether something was published


def send(found: WorkflowStatus, event: str, text: str, key: str | None, asked: workflows.Asked) -> bool:
    """See `Reader.send`."""
    workflow_id, status = found.workflow_id, workflows.status_of(found)
    # a key names its message: so the record of a workflow that has ended tells whether it has received it
    message_id = str(uuid.uuid4() if key is None else uuid.uuid5(KEYS, f"{workflow_id}\n{key}"))
    if status != "running":
        if key is not None and workflows.read_record(workflow_id, asked=asked)[0].has_message(message_id):
            return False
        raise receives_nothing(workflow_id, status)
    row = MessageRow(message_id, event, msgspec.Raw(text.encode()))
    outside(lambda: asked.send(workflow_id, row, TOPIC, idempotency_key=key))
    return True


def read(found: WorkflowStatus, name: str, kind: Any, asked: workflows.Asked, get_value: Read | None = None) -> Any:
    """See `Reader.read`."""
    workflow_id = found.workflow_id
    row = outside(lambda: asked.get_event(workflow_id, name, timeout_seconds=0)) or _last_forked(found, name)
    if not isinstance(row, StepRow) or row.output_text is None:
        raise not_published(workflow_id, name)
    subject = f"workflow {workflow_id!r}: its published {name!r}"
    return codec.codec_of(kind, subject).decode(row.output_text, subject, get_value)


def watch(workflow_id: str, asked: workflows.Asked, ask: Ask | None = None) -> Iterator[Published | ProgressRecord]:
    """See `Reader.watch`; `ask` reads the progress, if that is wanted."""
    new = NewProgress()
    numbers: dict[str, int] = {}  # in the order in which they were seen: a branch may save late what it began early
    while (found := workflows.find_status(workflow_id, asked)) is not None:
        record = workflows.read_record_of(found, asked)
        for row in _published(record):
            if row.key not in numbers:
                numbers[row.key] = number = len(numbers) + 1
                at = datetime.fromisoformat(row.started_at)
                yield Published(number, workflow_id, row.name, row.output_text or "null", at)
        if workflows.status_of(found) != "running":
            return
        yield from () if ask is None else new.of(list_progress(ask, workflow_id, record.steps.values()))
        time.sleep(LOOK_SECONDS)


def _published(record: Record) -> list[StepRow]:
    return [row for row in record.steps.values() if row.kind == "publish"]


def _last_forked(found: WorkflowStatus, name: str) -> StepRow | None:
    """Return the row that it was forked with, of which DBOS has no event."""
    rows = _published(workflows.read_forked_record(found))
    return next((row for row in reversed(rows) if row.name == name), None)
