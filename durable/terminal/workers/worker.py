"""`durable recover` and `durable worker`: resume workflows that dead processes left, and wake those that wait."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

import typer

from durable.engine import Engine
from durable.errors import Suspended
from durable.recovery.recover import Recovery
from durable.store.records import Selection
from durable.terminal.output import tables
from durable.terminal.output.usage import command, printable
from durable.terminal.run.progress import Progress, Screen, StopSignals, exit_code_of, stopped_by_signals
from durable.terminal.run.target import import_modules

RECOVER_SECONDS = 2.0  # how often a worker looks for workflows that other processes left


class _Told:
    """The messages about each workflow so far, so that a worker does not repeat them every few seconds."""

    def __init__(self, screen: Screen, database: str) -> None:
        self._screen, self._database = screen, database
        self._told: dict[str, str] = {}

    def tell(self, found: Recovery) -> None:
        """Print which workflows were set aside and left, if that is new."""
        for workflow_id in found.set_aside:
            look = command("steps", workflow_id, database=self._database)
            self._tell(workflow_id, f"set aside: its last runs made no progress; to look at it and go on: {look}")
        for workflow_id, reason in found.left.items():
            self._tell(workflow_id, f"left: {reason}")
        self._told = {each: words for each, words in self._told.items() if each in (*found.set_aside, *found.left)}

    def _tell(self, workflow_id: str, words: str) -> None:
        if self._told.get(workflow_id) != words:
            self._told[workflow_id] = words
            self._screen.say("STOP", f"workflow {printable(workflow_id)} {printable(words)}")


def _without_running(engine: Engine, found: Recovery, *, here: bool = False) -> Recovery:
    """Drop the workflows that were left because a process runs them; with `here`, only those that this one runs."""
    owners = {workflow_id: engine.owner(workflow_id) for workflow_id in found.left}
    left = {
        workflow_id: reason
        for workflow_id, reason in found.left.items()
        if owners[workflow_id] is None or (here and owners[workflow_id] != os.getpid())
    }
    return replace(found, left=left)


def recover(modules: list[str], database: str, max_crashes: int) -> int:
    """Run `durable recover` and return the exit code: 1 if a workflow is not resumed or has failed."""
    return _resume("recover", modules, database, lambda engine: engine.recover(max_crashes=max_crashes))


def retry(modules: list[str], database: str, wanted: Selection) -> int:
    """Run `durable retry` on a file and return the exit code: 1 if a workflow is not resumed or has failed again."""
    return _resume(
        "retry",
        modules,
        database,
        lambda engine: engine.retry(function=wanted.function, prefix=wanted.prefix, since=wanted.since),
    )


def _resume(name: str, modules: list[str], database: str, find: Callable[[Engine], Recovery]) -> int:
    names = import_modules(modules)
    tables.require(database)
    screen = Screen(sys.stdout)
    progress = Progress(screen, database)
    stopping = StopSignals(screen, progress, command(name, *modules, database=database), progress.stop)
    try:
        with (
            stopping,
            stopped_by_signals(Engine(database, suspend=True, modules=names, observers=[progress])) as engine,
        ):
            progress.engine = engine
            found = _without_running(engine, find(engine), here=True)
            _Told(screen, database).tell(found)
    except (KeyboardInterrupt, SystemExit) as interrupt:
        return exit_code_of(interrupt)
    failed = [handle.workflow_id for handle in found.resumed if _has_failed(handle)]
    typer.echo(
        f"{len(found.resumed)} resumed, of them {len(failed)} failed; {len(found.set_aside)} set aside; "
        f"{len(found.left)} left"
    )
    return 1 if failed or found.set_aside else 0


def _has_failed(handle: object) -> bool:
    """Return whether a workflow has failed. Called once its engine is closed; a waiting workflow has not failed."""
    try:
        handle.result(0)  # type: ignore[attr-defined]
    except Suspended:
        return False
    except Exception:
        return True
    return False


def work(modules: list[str], database: str, concurrency: int, max_crashes: int, retention: str | None) -> int:
    """Run `durable worker` until Ctrl+C or SIGTERM and return the exit code."""
    names = import_modules(modules)
    screen = Screen(sys.stdout)
    progress = Progress(screen, database)
    told = _Told(screen, database)
    stopping = StopSignals(screen, progress, command("worker", *modules, database=database), progress.stop)
    try:
        with (
            stopping,
            stopped_by_signals(
                Engine(
                    database,
                    suspend=True,
                    max_workflows=concurrency,
                    modules=names,
                    observers=[progress],
                    retention=retention,
                )
            ) as engine,
        ):
            progress.engine = engine
            screen.write(f"worker on {printable(database)}: up to {concurrency} workflows at once; Ctrl+C ends it")
            while True:
                told.tell(_without_running(engine, engine.recover(max_crashes=max_crashes)))
                threading.Event().wait(RECOVER_SECONDS)
    except (KeyboardInterrupt, SystemExit) as interrupt:
        screen.say("STOP", "the worker has ended; what had completed is saved.")
        return exit_code_of(interrupt)
