"""The rows of a database for the terminal: rich tables for people, plain values for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import typer
from msgspec.structs import replace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table
from rich.text import Text

from durable.dashboard.values import Part, look, tell, tell_parts
from durable.errors import WorkflowNotFoundError
from durable.replay.keys import program_order
from durable.store.reader import Reader
from durable.store.records import Selection, StepRecord, WaitRecord, WorkflowRecord, get_step
from durable.terminal.output.failure import describe_error
from durable.terminal.output.usage import UsageError, printable, resume_command, suggest, to_json
from durable.terminal.output.waiting import describe_wait
from durable.values.instants import duration_of

if TYPE_CHECKING:
    from durable.terminal.workers.shared import Shared

    Records: TypeAlias = "File | Shared"

Owner = int | str | None  # a process, a worker, or none
STATUSES = ("running", "completed", "failed", "cancelled")
STYLES = {"completed": "green", "failed": "red", "running": "cyan", "crashed": "yellow", "zombie": "yellow"}
STYLES |= {"waiting": "blue", "suspended": "blue"}
LIST_LIMIT = 100
RESULT_WIDTH, WIDEST = 12, 10_000  # letters: the least width of the last column, and more than any line takes


def make_console() -> Console:
    """Return a console that shows text as it is: no markup, no guessed colours."""
    return Console(highlight=False, markup=False, emoji=False)


def require(database: str) -> Path:
    """Return the path of an existing database. Raises UsageError if there is none: looking must not make one."""
    path = Path(database).resolve()
    if not path.exists():
        raise UsageError(f"there is no database {database!r}; `durable run` makes one, --db names another")
    return path


class File(Reader):
    """A file, for one look at it."""

    def __init__(self, database: str) -> None:
        """Open the file. Raises UsageError if there is none."""
        super().__init__(require(database))
        self._database = database

    def describe(self, record: WorkflowRecord) -> str:
        """Describe the state and the number of runs in words."""
        owner = self.owner(record.workflow_id)
        count = len(self.runs(record.workflow_id))
        stands = self.state(record) if owner is None else f"running in process {owner}"
        return f"{stands}, {count} run{'s' if count != 1 else ''}"

    def tell_last_end(self, record: WorkflowRecord) -> str | None:
        """Say why the last run was interrupted or stopped; return None if it was not."""
        if self.state(record) not in ("interrupted", "stopped", "set aside"):
            return None
        last = self.runs(record.workflow_id)[-1]
        if last.ended not in ("interrupted", "stopped"):
            return None
        return f"run {last.epoch} {last.ended}: {printable(last.reason or 'no reason on record')}"

    def advise(self, record: WorkflowRecord) -> str | None:
        """Say how to continue, or return None."""
        if self.owner(record.workflow_id) is not None or record.status in ("completed", "cancelled"):
            return None
        return f"To go on: {resume_command(short_function(record.function), record.workflow_id, self._database)}"


def reading(database: str) -> File:
    """Open an existing database, for a `with` statement."""
    return File(database)


def looking(database: str | None, engine: str | None) -> AbstractContextManager[Records]:
    """Open a file, or the workflows that workers share. A named file counts, whatever the environment says."""
    if engine is None or database is not None:
        return reading(database or "workflow.db")
    from durable.terminal.workers import fleet

    return fleet.looking(engine)


def get_workflow(records: Records, workflow_id: str) -> WorkflowRecord:
    """Return the row of a workflow. Raises WorkflowNotFoundError, with the id that was probably meant."""
    record = records.find_workflow(workflow_id)
    if record is None:
        hint = suggest(workflow_id, [record.workflow_id for record in records.workflows()])
        raise WorkflowNotFoundError(f"no workflow {workflow_id!r} in {records.name!r}{hint}", workflow_id=workflow_id)
    return record


# ---- the meaning of a status


def is_zombie(step: StepRecord, owner: Owner, wait: WaitRecord | None = None) -> bool:
    """Return whether a step's row says `running` and no process runs it. A step that waits is no zombie."""
    return step.status == "running" and wait is None and (owner is None or step.superseded_by is not None)


def describe_outcome(output: str | None, error: str | None) -> str:
    """Return an output or an error in one line."""
    return printable(describe_error(error) if error else tell(output or ""))


# ---- for people


