"""`ctx.patched`: new code for executions that come to the place anew, the old one for those that were past it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, NonDeterminismError, ScopeError
from durable.observer import crash_at
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import crash_in_child
from tests.support.workflows import act, effects

# ---- one workflow before and after its change, under one name


def onboarding_of(version: str) -> Callable[..., Any]:
    """Old: record, laptop, letter. New: a badge between record and laptop."""

    def onboarding(ctx: Context) -> list[str]:
        done = [ctx.step(act, "record")]
        if version == "new" and ctx.patched("with-badge"):
            done.append(ctx.step(act, "badge"))
        return [*done, ctx.step(act, "laptop"), ctx.step(act, "letter")]

    return onboarding


def run_and_crash(pipe: Connection, database: Path, version: str, where: str, moment: str) -> None:
    with Engine(database, observers=[crash_at(where, moment)]) as engine:
        engine.run("emp_001", onboarding_of(version))


def crash(database: Path, version: str, where: str, moment: str = "executed") -> None:
    crash_in_child(run_and_crash, database, version, where, moment)


def keys(engine: Engine) -> list[str]:
    return [row.step_key for row in engine.steps("emp_001")]


OLD = ["act_1", "act_2", "act_3"]
NEW = ["act_1", "with-badge_2", "act_3", "act_4", "act_5"]


def test_a_new_execution_runs_the_new_code_on_every_replay(database: Path) -> None:
    crash(database, "new", "act_4")
    with Engine(database) as engine:
        value = engine.run("emp_001", onboarding_of("new"))

        assert value == ["RECORD", "BADGE", "LAPTOP", "LETTER"]
        assert keys(engine) == NEW
        assert [row.kind for row in engine.steps("emp_001")] == ["step", "patch", "step", "step", "step"]
    assert effects(database) == ["act_1", "act_3", "act_4", "act_4", "act_5"]


@pytest.mark.parametrize(
    ("where", "moment", "expected"),
    [
        ("act_1", "scheduled", NEW),  # before the place, nothing recorded
        ("act_1", "executed", NEW),  # before the place, a zombie step recorded
        ("act_1", "checkpointed", NEW),  # just before it
        ("act_2", "scheduled", NEW),  # at it: what was to come is not recorded
        ("act_2", "started", OLD),  # past it, by a zombie step
        ("act_2", "checkpointed", OLD),  # past it
        ("act_3", "executed", OLD),  # long past it
    ],
)
def test_an_old_execution_runs_the_old_code_where_it_was_past_the_place(
    database: Path, where: str, moment: str, expected: list[str]
) -> None:
    crash(database, "old", where, moment)
    with Engine(database) as engine:
        value = engine.run("emp_001", onboarding_of("new"))

        assert keys(engine) == expected
        assert value == ["RECORD", *(["BADGE"] if expected == NEW else []), "LAPTOP", "LETTER"]


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["scheduled", "executed", "checkpointed"])
def test_a_crash_at_the_patch_itself_changes_nothing(database: Path, moment: str) -> None:
    crash(database, "new", "with-badge", moment)
    with Engine(database) as engine:
        assert engine.run("emp_001", onboarding_of("new")) == ["RECORD", "BADGE", "LAPTOP", "LETTER"]
        assert keys(engine) == NEW


def test_a_completed_execution_is_answered_whatever_the_code_is_now(database: Path) -> None:
    with Engine(database) as engine:
        old = engine.run("emp_001", onboarding_of("old"))

        assert engine.run("emp_001", onboarding_of("new")) == old == ["RECORD", "LAPTOP", "LETTER"]


def test_without_the_patch_the_old_code_on_a_new_history_is_a_divergence(database: Path) -> None:
    crash(database, "new", "act_4")
    with Engine(database) as engine, pytest.raises(NonDeterminismError, match="with-badge"):
        engine.run("emp_001", onboarding_of("old"))


def test_without_the_patch_the_new_code_on_an_old_history_is_a_divergence(database: Path) -> None:
    def onboarding(ctx: Context) -> list[str]:
        return [ctx.step(act, what) for what in ("record", "badge", "laptop", "letter")]

    onboarding.__qualname__ = onboarding_of("old").__qualname__
    crash(database, "old", "act_3")
    with Engine(database) as engine, pytest.raises(NonDeterminismError, match=r"""act\(\["badge"\]\)|act\("badge"\)"""):
        engine.run("emp_001", onboarding)


# ---- in loops, in branches, in parallel, after failures


class Interrupted:
    """A workflow whose old version is interrupted after so many steps, and then goes on as its new version."""

    def __init__(self, database: Path, steps: int) -> None:
        self.database, self.left, self.version = database, steps, "old"

    def act(self, what: str) -> str:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return what.upper()

    def run(self, workflow: Callable[[Context], Any]) -> tuple[Any, list[str]]:
        with Engine(self.database) as engine:
            with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
                engine.run("emp_001", workflow)
            self.version, self.left = "new", 1000
            value = engine.run("emp_001", workflow)
            again = engine.runs("emp_001")
            assert [run.ended for run in again] == ["interrupted", "completed"]
            return value, keys(engine)

    def patched(self, ctx: Context, name: str = "twice") -> bool:
        return self.version == "new" and ctx.patched(name)


def test_in_a_loop_each_turn_is_old_or_new_by_its_own_place(database: Path) -> None:
    life = Interrupted(database, steps=2)  # the third is begun, and not ended

    def workflow(ctx: Context) -> list[str]:
        days = []
        for day in range(5):
            days.append(ctx.step(life.act, f"day {day}"))
            if life.patched(ctx):
                days.append(ctx.step(life.act, f"night {day}"))
        return days

    value, recorded = life.run(workflow)

    assert value == ["DAY 0", "DAY 1", "DAY 2", "NIGHT 2", "DAY 3", "NIGHT 3", "DAY 4", "NIGHT 4"]
    assert recorded == [
        *["act_1", "act_2", "act_3", "twice_4", "act_5", "act_6", "twice_7", "act_8", "act_9", "twice_10", "act_11"]
    ]


def test_in_branches_each_is_old_or_new_by_its_own_history(database: Path) -> None:
    life = Interrupted(database, steps=3)

    def leg(ctx: Context, name: str) -> list[str]:
        done = [ctx.step(life.act, f"{name} first")]
        if life.patched(ctx):
            done.append(ctx.step(life.act, f"{name} extra"))
        return [*done, ctx.step(life.act, f"{name} last")]

    def workflow(ctx: Context) -> list[list[str]]:
        return [ctx.branch(leg, name).result() for name in ("a", "b", "c")]  # one after the other

    value, recorded = life.run(workflow)

    assert value == [["A FIRST", "A LAST"], ["B FIRST", "B LAST"], ["C FIRST", "C EXTRA", "C LAST"]]
    assert recorded == [
        *["leg_1/act_1", "leg_1/act_2", "leg_2/act_1", "leg_2/act_2"],
        *["leg_3/act_1", "leg_3/twice_2", "leg_3/act_3", "leg_3/act_4"],
    ]


def test_a_place_is_past_where_only_a_branch_behind_it_has_begun(database: Path) -> None:
    life = Interrupted(database, steps=1)

    def leg(ctx: Context) -> str:
        return ctx.step(life.act, "inside")

    def workflow(ctx: Context) -> list[str]:
        is_new = life.patched(ctx)
        return [str(is_new), ctx.branch(leg).result(), ctx.step(life.act, "last")]

    value, recorded = life.run(workflow)

    assert value == ["False", "INSIDE", "LAST"]
    assert recorded == ["leg_1/act_1", "act_2"]


def test_a_place_is_past_where_only_a_parallel_step_behind_it_is_recorded(database: Path) -> None:
    """The old code had begun both; of the first, which stands in the very place, nothing is recorded."""

    is_saved = threading.Event()

    def observe(moment: Any) -> None:
        if moment.name == "step.checkpointed" and moment.step_key == "act_2":
            is_saved.set()
        if moment.name == "step.scheduled" and moment.step_key == "act_1" and version == "old":
            is_saved.wait(PATIENCE_SECONDS)
            raise KeyboardInterrupt

    def workflow(ctx: Context) -> list[str]:
        is_new = version == "new" and ctx.patched("twice")
        both = [ctx.submit(act, what) for what in ("a", "b")]
        return [str(is_new), *[future.result() for future in both]]

    version = "old"
    with Engine(database, observers=[observe]) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        if keys(engine) != ["act_2"]:
            pytest.fail(f"the arrangement is another: {keys(engine)}")
        version = "new"

        assert engine.run("emp_001", workflow) == ["False", "A", "B"]
        assert keys(engine) == ["act_1", "act_2"]


def test_several_patches_of_one_workflow_are_told_apart(database: Path) -> None:
    life = Interrupted(database, steps=2)

    def workflow(ctx: Context) -> list[str]:
        done = []
        for name in ("first", "second", "third"):
            if life.patched(ctx, f"before-{name}"):
                done.append(ctx.step(life.act, f"before {name}"))
            done.append(ctx.step(life.act, name))
        return done

    value, recorded = life.run(workflow)

    assert value == ["FIRST", "SECOND", "THIRD"]  # the third was begun, so it is past all the places
    assert recorded == OLD


def test_an_async_workflow_can_be_patched(database: Path) -> None:
    life = Interrupted(database, steps=3)

    async def leg(ctx: Context, name: str) -> list[str]:
        done = [await ctx.submit(life.act, f"{name} first")]
        if life.patched(ctx):
            done.append(await ctx.submit(life.act, f"{name} extra"))
        return done

    async def workflow(ctx: Context) -> list[list[str]]:
        both = list(await asyncio.gather(ctx.branch(leg, "a"), ctx.branch(leg, "b")))
        return [*both, [await ctx.submit(life.act, "between")], await ctx.branch(leg, "c")]

    value, _ = life.run(workflow)

    assert value == [["A FIRST", "A EXTRA"], ["B FIRST", "B EXTRA"], ["BETWEEN"], ["C FIRST", "C EXTRA"]]


def test_a_failed_execution_is_new_from_the_place_where_it_had_failed_on(database: Path) -> None:
    def refuse(what: str) -> str:
        if version == "old":
            raise ConnectionError(what)
        return what.upper()

    def workflow(ctx: Context) -> list[str]:
        done = [ctx.step(act, "record")]
        if version == "new" and ctx.patched("before"):
            done.append(ctx.step(act, "before"))
        done.append(ctx.step(refuse, "laptop"))
        if version == "new" and ctx.patched("after"):
            done.append(ctx.step(act, "after"))
        return [*done, ctx.step(act, "letter")]

    version = "old"
    with Engine(database) as engine:
        with pytest.raises(ConnectionError):
            engine.run("emp_001", workflow)
        version = "new"
        value = engine.run("emp_001", workflow)

        assert value == ["RECORD", "BEFORE", "LAPTOP", "AFTER", "LETTER"]
        assert keys(engine) == ["act_1", "before_2", "act_3", "refuse_4", "after_5", "act_6", "act_7"]
        assert [(row.step_key, row.status) for row in engine.attempts("emp_001")] == [("refuse_2", "failed")]


def test_an_execution_that_caught_a_failure_is_past_it(database: Path) -> None:
    life = Interrupted(database, steps=1)

    def refuse() -> str:
        raise ConnectionError

    def workflow(ctx: Context) -> list[str]:
        is_new = life.patched(ctx)
        try:
            ctx.step(refuse)
        except ConnectionError:
            return [str(is_new), ctx.step(life.act, "a"), ctx.step(life.act, "b")]
        return []

    value, recorded = life.run(workflow)

    assert value == ["False", "A", "B"]
    assert recorded == ["refuse_1", "act_2", "act_3"]


def test_within_a_step_nothing_can_be_patched(database: Path) -> None:
    def workflow(ctx: Context) -> bool:
        return ctx.step("inside", lambda: ctx.patched("it"))

    with Engine(database) as engine, pytest.raises(ScopeError, match="operation 'it' was called inside a step"):
        engine.run("emp_001", workflow)
