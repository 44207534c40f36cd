"""Many processes share one database file: every result is right, and nobody hears "database is locked"."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Engine
from tests.support import workflows
from tests.support.processes import KILLED, Child, Raised, call_in_child, child
from tests.support.selection import first_alone

PROCESSES, WORKFLOWS_EACH = 10, 4


def run_four(pipe: Connection, database: Path, number: int, at_once: bool) -> dict[str, Any]:
    """Begin when told, open the file, and run four workflows."""
    ids = [f"workflow {number}.{one}" for one in range(WORKFLOWS_EACH)]
    pipe.send("ready")
    pipe.recv()
    with Engine(database) as engine:
        if at_once:
            handles = [engine.start(workflow_id, workflows.journey, 2) for workflow_id in ids]
            return {handle.workflow_id: handle.result() for handle in handles}
        return {workflow_id: engine.run(workflow_id, workflows.journey, 2) for workflow_id in ids}


@pytest.mark.parametrize("at_once", first_alone([False, True]))
def test_ten_processes_with_four_workflows_each_share_a_new_file(database: Path, tmp_path: Path, at_once: bool) -> None:
    with Engine(tmp_path / "alone.db") as engine:
        expected = engine.run("alone", workflows.journey, 2)
        steps = [(step.step_key, step.output, step.error) for step in engine.steps("alone")]
    children = [Child(run_four, database, number, at_once) for number in range(PROCESSES)]
    try:
        for process in children:
            process.receive()
        assert not database.exists()
        for process in children:
            process.send()
        outcomes = [process.outcome() for process in children]
    finally:
        for process in children:
            process.end()

    assert [outcome for outcome in outcomes if isinstance(outcome, Raised)] == []
    results = {workflow_id: result for outcome in outcomes for workflow_id, result in outcome.items()}
    assert len(results) == PROCESSES * WORKFLOWS_EACH
    assert all(result == expected for result in results.values())
    with Engine(database) as engine:
        assert workflows.list_faults(engine.path) == []
        assert {workflow.status for workflow in engine.workflows()} == {"completed"}
        for workflow_id in results:
            found = engine.steps(workflow_id)
            assert [(step.step_key, step.output) for step in found] == [(key, output) for key, output, _ in steps]
            assert sorted(workflows.effects(database, workflow_id)) == sorted(key for key, _, _ in steps)


def open_and_close(pipe: Connection, database: Path) -> list[str]:
    pipe.send("ready")
    pipe.recv()
    with Engine(database) as engine:
        return [workflow.workflow_id for workflow in engine.workflows()]


def test_processes_that_open_a_new_file_at_the_same_instant_make_its_tables_once(tmp_path: Path) -> None:
    for number in range(5):
        database = tmp_path / f"{number}.db"
        children = [Child(open_and_close, database) for _ in range(6)]
        try:
            for process in children:
                process.receive()
            for process in children:
                process.send()
            outcomes = [process.outcome() for process in children]
        finally:
            for process in children:
                process.end()

        assert outcomes == [[]] * 6
        with closing(sqlite3.connect(database)) as db:
            assert db.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_workers_that_die_all_the_time_do_not_block_the_others(database: Path) -> None:
    # Ten processes begin, five of them are killed wherever they are; the others must end well, and then the workflows
    # of the killed ones resume in one process.
    children = [Child(run_four, database, number, True) for number in range(PROCESSES)]
    try:
        for process in children:
            process.receive()
        for process in children:
            process.send()
        codes = [process.kill() for process in children[::2]]
        outcomes = [process.outcome() for process in children[1::2]]
    finally:
        for process in children:
            process.end()

    assert KILLED in codes
    assert [outcome for outcome in outcomes if isinstance(outcome, Raised)] == []
    expected = next(iter(outcomes[0].values()))
    for number in range(0, PROCESSES, 2):
        with Engine(database) as engine:
            for one in range(WORKFLOWS_EACH):
                assert engine.run(f"workflow {number}.{one}", workflows.journey, 2) == expected
    with Engine(database) as engine:
        assert workflows.list_faults(engine.path) == []
        assert {workflow.status for workflow in engine.workflows()} == {"completed"}


def fail_to_open(_: Connection, database: Path) -> None:
    Engine(database)


def test_an_error_in_a_child_process_is_seen_by_these_tests(tmp_path: Path) -> None:
    outcome = call_in_child(fail_to_open, tmp_path)

    assert isinstance(outcome, Raised)
    assert outcome.type_name == "StoreError"


def make_files(pipe: Connection, folder: Path) -> None:
    """One new database after the other, until killed."""
    pipe.send("begun")
    for number in itertools.count():
        Engine(folder / f"{number}.db").close()


def test_a_process_killed_as_it_makes_the_file_leaves_one_that_can_be_used(tmp_path: Path) -> None:
    chance, torn = random.Random(5), 0
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        with child(make_files, folder) as process:
            process.receive()
            time.sleep(chance.uniform(0, 0.03))  # the instant of the kill, which is left to chance
            process.kill()
        for path in sorted(folder.glob("*.db"), key=lambda path: int(path.stem))[-2:]:
            torn += path.with_name(f"{path.name}-wal").exists() or not path.stat().st_size
            with Engine(path) as engine:
                assert engine.run("emp_001", workflows.errand, "a") == ["A"]
                assert workflows.list_faults(engine.path) == []
    assert torn > 2, "no kill came in the midst of it"
