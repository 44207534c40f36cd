"""Set aside: on DBOS too, a workflow whose runs die three times at one place is left until a caller asks for it."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from durable.observer import crash_at
from durable.on_dbos import DBOSEngine
from tests.conformance import world
from tests.support.processes import crash_in_child, eventually


def run_and_crash(pipe: Connection, url: str, path: str, crash_point: str, *, is_first: bool) -> None:
    """Run a workflow up to a crash; or only open the engine, so that DBOS begins what has died."""
    os.environ[world.WORLD] = path
    with DBOSEngine(url, executor_id="one", observers=[crash_at.parse(crash_point)]) as engine:
        if is_first:
            engine.run("wf", world.errand, "a", "b", "c")
        pipe.recv()


@pytest.fixture
def effects_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    return str(tmp_path / "world.log")


def crash(url: str, path: str, *crash_points: str) -> None:
    for number, crash_point in enumerate(crash_points):
        crash_in_child(_first if number == 0 else _later, url, path, crash_point)


def _first(pipe: Connection, url: str, path: str, crash_point: str) -> None:
    run_and_crash(pipe, url, path, crash_point, is_first=True)


def _later(pipe: Connection, url: str, path: str, crash_point: str) -> None:
    run_and_crash(pipe, url, path, crash_point, is_first=False)


def test_what_dies_three_times_at_one_place_is_left_until_a_caller_asks(postgres_url: str, effects_file: str) -> None:
    crash(postgres_url, effects_file, *["act_2:executed"] * 3)
    with DBOSEngine(postgres_url, executor_id="one") as engine:
        eventually(lambda: engine.recover().set_aside == ["wf"])
        assert world.effects() == ["act_1", "act_2", "act_2", "act_2"]
        eventually(lambda: not engine.is_active("wf"))

        assert engine.resume("wf").result() == ["A", "B", "C"]
        assert engine.recover().set_aside == []


def test_what_got_further_each_time_goes_on(postgres_url: str, effects_file: str) -> None:
    crash(postgres_url, effects_file, *[f"act_{number}:checkpointed" for number in (1, 2, 3)])
    with DBOSEngine(postgres_url, executor_id="one") as engine:
        eventually(lambda: engine.workflow("wf").status == "completed")

    assert world.effects() == ["act_1", "act_2", "act_3"]


def test_an_engine_that_was_closed_in_an_orderly_way_has_not_crashed(postgres_url: str) -> None:
    for number in range(5):
        with DBOSEngine(postgres_url, executor_id="one") as engine:
            if number == 0:
                engine.start("wf", world.wait_for_go)
            eventually(lambda: engine.is_active("wf") and engine.waits("wf"))
            engine.stop()
    with DBOSEngine(postgres_url, executor_id="one") as engine:
        engine.send("wf", "go", "on")
        eventually(lambda: engine.workflow("wf").status == "completed")
        assert engine.recover().set_aside == []
