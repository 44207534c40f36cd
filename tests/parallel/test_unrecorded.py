"""What no record tells a replay is no way to decide: a timeout of a future, a wait that was cancelled, an interrupt."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Future, ScopeError
from durable.errors import RunStopped
from tests.support import workflows
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import call_in_child, eventually
from tests.support.workflows import act, refuse

leave = threading.Event()


@pytest.fixture(autouse=True)
def step_that_is_held() -> Iterator[None]:
    """The step `hold` ends with the test, or once the test sets `leave`."""
    leave.clear()
    yield
    leave.set()


def hold() -> str:
    """Run until the test says so."""
    leave.wait(PATIENCE_SECONDS)
    return "held"


def ends(engine: Engine) -> list[str | None]:
    return [run.ended for run in engine.runs("emp_001")]


# ---- timeouts of futures


QUESTIONS: dict[str, Callable[[Future[str]], object]] = {
    "result": lambda future: future.result(timeout=0.001),
    "exception": lambda future: future.exception(0.001),
    "done": lambda future: future.done(),
}


def swallow(question: str, future: Future[str]) -> None:
    """Ask, and go on whatever comes of it. The step ends afterwards."""
    with suppress(ScopeError, TimeoutError):
        QUESTIONS[question](future)
    leave.set()


def in_a_workflow(ctx: Context, question: str) -> None:
    swallow(question, ctx.submit(hold))
    ctx.step(act, "after")


def at_its_end(ctx: Context, question: str) -> None:
    swallow(question, ctx.submit(hold))


def in_a_branch(ctx: Context, question: str) -> None:
    ctx.branch(in_a_workflow, question).result()


def of_another_function(ctx: Context, question: str) -> None:
    future = ctx.submit(hold)

    def branch(_: Context) -> None:
        swallow(question, future)

    ctx.branch(branch).result()


async def in_an_async_workflow(ctx: Context, question: str) -> None:
    swallow(question, ctx.submit(hold))
    await ctx.submit(act, "after")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "workflow", [in_a_workflow, at_its_end, in_a_branch, of_another_function, in_an_async_workflow]
)
def test_a_workflow_may_not_ask_what_depends_on_the_time(
    database: Path, workflow: Callable[..., Any], question: str
) -> None:
    with Engine(database) as engine:
        with pytest.raises(ScopeError, match=r"asked 'hold_1'|asked '.*/hold_1'") as refused:
            engine.run("emp_001", workflow, question)

        assert "ctx.first(future, ctx.timer(seconds)).result()" in str(refused.value)
        assert ends(engine) == ["stopped"]
        assert workflows.effects(database) == []


def test_a_timeout_is_refused_also_if_it_would_not_pass(database: Path) -> None:
    def workflow(ctx: Context) -> str:
        future = ctx.submit(act, "a")
        future.result()
        return future.result(timeout=60)

    with Engine(database) as engine, pytest.raises(ScopeError):
        engine.run("emp_001", workflow)


def test_a_future_that_is_done_says_so(database: Path) -> None:
    def workflow(ctx: Context) -> bool:
        future = ctx.submit(act, "a")
        future.result()
        return future.done()

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow)


def test_a_step_and_code_outside_may_ask(database: Path) -> None:
    futures: list[Future[str]] = []
    told: list[object] = []

    def ask() -> str:
        told.append(futures[0].done())
        with pytest.raises(TimeoutError):
            futures[0].result(0.001)
        return "asked"

    def workflow(ctx: Context) -> list[str]:
        futures.append(ctx.submit(hold))
        return [ctx.step(ask), futures[0].result()]

    with Engine(database) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: told)
        assert not futures[0].done()
        with pytest.raises(TimeoutError):
            futures[0].result(0.001)
        leave.set()

        assert handle.result() == ["asked", "held"]
        assert (told, futures[0].result(0)) == ([False], "held")


def late(ctx: Context) -> str:
    """Do as the message of the error says."""
    future, timer = ctx.submit(hold), ctx.timer(0.01)
    winner = ctx.first(future, timer)
    if winner.result() is future:
        return "in time"
    leave.set()
    return f"late: {future.result()}"


async def late_async(ctx: Context) -> str:
    """The same in a coroutine."""
    future, timer = ctx.submit(hold), ctx.timer(0.01)
    if await ctx.first(future, timer) is future:
        return "in time"
    leave.set()
    return f"late: {await future}"


@pytest.mark.parametrize("workflow", [late, late_async])
def test_a_race_with_a_timer_is_the_timeout_that_is_recorded(database: Path, workflow: Callable[..., Any]) -> None:
    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == "late: held"
        assert "first_3" in [step.step_key for step in engine.steps("emp_001")]


# ---- waits that are cancelled


async def with_timeout(future: Future[str]) -> None:
    async with asyncio.timeout(0.001):
        await future


async def with_wait_for(future: Future[str]) -> None:
    await asyncio.wait_for(future, 0.001)


async def with_wait_for_several(future: Future[str]) -> None:
    await asyncio.wait_for(asyncio.gather(future, future), 0.001)


async def in_a_task(future: Future[str]) -> None:
    await asyncio.create_task(with_timeout(future))


AFTERWARDS = ["a step", "a submit", "the future", "nothing", "its error", "an error of its own"]


@pytest.mark.parametrize("wait", [with_timeout, with_wait_for, with_wait_for_several, in_a_task])
@pytest.mark.parametrize("afterwards", AFTERWARDS)
def test_a_workflow_does_not_go_on_after_a_wait_that_was_cancelled(
    database: Path, wait: Callable[..., Any], afterwards: str
) -> None:
    async def workflow(ctx: Context) -> None:
        future = ctx.submit(hold)
        try:
            await wait(future)
        except TimeoutError:
            leave.set()
            match afterwards:
                case "a step":
                    ctx.step(act, "after")
                case "a submit":
                    await ctx.submit(act, "after")
                case "the future":
                    await future
                case "its error":
                    raise
                case "an error of its own":
                    raise ValueError("too late") from None

    with Engine(database) as engine:
        with pytest.raises(ScopeError, match=r"a wait was cancelled within it.*ctx\.first\(future, ctx\.timer"):
            engine.run("emp_001", workflow)

        assert (engine.workflow("emp_001").status, ends(engine)) == ("running", ["stopped"])
        assert all(step.status == "completed" for step in engine.steps("emp_001"))  # it may not have been begun
        assert workflows.effects(database) == []


def test_a_branch_does_not_survive_it_either(database: Path) -> None:
    async def branch(ctx: Context) -> None:
        with suppress(TimeoutError):
            await with_timeout(ctx.submit(hold))
        leave.set()

    def workflow(ctx: Context) -> None:
        with suppress(ScopeError):
            ctx.branch(branch).result()

    with Engine(database) as engine:
        with pytest.raises(ScopeError):
            engine.run("emp_001", workflow)
        assert ends(engine) == ["stopped"]


def test_a_group_that_a_failed_step_cancels_fails_the_workflow(database: Path) -> None:
    async def result_of(future: Future[str]) -> str:
        return await future

    async def workflow(ctx: Context) -> None:
        held, failed = ctx.submit(hold), ctx.submit(refuse, "boat")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(result_of(held))
                group.create_task(result_of(failed))
        finally:
            leave.set()

    with Engine(database) as engine:
        with pytest.raises(ExceptionGroup) as raised:
            engine.run("emp_001", workflow)

        assert [str(error) for error in raised.value.exceptions] == ["no boat today"]
        assert (engine.workflow("emp_001").status, ends(engine)) == ("failed", ["failed"])


# ---- interrupts that are swallowed


class Stop(BaseException):
    """Not an Exception: control flow of the user's own."""


