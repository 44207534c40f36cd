"""Snapshot: the workflows of a database, or one of them, as plain JSON values for the dashboard to draw.

Nothing here knows how it is drawn. Instants are ISO 8601 in UTC, durations are seconds. A text that is longer than its
place allows is cut, and `length` says how long it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from durable.dashboard.rows import Now, Rows, message_of, read_rows, state_of
from durable.dashboard.source import Source
from durable.dashboard.timeline import draw_timeline
from durable.dashboard.values import show_parts, tell
from durable.errors import DurableError
from durable.replay.keys import program_order
from durable.store.reader import Reader
from durable.store.records import Selection, StepRecord, WaitRecord, WorkflowRecord
from durable.values.codec import MARK

STATUSES = ("running", "completed", "failed", "cancelled")
PAGE_WORKFLOWS = 50
PAGE_STEPS = 100
WHOLE_STEPS = 200  # a workflow with more is read in part: the steps of the page, and the notable ones
REPORT_STEPS = 1000  # a report has so many of one workflow
LOOK_SECONDS, LOOK_SHARE = 1.0, 0.01  # between two looks of a page that is live, and their share of the time
MANY = 200  # children, messages and runs of one workflow: the latest ones are shown
SHORT, LONG = 120, 4000  # characters of a value in a line, and by itself

_Place = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request for workflows, as `Selection` takes it, in pages; or for one that is to be shown, from a step on.

    `value` is the key of a step whose value is to be read, and shown as a table.
    """

    prefix: str = ""
    function: str = ""
    status: str = ""
    since: datetime | None = None
    sort: Literal["created", "updated", "id", "function", "status"] = "updated"
    descending: bool = True
    offset: _Place = 0
    open: str = ""
    step: _Place = 0
    value: str = ""


def read_question(values: Any) -> Question:
    """Return the question that these JSON values ask. Raises msgspec.ValidationError if they ask none."""
    return msgspec.convert(values, Question)


def take(reader: Source, question: Question, now: datetime | None = None) -> dict[str, Any]:
    """Return the answer to a question as the database stands.

    A workflow that is missing or cannot be read has a `problem` in place of its records. `pause` is the number of
    seconds to wait before the next look, so that looking takes at most a hundredth of the time.
    """
    begun = time.perf_counter()
    answer = _take(reader, question, now)
    return answer | {"pause": max(LOOK_SECONDS, (time.perf_counter() - begun) / LOOK_SHARE)}


def _take(reader: Source, question: Question, now: datetime | None) -> dict[str, Any]:
    head = {"database": reader.name, "at": _instant(now or datetime.now(UTC)), "offset": question.offset}
    if question.open:
        return head | {"open": show(reader, question.open, question.step, PAGE_STEPS, question.value)}
    wanted = Selection(
        prefix=question.prefix,
        function=question.function or None,
        since=question.since,
        sort=question.sort,
        descending=question.descending,
        limit=PAGE_WORKFLOWS,
        offset=question.offset,
    )
    counts = reader.count(wanted)
    selected = reader.select(msgspec.structs.replace(wanted, status=question.status or None))
    return head | {
        "counts": {status: counts.get(status, 0) for status in STATUSES},
        "total": counts.get(question.status, 0) if question.status else sum(counts.values()),
        "size": PAGE_WORKFLOWS,
        "functions": reader.list_functions(),
        "rows": [_row(reader, record) for record in selected],
    }


