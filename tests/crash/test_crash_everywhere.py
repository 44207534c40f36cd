"""Crash at every moment of every step, and at random instants: what was saved stays, and no saved step runs again."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Engine, Moment
from durable.examples.conditional import conditional
from durable.examples.effects import list_effects
from durable.examples.loop import loop
from durable.examples.onboarding import onboarding
from durable.examples.zombie import zombie
from durable.observer import crash_at
from durable.testing import NoCrashError, run_until_crash
from tests.support import workflows
from tests.support.processes import KILLED, child, crash_in_child
from tests.support.selection import first_alone

WORKFLOWS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "onboarding": (onboarding, ("Jane Doe", 0.0)),
    "loop": (loop, (0.0,)),
    "conditional": (conditional, (1.0, 0.0)),
    "zombie": (zombie, (0.0,)),
    "journey": (workflows.journey, (2,)),
    "journey_async": (workflows.journey_async, (2,)),
}


# ---- what the dead left behind


@dataclass(frozen=True)
class Remains:
    """The database and the world as a crash left them."""

    saved: frozenset[str]  # the steps with an outcome on record
    running: dict[str, int]  # the steps whose effect may have happened, or not, and their attempt
    effects: list[str]


def look_at(database: Path, workflow_id: str) -> Remains:
    """Read as any other program would."""
    rows: list[tuple[str, str, int]] = []
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        if db.execute("select 1 from sqlite_master where name = 'steps'").fetchone():
            query = "select step_key, status, attempt from steps where workflow_id = ?"
            rows = db.execute(query, (workflow_id,)).fetchall()
    return Remains(
        saved=frozenset(key for key, status, _ in rows if status in ("completed", "failed")),
        running={key: attempt for key, status, attempt in rows if status == "running"},
        effects=workflows.effects(database, workflow_id),
    )


def check_lives(remains: list[Remains], effects: list[str]) -> None:
    """The promises, over all lives of a workflow, given what each crash left and all effects up to the end."""
    for left in remains:
        later = effects[len(left.effects) :]
        assert not left.saved & set(later), "a step whose outcome was saved ran again"
    may_repeat = Counter(key for key, _ in tries_left_behind(remains))
    for key, times in Counter(effects).items():
        assert times <= 1 + may_repeat[key], f"{key} ran {times} times, and was left running {may_repeat[key]} times"


def tries_left_behind(remains: list[Remains]) -> set[tuple[str, int]]:
    """Each try that a crash left running; one crash may find what an earlier one had left."""
    return {try_ for left in remains for try_ in left.running.items()}


# ---- undisturbed


@dataclass(frozen=True)
class Undisturbed:
    """How a workflow goes when nothing disturbs it."""

    result: Any
    outputs: dict[str, tuple[str, str | None]]
    effects: Counter[str]
    crash_points: list[str]


def outputs_of(engine: Engine) -> dict[str, tuple[str, str | None]]:
    return {step.step_key: (step.status, step.output) for step in engine.steps("emp_001")}


def run_undisturbed(database: Path, name: str) -> Undisturbed:
    workflow, args = WORKFLOWS[name]
    moments: list[Moment] = []
    with Engine(database, observers=[moments.append]) as engine:
        result = engine.run("emp_001", workflow, *args)
        outputs = outputs_of(engine)
    points = [f"{moment.step_key or 'workflow'}:{moment.name.partition('.')[2]}" for moment in moments]
    return Undisturbed(result, outputs, Counter(workflows.effects(database)), points)


# ---- crashed


def run_in_child(_: Connection, database: Path, name: str, crash_point: str) -> Any:
    workflow, args = WORKFLOWS[name]
    # SIGKILL takes nothing from the operating system, so flushing to the disk would only take time
    with Engine(database, synchronous="normal", observers=[crash_at.parse(crash_point)]) as engine:
        return engine.run("emp_001", workflow, *args)


def crash_and_look(database: Path, name: str, crash_point: str) -> Remains:
    with child(run_in_child, database, name, crash_point) as crashing:
        assert crashing.join() == KILLED, f"it lived past {crash_point}"
    return look_at(database, "emp_001")


def resume_and_check(database: Path, name: str, crashes: list[tuple[str, Remains]], expected: Undisturbed) -> None:
    """Run to the end here, after the crashes, and hold it against the undisturbed run."""
    workflow, args = WORKFLOWS[name]
    remains = [left for _, left in crashes]
    with Engine(database, synchronous="off") as engine:  # of the survivor no power is cut here, and it is faster
        assert engine.owner("emp_001") is None
        result = engine.run("emp_001", workflow, *args)
        outputs, runs, attempts = outputs_of(engine), engine.runs("emp_001"), engine.attempts("emp_001")
        assert workflows.list_faults(engine.path) == []
    effects = workflows.effects(database)

    assert result == expected.result
    assert outputs == expected.outputs
    check_lives(remains, effects)
    assert set(effects) == set(expected.effects)
    for point, left in crashes:
        key, _, moment = point.partition(":")
        if len(crashes) == 1 and key != "workflow":
            assert (Counter(effects)[key] == 2) == (moment == "executed"), (
                "the gap between effect and save, and only that"
            )
            assert (key in left.saved) == (moment in ("checkpointed", "failed"))
    assert {(attempt.step_key, attempt.attempt) for attempt in attempts} == tries_left_behind(remains)
    if not any(point.startswith("workflow:completed") for point, _ in crashes):
        assert [run.ended for run in runs] == ["crashed"] * len(crashes) + ["completed"]


@pytest.mark.parametrize("name", first_alone(WORKFLOWS))
def test_after_a_crash_at_any_moment_of_any_step_it_ends_as_if_undisturbed(tmp_path: Path, name: str) -> None:
    expected = run_undisturbed(tmp_path / "undisturbed.db", name)
    assert len(expected.crash_points) == 4 * len(expected.outputs) + 2

    for number, point in enumerate(expected.crash_points):
        database = tmp_path / f"{number}.db"
        left = crash_and_look(database, name, point)
        resume_and_check(database, name, [(point, left)], expected)


@pytest.mark.thorough
@pytest.mark.parametrize("name", WORKFLOWS)
def test_after_two_crashes_in_a_row_it_ends_as_if_undisturbed(tmp_path: Path, name: str) -> None:
    expected = run_undisturbed(tmp_path / "undisturbed.db", name)
    sequential = [point for point in expected.crash_points if "/" not in point and "workflow" not in point]
    chance = random.Random(1)
    pairs = [(point, point) for point in sequential if point.endswith(("scheduled", "started", "executed"))]
    pairs += [tuple(sorted(chance.sample(sequential, 2), key=sequential.index)) for _ in range(12)]  # type: ignore[misc]
    pairs += [(point, f"{point.partition(':')[0]}:replayed") for point in sequential if point.endswith("checkpointed")]

    for number, points in enumerate(chance.sample(pairs, min(len(pairs), 24))):
        database, crashes = tmp_path / f"{number}.db", []
        for point in points:
            with child(run_in_child, database, name, point) as crashing:
                if crashing.join() == KILLED:  # of parallel steps, the second may have been saved by the first life
                    crashes.append((point, look_at(database, "emp_001")))
        resume_and_check(database, name, crashes, expected)


# ---- each example's own point


def test_the_loop_has_three_keys_and_resumes_in_the_middle(database: Path) -> None:
    left = crash_and_look(database, "loop", "loop_step_3:started")
    with Engine(database) as engine:
        assert engine.run("emp_001", loop, 0.0) == [10, 20, 30]
        assert [step.step_key for step in engine.steps("emp_001")] == ["loop_step_1", "loop_step_2", "loop_step_3"]

    assert left.saved == {"loop_step_1", "loop_step_2"}
    assert workflows.effects(database) == ["loop_step_1", "loop_step_2", "loop_step_3"]


def run_conditional(_: Connection, database: Path, seed: int, crash_point: str) -> None:
    random.seed(seed)
    with Engine(database, observers=[crash_at.parse(crash_point)]) as engine:
        engine.run("emp_001", conditional, 0.5, 0.0)


def test_a_branch_taken_stays_taken_after_a_crash_inside_it(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_stock = next(seed for seed in range(100) if random.Random(seed).random() < 0.5)
    crash_in_child(run_conditional, database, in_stock, "take_from_shelf:started")
    monkeypatch.setattr(random, "random", lambda: 0.99)  # now the shelf is empty

    with Engine(database) as engine:
        assert engine.run("emp_001", conditional, 0.5, 0.0) == "tomorrow"
    assert workflows.effects(database) == ["check_stock_1", "take_from_shelf_2", "notify_customer_3"]


def test_the_zombie_step_runs_again_and_says_so(database: Path) -> None:
    crash_and_look(database, "zombie", "zombie_step:executed")
    with Engine(database) as engine:
        assert engine.steps("emp_001")[1].status == "running"
        engine.run("emp_001", zombie, 0.0)

    before, first, again, after = list_effects(database)
    assert [before, first, after] == ["did the step before", "did the zombie step", "did the step after"]
    assert "again, attempt 2" in again


# ---- killed at random instants

KILLS = 200


def run_when_told(pipe: Connection, database: Path, workflow_id: str) -> float:
    pipe.send("ready")
    began = time.monotonic()
    with Engine(database) as engine:
        engine.run(workflow_id, workflows.journey, 2)
    return time.monotonic() - began


@pytest.mark.thorough
def test_after_a_kill_at_any_instant_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    chance = random.Random(2)
    expected = run_undisturbed(tmp_path / "undisturbed.db", "journey")
    usual_seconds = min(run_alone(tmp_path / f"alone {number}.db") for number in range(5))
    hits = tries = 0

    while hits < KILLS:
        tries += 1
        assert tries < 5 * KILLS, f"only {hits} of {tries} kills met a workflow that ran"
        database, workflow_id = tmp_path / f"{tries // 10}.db", f"emp_{tries}"
        with child(run_when_told, database, workflow_id) as victim:
            victim.receive()
            time.sleep(chance.uniform(0, usual_seconds))
            is_hit = victim.kill() == KILLED
        remains = [look_at(database, workflow_id)]
        hits += is_hit and bool(remains[0].saved or remains[0].running)  # else it was still opening the file
        with Engine(database, synchronous="off") as engine:
            result = engine.run(workflow_id, workflows.journey, 2)
            assert workflows.list_faults(engine.path) == []
            assert outputs_of_workflow(engine, workflow_id) == expected.outputs

        assert result == expected.result
        effects = workflows.effects(database, workflow_id)
        check_lives(remains, effects)
        assert set(effects) == set(expected.effects)


def outputs_of_workflow(engine: Engine, workflow_id: str) -> dict[str, tuple[str, str | None]]:
    return {step.step_key: (step.status, step.output) for step in engine.steps(workflow_id)}


def run_alone(database: Path) -> float:
    with child(run_when_told, database, "alone") as undisturbed:
        undisturbed.receive()
        seconds = undisturbed.outcome()
    assert isinstance(seconds, float)
    return seconds


# ---- how to crash on purpose


def run_armed_by_the_environment(_: Connection, database: Path, crash_point: str) -> None:
    os.environ["DURABLE_CRASH_AT"] = crash_point
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)


@pytest.mark.parametrize(
    ("crash_point", "done"),
    [
        ("create_record", ["create_record_1"]),  # by name; executed is the moment unless another is named
        ("create_record_1:started", []),
        ("workflow", []),
        ("workflow:completed", ["create_record_1", "provision_laptop_2", "send_welcome_email_4", "setup_access_3"]),
    ],
)
def test_the_environment_arms_a_crash_in_any_process(database: Path, crash_point: str, done: list[str]) -> None:
    crash_in_child(run_armed_by_the_environment, database, crash_point)

    assert sorted(workflows.effects(database)) == done


def test_run_until_crash_crashes_for_real_and_says_so_where_it_could_not(database: Path) -> None:
    run_until_crash(database, "emp_001", onboarding, "Jane Doe", 0.0, at="create_record:executed")
    assert look_at(database, "emp_001").running == {"create_record_1": 1}

    with pytest.raises(NoCrashError, match="without reaching 'order_badge:started'") as lived:
        run_until_crash(database, "emp_001", onboarding, "Jane Doe", 0.0, at="order_badge:started")
    assert lived.value.exitcode == 0


@pytest.mark.parametrize("crash_point", ["", ":executed", "charge:exploded", "workflow:executed"])
def test_a_crash_point_that_does_not_exist_is_refused(
    database: Path, crash_point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="crash point"):
        crash_at.parse(crash_point)
    if crash_point:
        monkeypatch.setenv("DURABLE_CRASH_AT", crash_point)
        with pytest.raises(ValueError, match="crash point"):
            Engine(database)
        assert not database.exists()


# ---- the check itself


def test_the_check_of_lives_rejects_a_saved_step_that_ran_again() -> None:
    left = Remains(saved=frozenset({"charge_1"}), running={}, effects=["charge_1"])

    with pytest.raises(AssertionError, match="ran again"):
        check_lives([left], ["charge_1", "charge_1"])


def test_the_check_of_lives_rejects_a_repetition_that_no_crash_explains() -> None:
    left = Remains(saved=frozenset(), running={"charge_1": 1}, effects=["charge_1"])

    check_lives([left], ["charge_1", "charge_1"])
    with pytest.raises(AssertionError, match="ran 3 times"):
        check_lives([left], ["charge_1", "charge_1", "charge_1"])
