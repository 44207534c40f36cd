"""The commands that act on recorded workflows: messages, cancelling, rewinding, forking, published values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer
from msgspec.structs import replace

from durable.dashboard.values import tell
from durable.engine import Engine
from durable.errors import NotPublishedError
from durable.store.records import ProgressRecord, Published, Selection
from durable.terminal.output import tables
from durable.terminal.output.usage import UsageError, command, printable, resume_command, suggest, to_json
from durable.terminal.output.waiting import describe_instant
from durable.terminal.run.progress import INTERRUPTED
from durable.terminal.run.target import import_modules
from durable.terminal.workers import fleet

if TYPE_CHECKING:
    from durable.terminal.workers.shared import Shared

LINE_EVERY = timedelta(seconds=1)


@contextmanager
def opening(database: str, modules: Sequence[str] = ()) -> Iterator[Engine]:
    """Open an existing database, to change it. Raises UsageError if there is none."""
    tables.require(database)
    with Engine(database, modules=modules) as engine:
        yield engine


def reaching(database: str | None, engine: str | None) -> AbstractContextManager[Engine | Shared]:
    """Open the workflows of a file, or those that workers share, see `tables.looking`."""
    if engine is None or database is not None:
        return opening(database or "workflow.db")
    return fleet.looking(engine)


def send(workflow_id: str, event: str, text: str, key: str | None, database: str | None, shared: str | None) -> None:
    """Run `durable send`."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise UsageError(f"VALUE {text!r} is not valid JSON ({error}); text is quoted twice, as in '\"yes\"'") from None
    with reaching(database, shared) as engine:
        if not engine.send(workflow_id, event, value, key=key):
            typer.echo(f"a message with the key {key!r} was sent to {printable(workflow_id)} before; nothing was sent")
            return
        typer.echo(f"sent {printable(event)!r} to {printable(workflow_id)}")
        awaited = [wait.event for wait in engine.waits(workflow_id) if wait.event is not None]
    if awaited and event not in awaited:
        hint = suggest(event, awaited) or f"; it waits for {', '.join(map(repr, dict.fromkeys(awaited)))}"
        typer.echo(f"note: {printable(workflow_id)} does not wait for {printable(event)!r} now{hint}", err=True)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is none")


def cancel(workflow_id: str, modules: list[str], database: str) -> None:
    """Run `durable cancel`."""
    with opening(database, import_modules(modules)) as engine:
        engine.cancel(workflow_id)  # if it has to compensate here, closing the engine waits for it
    with opening(database) as engine:
        record, owner = engine.workflow(workflow_id), engine.owner(workflow_id)
    if record.status == "running" and owner is not None:
        typer.echo(
            f"process {owner} runs {printable(workflow_id)} and cancels it: now if it waits, else after its step"
        )
    elif record.status == "running":
        resume = resume_command(tables.short_function(record.function), workflow_id, database)
        typer.echo(f"{printable(workflow_id)} is cancelled as soon as its function is there to undo: {resume}")
    else:
        typer.echo(f"{printable(workflow_id)} is {record.status}")


def rewind(workflow_id: str, to: str | None, database: str, *, failed_only: bool) -> None:
    """Run `durable rewind`."""
    if (to is None) is not failed_only:
        raise UsageError("rewind needs either --to STEP or --failed-only")
    with opening(database) as engine:
        before = len(engine.steps(workflow_id))
        engine.rewind(workflow_id, to=to, failed_only=failed_only)
        kept, record = len(engine.steps(workflow_id)), engine.workflow(workflow_id)
    place = "its failed steps" if to is None else printable(to)
    typer.echo(f"rewound {printable(workflow_id)} to {place}: {kept} kept, {before - kept} taken back")
    typer.echo(f"To go on: {resume_command(tables.short_function(record.function), workflow_id, database)}")


def collect(database: str | None, shared: str | None, *, json_wanted: bool) -> None:
    """Run `durable gc`."""
    with reaching(database, shared) as engine:
        freed = engine.gc()
    if json_wanted:
        typer.echo(to_json(freed._asdict()))
    else:
        many = "s" if freed.values != 1 else ""
        typer.echo(f"dropped {freed.values} large value{many} of {freed.bytes:,} bytes")


