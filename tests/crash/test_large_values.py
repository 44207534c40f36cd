"""A process dies while it saves a large value: no row is without its value, none is lost, and gc drops the rest."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from durable import Engine
from durable.observer import Moment, crash, crash_at
from durable.store.reader import Reader
from durable.testing import Plan
from durable.testing import crash_matrix as from_the_package
from tests.crash.test_mutants import on_linux_with_cc, power_cut
from tests.support.large import crate, crate_beside_copying, result_of
from tests.support.processes import KILLED, child, crash_in_child
from tests.support.selection import thorough

__all__ = ["power_cut"]

PARTS = {"load": 3, "again": 3, "scraps": 2}
MOMENTS = [
    *[(name, "part_stored", number + 1) for name, count in PARTS.items() for number in range(count)],
    *[(name, moment, 1) for name in PARTS for moment in ("started", "executed", "checkpointed")],
]
ALWAYS = (1, 3, 7, 10)  # those that the ordinary selection has


class AtPart:
    """An observer that kills its process when a step has reached a moment so many times."""

    def __init__(self, name: str, moment: str, times: int) -> None:
        self._name, self._moment, self._left = name, f"step.{moment}", times

    def __call__(self, moment: Moment) -> None:
        if (moment.step_name, moment.name) == (self._name, self._moment):
            self._left -= 1
            if not self._left:
                crash()


def run(pipe: Connection, path: Path, megabytes: float, at: tuple[str, str, int] | None = None) -> float:
    """Run the workflow, up to a moment if one is given. Return how long it took."""
    with Engine(path, observers=[] if at is None else [AtPart(*at)]) as engine:
        pipe.send("opened")
        begin = time.perf_counter()
        assert engine.run("wf", crate, megabytes) == result_of(megabytes)
        return time.perf_counter() - begin


def judge(path: Path, megabytes: float = 2.5) -> None:
    """Check what a dead process has left; then resume it, and check that nothing else is left in the end."""
    with Reader(path) as reader:
        assert reader.check_integrity() == []
        for step in reader.steps("wf"):
            if isinstance(step.value, dict):
                _, buffers = reader.get_value(step.value["$value"])
                assert sum(map(len, buffers)) == step.value["bytes"]
    named = {json.loads(text)["$value"] for text in query(path, "select output from steps where output like '{%'")}
    with Engine(path) as engine:
        engine.gc()
        assert set(query(path, "select sha256 from large_values")) == named
        assert set(query(path, "select distinct sha256 from value_parts")) == named
        assert set(query(path, "select distinct sha256 from value_uses")) == named
        assert engine.run("wf", crate, megabytes) == result_of(megabytes)
        assert engine.gc() == (0, 0)
    with Reader(path) as reader:
        assert reader.check_integrity() == reader.list_unused_values() == []
    assert query(path, "select count(*) from large_values") == [2]
    assert query(path, "select count(*) from value_uses") == [3]


def query(path: Path, sql: str) -> list[object]:
    with closing(sqlite3.connect(path)) as db:
        return [value for (value,) in db.execute(sql)]


@pytest.mark.parametrize("number", [each if each in ALWAYS else thorough(each) for each in range(len(MOMENTS))])
def test_a_kill_at_each_moment_of_saving_a_value_of_many_parts(tmp_path: Path, number: int) -> None:
    path = tmp_path / "workflow.db"
    crash_in_child(run, path, 2.5, MOMENTS[number])
    judge(path)


def crash_as_the_environment_says(_: Connection, path: Path) -> None:
    import os

    os.environ["DURABLE_CRASH_AT"] = "load:part_stored"
    with Engine(path) as engine:
        engine.run("wf", crate)


def test_the_environment_names_the_moment_at_which_a_part_is_stored(tmp_path: Path) -> None:
    crash_in_child(crash_as_the_environment_says, tmp_path / "workflow.db")

    assert query(tmp_path / "workflow.db", "select count(*) from value_parts") == [1]
    with pytest.raises(ValueError, match="part_stored"):
        crash_at("load", "part_saved")


@pytest.mark.thorough
@pytest.mark.parametrize("at", [("load", "part_stored", number) for number in (1, 2, 50, 99, 100)] + [
    ("load", "executed", 1), ("load", "checkpointed", 1), ("again", "part_stored", 60),
])  # fmt: skip
def test_a_kill_at_each_kind_of_moment_of_saving_100_megabytes(tmp_path: Path, at: tuple[str, str, int]) -> None:
    path = tmp_path / "workflow.db"
    crash_in_child(run, path, 100, at)
    judge(path, 100)


@pytest.mark.parametrize(("count", "seed"), [(3, 16), *(thorough((100, seed)) for seed in range(17, 22))])
def test_a_kill_at_any_instant_while_values_are_saved(tmp_path: Path, count: int, seed: int) -> None:
    """Each process is killed at a random instant of what is left of its workflow, until one gets to its end."""
    chance, seconds, kills, number = random.Random(seed), 0.3, 0, 0
    while kills < count:
        number += 1
        path = tmp_path / f"{number}.db"
        has_ended = False
        while not has_ended:
            with child(run, path, 2.5) as running:
                running.receive()
                threading.Event().wait(chance.uniform(0, seconds))
                has_ended = running.kill() != KILLED
            kills += not has_ended
            with Reader(path) as reader:
                assert reader.check_integrity() == []
        judge(path)
        path.unlink()


@on_linux_with_cc
@pytest.mark.thorough
@pytest.mark.parametrize(("workflow", "megabytes"), [(crate, 1.25), (crate_beside_copying, 3.25)])
def test_a_power_cut_at_each_moment_loses_no_value_of_a_saved_row(
    power_cut: Path, workflow: Callable[..., int], megabytes: float
) -> None:
    report = from_the_package(workflow, megabytes, plan=Plan(every_moment=False, power_cuts=power_cut))

    report.assert_survives()
    assert "load_2:part_stored" in report.baseline.runs[0].points()
