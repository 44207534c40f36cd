"""Hosted code: tasks that were not written for a workflow, whose operations keep their keys."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import (
    Context,
    Engine,
    NonDeterminismError,
    ScopeError,
    WorkflowCancelledError,
    current_context,
    current_step,
    hosted_step,
)
from durable.hosted import uncounted_tasks
from durable.observer import crash_at
from tests.support.processes import crash_in_child, eventually
from tests.support.workflows import act, act_async, effects

STEPS = 3


# ---- tasks that overtake each other


async def roam(label: str, depth: int, chance: random.Random) -> list[Any]:
    """Three steps, with waits of chance in between; after the second, two tasks of its own."""
    told: list[Any] = []
    for number in range(1, STEPS + 1):
        await asyncio.sleep(chance.uniform(0, 0.002))
        told.append(await hosted_step("act", act_async, f"{label}{number}"))
        if depth and number == 2:
            told.append(await asyncio.gather(*[roam(f"{label}{side}", depth - 1, chance) for side in "xy"]))
    return told


async def roam_beside(chance: random.Random) -> list[Any]:
    told = await asyncio.gather(*[roam(label, 1, chance) for label in "abc"])
    return [*told, await hosted_step("act", act_async, "end")]


async def tour(ctx: Context, name: str) -> list[Any]:
    return await ctx.host(roam_beside(random.Random(name)), name="tour")


def expected_keys() -> dict[str, str]:
    """The key of each step, with its result."""
    keys: dict[str, str] = {}
    for number, label in enumerate("abc", start=1):
        task = f"tour_1/subtask_{number}"
        keys |= {f"{task}/act_{n}": f"{label.upper()}{n}" for n in (1, 2)} | {f"{task}/act_5": f"{label.upper()}3"}
        for place, side in ((3, "x"), (4, "y")):
            keys |= {f"{task}/subtask_{place}/act_{n}": f"{label}{side}{n}".upper() for n in (1, 2, 3)}
    return keys | {"tour_1/act_4": "END"}


def run_tour(_: Connection, database: Path, name: str, at: str) -> None:
    """As another process, which dies at a moment."""
    with Engine(database, observers=[crash_at.parse(at)], synchronous="normal") as engine:
        engine.run(name, tour, name)


def test_no_key_depends_on_which_task_is_quicker(database: Path) -> None:
    with Engine(database, synchronous="normal") as engine:
        for seed in range(5):
            engine.run(f"{seed}", tour, f"{seed}")
            assert {step.step_key: step.value for step in engine.steps(f"{seed}")} == expected_keys()


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(5))
def test_no_key_moves_in_300_runs_with_kills_between(database: Path, part: int) -> None:
    for seed in range(part * 60, part * 60 + 60):
        name, chance = f"{seed}", random.Random(seed)
        if seed % 6 == 0:
            at = f"{chance.choice(sorted(expected_keys()))}:{chance.choice(['started', 'executed', 'checkpointed'])}"
            crash_in_child(run_tour, database, name, at)
        with Engine(database, synchronous="normal") as engine:
            engine.run(name, tour, name)
            assert {step.step_key: step.value for step in engine.steps(name)} == expected_keys()


def test_a_replay_asks_for_the_same_and_has_no_effect_again(database: Path) -> None:
    keys = sorted(expected_keys())
    crash_in_child(run_tour, database, "7", "tour_1/subtask_2/subtask_3/act_2:executed")
    with Engine(database) as engine:
        engine.run("7", tour, "7")
        saved = {step.step_key: step.attempt for step in engine.steps("7")}

    counts = Counter(effects(database))
    assert sorted(saved) == sorted(counts) == keys
    assert counts["tour_1/subtask_2/subtask_3/act_2"] == 2
    assert all(counts[key] <= attempt for key, attempt in saved.items())


# ---- who may ask


def run_hosted(database: Path, code: Any, **options: Any) -> Any:
    """Run a workflow that hosts a coroutine."""

    async def workflow(ctx: Context) -> Any:
        return await ctx.host(code(ctx))

    with Engine(database, **options) as engine:
        return engine.run("emp_001", workflow)


def test_a_step_within_a_step_is_called_directly(database: Path) -> None:
    async def inner() -> str:
        return f"{await hosted_step('act', act_async, 'inner')} in {current_step().key}"

    async def code(_: Context) -> list[str]:
        return [await hosted_step("outer", inner), await hosted_step("act", act, "plain")]

    assert run_hosted(database, code) == ["INNER in host_1/outer_1", "PLAIN"]
    with Engine(database) as engine:
        assert [step.step_key for step in engine.steps("emp_001")] == ["host_1/outer_1", "host_1/act_2"]


def step_in_branch(ctx: Context) -> str:
    return ctx.step(act, "branch")


def test_every_operation_is_there_through_the_current_context(database: Path) -> None:
    async def code(_: Context) -> list[Any]:
        ctx = current_context()
        await ctx.timer(0.001)
        return [ctx.workflow_id, await ctx.branch(step_in_branch), ctx.random() < 1, await ctx.host(more())]

    async def more() -> str:
        return str(await hosted_step("act", act, "nested"))

    assert run_hosted(database, code) == ["emp_001", "BRANCH", True, "NESTED"]
    with Engine(database) as engine:
        keys = [step.step_key for step in engine.steps("emp_001")]
    assert keys == [f"host_1/{key}" for key in ("sleep_1", "step_in_branch_2/act_1", "random_3", "host_4/act_1")]


def test_the_context_of_the_workflow_in_a_task_is_a_scope_error_that_names_host(database: Path) -> None:
    async def code(ctx: Context) -> str:
        return await ctx.submit(act, "a")

    async def workflow(ctx: Context) -> str:
        return await asyncio.create_task(code(ctx))

    with Engine(database) as engine, pytest.raises(ScopeError, match=r"ctx\.host\(coroutine\)"):
        engine.run("emp_001", workflow)


def test_outside_of_hosted_code_there_is_no_current_context() -> None:
    async def code() -> None:
        await hosted_step("act", act, "a")

    with pytest.raises(ScopeError, match=r"ctx\.host\(coroutine\)"):
        asyncio.run(code())


def test_what_is_no_coroutine_is_refused(database: Path) -> None:
    async def workflow(ctx: Context) -> Any:
        return await ctx.host(act)  # type: ignore[arg-type]

    with Engine(database) as engine, pytest.raises(TypeError, match="expected a coroutine"):
        engine.run("emp_001", workflow)


# ---- both directions


def test_an_error_of_a_step_is_caught_by_the_hosted_code_and_one_of_the_code_fails_the_workflow(database: Path) -> None:
    def refuse(what: str) -> None:
        raise ValueError(f"no {what}")

    async def code(_: Context) -> None:
        try:
            await hosted_step("refuse", refuse, "boat")
        except ValueError as error:
            raise KeyError(str(error)) from None

    for _ in range(2):
        with pytest.raises(KeyError, match="no boat"):
            run_hosted(database, code)
    with Engine(database) as engine:
        assert engine.workflow("emp_001").status == "failed"


def test_a_failed_task_cancels_the_others_and_what_they_had_begun_is_recorded(database: Path) -> None:
    is_begun = asyncio.Event()

    async def slow() -> str:
        is_begun.set()
        await asyncio.sleep(0.02)
        return "slow"

    async def fail() -> None:
        await is_begun.wait()
        raise ValueError("a task fails")

    async def code(_: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(hosted_step("slow", slow))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup, match="unhandled errors") as raised:
        run_hosted(database, code)
    assert str(raised.value.exceptions[0]) == "a task fails"
    with Engine(database) as engine:
        assert [(step.step_key, step.value) for step in engine.steps("emp_001")] == [
            ("host_1/subtask_1/slow_1", "slow")
        ]


def test_a_timeout_of_the_hosted_code_on_an_operation_is_refused_by_name(database: Path) -> None:
    async def code(_: Context) -> str:
        try:
            async with asyncio.timeout(0.001):
                await current_context().event("never")
        except TimeoutError:
            pass
        return str(await hosted_step("act", act, "after"))

    with pytest.raises(ScopeError, match="a wait was cancelled within it"):
        run_hosted(database, code)
    assert effects(database) == []


def test_tasks_that_only_wait_or_that_the_code_excludes_move_no_key(database: Path) -> None:
    async def close() -> None:
        with pytest.raises(ScopeError):
            current_context()

    async def code(count: int) -> str:
        is_open, queue = asyncio.Event(), asyncio.Queue[int]()
        is_open.set()
        for number in range(count):
            queue.put_nowait(number)
            await asyncio.gather(is_open.wait(), queue.get())
            with uncounted_tasks():
                await asyncio.create_task(close())
        return str(await asyncio.create_task(hosted_step("act", act, "a")))

    async def workflow(ctx: Context) -> str:
        told = await ctx.host(code(len(counts)))
        counts.pop()
        if counts:
            raise KeyboardInterrupt
        return told

    counts = [1, 2, 3]
    with Engine(database) as engine:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                engine.run("emp_001", workflow)
        assert engine.run("emp_001", workflow) == "A"
    assert effects(database) == ["host_1/subtask_1/act_1"]


def test_tasks_that_the_code_leaves_are_cancelled(database: Path) -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")

    async def code(_: Context) -> str:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        return str(task.done())

    assert run_hosted(database, code) == "False"
    assert ended == ["cancelled"]


async def ask_beside(what: str) -> list[Any]:
    async def ask() -> Any:
        return await current_context().event("approval")

    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask())
        other = group.create_task(roam(what, 0, random.Random(what)))
    return [asked.result(), other.result()]


async def approval(ctx: Context) -> list[Any]:
    return await ctx.host(ask_beside("b"))


def test_it_is_suspended_once_all_that_is_left_waits_and_goes_on_with_the_message(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        started = engine.start("emp_001", approval)
        eventually(lambda: [run.ended for run in engine.runs("emp_001")] == ["suspended"])
        done = [step.value for step in engine.steps("emp_001") if step.status == "completed"]
        engine.send("emp_001", "approval", "yes")

        assert done == ["B1", "B2", "B3"]
        assert started.result() == ["yes", ["B1", "B2", "B3"]]
    assert sorted(effects(database)) == [f"host_1/subtask_2/act_{number}" for number in (1, 2, 3)]


def test_it_is_cancelled_with_its_workflow(database: Path) -> None:
    with Engine(database) as engine:
        started = engine.start("emp_001", approval)
        eventually(lambda: len(engine.steps("emp_001")) == STEPS + 1)
        engine.cancel("emp_001")
        with pytest.raises(WorkflowCancelledError):
            started.result()


def test_a_plain_workflow_may_host_too(database: Path) -> None:
    def workflow(ctx: Context) -> list[str]:
        hosted = ctx.host(roam("a", 0, random.Random(1)))
        return [ctx.step(act, "beside"), *hosted.result()]

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == ["BESIDE", "A1", "A2", "A3"]
    assert threading.active_count() < 20


def test_other_tasks_than_on_record_are_a_divergence(database: Path) -> None:
    settings = {"is_task": True}

    async def code() -> str:
        if settings["is_task"]:
            return str(await asyncio.create_task(hosted_step("act", act, "a")))
        return str(await hosted_step("act", act, "a"))

    async def last(coroutine: Coroutine[Any, Any, str]) -> str:
        told = await coroutine
        return str(await hosted_step("wait", act, told)) if settings["is_task"] else told

    async def workflow(ctx: Context) -> str:
        value = await ctx.host(last(code()))
        if settings["is_task"]:
            raise KeyboardInterrupt
        return value

    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        settings["is_task"] = False
        with pytest.raises(NonDeterminismError, match="was recorded as subtask as a branch, the code now calls act"):
            engine.run("emp_001", workflow)
