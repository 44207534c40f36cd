"""Reader: the workflows of one PostgreSQL database as they stand, and messages to them. Nothing is run by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dbos import WorkflowStatus

from durable.errors import WorkflowNotFoundError
from durable.on_dbos.store import messages, workflows
from durable.on_dbos.store.progress import Ask, list_progress
from durable.on_dbos.store.rows import Record, StepRow
from durable.recovery.backend import encode_message
from durable.replay.keys import check_id, program_order
from durable.replay.step import Outcome
from durable.signals import held_back
from durable.store.records import ProgressRecord, Published, Selection, StepRecord, WaitRecord, WorkflowRecord
from durable.store.rows.steps import ABANDONED
from durable.values.large import Read

_FIELDS = {"updated": "updated_at", "id": "workflow_id"}


class Reader:
    """The questions that an engine and a client ask of DBOS in the same words."""

    def __init__(self, asked: workflows.Asked, name: str) -> None:
        """`name` is that of the database."""
        self.name, self._asked = name, asked
        self.get_value: Read | None = None  # large values, if they can be read here
        self.ask: Ask = lambda *_: []  # our own tables, if they can be read here

    # ---- messages

    def send(
        self, workflow_id: str, event: str, value: Any = None, *, type: Any = None, key: str | None = None
    ) -> bool:
        """Leave a message for a workflow, from any process; it is received by `ctx.wait_event(event)`, now or later.

        Two of the same millisecond have no order, and one of the instant at which its workflow fails may be lost to it.
        `type` says how the value is encoded if its class does not. If several have the same `key`, only the first is
        kept; DBOS does not tell which that was, so this returns True while the workflow runs, and False once it has
        ended and has received the one of this key. Raises WorkflowNotFoundError; WorkflowEndedError if it has ended,
        also if it has failed, and received none of this key; SerializationError for a value without exact JSON form.
        """
        text = encode_message(workflow_id, event, value, type, key)
        with held_back():
            return self.send_text(workflow_id, event, text, key)

    def send_text(self, workflow_id: str, event: str, text: str, key: str | None) -> bool:
        """Leave a message that is encoded already."""
        return messages.send(self.status(workflow_id, **workflows.BARE), event, text, key, self._asked)

    def read(self, workflow_id: str, name: str, *, type: Any = Any) -> Any:
        """Return the latest value that a workflow has published under a name, decoded as `type`.

        Raises WorkflowNotFoundError, NotPublishedError while there is none, SerializationError where it does not fit.
        """
        return messages.read(self.status(workflow_id), name, type, self._asked, self.get_value)

    def watch(self, workflow_id: str, *, progress: bool = False) -> Iterator[Published | ProgressRecord]:
        """Yield what a workflow has published and goes on to publish, until it ends. Raises WorkflowNotFoundError."""
        self.status(workflow_id, **workflows.BARE)
        return messages.watch(workflow_id, self._asked, self.ask if progress else None)

    # ---- looking

    def workflows(self, status: str | None = None) -> list[WorkflowRecord]:
        """Return all workflows, oldest first; or those of a status: running, completed, failed or cancelled."""
        if status is not None and status not in workflows.STATUSES:
            return []
        conditions = {} if status is None else {"status": workflows.STATUSES[status]}
        return [workflows.record_of(found) for found in self._list(**conditions)]

    def select(self, wanted: Selection) -> list[WorkflowRecord]:
        """Return the workflows of a selection, in its order.

        The database looks at ids, statuses and parents. DBOS keeps the function with the arguments, and the time of the
        latest change is not what it sorts by: with these, all others are read as well.
        """
        conditions = self._conditions(wanted)
        if conditions is None:
            return []
        if (wanted.function, wanted.since, wanted.until) == (None, None, None) and wanted.sort == "created":
            paged = {"limit": wanted.limit, "offset": wanted.offset, "sort_desc": wanted.descending}
            return [workflows.record_of(found) for found in self._list(**conditions, **paged)]
        records = [each for found in self._list(**conditions) if wanted.fits(each := workflows.record_of(found))]
        if wanted.sort != "created":
            records.sort(key=lambda each: str(getattr(each, _FIELDS.get(wanted.sort, wanted.sort))))
        records = records[::-1] if wanted.descending else records
        return records[wanted.offset :][: wanted.limit]

    def _conditions(self, wanted: Selection) -> dict[str, Any] | None:
        """Return the conditions that DBOS knows; None if no workflow meets them."""
        if wanted.limit == 0 or (wanted.status is not None and wanted.status not in workflows.STATUSES):
            return None
        conditions: dict[str, Any] = {}
        if wanted.status is not None:
            conditions["status"] = workflows.STATUSES[wanted.status]
        if wanted.prefix:
            conditions["workflow_id_prefix"] = wanted.prefix
        if wanted.top_level:
            conditions["has_parent"] = False
        return conditions

    def find_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """Return one workflow, or None."""
        found = self._find(workflow_id)
        return None if found is None else workflows.record_of(found)

    def workflow(self, workflow_id: str) -> WorkflowRecord:
        """Return one workflow. Raises WorkflowNotFoundError."""
        return workflows.record_of(self.status(workflow_id))

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """Return the steps of a workflow as they stand, in program order. Raises WorkflowNotFoundError.

        A step that is being made has no row yet: DBOS saves what has ended.
        """
        found, record = self._read(workflow_id)
        rows = list(record.steps.values())
        if _is_final(found):
            rows = [_given_up(row) for row in rows]
        return sorted((row.step_record(workflow_id) for row in rows), key=lambda step: program_order(step.step_key))

    def attempts(self, workflow_id: str) -> list[StepRecord]:
        """Return the tries that a later one superseded; a try that a crash ended left no row.

        Raises WorkflowNotFoundError.
        """
        _, record = self._read(workflow_id)
        tries = [row.step_record(workflow_id, run) for row, run in record.attempts]
        return sorted(tries, key=lambda step: (program_order(step.step_key), step.attempt))

    def waits(self, workflow_id: str) -> list[WaitRecord]:
        """Return what the steps of a workflow wait for now, in program order. Raises WorkflowNotFoundError."""
        found, record = self._read(workflow_id)
        waiting = [] if _is_final(found) else record.list_waiting()
        waits = [record.steps[key].wait_record(workflow_id) for key in waiting]
        return sorted(waits, key=lambda wait: program_order(wait.step_key))

    def progress(self, workflow_id: str) -> list[ProgressRecord]:
        """Return how far the running steps and maps of a workflow say that they are. Raises WorkflowNotFoundError."""
        found, record = self._read(workflow_id)
        is_running = workflows.status_of(found) == "running"
        return list_progress(self.ask, workflow_id, record.steps.values()) if is_running else []

    def status(self, workflow_id: str, **conditions: Any) -> WorkflowStatus:
        """Return what DBOS knows of a workflow. Raises WorkflowNotFoundError."""
        found = self._find(workflow_id, **conditions)
        if found is None:
            raise WorkflowNotFoundError(
                f"no workflow {workflow_id!r} in database {self.name!r}", workflow_id=workflow_id
            )
        return found

    def _read(self, workflow_id: str) -> tuple[WorkflowStatus, Record]:
        found = self.status(workflow_id)
        return found, workflows.read_record_of(found, self._asked)

    def _find(self, workflow_id: str, **conditions: Any) -> WorkflowStatus | None:
        check_id(workflow_id)
        return next(iter(self._list(workflow_ids=[workflow_id], **conditions)), None)

    def _list(self, **conditions: Any) -> list[WorkflowStatus]:
        return workflows.list_statuses(self._asked, **conditions)


def _is_final(found: WorkflowStatus) -> bool:
    """Return whether it waits for nothing more; a failed one may be run again, and waits on."""
    return workflows.status_of(found) in ("completed", "cancelled")


def _given_up(row: StepRow) -> StepRow:
    """Return the row of a step that still waited when the workflow ended, as a file has it."""
    return row.ended(Outcome("failed", None, ABANDONED, row.started_at)) if row.status == "running" else row
