"""`durable run`: one workflow, from the command line to its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

import typer

from durable.dashboard.values import tell
from durable.engine import Engine
from durable.errors import DurableError, SerializationError
from durable.observer import Observer, crash_at
from durable.recovery.names import is_name_of
from durable.signals import reason_of
from durable.store.reader import Reader
from durable.store.records import WorkflowRecord
from durable.terminal.output.failure import short_traceback
from durable.terminal.output.usage import UsageError, command, printable, resume_command, to_json
from durable.terminal.run.progress import (
    AnnouncedCrash,
    Progress,
    Screen,
    SlowDown,
    StopSignals,
    exit_code_of,
    stopped_by_signals,
    wait_for_started,
)
from durable.terminal.run.target import Target, find_target
from durable.values import codec

COMPLETED, FAILED = 0, 1
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
LINE_LENGTH = 50  # a longer result is shown indented


@dataclass(frozen=True)
class Order:
    """The arguments of `durable run`."""

    workflow: str
    workflow_id: str
    database: str
    input: str | None
    crash_at: str | None
    slow_seconds: float
    as_json: bool

    def resume_command(self) -> str:
        """Return the command that continues this workflow; its arguments are on record."""
        return resume_command(self.workflow, self.workflow_id, self.database)


def run(order: Order) -> int:
    """Run or resume the workflow, print it live and return the exit code. Raises DurableError if it could not run."""
    target = find_target(order.workflow)
    given = None if order.input is None else target.arguments(order.input)
    watch = _Watch(order)
    for point in watch.crash_points:
        point.check(target)
    try:
        with watch.stopping, stopped_by_signals(Engine(order.database, observers=watch.observers)) as engine:
            watch.progress.engine = engine
            arguments = given or _recorded_arguments(engine, order, target)
            error = _run_in(engine, order, target, arguments, watch.progress)
            record = engine.workflow(order.workflow_id)
            watch.is_final = any(step.kind == "compensation" for step in engine.steps(order.workflow_id))
    except Exception:
        raise
    except BaseException as interrupt:  # Ctrl+C, SIGTERM, or a step that called sys.exit
        return _report_interrupt(order, watch.screen, interrupt)
    return _report(order, watch, record, error)


class _Watch:
    """Everything that watches one run."""

    def __init__(self, order: Order) -> None:
        self.is_final = False  # whether it has compensated
        self.screen = Screen(sys.stderr if order.as_json else sys.stdout)
        self.progress = Progress(self.screen, order.database, order.workflow_id)
        slow = SlowDown(order.slow_seconds)
        self.crash_points = _crash_points(order, self.screen)
        self.observers: list[Observer] = [self.progress, *self.crash_points, slow]

        def stop(number: int) -> None:
            slow.stop()
            self.progress.stop(number)

        self.stopping = StopSignals(self.screen, self.progress, order.resume_command(), stop)


def _crash_points(order: Order, screen: Screen) -> list[AnnouncedCrash]:
    """Return the crash points of the option and of the environment. The engine has the latter too, but silent."""
    texts = {text: None for text in (order.crash_at, os.environ.get("DURABLE_CRASH_AT")) if text}
    try:
        return [AnnouncedCrash(crash_at.parse(text), screen, order.resume_command()) for text in texts]
    except ValueError as error:
        raise UsageError(str(error)) from None


def _run_in(engine: Engine, order: Order, target: Target, arguments: Arguments, progress: Progress) -> Exception | None:
    """Return the workflow's own error, or None. It runs in a thread of its own, so that Ctrl+C never tears a step."""
    args, kwargs = arguments
    try:
        handle = engine.start(order.workflow_id, target.fn, *args, **kwargs)
    except TypeError as error:
        if isinstance(error, DurableError):
            raise
        raise UsageError(f"{error}; give it with --input") from None
    wait_for_started(engine)
    try:
        handle.result()
    except Exception as error:
        status = engine.workflow(order.workflow_id).status
        if status not in ("failed", "cancelled") or progress.outcome != (status if progress.epoch else None):
            raise
        return error
    return None


def _recorded_arguments(engine: Engine, order: Order, target: Target) -> Arguments:
    """Return the recorded arguments, for an --input that is not given: the same short command resumes any workflow."""
    record = engine.find_workflow(order.workflow_id)
    if record is not None and is_name_of(record.function, target.fn):
        with contextlib.suppress(
            SerializationError, KeyError
        ):  # the function has changed since, as the engine will say
            subject = f"workflow {order.workflow_id!r}"
            return codec.decode_arguments(target.fn, record.arguments, subject, Reader(engine.path).get_value)
    return (), {}


# ---- the outcome


def _report(order: Order, watch: _Watch, record: WorkflowRecord, error: Exception | None) -> int:
    ran = watch.progress.epoch > 0
    for point in watch.crash_points if ran else ():
        typer.echo(f"note: {point.never_reached(list(watch.progress.names))}", err=True)
    if order.as_json:
        typer.echo(_document(order, record.status, record, already_completed=not ran))
    if error is not None:
        return _report_failure(order, watch, record, error)
    if not order.as_json:
        what = "completed" if ran else "was completed before, nothing ran; its recorded result"
        watch.screen.write(f"workflow {printable(order.workflow_id)} {what}: {readable(record.output)}")
    return COMPLETED


def _report_failure(order: Order, watch: _Watch, record: WorkflowRecord, error: Exception) -> int:
    workflow_id, screen = printable(order.workflow_id), watch.screen
    if record.status == "cancelled":
        what = "was cancelled" if watch.progress.epoch else "was cancelled before, nothing ran"
        screen.say("STOP", f"workflow {workflow_id} {what}; what was to be undone is undone.")
        notes = getattr(error, "__notes__", [])
        for note in notes:
            screen.write(f"       {printable(note)}")
        return FAILED
    typer.echo(short_traceback(error), err=True)
    if watch.is_final:
        screen.say("FAIL", f"workflow {workflow_id} failed, and what was to be undone is undone: it is final.")
        back = command("rewind", order.workflow_id, database=order.database)
        screen.write(f"       To go back to a step: {back} --to STEP")
    else:
        screen.say("FAIL", f"workflow {workflow_id} failed; completed steps are kept.")
        screen.write(f"       To try the failed step anew: {order.resume_command()}")
    return FAILED


def _report_interrupt(order: Order, screen: Screen, interrupt: BaseException) -> int:
    reason = reason_of(interrupt)
    named = reason if reason.startswith("SIG") else f"{reason}({interrupt})"
    cause = "" if isinstance(interrupt, KeyboardInterrupt) else f" by {named}"
    screen.say("STOP", f"workflow {printable(order.workflow_id)} interrupted{cause}; what had completed is saved.")
    screen.write(f"       To go on: {order.resume_command()}")
    if order.as_json:
        typer.echo(_document(order, "interrupted", None, already_completed=False))
    return exit_code_of(interrupt)


def readable(output: str | None) -> str:
    """Return a recorded value as JSON on one line if it fits, else indented."""
    text = output or "null"
    if (told := tell(text)) != text:
        return printable(told)
    value = json.loads(text)
    line = to_json(value)
    return line if len(line) <= LINE_LENGTH else to_json(value, indent=2)


def _document(order: Order, status: str, record: WorkflowRecord | None, *, already_completed: bool) -> str:
    error = json.loads(record.error) if record and record.error else None
    return to_json(
        {
            "workflow_id": order.workflow_id,
            "status": status,
            "already_completed": already_completed,
            "run": record.epoch if record else None,
            "output": json.loads(record.output) if record and record.output else None,
            "error": {"type": error["type"], "message": error["message"]} if error else None,
        }
    )
