"""The two engines, as the tests open them: in this process, and in a child that is killed; and the log in memory."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg

from durable import Engine
from durable.observer import Moment, Observer, crash, crash_at
from durable.on_dbos import DBOSEngine
from durable.replay import program_order
from durable.replay.log import Checkpoint
from durable.testing.memory import Memory
from tests.conformance import world
from tests.support.memory import run as memory_run
from tests.support.processes import KILLED, Child, child, eventually

AnyEngine = Engine | DBOSEngine
F = TypeVar("F", bound=Callable[..., Any])


def also_in_memory(test: F) -> F:
    """Have a test run on the log in memory, too: what it asks needs the replay rule alone."""
    test.is_also_in_memory = True  # type: ignore[attr-defined]
    return test


class InMemory:
    """The replay rule over the log in memory, with as much of an engine as the tests of the rule need."""

    def __init__(self, memories: dict[str, Memory], observers: Sequence[Observer] = ()) -> None:
        self._memories, self._observers = memories, observers

    def run(self, workflow_id: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Run a workflow here, on what is on record."""
        memory = self._memories.setdefault(workflow_id, Memory())
        return memory_run(fn, *args, memory=memory, observers=self._observers, workflow_id=workflow_id)

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """The steps, in program order."""
        steps = self._memories[workflow_id].steps
        return [_record(steps[key]) for key in sorted(steps, key=program_order)]

    def attempts(self, workflow_id: str) -> list[StepRecord]:
        """The tries that a later one superseded."""
        return [_record(step) for step in self._memories[workflow_id].attempts]


class StepRecord(NamedTuple):
    """A row, as far as the tests look at it."""

    step_key: str
    status: str
    attempt: int
    value: Any


def _record(step: Checkpoint) -> StepRecord:
    return StepRecord(step.step_key, step.status, step.attempt, json.loads(step.output or "null"))


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
        self._memories: dict[str, Memory] = {}

    @contextmanager
    def open(self, **options: Any) -> Iterator[Any]:
        """The engine of this process. On DBOS its executor is `one`, as that of the children."""
        if self.name == "memory":
            yield InMemory(self._memories, **options)
            return
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
        if self.name == "memory":
            changed = 0
            for memory in self._memories.values():
                for key, step in memory.steps.items():
                    changed += text in (step.output or "")
                    memory.steps[key] = step._replace(output=step.output and step.output.replace(text, other))
        elif self.name == "sqlite":
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


def leave_before_it_waits(_: Connection, name: str, place: str, world_path: str) -> None:
    """Return once a workflow has begun that waits only after that, and leave the engine open."""
    os.environ[world.WORLD] = world_path
    engine = _open(name, place)
    engine.start("wf", world.wait_once_the_process_ends)
    eventually(lambda: engine.find_workflow("wf"))
