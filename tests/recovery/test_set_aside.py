"""Set aside: a workflow that gets nowhere in three runs in a row is not resumed until a caller runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, ScopeError, SerializationError
from durable.observer import crash_at
from durable.recovery.recover import Recovery
from tests.support.processes import crash_in_child
from tests.support.workflows import act, effects, errand

is_mended = threading.Event()


@pytest.fixture(autouse=True)
def not_mended() -> None:
    is_mended.clear()


def charge() -> object:
    """Have an effect, and return what cannot be stored."""
    return act("charge") if is_mended.is_set() else (act("charge"), threading.Lock())


def order(ctx: Context) -> None:
    """Have an effect again in each run."""
    ctx.step(charge)


def order_in_parallel(ctx: Context) -> None:
    """The same in a worker thread."""
    ctx.submit(charge).result()


def misuse(ctx: Context) -> None:
    """Have an effect in a step that uses the context."""
    ctx.step(act_within, ctx)


def act_within(ctx: Context) -> None:
    """Use the context within a step."""
    act("within")
    if not is_mended.is_set():
        ctx.step(act, "inner")


act_within.__annotations__.clear()


def recover_and_wait(engine: Engine) -> Recovery:
    found = engine.recover()
    for handle in found.resumed:
        with pytest.raises((SerializationError, ScopeError)):
            handle.result()
    return found


def resumed(found: Recovery) -> list[str]:
    return [handle.workflow_id for handle in found.resumed]


@pytest.mark.parametrize(
    ("workflow", "effect", "error"),
    [
        (order, "charge_1", SerializationError),
        (order_in_parallel, "charge_1", SerializationError),
        (misuse, "act_within_1", ScopeError),
    ],
)
def test_an_effect_whose_run_stops_is_had_three_times_and_then_no_more(
    database: Path, workflow: Callable[..., Any], effect: str, error: type[Exception]
) -> None:
    with Engine(database) as engine:
        with pytest.raises(error):
            engine.run("order-1", workflow)
        found = [recover_and_wait(engine) for _ in range(5)]

        assert effects(database) == [effect] * 3
        assert [resumed(each) for each in found] == [["order-1"]] * 2 + [[]] * 3
        assert [each.set_aside for each in found] == [[]] * 2 + [["order-1"]] * 3
        assert [run.ended for run in engine.runs("order-1")] == ["stopped"] * 3


@pytest.mark.parametrize("how", ["run", "resume"])
def test_a_caller_runs_what_was_set_aside(database: Path, how: str) -> None:
    with Engine(database) as engine:
        with pytest.raises(SerializationError):
            engine.run("order-1", order)
        for _ in range(3):
            recover_and_wait(engine)
        is_mended.set()
        assert engine.recover().set_aside == ["order-1"]

        if how == "run":
            engine.run("order-1", order)
        else:
            engine.resume("order-1").result()
        assert engine.workflow("order-1").status == "completed"


def test_an_engine_that_suspends_leaves_what_has_stopped_in_it(database: Path) -> None:
    with Engine(database) as engine, pytest.raises(SerializationError):
        engine.run("order-1", order)
    with Engine(database, suspend=True) as engine:
        found = [recover_and_wait(engine) for _ in range(4)]

        assert effects(database) == ["charge_1"] * 2
        assert [resumed(each) for each in found] == [["order-1"], [], [], []]
        assert "its run in this process ended with SerializationError" in found[-1].left["order-1"]
        is_mended.set()
        engine.resume("order-1").result()


def test_an_engine_that_suspends_resumes_what_was_interrupted_in_it(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        for _ in range(4):
            engine.start("order-1", wait_for_news).end()
            (handle,) = engine.recover().resumed
            handle.end()


def wait_for_news(ctx: Context) -> None:
    """Wait without end."""
    ctx.wait_event("news")


# ---- what does not count


def errand_and_crash(pipe: Connection, database: Path, crash_point: str) -> Any:
    """Run three steps up to a crash."""
    with Engine(database, observers=[crash_at.parse(crash_point)]) as engine:
        return engine.run("job", errand, "a", "b", "c")


def test_runs_that_got_further_are_resumed_however_many_have_crashed(database: Path) -> None:
    for number in (1, 2, 3):
        crash_in_child(errand_and_crash, database, f"act_{number}:checkpointed")
    with Engine(database) as engine:
        (handle,) = engine.recover().resumed

        assert handle.result() == ["A", "B", "C"]
        assert effects(database) == ["act_1", "act_2", "act_3"]


@pytest.mark.parametrize("crash_point", ["act_1:started", "act_1:executed", "act_2:executed"])
def test_runs_that_got_no_further_are_not(database: Path, crash_point: str) -> None:
    for _ in range(3):  # the first may save a step, on its way to the place where all of them end
        crash_in_child(errand_and_crash, database, crash_point)
    with Engine(database) as engine:
        assert engine.recover().set_aside == ["job"]


def interrupt(ctx: Context) -> None:
    """Have an effect, and be interrupted in it."""
    ctx.step(interrupt_here)


def interrupt_here() -> None:
    """A step in which Ctrl+C comes."""
    act("begun")
    raise KeyboardInterrupt


def test_interrupted_runs_do_not_count(database: Path) -> None:
    with Engine(database) as engine:
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                engine.run("order-1", interrupt)
        found = engine.recover()

        assert (resumed(found), found.set_aside) == (["order-1"], [])
        with pytest.raises(KeyboardInterrupt):
            found.resumed[0].result()
