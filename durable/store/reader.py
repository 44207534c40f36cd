"""Reader: what is stored in one file, for people and programs to look at. It changes nothing.

The engine looks through the connection that it has open. The lab and the terminal open the file for reading only, so
that looking never makes a file and never delays a run. On DBOS, `durable.on_dbos.store.reader` answers the same.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from durable.errors import WorkflowNotFoundError
from durable.replay.keys import program_order
from durable.replay.log import Checkpoint
from durable.store import export
from durable.store.database.connection import Connection
from durable.store.ownership.owner import find_owner
from durable.store.records import (
    MAX_CRASHES,
    MessageRecord,
    NewProgress,
    ProgressRecord,
    Published,
    RunRecord,
    Selection,
    Span,
    StepRecord,
    WaitRecord,
    WorkflowRecord,
    columns,
    from_row,
    in_program_order,
    not_published,
)
from durable.store.rows import large, outline
from durable.store.rows.pages import ROW
from durable.store.rows.steps import PROGRESS
from durable.store.rows.workflows import WORKFLOW, find_workflow, has_got_nowhere
from durable.values.codec import PICKLE_MARK, checksum, codec_of

MANY = 1000  # only as many of the latest ids are searched for the one that was probably meant
_ORDERS = {"created": "rowid", "updated": "updated_at", "id": "id", "function": "function", "status": "status"}
_MESSAGE = columns(MessageRecord).replace("number", "id", 1)
_PICKLED = "union ".join(
    f"select {workflow_id}, {what} from {table} where {value} like '%{PICKLE_MARK}%' "
    for workflow_id, what, table, value in (
        ("workflow_id", "step_key", "steps", "output"),
        ("workflow_id", "step_key", "attempts", "output"),
        ("workflow_id", "'message ' || event", "messages", "value"),
        ("id", "'its arguments'", "workflows", "arguments"),
        ("id", "'its result'", "workflows", "output"),
    )
)
_PUBLISHED = (
    "select rowid, workflow_id, name, output, ended_at, epoch from steps where workflow_id = ? and kind = 'publish'"
)


class Reader:
    """The workflows of one file as they stand. Safe to use from any thread of the process that opened it.

    Raises StoreError, CorruptionError or SchemaVersionError for a file that is missing or cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], connection: Connection | None = None) -> None:
        """Open the file for reading only, or look through a connection to it, which stays open when this is closed."""
        self.path = Path(path).resolve()
        self.name = self.path.name
        self._connection = connection or Connection(self.path, read_only=True)
        self._owns_connection = connection is None
        self._read = self._connection.read

    # ---- workflows

    def workflows(self, status: str | None = None) -> list[WorkflowRecord]:
        """Return all workflows, oldest first; or those of a status: running, completed, failed or cancelled."""
        rows = self._read(
            f"select {WORKFLOW} from workflows where status = coalesce(?, status) order by created_at, id", (status,)
        )
        return [from_row(WorkflowRecord, row) for row in rows]

    def select(self, wanted: Selection) -> list[WorkflowRecord]:
        """Return the workflows of a selection, in its order. Equal ones are in the order of their creation."""
        way = "desc" if wanted.descending else "asc"
        order = f"order by {_ORDERS[wanted.sort]} {way}, rowid {way}"
        selected, parameters = _selected(wanted)
        part = f"select rowid {selected} {order} limit ? offset ?"  # it sorts no values, which may be large
        rows = self._read(
            f"select {WORKFLOW} from workflows where rowid in ({part}) {order}",
            (*parameters, -1 if wanted.limit is None else wanted.limit, wanted.offset),
        )
        return [from_row(WorkflowRecord, row) for row in rows]

    def count(self, wanted: Selection) -> dict[str, int]:
        """Return how many workflows of a selection there are by status, without its limit and offset."""
        selected, parameters = _selected(wanted)
        return dict(self._read(f"select status, count(*) {selected} group by status", parameters))

    def list_functions(self) -> list[str]:
        """Return the functions of all workflows, as they are recorded, in alphabetical order."""
        return [row[0] for row in self._read("select distinct function from workflows order by function")]

    def find_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """Return one workflow, or None. Raises CorruptionError if its row does not match its checksum."""
        return find_workflow(self._connection, workflow_id)

    def workflow(self, workflow_id: str) -> WorkflowRecord:
        """Return one workflow. Raises WorkflowNotFoundError, and CorruptionError as `find_workflow` does."""
        record = self.find_workflow(workflow_id)
        if record is None:
            raise self.not_found(workflow_id)
        return record

    def has_workflow(self, workflow_id: str) -> bool:
        """Return whether there is a row of this id, intact or not."""
        return bool(self._read("select 1 from workflows where id = ?", (workflow_id,)))

    def not_found(self, workflow_id: str) -> WorkflowNotFoundError:
        """Return the error that there is no such workflow, with the id that was probably meant."""
        ids = [row[0] for row in self._read("select id from workflows order by rowid desc limit ?", (MANY,))]
        close = difflib.get_close_matches(workflow_id, ids, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f" in {str(self.path)!r}"
        return WorkflowNotFoundError(f"no workflow {workflow_id!r}{hint}", workflow_id=workflow_id)

    # ---- one workflow; an id that is not there has no rows

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """Return the steps of a workflow as they stand, in program order."""
        return outline.in_order(self._read(f"select {outline.STEP} from steps where workflow_id = ?", (workflow_id,)))

    def count_steps(self, workflow_id: str) -> int:
        """Return how many steps a workflow has."""
        return outline.count_steps(self._read, workflow_id)

    def page_of_steps(self, workflow_id: str, first: int, size: int) -> list[StepRecord]:
        """Return so many steps of a workflow in program order, from a place on."""
        return outline.list_page(self._read, workflow_id, first, size)

    def outline(self, workflow_id: str) -> tuple[list[StepRecord], list[Span]]:
        """Return the steps that did not just run and complete; and the others, as spans of about a hundredth of it."""
        return outline.list_notable(self._read, workflow_id), outline.list_spans(self._read, workflow_id)

    def attempts(self, workflow_id: str) -> list[StepRecord]:
        """Return the superseded attempts of a workflow, in program order, the older first."""
        rows = self._read(f"select {columns(StepRecord)} from attempts where workflow_id = ?", (workflow_id,))
        steps = [from_row(StepRecord, row) for row in rows]
        return sorted(steps, key=lambda step: (program_order(step.step_key), step.attempt))

    def waits(self, workflow_id: str) -> list[WaitRecord]:
        """Return what the steps of a workflow wait for, in program order."""
        rows = self._read(f"select {columns(WaitRecord)} from waits where workflow_id = ?", (workflow_id,))
        return sorted((from_row(WaitRecord, row) for row in rows), key=lambda wait: program_order(wait.step_key))

    def progress(self, workflow_id: str) -> list[ProgressRecord]:
        """Return how far the running steps and maps of a workflow say that they are, in program order."""
        return in_program_order(from_row(ProgressRecord, row) for row in self._read(PROGRESS, (workflow_id,)))

    def messages(self, workflow_id: str) -> list[MessageRecord]:
        """Return the messages to a workflow, received or not, in the order of sending."""
        rows = self._read(f"select {_MESSAGE} from messages where workflow_id = ? order by id", (workflow_id,))
        return [from_row(MessageRecord, row) for row in rows]

    def children(self, workflow_id: str) -> list[WorkflowRecord]:
        """Return the workflows that a workflow has called, in the order of their creation."""
        rows = self._read(f"select {WORKFLOW} from workflows where parent_id = ? order by rowid", (workflow_id,))
        return [from_row(WorkflowRecord, row) for row in rows]

    def runs(self, workflow_id: str) -> list[RunRecord]:
        """Return the runs of a workflow, oldest first."""
        rows = self._read(f"select {columns(RunRecord)} from runs where workflow_id = ? order by epoch", (workflow_id,))
        return [from_row(RunRecord, row) for row in rows]

    def owner(self, workflow_id: str) -> int | None:
        """Return the pid of the process that runs a workflow now, or None."""
        return find_owner(self.path, workflow_id)

    def is_set_aside(self, workflow_id: str) -> bool:
        """Return whether `recover` does not resume it until a caller has run it. For one that no process runs."""
        return has_got_nowhere(self._connection, workflow_id, MAX_CRASHES)

    def state(self, record: WorkflowRecord) -> str:
        """Return the status: `running` if a process runs it, else `crashed`, `interrupted`, `stopped` or `suspended`.

        A workflow that was rewound or forked, and has not run since, is `rewound` or `forked`. One that made no
        progress in its last runs is `set aside`.
        """
        if record.status != "running" or self.owner(record.workflow_id) is not None:
            return record.status
        if self.is_set_aside(record.workflow_id):
            return "set aside"
        runs = self.runs(record.workflow_id)
        if not runs:
            return "forked"
        return (runs[-1].ended or "crashed") if runs[-1].epoch == record.epoch else "rewound"

    def read(self, workflow_id: str, name: str, *, type: Any = Any) -> Any:
        """Return the latest value that a workflow has published under a name, decoded as `type`.

        Raises WorkflowNotFoundError, NotPublishedError while there is none, SerializationError if it does not fit.
        """
        self.workflow(workflow_id)
        rows = self._read(f"{_PUBLISHED} and name = ? order by rowid desc limit 1", (workflow_id, name))
        if not rows:
            raise not_published(workflow_id, name)
        subject = f"workflow {workflow_id!r}: its published {name!r}"
        return codec_of(type, subject).decode(from_row(Published, rows[0][:-1]).output, subject, self.get_value)

    def watch(
        self, workflow_id: str, wait_for_change: Callable[[], object], *, progress: bool = False
    ) -> Iterator[Published | ProgressRecord]:
        """Yield what a workflow has published and goes on to publish, until it ends. Raises WorkflowNotFoundError."""
        seen, new = (0, 0), NewProgress()
        while True:
            has_ended = self.workflow(workflow_id).status != "running"
            for epoch, each in self.published(workflow_id, seen):
                seen = max(seen, (epoch, each.number))
                yield each
            yield from new.of(self.progress(workflow_id)) if progress else ()
            if has_ended:
                return
            wait_for_change()

    def published(self, workflow_id: str, after: tuple[int, int] = (0, 0)) -> list[tuple[int, Published]]:
        """Return what a workflow has published after a run and a number, in order, each with the epoch of its run.

        The number alone is not enough: SQLite reuses the numbers of rows that a rewind has taken back.
        """
        rows = self._read(f"{_PUBLISHED} and (epoch, rowid) > (?, ?) order by rowid", (workflow_id, *after))
        return [(row[-1], from_row(Published, row[:-1])) for row in rows]

    # ---- the file

    def count_runs(self, workflow_ids: Iterable[str]) -> dict[str, int]:
        """Return how many runs each of the workflows has had."""
        sql = "select value, (select count(*) from runs where workflow_id = value) from json_each(?)"
        return dict(self._read(sql, (msgspec.json.encode(list(workflow_ids)).decode(),)))

    def check_integrity(self) -> list[str]:
        """Return the faults that SQLite and our checksums find in the file; an empty list if there are none."""
        found = [row[0] for row in self._read("pragma integrity_check") if row[0] != "ok"]
        for workflow_id, *row in self._read(f"select workflow_id, {ROW} from steps"):
            if not Checkpoint.of(row).is_intact():
                found.append(f"workflow {workflow_id!r}: the outcome of step {row[0]!r} does not match its checksum")
        for workflow_id, *values, stored in self._read("select id, arguments, output, error, checksum from workflows"):
            if stored != checksum(*values):
                found.append(f"workflow {workflow_id!r}: its arguments or outcome do not match their checksum")
        return [*found, *large.check_values(self._connection)]

    def list_pickled(self) -> list[tuple[str, str]]:
        """Return the rows with a value that was saved by pickle: the workflow, and the step key or what it is of it."""
        return [(row[0], row[1]) for row in self._read(_PICKLED)]

    def list_unused_values(self) -> list[tuple[str, int]]:
        """Return the large values that no row names, and that no living run is about to save, each with its bytes."""
        return large.list_unused(self._connection)

    def get_value(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """Return the head and the buffers of a large value. Raises CorruptionError, see `LargeValues`."""
        return large.FileValues(self._connection).get(sha256, subject)

    def list_ids(self, status: str | None = None) -> Iterator[str]:
        """Yield the ids of all workflows, or of those of a status, in the order in which they were made."""
        return export.list_ids(self._connection, status)

    def export(self, workflow_id: str) -> Iterator[str]:
        """Yield one workflow as it stands at one instant, in pieces that make one line of JSON, see `export.py`."""
        return export.export(self._connection, workflow_id)

    def close(self) -> None:
        """Close the file, if this has opened it. May be called twice."""
        if self._owns_connection:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _selected(wanted: Selection) -> tuple[str, tuple[Any, ...]]:
    """Return `from` and the conditions of a selection, in SQL, and their parameters.

    Each condition takes time for each row, 100,000 of them a fifth of a second if all are there.
    """
    conditions: list[tuple[str, tuple[Any, ...]]] = []
    if wanted.prefix:
        conditions.append(("substr(id, 1, length(?)) = ?", (wanted.prefix,) * 2))
    if wanted.status is not None:
        conditions.append(("status = ?", (wanted.status,)))
    if wanted.function is not None:
        conditions.append(("(function = ? or substr(function, -length(?) - 1) = ':' || ?)", (wanted.function,) * 3))
    if wanted.since is not None:
        conditions.append(("updated_at >= ?", (_instant(wanted.since),)))
    if wanted.until is not None:
        conditions.append(("updated_at <= ?", (_instant(wanted.until),)))
    if wanted.top_level:
        conditions.append(("parent_id is null", ()))
    where = " and ".join(sql for sql, _ in conditions) or "true"
    return f"from workflows where {where}", tuple(value for _, values in conditions for value in values)


def _instant(at: datetime) -> str:
    """Return an instant as it is stored."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
