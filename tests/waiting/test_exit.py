"""The end of a process: workflows that only wait do not hold it up, with or without `close`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Retry, step
from durable.parallel.threads import is_process_ending
from tests.support.processes import child, eventually
from tests.support.workflows import act, effects


def sleeping(ctx: Context) -> None:
    """Sleeps long."""
    ctx.sleep(3600)


def receiving(ctx: Context) -> str:
    """Waits for a message."""
    return ctx.wait_event("news", type=str)


async def awaiting(ctx: Context) -> str:
    """The same in a coroutine, in a race."""
    return await (await ctx.first(ctx.event("news", type=str), ctx.event("other", type=str)))


def leg(ctx: Context) -> None:
    """Waits in a branch."""
    ctx.timer(3600).result()


def branching(ctx: Context) -> None:
    """Waits for a branch that waits."""
    ctx.branch(leg).result()


@step(retry=Retry(2, delay_seconds=3600))
def refuse_at_first() -> None:
    """Fails."""
    raise ValueError("not now")


def retrying(ctx: Context) -> None:
    """Waits for the next attempt."""
    ctx.step(refuse_at_first)


def having_a_child(ctx: Context) -> None:
    """Waits for a child that waits."""
    ctx.child(sleeping).result()


def leave_unclosed(_: Connection, database: Path, workflow: Callable[..., Any], how: str) -> None:
    """Return while the workflow waits."""
    engine = Engine(database, suspend=how == "suspends")
    if how == "runs in a pool":
        ThreadPoolExecutor().submit(engine.run, "emp_001", workflow)
    else:
        engine.start("emp_001", workflow)
    eventually(lambda: engine.find_workflow("emp_001") and engine.waits("emp_001"))


@pytest.mark.parametrize(
    ("workflow", "how"),
    [
        *[(each, "is started") for each in (sleeping, receiving, awaiting, branching, retrying, having_a_child)],
        (sleeping, "runs in a pool"),
        (awaiting, "runs in a pool"),
        (sleeping, "suspends"),
    ],
)
def test_a_process_ends_although_a_workflow_waits(database: Path, workflow: Callable[..., Any], how: str) -> None:
    with child(leave_unclosed, database, workflow, how) as process:
        assert process.outcome() is None
        assert process.join() == 0

    with Engine(database) as engine:
        (run,) = engine.runs("emp_001")
        if how != "suspends":
            assert (run.ended, run.reason) == ("interrupted", "the process ended while it waited")
        assert engine.workflow("emp_001").status == "running"
        assert engine.owner("emp_001") is None


def busy(ctx: Context) -> None:
    """Is in a step as the main thread ends, and waits after it."""
    ctx.step(outlast)
    ctx.step(act, "after")
    ctx.sleep(3600)
    ctx.step(act, "never")


def outlast() -> str:
    """Run until the main thread has ended."""
    entered.set()
    while not is_process_ending():
        time.sleep(0.001)
    return act("outlasted")


entered = threading.Event()


def leave_in_a_step(_: Connection, database: Path) -> None:
    """Return while a step runs."""
    Engine(database).start("emp_001", busy)
    entered.wait()


def test_a_process_ends_once_the_steps_that_come_before_a_wait_have_ended(database: Path) -> None:
    with child(leave_in_a_step, database) as process:
        assert process.outcome() is None
        assert process.join() == 0

    assert effects(database) == ["outlast_1", "act_2"]
    with Engine(database) as engine:
        assert [row.status for row in engine.steps("emp_001")] == ["completed", "completed", "running"]
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted"]
