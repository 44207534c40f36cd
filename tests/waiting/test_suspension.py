"""An engine that suspends: what only waits holds no thread, is replayed when it wakes, and ends as it would have."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import pytest

from durable import Context, Engine, Future, Retry, WorkflowCancelledError, step
from durable.clock import ManualClock
from durable.errors import NonDeterminismError, RunStopped, Suspended, WorkflowBusyError, WorkflowNotFoundError
from durable.observer import Moment
from durable.testing.inside import file_of
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import KILLED, call_in_child, child, eventually
from tests.support.stored import ends, is_asleep, is_waiting, outcomes, rows
from tests.support.workflows import act, act_async, effects

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = 3600.0


def act_on_news(ctx: Context) -> str:
    ctx.step(act, "before")
    news = ctx.wait_event("news")
    return ctx.step(act, f"after {news}")


# ---- it gives its thread back, and goes on


def test_it_gives_its_thread_back_and_no_step_runs_twice(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
        assert rows(database, "select step_key from waits") == [("news_2",)]
        engine.send("emp_001", "news", "today")

        assert handle.result(PATIENCE_SECONDS) == "AFTER TODAY"
        assert ends(engine) == ["suspended", "completed"]
        assert effects(database) == ["act_1", "act_3"]


def test_one_that_is_just_being_woken_is_joined(database: Path) -> None:
    woken, go_on = threading.Event(), threading.Event()

    def hold_the_second_run(moment: Moment) -> None:
        if moment.name == "workflow.started" and moment.epoch == 2:
            woken.set()
            assert go_on.wait(PATIENCE_SECONDS)

    with Engine(database, suspend=True, observers=[hold_the_second_run]) as engine:
        first = engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
        engine.send("emp_001", "news", "today")
        assert woken.wait(PATIENCE_SECONDS)
        second, third = engine.start("emp_001", act_on_news), engine.resume("emp_001")
        go_on.set()

        assert [each.result(PATIENCE_SECONDS) for each in (first, second, third)] == ["AFTER TODAY"] * 3
        assert ends(engine) == ["suspended", "completed"]
        assert effects(database) == ["act_1", "act_3"]


def test_what_another_engine_runs_is_not_joined(database: Path) -> None:
    with Engine(database) as other, Engine(database, suspend=True) as engine:
        handle = other.start("emp_001", act_on_news)
        eventually(lambda: is_waiting(database, 1))

        with pytest.raises(WorkflowBusyError):
            engine.start("emp_001", act_on_news)

        other.send("emp_001", "news", "today")
        assert handle.result(PATIENCE_SECONDS) == "AFTER TODAY"


def test_many_that_wait_hold_no_thread_each(database: Path) -> None:
    with Engine(database, suspend=True, max_workflows=3, synchronous="off") as engine:
        before = threading.active_count()
        handles = [engine.start(f"emp_{number:03}", act_on_news) for number in range(150)]
        eventually(lambda: all(is_asleep(engine, handle.workflow_id) for handle in handles))
        asleep = threading.active_count()
        for handle in handles:
            engine.send(handle.workflow_id, "news", handle.workflow_id)
        results = [handle.result(PATIENCE_SECONDS) for handle in handles]

    assert asleep - before <= 3
    assert results == [f"AFTER EMP_{number:03}" for number in range(150)]


def test_run_waits_for_the_end_as_ever(database: Path) -> None:
    def workflow(ctx: Context) -> str:
        for _ in range(3):
            ctx.sleep(HOUR)
        return ctx.step(act, "rested")

    clock = ManualClock(NOON)
    with Engine(database, suspend=True, clock=clock) as engine:
        assert engine.run("emp_001", workflow) == "RESTED"
        assert ends(engine) == ["suspended", "suspended", "suspended", "completed"]
    assert clock.now() == NOON + timedelta(hours=3)


# ---- on the way out nothing is done


@step(retry=Retry(attempts=2, delay_seconds=HOUR, max_delay_seconds=HOUR, jitter=0))
def fail_once(what: str) -> str:
    act(what)
    if what not in failed:
        failed.add(what)
        raise ConnectionError("not yet")
    return "at last"


@step(retry=Retry(attempts=2, delay_seconds=HOUR, max_delay_seconds=HOUR, jitter=0))
async def fail_once_async(what: str) -> str:
    return fail_once(what)


failed: set[str] = set()

WAITS: dict[str, Callable[[Context], Any]] = {
    "sleep": lambda ctx: ctx.sleep(HOUR),
    "timer": lambda ctx: ctx.timer(HOUR).result(),
    "event": lambda ctx: ctx.wait_event("never", timeout_seconds=HOUR),
    "race": lambda ctx: ctx.first(ctx.event("never"), ctx.timer(HOUR)).result(),
    "as completed": lambda ctx: next(iter(ctx.as_completed([ctx.event("never"), ctx.timer(HOUR)]))),
    "retry": lambda ctx: ctx.step(fail_once, "once"),
    "retry of a coroutine": lambda ctx: ctx.step(fail_once_async, "once"),
    "retry beside": lambda ctx: ctx.submit(fail_once, "once").result(),
    "retry in map": lambda ctx: ctx.map(fail_once, ["once"]),
    "branch": lambda ctx: ctx.branch(nap).result(),
    "child": lambda ctx: ctx.child(nap).result(),
}
AWAITS: dict[str, Callable[[Context], Any]] = {
    "timer": lambda ctx: ctx.timer(HOUR),
    "event": lambda ctx: ctx.event("never", timeout_seconds=HOUR),
    "race": lambda ctx: ctx.first(ctx.event("never"), ctx.timer(HOUR)),
    "retry": lambda ctx: ctx.submit(fail_once_async, "once"),
    "branch": lambda ctx: ctx.branch(nap_async),
    "branch in a thread": lambda ctx: ctx.branch(nap),
    "child": lambda ctx: ctx.child(nap),
}


def life_of_clean_up(engine: Engine) -> int:
    """In which life it was done: the last one, unless it was done on the way out."""
    return next(each.epoch for each in engine.steps("emp_001") if each.name.startswith("act"))


def nap(ctx: Context) -> None:
    ctx.sleep(HOUR)


async def nap_async(ctx: Context) -> None:
    await ctx.timer(HOUR)


@pytest.mark.parametrize("handler", ["finally", "except BaseException", "with"])
@pytest.mark.parametrize("wait", WAITS)
def test_a_finally_runs_no_step_while_the_function_is_unwound(database: Path, wait: str, handler: str) -> None:
    failed.clear()

    class CleanUp:
        def __init__(self, ctx: Context) -> None:
            self.ctx = ctx

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            self.ctx.step(act, "clean up")

    def with_finally(ctx: Context) -> str:
        try:
            WAITS[wait](ctx)
        except TimeoutError:
            pass
        finally:
            ctx.step(act, "clean up")
        return "done"

    def with_except(ctx: Context) -> str:
        try:
            WAITS[wait](ctx)
        except TimeoutError:
            pass
        except BaseException:
            ctx.step(act, "clean up")
            raise
        ctx.step(act, "clean up")
        return "done"

    def with_block(ctx: Context) -> str:
        with CleanUp(ctx), contextlib.suppress(TimeoutError):
            WAITS[wait](ctx)
        return "done"

    workflow = {"finally": with_finally, "except BaseException": with_except, "with": with_block}[handler]
    clock = ManualClock(NOON)
    with Engine(database, suspend=True, clock=clock) as engine:
        assert engine.start("emp_001", workflow).result(PATIENCE_SECONDS) == "done"
        assert ends(engine)[-1] == "completed"
        assert life_of_clean_up(engine) == len(ends(engine)) >= 2
    assert sum(key.startswith("act_") for key in effects(database, "emp_001")) == 1
    assert clock.now() == NOON + timedelta(seconds=HOUR)


@pytest.mark.parametrize("wait", AWAITS)
def test_a_finally_of_a_coroutine_runs_no_step_either(database: Path, wait: str) -> None:
    failed.clear()

    async def workflow(ctx: Context) -> str:
        try:
            await AWAITS[wait](ctx)
        except TimeoutError:
            pass
        finally:
            await ctx.submit(act_async, "clean up")
        return "done"

    with Engine(database, suspend=True, clock=ManualClock(NOON)) as engine:
        assert engine.start("emp_001", workflow).result(PATIENCE_SECONDS) == "done"
        assert life_of_clean_up(engine) == len(ends(engine)) >= 2
    assert sum(key.startswith("act_async") for key in effects(database, "emp_001")) == 1


async def in_a_group(*futures: Future[Any]) -> list[Any]:
    """As Python has it for several that are awaited beside each other."""

    async def result_of(future: Future[Any]) -> Any:
        return await future

    async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
        tasks = [group.create_task(result_of(future)) for group, future in zip((outer, inner), futures, strict=True)]
    return [task.result() for task in tasks]


async def wait_in_a_group(ctx: Context) -> list[Any]:
    """For an instant, and a message."""
    return await in_a_group(ctx.timer(HOUR), ctx.event("news"))


def wait_in_a_loop_of_its_own(ctx: Context) -> list[Any]:
    """A sync workflow may await, too."""
    return asyncio.run(in_a_group(ctx.timer(HOUR), ctx.event("news")))


@pytest.mark.parametrize("workflow", [wait_in_a_group, wait_in_a_loop_of_its_own])
def test_it_is_suspended_out_of_a_task_group(database: Path, workflow: Callable[..., Any]) -> None:
    clock = ManualClock(NOON, skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: is_asleep(engine))
        engine.send("emp_001", "news", "today")
        eventually(lambda: ends(engine) == ["suspended"] * 2 and is_asleep(engine))
        clock.advance(HOUR)

        assert handle.result(PATIENCE_SECONDS) == [None, "today"]
        assert ends(engine) == ["suspended", "suspended", "completed"]


# ---- what goes on beside the wait


def test_a_step_in_flight_ends_and_is_saved_before_it_sleeps(database: Path) -> None:
    leave = threading.Event()

    def work() -> str:
        leave.wait()
        return act("work")

    def workflow(ctx: Context) -> list[str]:
        future = ctx.submit(work)
        news = ctx.wait_event("news")
        return [future.result(), news]

    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: is_waiting(database, 1))
        assert not is_asleep(engine)
        leave.set()
        eventually(lambda: is_asleep(engine))
        saved = outcomes(engine)["work_1"]
        engine.send("emp_001", "news", "today")

        assert saved == ("completed", "WORK")
        assert handle.result(PATIENCE_SECONDS) == ["WORK", "today"]
        assert effects(database) == ["work_1"]


def test_a_timer_ends_beside_a_step_that_runs(database: Path) -> None:
    leave = threading.Event()

    def work() -> None:
        assert leave.wait(PATIENCE_SECONDS)

    def workflow(ctx: Context) -> str:
        timer, future = ctx.timer(HOUR), ctx.submit(work)
        return "late" if ctx.first(timer, future).result() is timer else "in time"

    clock = ManualClock(NOON, skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: outcomes(engine).get("work_2", ("", ""))[0] == "running")
        clock.advance(HOUR)
        eventually(lambda: outcomes(engine).get("first_3", ("", ""))[0] == "completed")
        leave.set()

        assert handle.result(PATIENCE_SECONDS) == "late"
        assert ends(engine) == ["completed"]


def test_a_retry_is_made_beside_a_step_that_runs(database: Path) -> None:
    leave, tries = threading.Event(), []

    def work() -> None:
        assert leave.wait(PATIENCE_SECONDS)

    @step(retry=Retry(attempts=2, delay_seconds=HOUR))
    def fragile() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        leave.set()
        return "done"

    def workflow(ctx: Context) -> str:
        slow, again = ctx.submit(work), ctx.submit(fragile)
        slow.result()
        return again.result()

    clock = ManualClock(NOON, skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: outcomes(engine).get("fragile_2", ("", ""))[0] == "failed")
        clock.advance(HOUR)

        assert handle.result(PATIENCE_SECONDS) == "done"
        assert ends(engine) == ["completed"]


def leg(ctx: Context, side: str, hours: float) -> str:
    ctx.step(act, f"{side} leaves")
    ctx.sleep(hours * HOUR)
    ctx.step(act, f"{side} rests")
    ctx.sleep(hours * HOUR)
    return ctx.step(act, f"{side} arrives")


async def leg_async(ctx: Context, side: str, hours: float) -> str:
    await ctx.submit(act_async, f"{side} leaves")
    await ctx.timer(hours * HOUR)
    await ctx.submit(act_async, f"{side} rests")
    await ctx.timer(hours * HOUR)
    return await ctx.submit(act_async, f"{side} arrives")


def both_legs(ctx: Context) -> list[str]:
    legs = [ctx.branch(leg, "north", 1), ctx.branch(leg, "south", 1.5)]
    return [each.result() for each in legs]


async def both_legs_async(ctx: Context) -> list[str]:
    return list(await asyncio.gather(ctx.branch(leg_async, "north", 1), ctx.branch(leg_async, "south", 1.5)))


@pytest.mark.parametrize("workflow", [both_legs, both_legs_async])
def test_branches_that_wait_wake_each_in_its_own_time(database: Path, workflow: Callable[..., Any]) -> None:
    clock = ManualClock(NOON)
    with Engine(database, suspend=True, clock=clock) as engine:
        result = engine.start("emp_001", workflow).result(PATIENCE_SECONDS)

        assert result == ["NORTH ARRIVES", "SOUTH ARRIVES"]
        assert ends(engine) == ["suspended"] * 4 + ["completed"]
    assert clock.now() == NOON + timedelta(hours=3)
    assert len(effects(database)) == 6


def refuse() -> None:
    raise ValueError("no")


def map_of_both(ctx: Context) -> None:
    ctx.map(refuse_or_retry, ["refuse", "retry"])


@step(retry=Retry(attempts=2, delay_seconds=HOUR, jitter=0, on=(ConnectionError,)))
def refuse_or_retry(what: str) -> str:
    return refuse() if what == "refuse" else fail_once(what)  # type: ignore[return-value, func-returns-value]


def main_fails(ctx: Context) -> None:
    ctx.submit(fail_once, "retry")
    ctx.step(refuse)


def result_fails(ctx: Context) -> None:
    futures = [ctx.submit(refuse), ctx.submit(fail_once, "retry")]
    for future in futures:
        future.result()


async def gather_fails(ctx: Context) -> None:
    await asyncio.gather(ctx.submit(refuse), ctx.submit(fail_once, "retry"))


def branch_fails(ctx: Context) -> None:
    ctx.branch(result_fails).result()


@pytest.mark.parametrize("workflow", [map_of_both, main_fails, result_fails, gather_fails, branch_fails])
def test_a_failure_beside_a_wait_fails_the_workflow_only_when_the_wait_has_ended(
    database: Path, workflow: Callable[..., Any]
) -> None:
    failed.clear()
    with Engine(database, suspend=True, clock=ManualClock(NOON)) as engine:
        handle = engine.start("emp_001", workflow)
        with pytest.raises(ValueError, match="no"):
            handle.result(PATIENCE_SECONDS)

        assert ends(engine) == ["suspended", "failed"]
        assert sorted(status for status, _ in outcomes(engine).values()) == ["completed", "failed"]


# ---- other processes


def send_news(pipe: Connection, database: Path) -> bool:
    with Engine(database) as engine:
        return engine.send("emp_001", "news", "today")


def test_it_is_woken_by_a_message_of_another_process(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
        assert call_in_child(send_news, database) is True

        assert handle.result(PATIENCE_SECONDS) == "AFTER TODAY"


def end_it(pipe: Connection, database: Path, how: str) -> None:
    with Engine(database) as engine:
        if how == "cancelled":
            engine.cancel("emp_001")
            return
        engine.send("emp_001", "news", "today")
        engine.run("emp_001", refuse_news if how == "failed" else act_on_news)


def refuse_news(ctx: Context) -> None:
    refused.append(ctx.wait_event("news"))
    raise ValueError("bad news")


refused: list[str] = []


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
def test_a_handle_is_told_what_another_process_has_made_of_it(database: Path, how: str) -> None:
    refused.clear()
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", refuse_news if how == "failed" else act_on_news)
        eventually(lambda: is_asleep(engine))
        call_in_child(end_it, database, how)
        try:
            ended: Any = handle.result(PATIENCE_SECONDS)
        except (ValueError, WorkflowCancelledError) as error:
            ended = str(error)

        expected = {
            "completed": "AFTER TODAY",
            "failed": "bad news",
            "cancelled": "workflow 'emp_001' was cancelled",
        }
        assert ended == expected[how]
        assert engine.workflow("emp_001").status == how
        assert ends(engine)[-1] == (how if how != "cancelled" else "suspended")


@step(retry=Retry(delay_seconds=HOUR))
def fail() -> None:
    raise ValueError("no")


def failing(ctx: Context) -> None:
    ctx.on_failure(act, "undo")
    ctx.step(fail)


def test_one_that_waits_for_its_next_try_is_cancelled_at_once_and_undone(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", failing)
        eventually(lambda: is_asleep(engine))
        engine.cancel("emp_001")

        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)
        assert effects(database) == ["act_1/act_1"]
        assert ends(engine)[-1] == "cancelled"


def test_a_handle_is_told_that_its_own_engine_has_cancelled_it(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
        engine.cancel("emp_001")

        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("who", ["its own engine", "another"])
def test_a_handle_is_told_that_the_workflow_was_deleted_and_one_begun_anew_is_woken(database: Path, who: str) -> None:
    with Engine(database, suspend=True) as engine, Engine(database) as other:
        handle = engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
        (engine if who == "its own engine" else other).delete("emp_001")
        with pytest.raises(WorkflowNotFoundError, match="no workflow 'emp_001'"):
            handle.result(PATIENCE_SECONDS)
        new = other.start("emp_001", act_on_news)
        eventually(lambda: is_waiting(database, 2))
        new.end()
        other.send("emp_001", "news", "today")
        eventually(lambda: engine.workflow("emp_001").status == "completed")

        assert ends(engine) == ["interrupted", "completed"]


def suspend_until_killed(pipe: Connection, database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
        pipe.send("asleep")
        pipe.recv()


def test_what_sleeps_when_its_process_is_killed_is_woken_by_the_next(database: Path) -> None:
    with child(suspend_until_killed, database) as sleeper:
        assert sleeper.receive() == "asleep"
        assert sleeper.kill() == KILLED
    with Engine(database, suspend=True) as engine:
        engine.send("emp_001", "news", "today")
        eventually(lambda: engine.workflow("emp_001").status == "completed")

        assert effects(database) == ["act_1", "act_3"]


def work_for(pipe: Connection, database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        pipe.send("at work")
        pipe.recv()
        del engine


def test_of_several_that_watch_one_wakes_it(database: Path) -> None:
    with child(work_for, database) as one, child(work_for, database) as two, Engine(database) as engine:
        for worker in (one, two):
            assert worker.receive() == "at work"
        with Engine(database, suspend=True) as first:
            handles = [first.start(f"emp_{number}", act_on_news) for number in range(10)]
            eventually(lambda: all(is_asleep(first, handle.workflow_id) for handle in handles))
        for handle in handles:
            engine.send(handle.workflow_id, "news", "today")
        eventually(lambda: len(engine.workflows("completed")) == 10)
        for worker in (one, two):
            worker.send()
            worker.join()

    assert sorted(effects(database)) == ["act_1"] * 10 + ["act_3"] * 10


def wait_twice(ctx: Context) -> str:
    return f"{ctx.wait_event('news')}, {ctx.wait_event('news')}"


def wait_until_killed(pipe: Connection, database: Path, life: int) -> None:
    with Engine(database) as engine:
        engine.start("emp_001", wait_twice)
        eventually(lambda: is_waiting(database, life))
        pipe.send("waiting")
        pipe.recv()


def test_one_that_another_engine_runs_is_not_taken_for_one_that_crashes_again_and_again(database: Path) -> None:
    # two of its processes died; the third engine has received the message, and not saved that yet
    # meanwhile the one that suspends finds the wait due
    def hold(moment: Moment) -> None:
        if moment.name == "step.executed" and moment.step_key == "news_1":
            received.set()
            go_on.wait(PATIENCE_SECONDS)

    received, go_on = threading.Event(), threading.Event()
    for life in (1, 2):
        with child(wait_until_killed, database, life) as killed:
            assert killed.receive() == "waiting"
            assert killed.kill() == KILLED
    with Engine(database, observers=[hold]) as third:
        running = third.start("emp_001", wait_twice)
        third.send("emp_001", "news", "today")
        assert received.wait(PATIENCE_SECONDS)
        with Engine(database, suspend=True) as engine:
            other = engine.start("emp_002", act_on_news)
            engine.send("emp_002", "news", "today")
            other.result(PATIENCE_SECONDS)  # so it has looked
            go_on.set()
            waits_again = "select 1 from waits where workflow_id = 'emp_001' and step_key = 'news_2'"
            eventually(lambda: rows(database, waits_again))
            running.end()
            engine.send("emp_001", "news", "tomorrow")
            eventually(lambda: engine.workflow("emp_001").status == "completed")

            assert ends(engine) == ["crashed", "crashed", "interrupted", "completed"]


class Line:
    """To somewhere, and it is busy at first."""

    is_busy = True


@step(retry=Retry(delay_seconds=HOUR, max_delay_seconds=HOUR, jitter=0))
def call() -> str:
    if Line.is_busy:
        raise ConnectionError
    return "done"


async def nap_beside(ctx: Context) -> None:
    await ctx.timer(HOUR / 2)


async def race_and_leave_a_call(ctx: Context) -> str:
    await ctx.first(ctx.branch(nap_beside), ctx.timer(0))
    ctx.submit(call)
    return "over"


def test_what_a_loser_waited_for_wakes_a_function_that_has_returned_only_once(database: Path) -> None:
    Line.is_busy = True
    clock = ManualClock(NOON, skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        handle = engine.start("emp_001", race_and_leave_a_call)
        eventually(lambda: is_asleep(engine))
        Line.is_busy = False
        clock.advance(HOUR / 2)
        eventually(lambda: rows(database, "select status from steps where kind = 'sleep'") == [("completed",)] * 2)
        eventually(lambda: is_asleep(engine))
        clock.advance(HOUR / 2)

        assert handle.result(PATIENCE_SECONDS) == "over"
        assert ends(engine) == ["suspended", "suspended", "completed"]


# ---- failed ones, and changed ones


def test_a_message_to_a_failed_workflow_does_not_try_it_anew(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.first(ctx.event("news"), ctx.submit(act, "work")).result()
        ctx.step(refuse)

    with Engine(database, suspend=True) as engine:
        with pytest.raises(ValueError, match="no"):
            engine.run("emp_001", workflow)
        engine.send("emp_001", "news", "today")
        handle = engine.start("emp_002", act_on_news)
        engine.send("emp_002", "news", "today")
        handle.result(PATIENCE_SECONDS)  # so it has looked, more than once

        assert ends(engine) == ["failed"]
        assert engine.workflow("emp_001").status == "failed"


class Code:
    """A workflow whose code changes while it sleeps."""

    has_changed = False


def changing(ctx: Context) -> str:
    ctx.step("new" if Code.has_changed else "old", act, "before")
    return ctx.wait_event("news")


def test_a_workflow_that_cannot_go_on_raises_in_its_handle_and_is_left_until_asked_again(
    database: Path, caplog: Any
) -> None:
    Code.has_changed = False
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", changing)
        eventually(lambda: is_asleep(engine))
        Code.has_changed = True
        engine.send("emp_001", "news", "today")
        with pytest.raises(NonDeterminismError):
            handle.result(PATIENCE_SECONDS)
        assert "workflow 'emp_001' is due and cannot go on here" in caplog.text
        Code.has_changed = False

        assert engine.start("emp_001", changing).result(PATIENCE_SECONDS) == "today"
        assert ends(engine) == ["suspended", "stopped", "completed"]


def parent_of_changing(ctx: Context) -> str:
    return ctx.child(changing, workflow_id="child").result()


def grandparent_of_changing(ctx: Context) -> str:
    return ctx.child(parent_of_changing, workflow_id="parent").result()


def test_a_parent_whose_child_cannot_go_on_raises_in_its_handle(database: Path) -> None:
    Code.has_changed = False
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", grandparent_of_changing)
        eventually(lambda: rows(database, "select count(*) from runs where ended = 'suspended'") == [(3,)])
        Code.has_changed = True
        engine.send("child", "news", "today")
        with pytest.raises(NonDeterminismError, match="step 'old_1' was recorded as"):
            handle.result(PATIENCE_SECONDS)
        with pytest.raises(NonDeterminismError, match="step 'old_1' was recorded as"):
            engine.run("emp_001", grandparent_of_changing)
        Code.has_changed = False

        assert engine.run("emp_001", grandparent_of_changing) == "today"


def racing(ctx: Context) -> str:
    news = ctx.event("news")
    if Code.has_changed:
        return news.result()
    return "in time" if ctx.first(news, ctx.timer(HOUR)).result() is news else "late"


def test_a_wait_that_the_code_no_longer_asks_for_does_not_wake_it_again_and_again(database: Path) -> None:
    Code.has_changed = False
    clock = ManualClock(NOON, skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        handle = engine.start("emp_001", racing)
        eventually(lambda: is_asleep(engine))
        Code.has_changed = True
        clock.advance(HOUR)
        with pytest.raises(NonDeterminismError, match="waits without asking for what was recorded as sleep_2"):
            handle.result(PATIENCE_SECONDS)
        Code.has_changed = False

        assert engine.run("emp_001", racing) == "late"
        assert ends(engine) == ["suspended", "stopped", "completed"]


def fail_at_first() -> None:
    if not Code.has_changed:
        raise ConnectionError


def race_and_fail(ctx: Context) -> str:
    try:
        ctx.step(fail_at_first)
    except ConnectionError:
        ctx.first(ctx.timer(0), ctx.timer(HOUR)).result()
        raise
    return ctx.wait_event("news")


def test_a_wait_that_a_failed_try_has_left_is_given_up_once_the_step_has_been_tried_anew(database: Path) -> None:
    Code.has_changed = False
    clock = ManualClock(NOON, skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        with pytest.raises(ConnectionError):
            engine.run("emp_001", race_and_fail)
        Code.has_changed = True
        clock.advance(HOUR)
        handle = engine.start("emp_001", race_and_fail)
        eventually(lambda: ends(engine) == ["failed", "suspended"])
        engine.send("emp_001", "news", "today")

        assert handle.result(PATIENCE_SECONDS) == "today"
        assert ends(engine) == ["failed", "suspended", "completed"]


def test_one_that_was_told_no_and_sleeps_again_is_woken_again(database: Path) -> None:
    Code.has_changed = False
    with Engine(database, suspend=True) as engine:
        engine.start("emp_001", changing)
        eventually(lambda: is_asleep(engine))
        Code.has_changed = True
        with pytest.raises(NonDeterminismError):
            engine.run("emp_001", changing)
        Code.has_changed = False
        handle = engine.start("emp_001", changing)
        eventually(lambda: is_asleep(engine))
        engine.send("emp_001", "news", "today")

        assert handle.result(PATIENCE_SECONDS) == "today"


# ---- asked for while it is being woken


class Gate:
    """An import that takes until it is let go on, and then finds nothing."""

    begun, go_on = threading.Event(), threading.Event()


def make_gated_module(path: Path, code: str) -> None:
    """Its import says that it has begun, and waits to be let go on."""
    Gate.begun.clear()
    Gate.go_on.clear()
    wait = ["from tests.waiting.test_suspension import Gate", "Gate.begun.set()", "Gate.go_on.wait()"]
    path.write_text("\n".join([*wait, code]))


def of_lost_module(ctx: Context) -> str:
    return act_on_news(ctx)


of_lost_module.__module__ = "lost"


def test_a_call_that_brings_the_function_needs_no_import(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gated_module(tmp_path / "lost.py", "raise ImportError('lost')")
    monkeypatch.syspath_prepend(tmp_path)
    with Engine(database, suspend=True) as engine:
        engine.start("emp_001", of_lost_module)
        eventually(lambda: is_asleep(engine))
    with Engine(database) as engine:
        engine.send("emp_001", "news", "today")
    with Engine(database, suspend=True, modules=["lost"]) as engine:
        assert Gate.begun.wait(PATIENCE_SECONDS)  # it is due, and looked for by its name
        handle = engine.start("emp_001", of_lost_module)  # which begins it, by the function
        Gate.go_on.set()  # the other one fails

        assert handle.result(PATIENCE_SECONDS) == "AFTER TODAY"
        assert ends(engine) == ["suspended", "completed"]


def of_slow_module(ctx: Context) -> None:
    refuse_news(ctx)


of_slow_module.__module__ = "slow_to_wake"


def test_one_that_fails_elsewhere_while_it_is_being_woken_is_not_tried_anew(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused.clear()
    make_gated_module(tmp_path / "slow_to_wake.py", "from tests.waiting.test_suspension import of_slow_module")
    monkeypatch.syspath_prepend(tmp_path)
    with Engine(database, suspend=True) as engine:
        engine.start("emp_001", of_slow_module)
        eventually(lambda: is_asleep(engine))
    with Engine(database, suspend=True, modules=["slow_to_wake"]) as engine, Engine(database) as other:
        other.send("emp_001", "news", "today")
        assert Gate.begun.wait(PATIENCE_SECONDS)  # it is due, and looked for by its name
        with pytest.raises(ValueError, match="bad news"):
            other.run("emp_001", of_slow_module)
        Gate.go_on.set()
        eventually(lambda: file_of(engine).sleepers is not None and file_of(engine).sleepers.is_idle())

        assert ends(engine) == ["suspended", "failed"]
        assert refused == ["today"]


def test_all_callers_at_once_get_the_outcome(database: Path) -> None:
    tries: Counter[str] = Counter()

    def workflow(ctx: Context) -> str:
        ctx.sleep(0.001)
        tries[ctx.workflow_id] += 1
        if tries[ctx.workflow_id] < 3:
            raise ValueError("not yet")
        return "done"

    def ask(number: int) -> str:
        try:
            return engine.run(f"emp_{number:03}", workflow)
        except ValueError as error:
            return str(error)

    with Engine(database, suspend=True, synchronous="off") as engine, ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(ask, [number // 16 for number in range(16 * 100)]))  # each of 100 by 16, about at once

        assert set(heard) == {"not yet", "done"}
        assert set(tries.values()) == {3}
        assert {record.status for record in engine.workflows()} == {"completed"}


# ---- the end of the engine, and Ctrl+C


def test_closing_the_engine_leaves_what_sleeps_to_the_next_one(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
    with pytest.raises(Suspended, match="'emp_001' waits, and its engine was closed"):
        handle.result(0)
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", act_on_news)  # first, or the message would wake it
        engine.send("emp_001", "news", "today")

        assert handle.result(PATIENCE_SECONDS) == "AFTER TODAY"


def test_what_is_started_as_the_engine_closes_is_let_go_where_it_is_too_late(database: Path) -> None:
    """Its pool takes nothing more, and who sleeps is being told so; the file is still open."""

    def start_another() -> None:
        with pytest.raises(RuntimeError):
            engine.start("emp_002", act_on_news)

    engine = Engine(database, suspend=True)
    handle = engine.start("emp_001", act_on_news)
    eventually(lambda: is_asleep(engine))
    handle.when_done(start_another)
    engine.close()

    with Engine(database) as other:
        assert [other.owner("emp_002"), ends(other, "emp_002")] == [None, ["interrupted"]]


def test_closing_the_engine_waits_for_what_runs(database: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return act("held")

    def workflow(ctx: Context) -> str:
        return ctx.step(hold)

    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", workflow)
        entered.wait()
        threading.Timer(0.1, leave.set).start()

    assert handle.result(0) == "HELD"


def interrupt_run(pipe: Connection, database: Path) -> Any:
    with Engine(database, suspend=True) as engine:
        try:
            engine.run("emp_001", act_on_news)
        except KeyboardInterrupt:
            pipe.send(ends(engine))
        engine.send("emp_001", "news", "today")
        other = engine.start("emp_002", act_on_news)
        engine.send("emp_002", "news", "today")
        other.result(PATIENCE_SECONDS)  # by then it has looked for what is due
        before = engine.workflow("emp_001").status
        return before, engine.run("emp_001", act_on_news)


def test_ctrl_c_ends_the_wait_for_one_that_sleeps_and_it_stays_so_until_it_is_asked_again(database: Path) -> None:
    with child(interrupt_run, database) as waiter:
        eventually(lambda: is_waiting(database, 1))
        waiter.signal(signal.SIGINT)

        assert waiter.receive() in (["suspended"], ["interrupted"])
        assert waiter.outcome() == ("running", "AFTER TODAY")


def test_a_handle_ends_one_that_sleeps(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", act_on_news)
        eventually(lambda: is_asleep(engine))
        handle.end()

        with pytest.raises(RunStopped, match="'emp_001': it was interrupted while it waited"):
            handle.result(0)


@dataclass
class Letter:
    """Takes its time to be read, once it is asked to."""

    text: str
    is_slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if Letter.is_slow and threading.current_thread().name.startswith("workflow"):
            Letter.is_slow = False
            Gate.begun.set()
            assert Gate.go_on.wait(PATIENCE_SECONDS)


def test_one_that_is_interrupted_while_it_is_woken_and_another_engine_runs_it_is_told_so(database: Path) -> None:
    """It is due, and its arguments are read to begin it. It is interrupted now; but another engine has it."""

    def workflow(ctx: Context, letter: Letter) -> str:
        return ctx.wait_event("news")

    def hold(moment: Moment) -> None:
        if moment.name == "workflow.started":
            assert go_on.wait(PATIENCE_SECONDS)

    go_on = threading.Event()
    Gate.begun.clear()
    Gate.go_on.clear()
    with Engine(database, suspend=True) as engine, Engine(database, observers=[hold]) as other:
        handle = engine.start("emp_001", workflow, Letter("dear"))
        eventually(lambda: is_asleep(engine))
        owner = other.start("emp_001", workflow, Letter("dear"))
        Letter.is_slow = True
        engine.send("emp_001", "news", "today")
        assert Gate.begun.wait(PATIENCE_SECONDS)
        handle.interrupt()
        Gate.go_on.set()
        with pytest.raises(RunStopped):
            handle.result(PATIENCE_SECONDS)
        go_on.set()

        assert owner.result(PATIENCE_SECONDS) == "today"


def leave() -> None:
    exits.append(True)
    raise SystemExit(3)


def leave_beside_a_timer(ctx: Context) -> None:
    ctx.timer(HOUR)
    ctx.step(leave)


exits: list[bool] = []


def test_what_has_ended_in_system_exit_is_not_woken_by_what_it_had_waited_for(database: Path) -> None:
    exits.clear()
    clock = ManualClock(NOON, skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", leave_beside_a_timer)
        other = engine.start("emp_002", nap)
        eventually(lambda: is_asleep(engine, "emp_002"))
        clock.advance(HOUR)
        other.result(PATIENCE_SECONDS)  # by then it has looked for what is due

    assert exits == [True]


def test_a_handle_of_an_ended_run_interrupts_no_later_run(database: Path) -> None:
    def workflow(ctx: Context) -> str:
        if not has_failed:
            has_failed.append(True)
            raise ValueError("not yet")
        return act_on_news(ctx)

    has_failed: list[bool] = []
    with Engine(database, suspend=True) as engine:
        first = engine.start("emp_001", workflow)
        with pytest.raises(ValueError, match="not yet"):
            first.result(PATIENCE_SECONDS)
        second = engine.start("emp_001", workflow)
        eventually(lambda: is_asleep(engine))
        first.end()
        engine.send("emp_001", "news", "today")

        assert second.result(PATIENCE_SECONDS) == "AFTER TODAY"


def close_while_running(pipe: Connection, database: Path) -> Any:
    def hold() -> None:
        assert file_of(engine).sleepers is not None
        run = file_of(engine).sleepers._awake["emp_001"]
        assert run is not None
        pipe.send("held")
        eventually(lambda: run.stopped is not None)  # by the signal: until then, the next step might begin

    def workflow(ctx: Context) -> None:
        ctx.step(hold)
        ctx.step(act, "never")

    try:
        with Engine(database, suspend=True) as engine:  # its end closes it; a signal just before that ends it alike
            engine.start("emp_001", workflow)
    except KeyboardInterrupt:
        return effects(database)
    return "was not interrupted"


def test_ctrl_c_while_it_is_closed_ends_what_runs(database: Path) -> None:
    with child(close_while_running, database) as waiter:
        assert waiter.receive() == "held"
        waiter.signal(signal.SIGINT)

        assert waiter.outcome() == []
    assert rows(database, "select ended from runs") == [("interrupted",)]


# ---- context variables

tongue: contextvars.ContextVar[str] = contextvars.ContextVar("tongue", default="none")


def listen(ctx: Context) -> list[str]:
    first = tongue.get()
    tongue.set("of the first life")
    ctx.wait_event("go")
    return [first, tongue.get(), ctx.step("speak", tongue.get)]


def overhear(_: Context) -> str:
    return tongue.get()


def test_a_workflow_sees_its_callers_variables_after_it_was_suspended_too(database: Path) -> None:
    def start() -> Any:
        tongue.set("French")
        return engine.start("wf", listen)

    with Engine(database, suspend=True, max_workflows=1) as engine:
        handle = contextvars.copy_context().run(start)
        eventually(lambda: engine.runs("wf")[0].ended == "suspended")
        assert engine.run("other", overhear) == "none"  # in the same thread
        engine.send("wf", "go")

        assert handle.result() == ["French", "of the first life", "of the first life"]
        assert engine.run("another", overhear) == "none"