def steps_table(
    steps: Iterable[StepRecord],
    owner: Owner,
    notes: dict[str, str] | None = None,
    waits: dict[str, WaitRecord] | None = None,
) -> Table:
    """Return a table with one line per step. `notes` adds a column by step key; other kinds than steps add one too."""
    steps = list(steps)
    has_kinds = any(step.kind != "step" for step in steps)
    further = (*(["kind"] if has_kinds else []), "status", "attempt", *(["in this run"] if notes is not None else []))
    table = _table("step", *further, "result")
    for step in steps:
        wait = (waits or {}).get(step.step_key) if step.superseded_by is None else None
        cells: list[str | Text] = [printable(step.step_key), *([step.kind] if has_kinds else [])]
        cells += [_status_of_step(step, owner, wait), str(step.attempt)]
        if notes is not None:
            cells.append(notes.get(step.step_key, ""))
        outcome = describe_outcome(step.output, step.error)
        if wait is not None:  # not cut: its end says until when
            cells.append(f"{describe_wait(wait, short=True)}{', after ' if outcome else ''}{outcome}")
        else:
            cells.append(_cut(outcome))
        table.add_row(*cells)
    return table


def _status_of_step(step: StepRecord, owner: Owner, wait: WaitRecord | None) -> Text:
    if wait is not None:
        return Text("waiting", STYLES["waiting"])
    zombie = is_zombie(step, owner)
    return Text("running (zombie)" if zombie else step.status, STYLES["zombie" if zombie else step.status])


