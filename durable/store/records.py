"""Records: the rows of the database as frozen values for people and programs to read, and the protocol of a reader.

Knows no database.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from durable.errors import NotPublishedError, StepNotFoundError, WorkflowConflictError, WorkflowEndedError
from durable.replay.keys import program_order

R = TypeVar("R", bound=msgspec.Struct)

MAX_CRASHES = 3  # after so many runs in a row without progress, the workflow may be the cause


class WorkflowRecord(msgspec.Struct, frozen=True):
    """A row of `workflows`. `arguments`, `output` and `error` are JSON text; `epoch` numbers its latest run."""

    workflow_id: str
    function: str
    arguments: str
    status: str
    output: str | None
    error: str | None
    epoch: int
    created_at: datetime
    updated_at: datetime
    parent_id: str | None = None
    cancel_requested_at: datetime | None = None


class StepRecord(msgspec.Struct, frozen=True):
    """A row of `steps`, or of `attempts` if `superseded_by` names the run that superseded it."""

    workflow_id: str
    step_key: str
    status: str
    output: str | None
    name: str
    kind: str
    position: int
    attempt: int
    epoch: int
    fingerprint: str | None
    error: str | None
    started_at: datetime
    ended_at: datetime | None
    thread: str
    superseded_by: int | None = None

    @property
    def value(self) -> Any:
        """The output as plain JSON values; None while there is none."""
        import json

        return None if self.output is None else json.loads(self.output)


class Span(msgspec.Struct, frozen=True):
    """Steps of one run and thread that completed at their first attempt, one soon after the other, or side by side."""

    step_key: str
    epoch: int
    thread: str
    started_at: datetime
    ended_at: datetime
    count: int
    attempt: int = 1
    status: str = "completed"
    kind: str = "step"
    superseded_by: int | None = None


class Published(msgspec.Struct, frozen=True):
    """A value that a workflow has published. `number` grows in the order of those on record; `output` is JSON text."""

    number: int
    workflow_id: str
    name: str
    output: str
    at: datetime

    @property
    def value(self) -> Any:
        """The value as plain JSON values."""
        import json

        return json.loads(self.output)


class ProgressRecord(msgspec.Struct, frozen=True):
    """The progress that a running step reports, under a name; or how many calls of a map have ended, named "map".

    `output` is JSON text, `total` the number at the end, `at` the instant of the report. The key of a map is that of
    its first step. After a crash it is the last that was written, until the next run begins.
    """

    workflow_id: str
    step_key: str
    name: str
    output: str
    total: float | None
    at: datetime
    is_map: bool = False

    @property
    def value(self) -> Any:
        """The value as plain JSON values."""
        import json

        return json.loads(self.output)

    @property
    def share(self) -> float | None:
        """How much of the total is done, from 0 to 1; None without a total."""
        if not self.total or self.output == "null":  # NaN, say
            return None
        return max(0.0, min(1.0, float(self.output) / self.total))

    @property
    def text(self) -> str:
        """The name and the value for people: `rows 40 of 100 (40 %)`."""
        if self.share is None:
            return f"{self.name} {self.output}"
        return f"{self.name} {self.output} of {self.total:g} ({self.share:.0%})".replace("%)", " %)")


class WaitRecord(msgspec.Struct, frozen=True):
    """A row of `waits`: what a step waits for, a message, the end of a child or an instant, whichever comes first."""

    workflow_id: str
    step_key: str
    wake_at: datetime | None
    event: str | None
    child_id: str | None


class RunRecord(msgspec.Struct, frozen=True):
    """A row of `runs`: one life of a workflow. `ended` is None while it lives, and until the next run finds it dead.

    `reason` says why it ended, if it ended without an outcome.
    """

    workflow_id: str
    epoch: int
    pid: int
    host: str
    started_at: datetime
    ended_at: datetime | None
    ended: str | None
    reason: str | None = None


class MessageRecord(msgspec.Struct, frozen=True):
    """A row of `messages`. `number` grows in the order of sending, `value` is JSON text, `received_by` a step key."""

    number: int
    workflow_id: str
    event: str
    value: str
    message_key: str | None
    sent_at: datetime
    received_by: str | None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which workflows to read, in which order, and which part of that list. By default all, oldest first.

    `prefix` begins their ids. `function` is recorded as it stands, or follows the colon of `module:qualname`. `since`
    and `until` bound their latest change. `top_level` leaves out children. `sort` is created, updated, id, function or
    status.
    """

    prefix: str = ""
    function: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    top_level: bool = False
    sort: str = "created"
    descending: bool = False
    limit: int | None = None
    offset: int = 0

    def fits(self, record: WorkflowRecord) -> bool:
        """Return whether a workflow is one of them, by its function and the time of its latest change."""
        names = (record.function, record.function.partition(":")[2])
        return (
            (self.function is None or self.function in names)
            and (self.since is None or self.since <= record.updated_at)
            and (self.until is None or record.updated_at <= self.until)
        )


