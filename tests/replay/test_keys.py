"""Step keys come from program order, and only the function that owns a scope may draw them: rules 1 and 2."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Future, ScopeError
from tests.support import workflows
from tests.support.patience import patient
from tests.support.workflows import act

RUNS = 300

Keys = dict[str, str]


def count_moved(runs: list[Keys]) -> int:
    """In how many runs a key stood for another step than in the first."""
    return sum(keys != runs[0] for keys in runs)


def keys_in(database: Path) -> list[Keys]:
    """For each workflow: what each key stands for, without the seed that differs from run to run."""
    with closing(sqlite3.connect(database)) as db:
        rows = db.execute(
            "select workflow_id, step_key, fingerprint, output from steps order by workflow_id"
        ).fetchall()
    return [
        {key: f"{json.loads(fingerprint)[1:]} -> {output}" for _, key, fingerprint, output in group}
        for _, group in itertools.groupby(rows, key=lambda row: row[0])
    ]


@pytest.mark.thorough
@pytest.mark.parametrize("workflow", [workflows.two_branches, workflows.two_branches_async])
def test_no_key_moves_in_300_runs_of_two_parallel_branches(database: Path, workflow: Callable[..., Any]) -> None:
    with Engine(database, synchronous="off") as engine:
        for seed in range(RUNS):
            engine.run(f"run {seed}", workflow, seed)
    runs = keys_in(database)

    assert len(runs) == RUNS
    assert count_moved(runs) == 0
    assert len(runs[0]) == 4
    assert len(set(runs[0].values())) == 4, "steps that look alike would hide a swap"


def test_no_key_moves_in_300_runs_of_parallel_steps(database: Path) -> None:
    def fan_out(ctx: Context, seed: int) -> list[str]:
        futures = [ctx.submit(workflows.wait_a_moment, seed, f"place {place}") for place in range(4)]
        return [future.result() for future in futures]

    with Engine(database, synchronous="off") as engine:
        for seed in range(RUNS):
            engine.run(f"run {seed}", fan_out, seed)
    runs = keys_in(database)

    assert len(runs) == RUNS
    assert count_moved(runs) == 0


def test_keys_drawn_in_the_worker_threads_do_move() -> None:
    # The faulty scheme: two branches share a counter, and draw from it when they come to their steps. What is measured
    # is the same as above, so the tests above are known to be able to fail.
    def run_once(seed: int) -> Keys:
        counter, keys = itertools.count(1), {}

        def step(place: str) -> None:
            time.sleep(random.Random(f"{seed}/{place}").uniform(0, 0.001))
            keys[f"wait_a_moment_{next(counter)}"] = place

        def branch(side: str) -> None:
            step(f"{side} first")
            step(f"{side} second")

        list(pool.map(branch, ("left", "right")))
        return keys

    with ThreadPoolExecutor(2) as pool:
        runs = [run_once(seed) for seed in range(RUNS)]

    assert count_moved(runs) > 0


def test_a_key_is_the_name_and_the_place_in_program_order(database: Path) -> None:
    def order(ctx: Context) -> None:
        ctx.step(act, "a")
        ctx.branch("equip", equip)
        ctx.map(act, ["c", "d"])
        ctx.step("bill", act, "e")
        ctx.branch(equip)

    def equip(ctx: Context) -> None:
        ctx.step(act, "b")
        ctx.submit("label", act, "b")

    with Engine(database) as engine:
        engine.run("order", order)

        assert [step.step_key for step in engine.steps("order")] == [
            "act_1",
            "equip_2/act_1",
            "equip_2/label_2",
            "act_3",
            "act_4",
            "bill_5",
            "equip_6/act_1",
            "equip_6/label_2",
        ]


# ---- rule 2: who may draw


def from_a_thread(ctx: Context) -> None:
    thread_error: list[BaseException] = []

    def stray() -> None:
        try:
            ctx.step(act, "stray")
        except ScopeError as error:
            thread_error.append(error)

    thread = threading.Thread(target=stray)
    thread.start()
    thread.join()
    raise thread_error[0]


def from_a_pool(ctx: Context) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ctx.submit, act, "stray").result()


def from_inside_a_step(ctx: Context) -> None:
    def outer() -> str:
        return ctx.step(act, "stray")

    ctx.step(outer)


def from_inside_a_parallel_step(ctx: Context) -> None:
    def outer() -> str:
        return ctx.step(act, "stray")

    ctx.submit(outer).result()


def from_inside_an_async_step(ctx: Context) -> None:
    async def outer() -> str:
        return await ctx.submit(act, "stray")

    ctx.step(outer)


def from_a_branch_of_itself(ctx: Context) -> None:
    def branch(_: Context) -> None:
        ctx.step(act, "stray")

    ctx.branch(branch).result()


def by_its_parent(ctx: Context) -> None:
    leaked: list[Context] = []
    entered, leave = threading.Event(), threading.Event()

    def branch(child: Context) -> None:
        leaked.append(child)
        entered.set()
        leave.wait()

    future = ctx.branch(branch)
    entered.wait()
    try:
        leaked[0].step(act, "stray")
    finally:
        leave.set()
        future.result()


async def from_a_task(ctx: Context) -> None:
    async def stray() -> str:
        return await ctx.submit(act, "stray")

    await asyncio.create_task(stray())


async def from_gathered_coroutines(ctx: Context) -> None:
    async def stray(what: str) -> str:
        return ctx.step(act, what)

    await asyncio.gather(stray("stray"), stray("other"))


async def from_an_executor(ctx: Context) -> None:
    await asyncio.get_running_loop().run_in_executor(None, lambda: ctx.step(act, "stray"))


async def in_an_async_step_of_its_own(ctx: Context) -> None:
    async def outer() -> str:
        return ctx.step(act, "stray")

    await ctx.submit(outer)


STRAYS = [
    from_a_thread,
    from_a_pool,
    from_inside_a_step,
    from_inside_a_parallel_step,
    from_inside_an_async_step,
    from_a_branch_of_itself,
    by_its_parent,
    from_a_task,
    from_gathered_coroutines,
    from_an_executor,
    in_an_async_step_of_its_own,
]


@pytest.mark.parametrize("stray", STRAYS)
def test_an_operation_called_from_elsewhere_is_refused_and_leaves_nothing(
    database: Path, stray: Callable[[Context], Any]
) -> None:
    with Engine(database) as engine:
        with pytest.raises(ScopeError, match=r"branch") as refused:
            engine.run("emp_001", stray)

        assert "submit" in str(refused.value) or "step is one unit" in str(refused.value)
        assert "'emp_001'" in str(refused.value)
        assert [step.step_key for step in engine.steps("emp_001") if step.name == "act"] == []
        assert not [step for step in engine.steps("emp_001") if step.status == "completed"]
        assert engine.workflow("emp_001").status == "running"
        assert [run.ended for run in engine.runs("emp_001")] == ["stopped"]
        assert engine.owner("emp_001") is None
    assert workflows.effects(database) == []


@pytest.mark.parametrize("stray", STRAYS)
def test_code_that_swallows_the_refusal_does_not_complete(database: Path, stray: Callable[[Context], Any]) -> None:
    def swallow(ctx: Context) -> str:
        with suppress(Exception):
            stray(ctx)
        with suppress(Exception):
            ctx.step(act, "after it")
        return "all is well"

    async def swallow_async(ctx: Context) -> str:
        with suppress(Exception):
            await stray(ctx)
        with suppress(Exception):
            await ctx.submit(act, "after it")
        return "all is well"

    workflow = swallow_async if inspect.iscoroutinefunction(stray) else swallow
    with Engine(database) as engine:
        with pytest.raises(ScopeError):
            engine.run("emp_001", workflow)

        assert engine.workflow("emp_001").status == "running"
        assert engine.workflow("emp_001").output is None
    assert workflows.effects(database) == []


def test_a_step_that_swallows_the_refusal_does_not_complete_the_workflow(database: Path) -> None:
    def outer(ctx: Context) -> str:
        with suppress(ScopeError):
            ctx.step(act, "inner")
        return "done"

    def workflow(ctx: Context) -> str:
        return ctx.step("outer", lambda: outer(ctx))

    with Engine(database) as engine:
        with pytest.raises(ScopeError, match="inside a step"):
            engine.run("emp_001", workflow)

        assert engine.workflow("emp_001").status == "running"


def test_a_context_is_of_no_use_after_its_workflow_has_ended(database: Path) -> None:
    leaked: list[Context] = []

    def workflow(ctx: Context) -> str:
        leaked.append(ctx)
        return ctx.step(act, "a")

    with Engine(database) as engine:
        engine.run("emp_001", workflow)
        for operation in (leaked[0].step, leaked[0].submit):
            with pytest.raises(ScopeError, match="after the workflow function had ended"):
                operation(act, "late")
        with pytest.raises(ScopeError, match="after the workflow function had ended"):
            leaked[0].map(act, ["late"])
        with pytest.raises(ScopeError, match="after the workflow function had ended"):
            leaked[0].branch(workflows.errand, "late")

        assert [step.step_key for step in engine.steps("emp_001")] == ["act_1"]
        assert engine.run("emp_001", workflow) == "A"
    assert workflows.effects(database) == ["act_1"]


def test_a_context_of_a_branch_is_of_no_use_after_the_branch_has_ended(database: Path) -> None:
    leaked: list[Context] = []

    def workflow(ctx: Context) -> None:
        ctx.branch(leaked.append).result()
        leaked[0].step(act, "late")

    with Engine(database) as engine:
        with pytest.raises(ScopeError, match="had ended"):
            engine.run("emp_001", workflow)

        assert engine.steps("emp_001") == []


def test_a_callback_of_a_future_may_not_call_operations(database: Path) -> None:
    # The callback runs in whatever thread ends the step, so its place in program order would be chance.
    refused: list[BaseException] = []

    def workflow(ctx: Context) -> str:
        release = threading.Event()

        def hold() -> str:
            release.wait()
            return "held"

        def call_back(_: Future[str]) -> None:
            try:
                ctx.step(act, "from a callback")
            except ScopeError as error:
                refused.append(error)

        future = ctx.submit(hold)
        future.add_done_callback(call_back)  # type: ignore[arg-type]
        release.set()
        return future.result()

    with Engine(database) as engine:
        with pytest.raises(ScopeError):
            engine.run("emp_001", workflow)

        assert len(refused) == 1
        assert [step.name for step in engine.steps("emp_001")] == ["hold"]


def test_a_step_may_run_a_workflow_of_its_own(database: Path, tmp_path: Path) -> None:
    def outer(ctx: Context) -> list[str]:
        return ctx.step(run_inner)

    def run_inner() -> list[str]:
        with Engine(tmp_path / "inner.db") as inner:
            return inner.run("inner", workflows.errand, "a", "b")

    with Engine(database) as engine:
        assert engine.run("outer", outer) == ["A", "B"]


@pytest.mark.parametrize("where", ["another thread", "a branch that has ended", "another task"])
def test_what_is_on_record_is_told_only_to_the_function_that_may_ask(database: Path, where: str) -> None:
    # Life 1 asks in the right place, and ends early: the row is on record.
    # Life 2 asks for the very same step under the very same key, but from where its place would be chance.
    lives: list[int] = []

    def in_a_thread(ctx: Context) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ctx.step, act, "a").result()

    def in_an_ended_branch(ctx: Context) -> None:
        def side(inner: Context) -> None:
            inners.append(inner)
            if len(lives) == 1:
                inner.step(act, "a")

        inners: list[Context] = []
        ctx.branch("side", side).result()
        if len(lives) == 2:
            inners[0].step(act, "a")

    def workflow(ctx: Context) -> None:
        lives.append(len(lives))
        if where == "a branch that has ended":
            in_an_ended_branch(ctx)
        elif len(lives) == 1:
            ctx.step(act, "a")
        else:
            in_a_thread(ctx)
        raise SystemExit

    async def workflow_async(ctx: Context) -> None:
        async def ask() -> None:
            ctx.step(act, "a")

        lives.append(len(lives))
        if len(lives) == 1:
            await ctx.submit(act, "a")
        else:
            await asyncio.create_task(ask())
        raise SystemExit

    with Engine(database, synchronous="off") as engine:
        called = workflow_async if where == "another task" else workflow
        with pytest.raises(SystemExit):
            engine.run("emp_001", called)
        with pytest.raises(ScopeError):
            engine.run("emp_001", called)

        assert [row.status for row in engine.steps("emp_001")] == ["completed"]
    assert len(workflows.effects(database)) == 1


WHILE_ASYNCIO_IS_IMPORTED = """
import sys, threading
from durable import Context, Engine