def workflows_table(records: Records, workflows: Iterable[WorkflowRecord]) -> Table:
    """Return a table with one line per workflow, oldest first. The number of runs is there if it is on record."""
    workflows = list(workflows)
    runs = records.count_runs([record.workflow_id for record in workflows])
    table = _table("workflow", "status", *(["runs"] if runs is not None else []), "updated (UTC)", "function", "result")
    for record in workflows:
        status = records.state(record)
        may_wait = record.status == "running" and status != "queued"  # there are many of these
        waits = records.waits(record.workflow_id) if may_wait else []
        waiting = "; ".join(describe_wait(wait, short=True) for wait in waits)
        table.add_row(
            printable(record.workflow_id),
            Text(status, STYLES.get(status, "yellow")),
            *([str(runs.get(record.workflow_id, 0))] if runs is not None else []),
            f"{record.updated_at:%Y-%m-%d %H:%M}",
            printable(short_function(record.function)),
            waiting or _cut(describe_outcome(record.output, record.error)),
        )
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table. If the terminal is narrow, the last column is cut; the others, such as ids, are shown in full.

    If the terminal is too narrow for that, or there is none, the lines are longer.
    """
    wide = console.options.update_width(WIDEST)
    columns = [[column.header, *column.cells] for column in table.columns[:-1]]
    taken = sum(measure_renderables(console, wide, cells).maximum + 3 for cells in columns)  # 3 between two columns
    console.width = max(console.width, taken + RESULT_WIDTH)
    console.print(table)


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in ("attempt", "runs") else "left", no_wrap=name != names[-1])
    return table


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def short_function(function: str) -> str:
    """Return a recorded function as `durable run` takes it: an example by its name alone."""
    module, _, name = function.partition(":")
    return name if module == f"durable.examples.{name}" else function


# ---- for programs


def as_json(value: Any) -> str:
    """Return indented JSON, with instants in ISO 8601."""
    return to_json(value, indent=2, default=_instant)


def step_values(step: StepRecord, owner: Owner, wait: WaitRecord | None) -> dict[str, Any]:
    """Return a row with its values decoded, its wait, and whether it is a zombie."""
    values = _decoded(msgspec.structs.asdict(step))
    waits_for = None if wait is None else {"until": wait.wake_at, "event": wait.event, "child_id": wait.child_id}
    return values | {"zombie": is_zombie(step, owner, wait), "waits_for": waits_for}


def workflow_values(records: Records, record: WorkflowRecord) -> dict[str, Any]:
    """Return a row with its values decoded, and the pid of the process that runs it, or its worker."""
    values = _decoded(msgspec.structs.asdict(record))
    values["arguments"] = json.loads(record.arguments)
    return values | {"owner": records.owner(record.workflow_id), "state": records.state(record)}


def _decoded(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("output", "error"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return values


def _instant(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    raise TypeError(f"{type(value).__name__} has no JSON form")


# ---- the commands


def show_steps(records: Records, workflow_id: str, *, attempts: bool, json_wanted: bool) -> None:
    """Run `durable steps`."""
    record = get_workflow(records, workflow_id)
    owner = records.owner(workflow_id)
    steps = records.steps(workflow_id)
    if attempts:
        steps = sorted(
            [*records.attempts(workflow_id), *steps], key=lambda step: (program_order(step.step_key), step.attempt)
        )
    waits = {wait.step_key: wait for wait in records.waits(workflow_id)}
    if json_wanted:
        typer.echo(as_json([step_values(step, owner, waits.get(step.step_key)) for step in steps]))
        return
    console = make_console()
    print_table(console, steps_table(steps, owner, waits=waits))
    for line in _about(records, record, [step for step in steps if step.step_key not in waits], owner):
        console.print(line, soft_wrap=True)


def show_value(records: Records, workflow_id: str, step_key: str, *, json_wanted: bool) -> None:
    """Run `durable steps --value`. For programs, the value is shown as it is stored."""
    get_workflow(records, workflow_id)
    step, subject = get_step(records, workflow_id, step_key), f"step {step_key!r} of {workflow_id!r}"
    if step.output is None:
        raise UsageError(f"{subject} is {step.status} and has no value")
    if json_wanted:
        typer.echo(as_json(step.value))
        return
    console = make_console()
    parts = look(step.output, records.get_value and partial(records.get_value, subject=subject))
    if [part.place for part in parts] != ["$"]:
        console.print(as_json(tell_parts(step.value)), soft_wrap=True)
    for part in parts:
        _print_part(console, part)


def _print_part(console: Console, part: Part) -> None:
    console.print(printable(part.words if part.place == "$" else f"{part.place}: {part.words}"), soft_wrap=True)
    if part.table is None:
        console.print("\n".join(map(printable, part.text.splitlines())), soft_wrap=True)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, kind in zip(part.table.columns, part.table.types, strict=True):
        table.add_column(f"{printable(name)}\n{printable(kind)}", justify="right", no_wrap=True)
    for row in part.table.rows:
        table.add_row(*map(printable, row))
    print_table(console, table)


def _about(records: Records, record: WorkflowRecord, steps: list[StepRecord], owner: Owner) -> Iterator[str]:
    """Yield lines for what the table does not show: the state of the workflow, and how to continue."""
    yield f"workflow {printable(record.workflow_id)}: {records.describe(record)}"
    if (end := records.tell_last_end(record)) is not None:
        yield end
    if owner is None and any(is_zombie(step, owner) and step.superseded_by is None for step in steps):
        yield "A zombie step was begun and not saved: its effect may have happened. The next run tries it again."
    if (advice := records.advise(record)) is not None:
        yield advice


def selection(
    status: str | None, function: str | None, prefix: str, *, since: str | None = None, older_than: str | None = None
) -> Selection:
    """Return the workflows that the options of a command name. Raises UsageError."""
    if status is not None and status not in STATUSES:
        raise UsageError(f"--status {status}: expected {', '.join(STATUSES)}{suggest(status, STATUSES)}")
    return Selection(
        status=status,
        function=function,
        prefix=prefix,
        since=_ago(since),
        until=_ago(older_than),
    )


def _ago(duration: str | None) -> datetime | None:
    return None if duration is None else datetime.now(UTC) - duration_of(duration, "time")


def show_workflows(records: Records, wanted: Selection, *, limit: int | None, json_wanted: bool) -> None:
    """Run `durable list`. Without a limit, people see the latest hundred, and programs all."""
    most = limit if limit is not None or json_wanted else LIST_LIMIT
    one_more = most + 1 if most else None
    found = records.select(replace(wanted, descending=True, limit=one_more))[::-1]
    workflows = found[-most:] if most else found
    if json_wanted:
        typer.echo(as_json([workflow_values(records, record) for record in workflows]))
    elif workflows:
        console = make_console()
        print_table(console, workflows_table(records, workflows))
        for record in workflows:
            if records.state(record) == "set aside" and (advice := records.advise(record)) is not None:
                console.print(f"{printable(record.workflow_id)} is set aside. {advice}", soft_wrap=True)
        if len(workflows) < len(found):
            older = f"--offset {wanted.offset + len(workflows)} shows older ones"
            console.print(f"{len(workflows)} workflows; {older}, --limit 0 all", soft_wrap=True)
    else:
        typer.echo(f"no workflows{f' that are {wanted.status}' if wanted.status else ''}")
