"""Stop: the steps in flight end and are saved, nothing more begins, and the rest is left to the next process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, StoreError
from durable.errors import RunStopped, Suspended
from durable.testing.inside import file_of
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually, is_main_thread_in
from tests.support.workflows import act, effects

entered, leave = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def step_that_is_held() -> Iterator[None]:
    """A step ends with the test, or once the test lets it."""
    entered.clear(), leave.clear()
    yield
    leave.set()


def hold(what: str) -> str:
    """Run until it is let go."""
    entered.set()
    leave.wait(PATIENCE_SECONDS)
    return act(what)


async def hold_async(what: str) -> str:
    """The same in a coroutine."""
    entered.set()
    while not leave.is_set():  # noqa: ASYNC110 - the test sets it, in another thread
        await asyncio.sleep(0.001)
    return act(what)


def stepping(ctx: Context) -> str:
    return ctx.step(hold, "held") + ctx.step(act, "after")


def stepping_on_the_loop(ctx: Context) -> str:
    return ctx.step(hold_async, "held") + ctx.step(act, "after")


async def awaiting(ctx: Context) -> str:
    return await ctx.submit(hold_async, "held") + await ctx.submit(act, "after")


def beside_a_wait(ctx: Context) -> str:
    """The step is in flight while the workflow waits for something else."""
    held = ctx.submit(hold_async, "held")
    ctx.wait_event("go")
    return held.result() + ctx.step(act, "after")


def having_a_child(ctx: Context) -> str:
    return ctx.child(stepping_on_the_loop).result()


WORKFLOWS: list[Callable[..., Any]] = [stepping, stepping_on_the_loop, awaiting, beside_a_wait, having_a_child]


def let_go_once_stopped() -> None:
    """Let the step go on once `stop` waits for it."""
    eventually(lambda: is_main_thread_in("stop") and is_main_thread_in("let_through"))
    leave.set()


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_the_steps_in_flight_end_and_are_saved_and_nothing_more_begins(
    database: Path, workflow: Callable[..., Any], suspend: bool
) -> None:
    engine = Engine(database, suspend=suspend)
    handle = engine.start("emp_001", workflow)
    entered.wait()
    threading.Thread(target=let_go_once_stopped).start()

    assert engine.stop(PATIENCE_SECONDS)
    assert len(effects(database)) == 1
    with pytest.raises((RunStopped, asyncio.CancelledError, Suspended)):
        handle.result()
    with Engine(database, suspend=suspend) as following:
        (run,) = following.runs("emp_001")
        assert (run.ended, run.reason) in (("interrupted", "the engine was stopped"), ("suspended", None))
        following.send("emp_001", "go")
        assert following.resume("emp_001").result() == "HELDAFTER"
    assert len(effects(database)) == 2


def test_a_workflow_that_another_thread_runs_is_left_too(database: Path) -> None:
    endings: list[BaseException] = []

    def run() -> None:
        try:
            engine.run("emp_001", waiting)
        except BaseException as error:
            endings.append(error)

    engine = Engine(database)
    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: engine.find_workflow("emp_001") and engine.waits("emp_001"))

    assert engine.stop()
    thread.join(PATIENCE_SECONDS)
    assert [type(error) for error in endings] == [RunStopped]
    with Engine(database) as following:
        assert [run.ended for run in following.runs("emp_001")] == ["interrupted"]


def waiting(ctx: Context) -> None:
    ctx.wait_event("never")


def test_what_is_suspended_is_left_and_its_callers_are_notified(database: Path) -> None:
    engine = Engine(database, suspend=True)
    handle = engine.start("emp_001", waiting)
    eventually(lambda: [run.ended for run in engine.runs("emp_001")] == ["suspended"])
    eventually(file_of(engine).sleepers.is_idle)  # its thread, too, has done with it

    assert engine.stop()
    with pytest.raises(Suspended):
        handle.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("suspend", [False, True])
def test_a_step_that_outlasts_the_time_is_not_saved_and_runs_again(database: Path, suspend: bool) -> None:
    engine = Engine(database, suspend=suspend)
    engine.start("emp_001", stepping)
    entered.wait()
    before = time.monotonic()

    assert not engine.stop(timeout_seconds=0.1)
    assert time.monotonic() - before < PATIENCE_SECONDS / 2
    with Engine(database) as following:
        assert following.owner("emp_001") is not None
        assert [row.status for row in following.steps("emp_001")] == ["running"]
        leave.set()
        eventually(lambda: following.owner("emp_001") is None)
        assert [row.status for row in following.steps("emp_001")] == ["running"]
        assert following.run("emp_001", stepping) == "HELDAFTER"
    assert effects(database) == ["hold_1", "hold_1", "act_2"]


def test_a_coroutine_that_outlasts_the_time_is_cancelled(database: Path) -> None:
    engine = Engine(database)
    engine.start("emp_001", stepping_on_the_loop)
    entered.wait()

    assert not engine.stop(0.1)
    with Engine(database) as following:
        eventually(lambda: following.owner("emp_001") is None)
        assert effects(database) == []


def test_nothing_begins_in_an_engine_that_was_stopped(database: Path) -> None:
    with Engine(database) as engine:
        assert engine.stop()
        assert engine.stop()
        for begin in (engine.run, engine.start):
            with pytest.raises(StoreError, match="the engine is closed; open a new Engine"):
                begin("emp_001", stepping)
    with Engine(database) as engine:
        assert engine.workflows() == []


def test_runs_that_were_stopped_do_not_set_a_workflow_aside(database: Path) -> None:
    for _ in range(4):
        engine = Engine(database)
        if not engine.recover().resumed:
            engine.start("emp_001", waiting)
        eventually(lambda engine=engine: engine.waits("emp_001"))
        assert engine.stop()
    with Engine(database) as engine:
        (handle,) = engine.recover().resumed
        handle.end()
