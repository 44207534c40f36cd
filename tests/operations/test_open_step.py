"""An open step: a block of the workflow's own code with a running row, an attempt number, and an outcome."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, NonDeterminismError, ScopeError, SerializationError, current_step
from durable.observer import crash_at
from tests.support.processes import crash_in_child
from tests.support.workflows import act, effects


def train(ctx: Context, passes: int) -> list[str]:
    """Several blocks, each with an effect."""
    kept = []
    for number in range(passes):
        with ctx.open_step("train", number) as step:
            if not step.is_recorded:
                step.complete(act(f"pass {number}"))
        kept.append(step.value)
    return kept


def rows(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute("select step_key, status, attempt, output from steps order by position").fetchall()


def test_the_block_of_a_recorded_step_is_answered_from_its_row(database: Path) -> None:
    def twice(ctx: Context) -> list[str]:
        if effects(database):
            return train(ctx, 3)
        train(ctx, 2)
        raise ValueError("not yet")

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="not yet"):
            engine.run("emp_001", twice)
        value = engine.run("emp_001", twice)

    assert value == ["PASS 0", "PASS 1", "PASS 2"]
    assert effects(database) == ["train_1", "train_2", "train_3"]
    assert rows(database)[2] == ("train_3", "completed", 1, '"PASS 2"')


def test_the_row_says_running_before_the_block_begins(database: Path) -> None:
    def look(ctx: Context) -> list[Any]:
        with ctx.open_step("look") as step:
            step.complete([list(row) for row in rows(database)])
        return list(step.value)

    with Engine(database) as engine:
        found = engine.run("emp_001", look)

    assert found == [["look_1", "running", 1, None]]


@pytest.mark.parametrize(("moment", "expected"), [("started", 1), ("executed", 2), ("checkpointed", 1)])
def test_a_crash_at_each_moment_repeats_only_the_block_that_was_not_saved(
    database: Path, moment: str, expected: int
) -> None:
    crash_in_child(run_train, database, moment)

    with Engine(database) as engine:
        value = engine.run("emp_001", train, 3)
        attempts = [(each.step_key, each.attempt) for each in engine.steps("emp_001")]

    assert value == ["PASS 0", "PASS 1", "PASS 2"]
    assert effects(database).count("train_2") == expected
    assert attempts[1] == ("train_2", 1 if moment == "checkpointed" else 2)


def run_train(_pipe: Connection, database: Path, moment: str) -> None:
    with Engine(database, observers=[crash_at("train_2", moment)]) as engine:
        engine.run("emp_001", train, 3)


def test_an_exception_out_of_the_block_is_its_outcome(database: Path) -> None:
    def caught(ctx: Context) -> list[str]:
        told = []
        for _ in range(2):
            try:
                with ctx.open_step("refuse"):
                    act("refuse")
                    raise LookupError(f"none at attempt {current_step().attempt}")
            except LookupError as error:
                told.append(f"{error}")
        if not seen:
            seen.append("once")
            raise ValueError("once more")
        return told

    seen: list[str] = []
    with Engine(database) as engine:
        with pytest.raises(ValueError, match="once more"):
            engine.run("emp_001", caught)
        value = engine.run("emp_001", caught)

    assert value == ["none at attempt 1"] * 2
    assert effects(database) == ["refuse_1", "refuse_2"]
    assert [row[1] for row in rows(database)] == ["failed", "failed"]


def test_a_step_that_failed_the_workflow_is_tried_anew(database: Path) -> None:
    def unlucky(ctx: Context) -> int:
        with ctx.open_step("try") as step:
            if current_step().attempt == 1:
                raise LookupError
            step.complete(current_step().attempt)
        return int(step.value)

    with Engine(database) as engine:
        with pytest.raises(LookupError):
            engine.run("emp_001", unlucky)
        assert engine.run("emp_001", unlucky) == 2


def test_an_interrupt_in_the_block_is_no_outcome(database: Path) -> None:
    def interrupted(ctx: Context) -> str:
        with ctx.open_step("train") as step:
            if current_step().attempt == 1:
                raise KeyboardInterrupt
            step.complete("done")
        return str(step.value)

    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", interrupted)
        left = rows(database)
        value = engine.run("emp_001", interrupted)

    assert left == [("train_1", "running", 1, None)]
    assert value == "done"


def test_a_block_that_is_left_without_an_outcome_stops_the_run(database: Path) -> None:
    def forgetful(ctx: Context) -> None:
        with ctx.open_step("train"):
            act("train")

    with Engine(database) as engine:
        with pytest.raises(ScopeError, match="was left without an outcome"):
            engine.run("emp_001", forgetful)

        assert engine.workflow("emp_001").status == "running"
        assert [run.ended for run in engine.runs("emp_001")] == ["stopped"]


@pytest.mark.parametrize("place", ["before", "twice", "after"])
def test_a_step_is_completed_once_and_within_its_block(database: Path, place: str) -> None:
    def misused(ctx: Context) -> None:
        step = ctx.open_step("train")
        if place == "before":
            step.complete(1)
        with step:
            step.complete(1)
            if place == "twice":
                step.complete(2)
        step.complete(3)

    with Engine(database) as engine, pytest.raises(ScopeError, match="outside of its block, or twice"):
        engine.run("emp_001", misused)


def test_a_value_is_not_to_be_had_before_it_is_there(database: Path) -> None:
    def early(ctx: Context) -> object:
        return ctx.open_step("train").value

    with Engine(database) as engine, pytest.raises(ScopeError, match="has no value yet"):
        engine.run("emp_001", early)


def test_what_follows_complete_within_the_block_is_the_workflow_again(database: Path) -> None:
    def longer(ctx: Context) -> str:
        with ctx.open_step("train") as step:
            step.complete("a")
            return ctx.step(act, f"{step.value}, then")

    with Engine(database) as engine:
        assert engine.run("emp_001", longer) == "A, THEN"


def test_no_operation_may_be_called_in_the_block(database: Path) -> None:
    def nested(ctx: Context) -> None:
        with ctx.open_step("outer") as step:
            step.complete(ctx.step(act, "inner"))

    with Engine(database) as engine, pytest.raises(ScopeError, match="was called inside a step"):
        engine.run("emp_001", nested)

    assert effects(database) == []


def test_a_coroutine_is_told_to_open_it_in_a_branch(database: Path) -> None:
    async def blocking(ctx: Context) -> None:
        ctx.open_step("train")

    async def advised(ctx: Context) -> list[str]:
        return await ctx.branch(train_two)

    with Engine(database) as engine:
        with pytest.raises(ScopeError, match=r"await ctx\.branch\(fn\)"):
            engine.run("emp_001", blocking)
        assert engine.run("emp_002", advised) == ["PASS 0", "PASS 1"]


def train_two(ctx: Context) -> list[str]:
    return train(ctx, 2)


def test_other_arguments_diverge_before_the_block(database: Path) -> None:
    def changed(ctx: Context) -> None:
        with ctx.open_step("train", len(effects(database))) as step:
            if not step.is_recorded:
                step.complete(act("train"))
        raise ValueError

    with Engine(database) as engine:
        with pytest.raises(ValueError, match=r"^$"):
            engine.run("emp_001", changed)
        with pytest.raises(NonDeterminismError, match=r"recorded as train\(0\), the code now calls train\(1\)"):
            engine.run("emp_001", changed)

    assert effects(database) == ["train_1"]


def test_an_argument_that_the_block_changes_in_place_is_refused_by_name(database: Path) -> None:
    def grows(ctx: Context) -> None:
        weights = [1.0]
        with ctx.open_step("train", weights) as step:
            weights.append(2.0)
            step.complete(None)

    with Engine(database) as engine, pytest.raises(NonDeterminismError, match=r"its argument 1 was changed in place"):
        engine.run("emp_001", grows)


def test_a_value_without_exact_form_is_refused_by_name(database: Path) -> None:
    def refused(ctx: Context) -> None:
        with ctx.open_step("train") as step:
            step.complete(object())

    with Engine(database) as engine, pytest.raises(SerializationError, match=r"step 'train_1' of 'emp_001'"):
        engine.run("emp_001", refused)


def test_the_type_says_how_the_value_is_stored(database: Path) -> None:
    def typed(ctx: Context) -> set[str]:
        with ctx.open_step("train", type=set[str]) as step:
            step.complete({"a"})
        return step.value

    with Engine(database) as engine:
        assert engine.run("emp_001", typed) == {"a"}


def test_a_recorded_value_is_decoded_only_when_it_is_asked_for(database: Path) -> None:
    import numpy as np  # the children that crash do without it

    asked: list[str] = []

    def large(ctx: Context) -> int:
        with ctx.open_step("train") as step:
            if not step.is_recorded:
                step.complete(np.arange(200_000.0))
        if not asked:
            raise ValueError
        return len(step.value) if asked[0] == "all" else 0

    with Engine(database) as engine:
        with pytest.raises(ValueError, match=r"^$"):
            engine.run("emp_001", large)
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("delete from value_parts")
        asked.append("none")
        value = engine.run("emp_001", large)

    assert value == 0


def test_an_open_step_and_a_step_of_the_same_call_are_the_same_on_record(database: Path) -> None:
    def rewritten(ctx: Context) -> str:
        if not effects(database):
            ctx.step("shout", act, "hello")
            raise ValueError
        with ctx.open_step("shout", "hello") as step:
            assert step.is_recorded
        return str(step.value)

    with Engine(database) as engine:
        with pytest.raises(ValueError, match=r"^$"):
            engine.run("emp_001", rewritten)
        assert engine.run("emp_001", rewritten) == "HELLO"


def test_an_open_step_in_a_cancelled_task_is_left_running(database: Path) -> None:
    def cancelled(ctx: Context) -> None:
        with ctx.open_step("train"):
            raise asyncio.CancelledError

    with Engine(database) as engine, pytest.raises(asyncio.CancelledError):
        engine.run("emp_001", cancelled)

    assert rows(database) == [("train_1", "running", 1, None)]
