"""Rewind with `failed_only`: the failed steps of a fan-out are tried again, and what came after it is run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable import Context, Engine
from durable.errors import StepNotFoundError
from tests.support.workflows import act, effects

broken: set[str] = set()


def some(what: str) -> str:
    act(what)
    if what in broken:
        raise ValueError(f"no {what} today")
    return what.upper()


def outcome(future) -> str:
    error = future.exception()
    return future.result() if error is None else str(error)


def batch(ctx: Context) -> list[str]:
    ctx.step(act, "before")
    told = [outcome(future) for future in [ctx.submit(some, one) for one in "abcd"]]
    return ctx.step("report", list, told)


def of_branches(ctx: Context) -> list[str]:
    futures = [ctx.branch(leg, one) for one in "abc"]
    return ctx.step("report", list, [outcome(future) for future in futures])


def leg(ctx: Context, one: str) -> str:
    ctx.step(act, f"{one} 1")
    told = outcome(ctx.submit(some, one))
    return ctx.step("note", str, told)


def smooth(ctx: Context) -> None:
    ctx.step(act, "a")


def fails_at_last(ctx: Context) -> None:
    assert "no" not in "".join(ctx.map(some, "abc"))


def undone(ctx: Context) -> None:
    ctx.on_failure(act, "undo")
    ctx.map(some, "abc")


def test_a_completed_batch_tries_its_failed_items_again(database: Path) -> None:
    broken.update("bd")
    with Engine(database) as engine:
        assert engine.run("wf", batch) == ["A", "no b today", "C", "no d today"]
        broken.clear()
        engine.rewind("wf", failed_only=True)
        kept = [step.step_key for step in engine.steps("wf")]

        assert engine.run("wf", batch) == ["A", "B", "C", "D"]
        assert kept == ["act_1", "some_2", "some_4"]
        assert [step.attempt for step in engine.steps("wf")] == [1, 1, 2, 1, 2, 2]


def test_branches_that_failed_inside_go_on_from_there_and_their_siblings_stay(database: Path) -> None:
    broken.add("b")
    with Engine(database) as engine:
        engine.run("wf", of_branches)
        broken.clear()
        engine.rewind("wf", failed_only=True)
        kept = [step.step_key for step in engine.steps("wf")]

        assert engine.run("wf", of_branches) == ["A", "B", "C"]
    assert kept == [f"leg_1/{key}" for key in ("act_1", "some_2", "note_3")] + ["leg_2/act_1"] + [
        f"leg_3/{key}" for key in ("act_1", "some_2", "note_3")
    ]
    assert effects(database, "wf").count("leg_2/some_2") == 2
    assert len(effects(database, "wf")) == 7


@pytest.mark.parametrize("workflow", [fails_at_last, undone])
def test_a_failed_workflow_tries_its_failed_items_again(database: Path, workflow) -> None:
    broken.update("ac")
    with Engine(database) as engine:
        with pytest.raises(ValueError, match="no a today"):
            engine.run("wf", workflow)
        broken.clear()
        engine.rewind("wf", failed_only=True)
        engine.run("wf", workflow)

    assert sorted(key for key in effects(database, "wf") if key.startswith("some")) in (
        ["some_1", "some_1", "some_2", "some_3", "some_3"],
        ["some_2", "some_2", "some_3", "some_4", "some_4"],
    )


def test_a_workflow_without_a_failed_step_is_left_as_it_is(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("wf", smooth)
        with pytest.raises(StepNotFoundError, match="'wf' has no failed step on record"):
            engine.rewind("wf", failed_only=True)
        with pytest.raises(TypeError, match="either to=STEP or failed_only=True"):
            engine.rewind("wf")
        with pytest.raises(TypeError, match="either to=STEP or failed_only=True"):
            engine.rewind("wf", to="act_1", failed_only=True)
        assert engine.workflow("wf").status == "completed"