def take_all(reader: Source, most: int) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return the latest workflows of a database, at most so many, and an iterator over the records of each."""
    counts = reader.count(Selection())
    records = reader.select(Selection(descending=True, limit=most))
    listed = {
        "database": reader.name,
        "at": _instant(datetime.now(UTC)),
        "counts": {status: counts.get(status, 0) for status in STATUSES},
        "total": sum(counts.values()),
        "size": PAGE_WORKFLOWS,
        "rows": [_row(reader, record) for record in records],
    }
    return listed, (show(reader, record.workflow_id, 0, REPORT_STEPS) for record in records)


def show(reader: Source, workflow_id: str, first: int, size: int, value: str = "") -> dict[str, Any]:
    """Return all that is recorded of one workflow, with so many of its steps, from a place in program order on.

    Only the value of the step with the key `value` is read, if it is large or formatted.
    """
    try:
        steps: Sequence[StepRecord]
        if isinstance(reader, Reader) and (total := reader.count_steps(workflow_id)) > WHOLE_STEPS:
            rows, steps = read_rows(reader, workflow_id, in_part=True), reader.page_of_steps(workflow_id, first, size)
        else:
            rows = read_rows(reader, workflow_id)
            total, steps = len(rows.steps), rows.steps[first : first + size]
        if rows.workflow is None:
            raise reader.not_found(workflow_id)
        return _Shown(reader, rows, rows.workflow, value).values(first, steps, total)
    except DurableError as error:
        return {"id": workflow_id, "problem": str(error)}


class _Shown:
    """One workflow and its rows."""

    def __init__(self, reader: Source, rows: Rows, record: WorkflowRecord, value: str) -> None:
        self._reader, self._rows, self._record, self._value = reader, rows, record, value

    def values(self, first: int, steps: Sequence[StepRecord], total: int) -> dict[str, Any]:
        record, rows = self._record, self._rows
        children = self._reader.children(record.workflow_id)
        messages = self._reader.messages(record.workflow_id)
        return {
            **_row(self._reader, record),
            "owner": rows.owner,
            "arguments": cut(_pretty(record.arguments), LONG),
            "output": cut(_pretty(record.output), LONG),
            "error": _error(record.error),
            "cancelling": record.cancel_requested_at is not None and record.status == "running",
            "final": rows.is_final,
            "first": first,
            "size": PAGE_STEPS,
            "steps_total": total,
            "steps": [self._step(step) for step in steps],
            "progress": [
                {"key": each.step_key, "name": each.name, "text": cut(each.text, SHORT), "share": each.share}
                for each in rows.progress[:MANY]
            ],
            "timeline": draw_timeline(rows, datetime.now(UTC)),
            "lives": [
                {
                    "epoch": run.epoch,
                    "process": f"{run.pid} on {run.host}",
                    "started": _instant(run.started_at),
                    "ended": _instant(run.ended_at),
                    "how": run.ended or "running",
                    "reason": cut(run.reason, LONG),
                }
                for run in rows.runs[-MANY:]
            ],
            "messages_total": len(messages),
            "messages": [
                {
                    "event": message.event,
                    "value": cut(tell(message.value), LONG),
                    "sent": _instant(message.sent_at),
                    "received_by": message.received_by,
                }
                for message in messages[-MANY:]
            ],
            "children_total": len(children),
            "children": [_row(self._reader, child) for child in children[-MANY:]],
            "published": self._published(),
        }

    def _step(self, step: StepRecord) -> dict[str, Any]:
        state = state_of(step, self._rows, Now(pid=0))
        wait = self._rows.waits.get(step.step_key)
        return {
            "key": step.step_key,
            "kind": "" if step.kind in ("step", step.name) else step.kind,
            "state": "completed" if state == "replayed" else state,
            "lost": self._rows.lost_attempts(step.step_key),
            "waits": None if wait is None or state != "waiting" else _wait(wait),
            "output": cut(_pretty(step.output), LONG),
            "short": cut(tell(step.output), SHORT),
            "has_parts": MARK in (step.output or ""),
            "parts": show_parts(self._reader, step.output) if step.step_key == self._value else None,
            "earlier": [self._attempt(row) for row in self._rows.earlier_attempts(step.step_key)],
            **self._attempt(step),
        }

    def _attempt(self, row: StepRecord) -> dict[str, Any]:
        return {
            "attempt": row.attempt,
            "run": row.epoch,
            "thread": row.thread,
            "status": row.status,
            "started": _instant(row.started_at),
            "took": None if row.ended_at is None else (row.ended_at - row.started_at).total_seconds(),
            "error": _error(row.error),
        }

    def _published(self) -> list[dict[str, Any]]:
        """Return the latest value under each name."""
        steps = [step for step in self._rows.steps if step.kind == "publish" and step.output is not None]
        latest = {step.name: step for step in sorted(steps, key=lambda step: (step.started_at, step.position))}
        return [
            {"name": name, "value": cut(tell(step.output), LONG), "at": _instant(step.started_at)}
            for name, step in latest.items()
        ]


def _row(reader: Source, record: WorkflowRecord) -> dict[str, Any]:
    """Return a line of the list."""
    waits: Sequence[WaitRecord] = reader.waits(record.workflow_id) if record.status == "running" else ()
    return {
        "id": record.workflow_id,
        "function": record.function,
        "status": record.status,
        "state": _state(reader, record, waits),
        "runs": record.epoch if reader.path is None else len(reader.runs(record.workflow_id)),
        "created": _instant(record.created_at),
        "updated": _instant(record.updated_at),
        "parent": record.parent_id,
        "result": cut(message_of(record.error) or tell(record.output), SHORT),
        "waits": [_wait(wait) for wait in sorted(waits, key=lambda wait: program_order(wait.step_key))[:3]],
    }


def _state(reader: Source, record: WorkflowRecord, waits: Sequence[WaitRecord]) -> str:
    """Return the state as the terminal names it; `waiting` if a process or the record holds a wait."""
    state = reader.state(record)
    return "waiting" if waits and state in ("running", "suspended") else state


def _wait(wait: WaitRecord) -> dict[str, Any]:
    return {"step": wait.step_key, "event": wait.event, "child": wait.child_id, "until": _instant(wait.wake_at)}


def _error(error: str | None) -> dict[str, Any] | None:
    if error is None:
        return None
    record = json.loads(error)
    return {"text": cut(message_of(error), LONG), "traceback": cut(record.get("traceback") or "", LONG)}


def _pretty(text: str | None) -> str | None:
    """Return JSON text with a line for each part, if it is short enough to be shown whole."""
    told = tell(text)
    return told if told is None or len(told) > LONG else tell(text, indent=2)


def cut(text: str | None, most: int) -> dict[str, Any] | None:
    """Return the begin of a text, and its length if there is more."""
    if text is None:
        return None
    return {"text": text} if len(text) <= most else {"text": text[:most], "length": len(text)}


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
