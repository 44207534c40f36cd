"""Restart: a workflow is run anew as another call; its old rows are superseded, and not lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from durable import Context, Engine, WorkflowBusyError
from durable.errors import WorkflowNotFoundError
from durable.observer import crash_at
from tests.support.processes import crash_in_child
from tests.support.workflows import act, effects


def errand(ctx: Context, *what: str) -> list[str]:
    return [ctx.step(act, one) for one in what]


def other(ctx: Context, number: int) -> str:
    return ctx.step("count", act, f"{number}")


def test_a_completed_workflow_is_run_anew_with_other_arguments(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b")
        value = engine.restart("emp_001", errand, "c")
        again = engine.run("emp_001", errand, "c")
        kept = [(row.step_key, row.attempt, row.value) for row in engine.attempts("emp_001")]
        steps = [(row.step_key, row.attempt, row.value) for row in engine.steps("emp_001")]

    assert value == again == ["C"]
    assert steps == [("act_1", 2, "C")]
    assert kept == [("act_1", 1, "A"), ("act_2", 1, "B")]


def test_another_function_takes_the_id_over(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a")
        value = engine.restart("emp_001", other, 7)
        function = engine.workflow("emp_001").function

    assert value == "7"
    assert function.endswith(":other")


def test_a_failed_workflow_is_run_anew(database: Path) -> None:
    def fails(ctx: Context) -> None:
        ctx.step(act, "a")
        raise ValueError("no")

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="no"):
            engine.run("emp_001", fails)
        assert engine.restart("emp_001", errand, "a") == ["A"]

    assert effects(database) == ["act_1", "act_1"]


def test_an_unknown_workflow_and_one_that_runs_are_refused(database: Path) -> None:
    def within(ctx: Context) -> str:
        try:
            engine.restart(ctx.workflow_id, errand)
        except WorkflowBusyError as error:
            return type(error).__name__
        return ""

    with Engine(database) as engine:
        with pytest.raises(WorkflowNotFoundError):
            engine.restart("emp_001", errand)
        assert engine.run("emp_001", within) == "WorkflowBusyError"


def test_wrong_arguments_change_nothing(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", other, 1)
        with pytest.raises(TypeError):
            engine.restart("emp_001", other)  # type: ignore[call-arg]

        assert engine.run("emp_001", other, 1) == "1"
    assert effects(database) == ["count_1"]


def test_large_arguments_replace_those_before(database: Path) -> None:
    def weigh(ctx: Context, data: np.ndarray[Any, Any]) -> float:
        return float(ctx.step("sum", data.sum))

    with Engine(database) as engine:
        engine.run("emp_001", weigh, np.ones(200_000))
        value = engine.restart("emp_001", weigh, np.full(200_000, 2.0))
        freed = engine.gc()
        again = engine.run("emp_001", weigh, np.full(200_000, 2.0))

    assert value == again == 400_000
    assert freed.values == 1
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("select count(*) from large_values").fetchone() == (1,)


@pytest.mark.parametrize("step", ["act_1", "act_2"])
def test_a_crash_of_the_new_run_goes_on_as_the_new_call(database: Path, step: str) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")
    crash_in_child(restart_and_crash, database, step)
    with Engine(database) as engine:
        value = engine.run("emp_001", errand, "d", "e")

    assert value == ["D", "E"]
    assert effects(database)[3:].count(step) == 2


def restart_and_crash(_pipe: Connection, database: Path, step: str) -> None:
    with Engine(database, observers=[crash_at(step, "executed")]) as engine:
        engine.restart("emp_001", errand, "d", "e")