is_armed = threading.Event()


def stopped(*_: object) -> str:
    if is_armed.is_set():
        raise Stop
    return "done"


async def stopped_async() -> str:
    return stopped()


def stopped_branch(ctx: Context) -> str:
    return ctx.step(stopped)


INTERRUPTED: dict[str, Callable[[Context], Any]] = {
    "step": lambda ctx: ctx.step(stopped),
    "submit": lambda ctx: ctx.submit(stopped).result(),
    "exception": lambda ctx: ctx.submit(stopped).exception(),
    "map": lambda ctx: ctx.map(stopped, [1, 2]),
    "branch": lambda ctx: ctx.branch(stopped_branch).result(),
    "async step": lambda ctx: ctx.step(stopped_async),
    "async submit": lambda ctx: ctx.submit(stopped_async).result(),
    "transaction": lambda ctx: ctx.transaction(stopped),
}


@pytest.mark.parametrize("how", INTERRUPTED)
@pytest.mark.parametrize("afterwards", ["goes on", "returns", "fails"])
def test_a_workflow_that_swallows_an_interrupt_does_not_go_on(database: Path, how: str, afterwards: str) -> None:
    def workflow(ctx: Context) -> str:
        with suppress(Stop):
            INTERRUPTED[how](ctx)
        if afterwards == "goes on":
            ctx.step(act, "after")
        if afterwards == "fails" and is_armed.is_set():
            raise ValueError("it failed")
        return "all is well"

    is_armed.set()
    with Engine(database) as engine:
        with pytest.raises(RunStopped):
            engine.run("emp_001", workflow)

        assert (engine.workflow("emp_001").status, ends(engine)) == ("running", ["interrupted"])
        assert engine.runs("emp_001")[0].reason == "Stop"
        assert workflows.effects(database) == []
        is_armed.clear()
        assert engine.run("emp_001", workflow) == "all is well"
        assert {step.status for step in engine.steps("emp_001")} == {"completed"}


@pytest.mark.parametrize("how", ["submit", "async submit"])
def test_an_async_workflow_that_swallows_an_interrupt_does_not_complete(database: Path, how: str) -> None:
    async def workflow(ctx: Context) -> str:
        with suppress(Stop):
            await ctx.submit(stopped if how == "submit" else stopped_async)
        return "all is well"

    is_armed.set()
    with Engine(database) as engine:
        with pytest.raises((RunStopped, asyncio.CancelledError)):
            engine.run("emp_001", workflow)
        assert (engine.workflow("emp_001").status, ends(engine)) == ("running", ["interrupted"])


def swallow_ctrl_c(_: Connection, database: Path, how: str) -> Any:
    """The workflow waits for a step as Ctrl+C comes, or is in it."""
    entered, after = threading.Event(), list[str]()

    def wait_here() -> str:
        entered.set()
        leave.wait(PATIENCE_SECONDS)
        return "held"

    def press() -> None:
        entered.wait()
        os.kill(os.getpid(), signal.SIGINT)
        leave.wait(0.2)
        leave.set()

    def workflow(ctx: Context) -> str:
        with suppress(KeyboardInterrupt):
            ctx.step(wait_here) if how == "step" else ctx.submit(wait_here).result()
        with suppress(Exception):
            after.append(ctx.step(act, "after"))
        return "all is well"

    threading.Thread(target=press).start()
    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except RunStopped:
            return ends(engine), engine.runs("emp_001")[0].reason, after, engine.workflow("emp_001").status
        return "completed"


@pytest.mark.parametrize("how", ["step", "submit"])
def test_a_workflow_that_swallows_ctrl_c_does_not_complete(database: Path, how: str) -> None:
    found = call_in_child(swallow_ctrl_c, database, how)

    assert found == (["interrupted"], "KeyboardInterrupt", [], "running")
