"""Parallel steps and branches: saved as they finish, heard where they are asked, ended before the workflow: rule 7."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, as_completed, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Future, Moment, ScopeError, current_step
from tests.support import workflows
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually
from tests.support.workflows import act, act_async, refuse


class Gauge:
    """Counts how many are inside at once. Each stays until `full` are there, or the last has come."""

    def __init__(self, full: int) -> None:
        self.inside = self.most = 0
        self._lock, self._full, self._enough = threading.Lock(), full, threading.Event()

    def pass_through(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.inside >= self._full:
                self._enough.set()
        assert self._enough.wait(PATIENCE_SECONDS), f"never more than {self.most} at once"
        time.sleep(0.002)  # leaves room for one too many to come in
        with self._lock:
            self.inside -= 1


# ---- saved as it finishes


def test_a_parallel_step_is_saved_while_its_sibling_still_runs(database: Path) -> None:
    saved = threading.Event()

    def slow() -> str:
        assert saved.wait(PATIENCE_SECONDS), "the fast step was not saved before the slow one had ended"
        return "slow"

    def workflow(ctx: Context) -> list[str]:
        return [future.result() for future in [ctx.submit(slow), ctx.submit(act, "fast")]]

    def watch(moment: Moment) -> None:
        if (moment.step_name, moment.name) == ("act", "step.checkpointed"):
            saved.set()

    with Engine(database, observers=[watch]) as engine:
        assert engine.run("emp_001", workflow) == ["slow", "FAST"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failing_workflow_ends_only_after_what_it_submitted_has_ended_and_is_saved(
    database: Path, is_async: bool
) -> None:
    failing, entered = threading.Event(), threading.Event()

    def slow() -> str:
        entered.set()
        failing.wait()
        return "saved all the same"

    def in_branch(ctx: Context) -> str:
        return ctx.step(slow) + ctx.step(act, "one more")

    def workflow(ctx: Context) -> None:
        ctx.submit(slow)
        ctx.branch(in_branch)
        entered.wait()
        failing.set()
        raise ValueError("the workflow fails")

    async def workflow_async(ctx: Context) -> None:
        workflow(ctx)

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="the workflow fails"):
            engine.run("emp_001", workflow_async if is_async else workflow)

        assert [(step.step_key, step.status) for step in engine.steps("emp_001")] == [
            ("slow_1", "completed"),
            ("in_branch_2/slow_1", "completed"),
            ("in_branch_2/act_2", "completed"),
        ]
        assert engine.workflow("emp_001").status == "failed"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker")]


# ---- errors


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["submit", "branch"])
def test_an_error_comes_out_where_its_future_is_asked(database: Path, how: str, is_async: bool) -> None:
    def failing(ctx: Context) -> str:
        return ctx.step(refuse, "boat")

    def ask(ctx: Context) -> Future[str]:
        return ctx.branch(failing) if how == "branch" else ctx.submit(refuse, "boat")

    def workflow(ctx: Context) -> list[str]:
        future = ask(ctx)
        story = [ctx.step(act, "in between")]
        try:
            future.result()
        except ValueError as error:
            story.append(str(error))
        return story

    async def workflow_async(ctx: Context) -> list[str]:
        future = ask(ctx)
        story = [await ctx.submit(act, "in between")]
        try:
            await future
        except ValueError as error:
            story.append(str(error))
        return story

    with Engine(database) as engine:
        result = engine.run("emp_001", workflow_async if is_async else workflow)

    assert result == ["IN BETWEEN", "no boat today"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["submit", "branch", "async submit", "nested branch"])
def test_an_error_that_nobody_asked_for_fails_the_workflow(database: Path, how: str, is_async: bool) -> None:
    async def refuse_async() -> str:
        raise ValueError("no boat today")

    def failing(ctx: Context) -> str:
        ctx.submit(refuse, "boat")
        return "the branch saw nothing of it"

    def nested(ctx: Context) -> str:
        ctx.branch(failing)
        return "nor did this one"

    def workflow(ctx: Context) -> str:
        match how:
            case "submit":
                ctx.submit(refuse, "boat")
            case "branch":
                ctx.branch(failing)
            case "async submit":
                ctx.submit(refuse_async)
            case "nested branch":
                ctx.branch(nested)
        return "all is well"

    async def workflow_async(ctx: Context) -> str:
        return workflow(ctx)

    with Engine(database) as engine:
        for _ in range(2):
            with pytest.raises(ValueError, match="no boat today"):
                engine.run("emp_001", workflow_async if is_async else workflow)

            assert engine.workflow("emp_001").status == "failed"
        assert [step.attempt for step in engine.steps("emp_001")] == [2], "the failed step that ended it is tried anew"


@pytest.mark.parametrize("look", [Future.result, Future.exception], ids=["result", "exception"])
def test_an_error_that_was_looked_at_does_not_fail_the_workflow(database: Path, look: Callable[[Any], Any]) -> None:
    def workflow(ctx: Context) -> str:
        future = ctx.submit(refuse, "boat")
        with suppress(ValueError):
            look(future)
        return "all is well"

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == "all is well"


def test_waiting_for_futures_is_not_asking_them(database: Path) -> None:
    def workflow(ctx: Context) -> str:
        futures = [ctx.submit(refuse, "boat"), ctx.submit(act, "a")]
        wait(futures)
        list(as_completed(futures))
        futures[0].done()
        return "all is well"

    with Engine(database) as engine, pytest.raises(ValueError, match="no boat today"):
        engine.run("emp_001", workflow)


def test_a_wait_that_timed_out_before_the_error_came_has_not_asked(database: Path) -> None:
    # Thread 1 waits for a future and gives up; thread 2 fails the future before thread 1 has noted what it saw.
    leave = threading.Event()

    def fail_late() -> str:
        leave.wait()
        raise ValueError("late")

    class LateFuture(Future[str]):
        """Ends in the instant after `exception` has looked at it for the last time, and found that it has not."""

        looks = 0

        def has_ended(self) -> bool:
            has_ended = super().has_ended()
            if sys._getframe(1).f_code.co_name == "exception":
                self.looks += 1
                if self.looks == 2:
                    leave.set()
                    eventually(super().has_ended)
            return has_ended

    def ask(future: Future[str]) -> None:
        with pytest.raises(TimeoutError):
            future.result(0)

    def workflow(ctx: Context) -> str:
        future = ctx.submit(fail_late)
        future.__class__ = LateFuture
        outside = threading.Thread(target=ask, args=(future,))
        outside.start()
        outside.join()
        assert leave.is_set()
        return "all is well"

    with Engine(database) as engine, pytest.raises(ValueError, match="late"):
        engine.run("emp_001", workflow)


def test_of_several_unasked_errors_the_first_in_program_order_is_raised(database: Path) -> None:
    later_has_failed = threading.Event()

    def fail_first() -> str:
        later_has_failed.wait()
        raise ValueError("first in program order")

    def fail_second() -> str:
        raise KeyError("second")

    def workflow(ctx: Context) -> None:
        ctx.submit(fail_first)
        ctx.submit(fail_second)

    def watch(moment: Moment) -> None:
        if (moment.step_name, moment.name) == ("fail_second", "step.failed"):
            later_has_failed.set()

    with (
        Engine(database, observers=[watch]) as engine,
        pytest.raises(ValueError, match="first in program order") as failed,
    ):
        engine.run("emp_001", workflow)

    assert failed.value.__notes__ == ["also failed: KeyError: 'second'"]


def test_an_unasked_error_is_noted_on_the_one_that_fails_the_workflow_anyway(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.submit(refuse, "boat")
        raise KeyError("own")

    with Engine(database) as engine:
        with pytest.raises(KeyError, match="own") as failed:
            engine.run("emp_001", workflow)
        assert failed.value.__notes__ == ["also failed: ValueError: no boat today"]

        with pytest.raises(KeyError):
            engine.run("emp_001", workflow)
        assert [step.attempt for step in engine.steps("emp_001")] == [2]


# ---- map


def test_map_gives_the_results_in_the_order_of_the_items(database: Path) -> None:
    def add(one: int, other: int) -> int:
        time.sleep(0.001 * (3 - one))
        return one + other

    def workflow(ctx: Context) -> list[int]:
        return ctx.map(add, [0, 1, 2], [10, 20, 30])

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == [10, 21, 32]
        assert engine.run("empty", map_nothing) == []


def map_nothing(ctx: Context) -> list[str]:
    return ctx.map(act, [])


def test_map_waits_for_all_and_raises_the_first_error_in_program_order(database: Path) -> None:
    ended: list[int] = []
    last_has_failed = threading.Event()

    def visit(number: int) -> int:
        if number == 1:
            last_has_failed.wait()
            ended.append(number)
            raise ValueError("one")
        ended.append(number)
        if number == 4:
            raise KeyError("four")
        return number

    def watch(moment: Moment) -> None:
        if moment.name == "step.failed" and moment.step_key == "visit_5":
            last_has_failed.set()

    def workflow(ctx: Context) -> list[int]:
        return ctx.map(visit, range(5))

    with Engine(database, observers=[watch]) as engine:
        for tries in (1, 2):
            ended.clear()
            with pytest.raises(ValueError, match="one") as failed:
                engine.run("emp_001", workflow)

            assert failed.value.__notes__ == ["also failed: KeyError: 'four'"]
            assert sorted(ended) == ([0, 1, 2, 3, 4] if tries == 1 else [1, 4]), "completed items are kept"
        assert [step.attempt for step in engine.steps("emp_001")] == [1, 2, 1, 1, 2]


@pytest.mark.parametrize("is_async", [False, True])
def test_map_runs_as_many_at_once_as_it_was_told_and_no_more(database: Path, is_async: bool) -> None:
    gauge = Gauge(3)

    def visit(_: int) -> None:
        gauge.pass_through()

    async def visit_async(_: int) -> None:
        await asyncio.to_thread(gauge.pass_through)

    def workflow(ctx: Context) -> None:
        ctx.map(visit_async if is_async else visit, range(12), max_concurrent=3)

    with Engine(database) as engine:
        engine.run("emp_001", workflow)

        assert len(engine.steps("emp_001")) == 12
    assert gauge.most == 3


def test_map_goes_on_to_the_next_items_when_one_fails(database: Path) -> None:
    visited: list[int] = []

    def visit(number: int) -> int:
        visited.append(number)
        raise ValueError(number)

    def workflow(ctx: Context) -> None:
        ctx.map(visit, range(6), max_concurrent=1)

    with Engine(database) as engine, pytest.raises(ValueError, match="0"):
        engine.run("emp_001", workflow)

    assert visited == [0, 1, 2, 3, 4, 5]


def test_a_map_cut_by_replay_respects_its_limit_too(database: Path) -> None:
    gauge, armed = Gauge(2), [True]

    def visit(number: int) -> None:
        if armed and number % 2:
            raise ValueError(number)
        if not armed:
            gauge.pass_through()

    def workflow(ctx: Context) -> None:
        ctx.map(visit, range(12), max_concurrent=2)

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="1"):
            engine.run("emp_001", workflow)
        armed.clear()
        engine.run("emp_001", workflow)

    assert gauge.most == 2


def test_max_concurrent_of_less_than_one_is_refused(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.map(act, ["a"], max_concurrent=0)

    with Engine(database) as engine, pytest.raises(ValueError, match="max_concurrent"):
        engine.run("emp_001", workflow)


def test_max_workers_bounds_the_parallel_steps_of_a_workflow(database: Path) -> None:
    gauge = Gauge(2)

    def workflow(ctx: Context) -> None:
        for _ in range(8):
            ctx.submit(gauge.pass_through)

    with Engine(database, max_workers=2) as engine:
        engine.run("emp_001", workflow)

    assert gauge.most == 2


def test_slow_steps_get_more_threads_while_others_wait_for_one(database: Path) -> None:
    # Sixteen threads took more than a step a millisecond, and so the foreman, who saw that it went on, began no more.
    def wait_for_an_answer(number: int) -> str:
        time.sleep(0.001 + number * 7919 % 100 / 10_000)
        return threading.current_thread().name

    def workflow(ctx: Context) -> list[str]:
        return ctx.map(wait_for_an_answer, range(600))

    with Engine(database, max_workers=32) as engine:
        names = engine.run("emp_001", workflow)

    assert len(set(names)) > 24


# ---- many at once


def test_many_nested_branches_on_one_worker_do_not_deadlock(database: Path) -> None:
    def tree(ctx: Context, depth: int) -> int:
        if depth == 0:
            return ctx.submit(one).result()
        branches = [ctx.branch(tree, depth - 1) for _ in range(3)]
        return sum(branch.result() for branch in branches) + ctx.submit(one).result()

    def one() -> int:
        return 1

    with Engine(database, max_workers=1, synchronous="off") as engine:
        assert engine.run("emp_001", tree, 4) == 81 + 27 + 9 + 3 + 1
        assert engine.run("emp_001", tree, 4) == 121


def test_many_nested_async_branches_on_one_worker_do_not_deadlock(database: Path) -> None:
    async def tree(ctx: Context, depth: int) -> int:
        if depth == 0:
            return await ctx.submit(one_async) + await ctx.submit(one)
        in_threads = [ctx.branch(tree_in_thread, depth - 1) for _ in range(2)]
        return await ctx.branch(tree, depth - 1) + sum(await asyncio.gather(*in_threads))

    def tree_in_thread(ctx: Context, depth: int) -> int:
        return ctx.branch(tree, depth).result()

    def one() -> int:
        return 1

    async def one_async() -> int:
        await asyncio.sleep(0)
        return 1

    with Engine(database, max_workers=1, synchronous="off") as engine:
        assert engine.run("emp_001", tree, 3) == 54


def test_a_thousand_parallel_steps_are_all_saved(database: Path) -> None:
    def double(number: int) -> int:
        return 2 * number

    def workflow(ctx: Context) -> list[int]:
        return [future.result() for future in [ctx.submit(double, number) for number in range(1000)]]

    with Engine(database) as engine:
        expected = [2 * number for number in range(1000)]
        assert engine.run("emp_001", workflow) == expected
        assert [step.value for step in engine.steps("emp_001")] == expected


def test_a_branch_is_replayed_and_its_steps_do_not_run_again(database: Path) -> None:
    armed = [True]

    def equip(ctx: Context) -> list[str]:
        return [ctx.step(act, "laptop"), ctx.step(act, "badge")]

    def workflow(ctx: Context) -> list[str]:
        equipped = ctx.branch(equip).result()
        if armed:
            raise ValueError("not yet")
        return equipped

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="not yet"):
            engine.run("emp_001", workflow)
        armed.clear()

        assert engine.run("emp_001", workflow) == ["LAPTOP", "BADGE"]
    assert workflows.effects(database) == ["equip_1/act_1", "equip_1/act_2"]


# ---- contextvars

language: contextvars.ContextVar[str] = contextvars.ContextVar("language", default="none")


@pytest.mark.parametrize("is_async", [False, True])
def test_context_variables_reach_steps_and_branches_in_whatever_thread(database: Path, is_async: bool) -> None:
    def speak() -> str:
        return language.get()

    async def speak_async() -> str:
        return language.get()

    def in_branch(ctx: Context) -> list[str]:
        return [ctx.step(speak), ctx.submit(speak).result()]

    async def in_async_branch(ctx: Context) -> list[str]:
        return [await ctx.submit(speak), await ctx.submit(speak_async)]

    def workflow(ctx: Context) -> list[str]:
        language.set("French")
        futures = [ctx.submit(speak), ctx.submit(speak_async)]
        branches = [ctx.branch(in_branch), ctx.branch(in_async_branch)]
        language.set("German")
        mapped = ctx.map(speak_many, [1, 2], max_concurrent=1)
        return [
            *(future.result() for future in futures),
            *(line for branch in branches for line in branch.result()),
            *mapped,
            ctx.step(speak),
            ctx.step(speak_async),
        ]

    async def workflow_async(ctx: Context) -> list[str]:
        language.set("French")
        futures = [ctx.submit(speak), ctx.submit(speak_async)]
        branches = [ctx.branch(in_branch), ctx.branch(in_async_branch)]
        language.set("German")
        mapped = await asyncio.gather(*[ctx.submit(speak_many, number) for number in (1, 2)])
        said = [await future for future in futures] + [line for branch in branches for line in await branch]
        return [*said, *mapped, ctx.step(speak), await ctx.submit(speak_async)]

    def speak_many(_: int) -> str:
        return language.get()

    with Engine(database) as engine:
        said = contextvars.copy_context().run(engine.run, "emp_001", workflow_async if is_async else workflow)

    assert said == ["French"] * 6 + ["German"] * 4


def test_each_parallel_step_knows_itself(database: Path) -> None:
    def who(_: int) -> str:
        return current_step().key

    async def who_async(_: int) -> str:
        await asyncio.sleep(0)
        return current_step().key

    def workflow(ctx: Context) -> list[str]:
        return [*ctx.map(who, range(3)), *ctx.map(who_async, range(3)), ctx.step(who, 1), ctx.step(who_async, 1)]

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == [
            *(f"who_{number}" for number in (1, 2, 3)),
            *(f"who_async_{number}" for number in (4, 5, 6)),
            "who_7",
            "who_async_8",
        ]
        with pytest.raises(ScopeError, match="outside of a step"):
            current_step()


# ---- async and sync in any mixture


def test_async_steps_run_from_a_sync_workflow(database: Path) -> None:
    def workflow(ctx: Context) -> list[str]:
        return [ctx.step(act_async, "a"), ctx.submit(act_async, "b").result(), *ctx.map(act_async, ["c", "d"])]

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == ["A", "B", "C", "D"]
        assert engine.run("emp_001", workflow) == ["A", "B", "C", "D"]
    assert sorted(workflows.effects(database)) == ["act_async_1", "act_async_2", "act_async_3", "act_async_4"]


def test_async_steps_run_beside_each_other_on_the_loop(database: Path) -> None:
    async def workflow(ctx: Context) -> list[str]:
        met = asyncio.Barrier(3)

        async def meet(name: str) -> str:
            await met.wait()
            return name

        return list(await asyncio.gather(*[ctx.submit(meet, name) for name in "abc"]))

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == ["a", "b", "c"]


def test_an_async_workflow_works_where_a_loop_is_running(database: Path) -> None:
    async def cell() -> list[list[str]]:
        with Engine(database) as engine:
            return [
                engine.run("one", workflows.journey_async, 1),
                engine.start("two", workflows.journey_async, 1).result(),
                await engine.start("three", workflows.journey_async, 1),
                await engine.start("three", workflows.journey_async, 1),
            ]

    one, *others = asyncio.run(cell())

    assert others == [one] * 3


@pytest.mark.parametrize("operation", ["result", "map", "step", "run"])
def test_what_would_block_the_loop_is_refused_in_an_async_workflow(database: Path, operation: str) -> None:
    async def workflow(ctx: Context) -> Any:
        match operation:
            case "result":
                return ctx.submit(act_async, "a").result()
            case "map":
                return ctx.map(act, ["a"])
            case "step":
                return ctx.step(act_async, "a")
        return engine.run("other", workflows.errand, "a")

    with Engine(database) as engine:
        handle = engine.start("emp_001", workflow)
        with pytest.raises(ScopeError, match="await"):
            handle.result(PATIENCE_SECONDS)


def test_an_async_workflow_may_start_others_and_await_them(database: Path) -> None:
    async def workflow(_: Context) -> list[str]:
        inner = [engine.start("one", workflows.errand, "a"), engine.start("two", workflows.errand, "b")]
        return [line for handle in inner for line in await handle]

    with Engine(database) as engine:
        assert engine.run("outer", workflow) == ["A", "B"]


def test_a_future_cannot_be_cancelled(database: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return "held"

    def workflow(ctx: Context) -> list[str]:
        running, queued = ctx.submit(hold), ctx.submit(act, "queued")
        entered.wait()
        assert not running.cancel()
        assert not queued.cancel()
        leave.set()
        wait([running, queued], return_when=FIRST_COMPLETED)
        return [running.result(), queued.result()]

    with Engine(database, max_workers=1) as engine:
        assert engine.run("emp_001", workflow) == ["held", "QUEUED"]


# ---- handles


def test_a_handle_tells_whether_it_is_done_and_waits_as_long_as_it_is_told(database: Path) -> None:
    leave = threading.Event()

    def hold() -> str:
        leave.wait()
        return "held"

    def workflow(ctx: Context) -> str:
        return ctx.step(hold)

    with Engine(database) as engine:
        handle = engine.start("emp_001", workflow)
        assert not handle.done()
        with pytest.raises(TimeoutError):
            handle.result(timeout=0.001)
        assert "running" in repr(handle)
        leave.set()

        assert handle.result() == "held"
        assert handle.done()
        assert handle.workflow_id == "emp_001"
        again = engine.start("emp_001", workflow)
        assert again.done()
        assert again.result() == "held"


def test_a_handle_raises_the_error_of_its_workflow_each_time_it_is_asked(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step(refuse, "boat")

    async def wait_for_it() -> None:
        await handle

    def wait_in_a_loop() -> None:
        asyncio.run(wait_for_it())

    with Engine(database) as engine:
        handle = engine.start("emp_001", workflow)
        for ask in (handle.result, handle.result, wait_in_a_loop):
            with pytest.raises(ValueError, match="no boat today"):
                ask()


def test_close_waits_for_what_was_started(database: Path) -> None:
    leave, closing = threading.Event(), threading.Event()

    def hold() -> str:
        closing.wait()
        leave.wait()
        return "held"

    def workflow(ctx: Context) -> str:
        return ctx.step(hold)

    engine = Engine(database)
    handles = [engine.start(f"emp_{number}", workflow) for number in range(3)]

    def close() -> None:
        closing.set()
        engine.close()

    closer = threading.Thread(target=close)
    closer.start()
    closing.wait()
    assert closer.is_alive()
    leave.set()
    closer.join()

    assert all(handle.done() for handle in handles)
    with Engine(database) as engine:
        assert [workflow.status for workflow in engine.workflows()] == ["completed"] * 3
    engine.close()


def test_a_hundred_workflows_in_one_engine_at_once_do_not_mix(database: Path) -> None:
    with Engine(database, synchronous="normal") as engine:
        handles = [engine.start(f"emp_{number}", workflows.errand, f"of {number}", "b") for number in range(100)]
        results = [handle.result() for handle in handles]

    assert results == [[f"OF {number}", "B"] for number in range(100)]