def delete_ended(wanted: Selection, database: str, confirm: Callable[[str], None]) -> None:
    """Run `durable delete` without an id."""
    if wanted.status not in ("completed", "failed", "cancelled"):
        raise UsageError("delete needs the ID of a workflow, or --status completed, failed or cancelled")
    with tables.reading(database) as file:
        count = sum(file.count(replace(wanted, top_level=True)).values())
    if count:
        noun = "workflow with its steps" if count == 1 else "workflows with their steps"
        confirm(f"delete {count:,} {wanted.status} {noun} and children")
    with opening(database) as engine:
        deleted = engine.delete_ended(
            wanted.status, older_than=wanted.until, function=wanted.function, prefix=wanted.prefix
        )
    typer.echo(f"deleted {deleted:,} workflow{'s' if deleted != 1 else ''}")


def fork(workflow_id: str, new_id: str, at: str, database: str) -> None:
    """Run `durable fork`."""
    with opening(database) as engine:
        engine.fork(workflow_id, new_id, at=at)
        kept, record = len(engine.steps(new_id)), engine.workflow(new_id)
    typer.echo(f"forked {printable(workflow_id)} as {printable(new_id)} at {printable(at)}: {kept} taken along")
    typer.echo(f"To go on: {resume_command(tables.short_function(record.function), new_id, database)}")


def read(workflow_id: str, name: str, database: str | None, shared: str | None, *, json_wanted: bool) -> None:
    """Run `durable read`."""
    with reaching(database, shared) as engine:
        try:
            value = engine.read(workflow_id, name)
        except NotPublishedError as error:
            published = dict.fromkeys(step.name for step in engine.steps(workflow_id) if step.kind == "publish")
            raise UsageError(f"{error}{suggest(name, published)}") from None
    try:
        typer.echo(to_json(value, indent=None if json_wanted else 2))
    except TypeError:  # it is more than JSON: a frame, say
        lines = repr(value).splitlines()
        typer.echo(to_json("\n".join(lines)) if json_wanted else "\n".join(map(printable, lines)))


def watch(workflow_id: str, database: str | None, shared: str | None, *, json_wanted: bool) -> int:
    """Run `durable watch` and return the exit code."""
    with reaching(database, shared) as engine:
        try:
            told = _Told()
            for each in engine.watch(workflow_id, progress=True):
                if json_wanted or isinstance(each, Published) or told.is_due(each):
                    typer.echo(_document(each) if json_wanted else _line(each))
        except KeyboardInterrupt:
            words, file = ("watch", workflow_id), database or "workflow.db"
            again = command(*words, database=file) if isinstance(engine, Engine) else engine.command(*words)
            typer.echo(f"\nno longer watched, it goes on; to watch again: {again}", err=True)
            return INTERRUPTED
        status = engine.workflow(workflow_id).status
    if not json_wanted:
        typer.echo(f"workflow {printable(workflow_id)} {status}")
    return 0 if status == "completed" else 1


class _Told:
    """When a line of progress was last printed, so that each step has one a second at most, and one at its total."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], datetime] = {}

    def is_due(self, each: ProgressRecord) -> bool:
        """Return whether to print this one."""
        last = self._told.get((each.step_key, each.name))
        is_due = last is None or each.share == 1 or each.at - last >= LINE_EVERY
        if is_due:
            self._told[each.step_key, each.name] = each.at
        return is_due


def _line(each: Published | ProgressRecord) -> str:
    told = (
        f"{each.name}: {tell(to_json(each.value))}" if isinstance(each, Published) else f"{each.step_key}: {each.text}"
    )
    return f"{describe_instant(each.at)}  {printable(told)}"


def _document(each: Published | ProgressRecord) -> str:
    known: dict[str, Any] = {"name": each.name, "value": each.value}
    if isinstance(each, ProgressRecord):
        known = {"step": each.step_key, **known, "total": each.total}
    return to_json({**known, "at": each.at.isoformat(timespec="microseconds")})