class Reader(Protocol):
    """An object that answers questions about workflows: an engine, or a reader, of a file or of DBOS.

    For an id that is not there, `workflow` and `read` raise WorkflowNotFoundError; so do the lists of an engine and of
    DBOS, while a file has no rows of it.
    """

    def workflows(self, status: str | None = None) -> list[WorkflowRecord]:
        """Return all workflows, oldest first; or those of a status."""
        ...

    def select(self, wanted: Selection) -> list[WorkflowRecord]:
        """Return the workflows of a selection, in its order."""
        ...

    def find_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """Return one workflow, or None."""
        ...

    def workflow(self, workflow_id: str) -> WorkflowRecord:
        """Return one workflow."""
        ...

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """Return the steps of a workflow as they stand, in program order."""
        ...

    def attempts(self, workflow_id: str) -> list[StepRecord]:
        """Return the attempts that a later one superseded."""
        ...

    def waits(self, workflow_id: str) -> list[WaitRecord]:
        """Return what the steps of a workflow wait for."""
        ...

    def progress(self, workflow_id: str) -> list[ProgressRecord]:
        """Return how far the running steps and maps of a workflow say that they are."""
        ...

    def read(self, workflow_id: str, name: str, *, type: Any = Any) -> Any:
        """Return the latest value that a workflow has published under a name. Raises NotPublishedError."""
        ...


def get_step(reader: Reader, workflow_id: str, step_key: str) -> StepRecord:
    """Return one step as it stands. Raises WorkflowNotFoundError and StepNotFoundError."""
    reader.workflow(workflow_id)
    steps = {step.step_key: step for step in reader.steps(workflow_id)}
    if step_key not in steps:
        raise step_not_found(workflow_id, step_key, steps)
    return steps[step_key]


def step_not_found(workflow_id: str, step_key: str, keys: Iterable[str]) -> StepNotFoundError:
    """Return the error that a workflow has no such step, with the key that was probably meant."""
    import difflib

    known = sorted(keys, key=program_order)
    close = difflib.get_close_matches(step_key, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(known[:5]) or 'none'}"
    return StepNotFoundError(
        f"workflow {workflow_id!r} has no step {step_key!r} on record{hint}",
        workflow_id=workflow_id,
        step_key=step_key,
    )


def nothing_to_cancel(workflow_id: str, status: str) -> WorkflowEndedError:
    """Return the error that a workflow has ended before it was cancelled."""
    text = f"workflow {workflow_id!r} is {status} already; there is nothing to cancel"
    return WorkflowEndedError(text, workflow_id=workflow_id, status=status)


def receives_nothing(workflow_id: str, status: str) -> WorkflowEndedError:
    """Return the error that a workflow has ended before it was sent a message."""
    text = f"workflow {workflow_id!r} is {status} and receives nothing more; send it to one that runs"
    return WorkflowEndedError(text, workflow_id=workflow_id, status=status)


def not_published(workflow_id: str, name: str) -> NotPublishedError:
    """Return the error that a workflow has published nothing of this name."""
    return NotPublishedError(f"workflow {workflow_id!r} has published no {name!r} yet; wait for it, or watch it")


def fork_is_taken(workflow_id: str, new_id: str, recorded: str) -> WorkflowConflictError:
    """Return the error that the id of a fork belongs to another workflow."""
    return WorkflowConflictError(
        f"workflow {new_id!r} is {recorded} already, and was to become a fork of {workflow_id!r}; use another workflow "
        f"id, or delete this one",
        workflow_id=new_id,
        recorded=recorded,
        called=f"a fork of {workflow_id!r}",
    )


_INSTANTS: dict[type[msgspec.Struct], list[int]] = {
    cls: [number for number, name in enumerate(cls.__struct_fields__) if name.endswith("_at") or name == "at"]
    for cls in (WorkflowRecord, StepRecord, Span, Published, ProgressRecord, WaitRecord, RunRecord, MessageRecord)
}


def in_program_order(found: Iterable[ProgressRecord]) -> list[ProgressRecord]:
    """Return progress by steps; a map counts as one."""
    named = (each if each.name else msgspec.structs.replace(each, name="map", is_map=True) for each in found)
    return sorted(named, key=lambda each: (program_order(each.step_key), each.name))


class NewProgress:
    """The progress that has changed since the last look, for those who watch a workflow."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], ProgressRecord] = {}

    def of(self, found: Iterable[ProgressRecord]) -> list[ProgressRecord]:
        """Return what is new."""
        now = {(each.step_key, each.name): each for each in found}
        new = [each for place, each in now.items() if self._seen.get(place) != each]
        self._seen = now
        return new


def columns(cls: type[msgspec.Struct]) -> str:
    """Return the fields of a record as a list of columns, in SQL."""
    return ", ".join(cls.__struct_fields__)


def from_row(cls: type[R], row: Iterable[Any]) -> R:
    """Return a row as a record. Its values are in the order of the fields, its instants are text."""
    values = list(row)
    for number in _INSTANTS[cls]:
        if number < len(values) and values[number] is not None:
            values[number] = datetime.fromisoformat(values[number])
    return cls(*values)
