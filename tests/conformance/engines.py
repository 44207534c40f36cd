"""The two engines, as the tests open them: in this process, and in a child that is killed."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from durable import Engine
from durable.observer import Moment, Observer, crash, crash_at
from durable.on_dbos import DBOSEngine
from tests.conformance import world
from tests.support.processes import KILLED, Child, child, eventually

AnyEngine = Engine | DBOSEngine


class KillItself:
    """An observer that kills its process at the n-th moment of a name, whichever step's that is: `executed 2`."""

    def __init__(self, moment: str, number: int) -> None:
        self._moment, self._left = f"step.{moment}", number
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> Observer:
        """From `MOMENT NUMBER`, or from `STEP:MOMENT`."""
        moment, blank, number = text.partition(" ")
        return cls(moment, int(number)) if blank else crash_at.parse(text)

    def __call__(self, moment: Moment) -> None:
        with self._lock:
            self._left -= moment.name == self._moment
            if not self._left:
                crash()


class Lab:
    """Where the workflows of one test are kept. `name` is that of the engine."""

    def __init__(self, name: str, place: str) -> None:
        self.name, self.place = name, place

    @contextmanager
    def open(self, **options: Any) -> Iterator[AnyEngine]:
        """The engine of this process. On DBOS its executor is `one`, as that of the children."""
        with _open(self.name, self.place, **options) as engine, _interrupted_on_failure(engine):
            yield engine

    @contextmanager
    def open_beside(self, **options: Any) -> Iterator[AnyEngine]:
        """The engine of this process, while a child runs a workflow."""
        if self.name == "dbos":
            options["executor_id"] = "two"
        with _open(self.name, self.place, **options) as engine, _interrupted_on_failure(engine):
            yield engine

    def run_and_die(self, workflow_id: str, fn: Callable[..., Any], *args: Any, at: str) -> None:
        """Run a workflow in a process that kills itself at `STEP:MOMENT`."""
        with self.running(workflow_id, fn, *args, at=at) as process:
            self.expect_death(process, at)

    def expect_death(self, process: Child, at: str) -> None:
        """Wait until it has killed itself."""
        assert process.join() == KILLED, f"it did not come to {at}: {process.pipe.recv()}"

    def damage(self, text: str, other: str) -> None:
        """Change stored outcomes behind the engine's back."""
        if self.name == "sqlite":
            with closing(sqlite3.connect(self.place)) as db, db:
                changed = db.execute("update steps set output = replace(output, ?, ?)", (text, other)).rowcount
        else:
            with psycopg.connect(self.place) as db:
                sql = "update dbos.operation_outputs set output = replace(output, %s, %s)"
                changed = db.execute(sql, (text, other)).rowcount
        assert changed

    @contextmanager
    def running(self, workflow_id: str, fn: Callable[..., Any], *args: Any, at: str | None = None) -> Iterator[Child]:
        """A process that runs a workflow, for the test to kill, or to kill itself."""
        with child(_run, self.name, self.place, workflow_id, fn, args, os.environ[world.WORLD], at) as started:
            yield started


@contextmanager
def _interrupted_on_failure(engine: AnyEngine) -> Iterator[None]:
    """Let a test that has failed end: leaving an engine waits for what was started."""
    try:
        yield
    except BaseException:
        engine._backend.interrupt_started("the test has failed")
        raise


def _open(name: str, place: str, **options: Any) -> AnyEngine:
    if name == "sqlite":
        return Engine(Path(place), **options)
    return DBOSEngine(place, **{"executor_id": "one", **options})


def _run(
    pipe: Connection,
    name: str,
    place: str,
    workflow_id: str,
    fn: Callable[..., Any],
    args: Sequence[Any],
    world_path: str,
    at: str | None,
) -> Any:
    os.environ[world.WORLD] = world_path
    observers: list[Observer] = [world.note_saved, *([] if at is None else [KillItself.parse(at)])]
    with _open(name, place, observers=observers) as engine:
        return engine.run(workflow_id, fn, *args)


def leave_waiting(_: Connection, name: str, place: str, world_path: str) -> None:
    """Return while a workflow waits, and leave the engine open."""
    os.environ[world.WORLD] = world_path
    engine = _open(name, place)
    engine.start("wf", world.wait_for_go)
    eventually(lambda: engine.find_workflow("wf") is not None and engine.waits("wf"))