def seven() -> int:
    return 7

def branch(ctx: Context) -> int:
    return ctx.step(seven)

def workflow(ctx: Context) -> int:
    side = ctx.branch(branch)
    return ctx.step(seven) + side.result()

seen, failed = [], []

def run(module: str) -> None:
    try:
        assert engine.run(module, workflow) == 14
    except Exception as error:
        failed.append(f"before {module}: {error!r}")

def on_import(event: str, args: tuple) -> None:
    if event == "import" and args[0].startswith("asyncio."):
        asyncio = sys.modules["asyncio"]
        seen.append((hasattr(asyncio, "_get_running_loop"), hasattr(asyncio, "current_task")))
        thread = threading.Thread(target=run, args=(args[0],))
        thread.start()
        thread.join()

with Engine(sys.argv[1], synchronous="off") as engine:
    run("warm up")
    assert "asyncio" not in sys.modules
    sys.addaudithook(on_import)
    import asyncio
assert {(False, False), (True, False)} <= set(seen), seen
assert not failed, failed
"""


def test_a_workflow_runs_on_while_another_thread_imports_asyncio(database: Path) -> None:
    # Thread A is importing asyncio: the module is in sys.modules, and lacks what has not been defined yet.
    # Thread B runs a workflow, once before each part of asyncio is imported; its steps ask for the current task.
    code = [sys.executable, "-c", WHILE_ASYNCIO_IS_IMPORTED, str(database)]
    done = subprocess.run(code, check=False, capture_output=True, text=True, timeout=patient(60))

    assert done.returncode == 0, done.stderr
