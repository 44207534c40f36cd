"""Retries: which failures are tried again, how often, after how long; counted and waited for across crashes."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable import Context, Engine, Moment, Retry, WorkflowCancelledError, current_step, step
from durable.clock import ManualClock
from durable.observer import crash_at
from durable.parallel.workers import Workers
from durable.testing.inside import file_of
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import child, crash_in_child, eventually
from tests.support.workflows import act, effects

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PATIENT = Retry(attempts=4, delay_seconds=10, backoff=2, max_delay_seconds=30, jitter=0)  # 10, 20, 30 seconds

# ---- arithmetic

numbers = st.just(0.0) | st.floats(1e-6, 1e6)  # a microsecond is what an instant is stored to
retries = st.builds(
    Retry,
    attempts=st.integers(1, 50),
    delay_seconds=numbers,
    backoff=st.floats(1, 1e3),
    max_delay_seconds=numbers,
    jitter=st.floats(0, 1),
)


@pytest.mark.parametrize("value", [PATIENT, Moment("step.started", "emp_001", 1, NOON)])
def test_what_is_given_and_what_is_told_are_values(value: Any) -> None:
    twin = copy.copy(value)

    assert twin == value
    assert hash(twin) == hash(value)
    assert repr(twin) == repr(value)
    assert repr(value).startswith(f"{type(value).__name__}(")
    with pytest.raises(AttributeError):
        value.name = "another"
    with pytest.raises(AttributeError):
        value.attempts = 7
    assert pickle.loads(pickle.dumps(value)) == value


@given(retries, st.integers(1, 2000), st.text())
@example(Retry(delay_seconds=0, backoff=3), 648, "")  # its power is past what a float holds
def test_a_delay_grows_by_its_backoff_up_to_its_maximum_and_varies_by_its_jitter(
    retry: Retry, attempt: int, seed: str
) -> None:
    exact = retry.delay_seconds
    for _ in range(attempt - 1):
        exact = min(exact * retry.backoff, retry.max_delay_seconds)
    exact = min(exact, retry.max_delay_seconds)

    delay = retry.delay(attempt, seed)

    slack = 1e-9 * exact
    assert exact * (1 - retry.jitter) - slack <= delay <= exact * (1 + retry.jitter) + slack


@given(retries, st.integers(1, 100), st.text())
def test_a_delay_follows_from_its_seed(retry: Retry, attempt: int, seed: str) -> None:
    assert retry.delay(attempt, seed) == retry.delay(attempt, seed)


def test_many_with_a_jitter_do_not_come_back_at_the_same_instant() -> None:
    delays = {Retry(jitter=0.5).delay(1, str(number)) for number in range(100)}

    assert len(delays) == 100
    assert min(delays) < 0.7
    assert max(delays) > 1.3


@given(retries, st.integers(1, 100))
def test_as_many_attempts_are_made_as_it_says(retry: Retry, attempt: int) -> None:
    assert retry.tries_again(ValueError(), attempt) is (attempt < retry.attempts)


@pytest.mark.parametrize(
    ("on", "error", "again"),
    [
        ((ConnectionError,), ConnectionResetError(), True),
        ((ConnectionError,), ValueError(), False),
        ((ConnectionError, ValueError), ValueError(), True),
        ((), ValueError(), False),
        ((Exception,), ValueError(), True),
    ],
)
def test_only_the_failures_that_it_names_are_tried_again(
    on: tuple[type[Exception], ...], error: Exception, again: bool
) -> None:
    assert Retry(on=on).tries_again(error, 1) is again


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 2.5},
        {"attempts": math.inf},
        {"delay_seconds": -1},
        {"delay_seconds": math.nan},
        {"backoff": 0.5},
        {"max_delay_seconds": math.inf},
        {"jitter": 1.5},
        {"jitter": "much"},
    ],
)
def test_a_number_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"retry: {next(iter(wrong))}: expected"):
        Retry(**wrong)


@pytest.mark.parametrize("on", [ValueError, [ValueError], (KeyboardInterrupt,), ("ValueError",)])
def test_what_is_no_class_of_failures_is_refused(on: Any) -> None:
    with pytest.raises(TypeError, match="retry: on: expected a tuple of exception classes"):
        Retry(on=on)


# ---- a world that is down for a while


class World:
    """Down for some tries of each thing, then up. Tells when each was tried."""

    def __init__(self, clock: ManualClock, down: int, error: type[Exception] = ConnectionError) -> None:
        self.tries: list[tuple[str, float]] = []
        self.clock, self.down, self.error = clock, down, error

    def ask(self, what: str) -> str:
        self.tries.append((what, (self.clock.now() - NOON).total_seconds()))
        if self.count(what) <= self.down:
            raise self.error(f"{what} is down, {self.count(what)}")
        return f"{what} at try {current_step().attempt}"

    def count(self, what: str) -> int:
        return [each for each, _ in self.tries].count(what)

    def step(self, retry: Retry = PATIENT) -> Callable[[str], str]:
        def ask(what: str) -> str:
            return self.ask(what)

        return step(retry=retry)(ask)

    def step_async(self, retry: Retry = PATIENT) -> Any:
        async def ask(what: str) -> str:
            await asyncio.sleep(0)
            return self.ask(what)

        return step(retry=retry)(ask)


def story(engine: Engine) -> list[tuple[str, int, str, float | None]]:
    """All attempts: step, number, status, and when it ended."""
    rows = [*engine.attempts("emp_001"), *engine.steps("emp_001")]
    told = [
        (row.step_key, row.attempt, row.status, (row.ended_at - NOON).total_seconds() if row.ended_at else None)
        for row in rows
    ]
    return sorted(told)


def test_a_step_is_tried_again_until_it_goes_well_and_the_table_tells_the_story(database: Path) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=3)
    moments: list[tuple[str, int | None]] = []
    with Engine(database, clock=clock, observers=[lambda m: moments.append((m.name, m.attempt))]) as engine:
        value = engine.run("emp_001", of_one_step(world.step()), "shop")

        assert value == "shop at try 4"
        assert world.tries == [("shop", 0), ("shop", 10), ("shop", 30), ("shop", 60)]
        assert story(engine) == [
            ("ask_1", 1, "failed", 0),
            ("ask_1", 2, "failed", 10),
            ("ask_1", 3, "failed", 30),
            ("ask_1", 4, "completed", 60),
        ]
        assert [row.superseded_by for row in engine.attempts("emp_001")] == [1, 1, 1]
        assert ["is down, 2" in (row.error or "") for row in engine.attempts("emp_001")] == [False, True, False]
    ends = ["failed", "failed", "failed", "checkpointed"]
    assert moments[1:-1] == [
        (f"step.{name}", number)
        for number, end in enumerate(ends, 1)
        for name in ("scheduled", "started", "executed", end)
    ]


def of_one_step(fn: Callable[[str], str]) -> Callable[[Context, str], str]:
    """A workflow of one step."""

    def workflow(ctx: Context, what: str) -> str:
        return ctx.step(fn, what)

    return workflow


def test_the_last_failure_is_the_outcome(database: Path) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=99)
    with Engine(database, clock=clock) as engine:
        with pytest.raises(ConnectionError, match="shop is down, 4"):
            engine.run("emp_001", of_one_step(world.step()), "shop")

        assert [row[1:3] for row in story(engine)] == [(number, "failed") for number in (1, 2, 3, 4)]
        assert engine.workflow("emp_001").status == "failed"


def test_another_failure_than_it_names_is_the_outcome_at_once(database: Path) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=1, error=ValueError)
    with Engine(database, clock=clock) as engine:
        with pytest.raises(ValueError, match="shop is down, 1"):
            engine.run("emp_001", of_one_step(world.step(Retry(attempts=4, on=(OSError,)))), "shop")

        assert [row[1:3] for row in story(engine)] == [(1, "failed")]


@pytest.mark.parametrize("how", ["submit", "map", "branch", "async step", "async submit", "async workflow"])
def test_it_is_tried_again_wherever_it_runs(database: Path, how: str) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=2)

    def workflow(ctx: Context) -> list[str]:
        match how:
            case "submit":
                return [future.result() for future in [ctx.submit(world.step(), what) for what in "ab"]]
            case "map":
                return ctx.map(world.step(), "ab", max_concurrent=1)
            case "branch":
                return [future.result() for future in [ctx.branch(leg, what) for what in "ab"]]
            case "async step":
                return [ctx.step(world.step_async(), what) for what in "ab"]
        return [future.result() for future in [ctx.submit(world.step_async(), what) for what in "ab"]]

    def leg(ctx: Context, what: str) -> str:
        return ctx.step(world.step(), what)

    async def workflow_async(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*[ctx.submit(world.step_async(), what) for what in "ab"]))

    with Engine(database, clock=clock) as engine:
        value = engine.run("emp_001", workflow_async if how == "async workflow" else workflow)

        assert value == ["a at try 3", "b at try 3"]
        assert [(row.attempt, row.status) for row in engine.attempts("emp_001")] == [(1, "failed"), (2, "failed")] * 2
    assert [world.count("a"), world.count("b")] == [3, 3]


def test_a_workflow_that_catches_the_failure_sees_only_the_last(database: Path) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=99)

    def workflow(ctx: Context) -> str:
        try:
            return ctx.step(world.step(), "shop")
        except ConnectionError as error:
            return ctx.step(act, str(error))

    with Engine(database, clock=clock) as engine:
        assert engine.run("emp_001", workflow) == "SHOP IS DOWN, 4"


def test_a_failed_workflow_that_is_run_again_has_its_retries_anew(database: Path) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=6)
    with Engine(database, clock=clock) as engine:
        with pytest.raises(ConnectionError, match="shop is down, 4"):
            engine.run("emp_001", of_one_step(world.step()), "shop")
        failed_at = clock.now()
        value = engine.run("emp_001", of_one_step(world.step()), "shop")

        assert value == "shop at try 7"
        assert clock.now() == failed_at + 30 * SECOND
        assert [row[1:3] for row in story(engine)] == [(number, "failed") for number in range(1, 7)] + [
            (7, "completed")
        ]


# ---- across crashes


def ask_until_killed(pipe: Connection, database: Path, moments: list[str], down: int, noon_plus: int) -> Any:
    """Each moment kills, the next time that it is reached."""
    clock = ManualClock(NOON + noon_plus * SECOND)
    world = World(clock, down)
    with Engine(database, clock=clock, observers=[crash_at("ask", moment) for moment in moments]) as engine:
        try:
            return engine.run("emp_001", of_one_step(world.step()), "shop"), world.tries
        except ConnectionError as error:
            return str(error), world.tries


def crash(database: Path, moment: str, down: int = 99, noon_plus: int = 0) -> None:
    crash_in_child(ask_until_killed, database, [moment], down, noon_plus)


@pytest.mark.parametrize("moment", ["started", "executed"])
def test_an_attempt_that_a_crash_ended_counts(database: Path, moment: str) -> None:
    crash(database, moment)
    crash(database, moment)
    clock = ManualClock(NOON + 100 * SECOND)
    world = World(clock, down=99)
    with Engine(database, clock=clock) as engine:
        with pytest.raises(ConnectionError, match="shop is down, 2"):
            engine.run("emp_001", of_one_step(world.step()), "shop")

        assert [row[1:3] for row in story(engine)] == [(1, "running"), (2, "running"), (3, "failed"), (4, "failed")]
    assert world.tries == [("shop", 100), ("shop", 130)]


def test_a_step_whose_attempts_were_all_ended_by_crashes_is_tried_once_more(database: Path) -> None:
    for _ in range(5):
        crash(database, "executed")
    clock = ManualClock(NOON)
    world = World(clock, down=0)
    with Engine(database, clock=clock) as engine:
        assert engine.run("emp_001", of_one_step(world.step()), "shop") == "shop at try 6"


def test_killed_while_it_waits_it_waits_only_for_the_rest(database: Path) -> None:
    crash(database, "failed")  # at noon; the next try is due 10 seconds later
    clock = ManualClock(NOON + 7 * SECOND)
    world = World(clock, down=1)
    with Engine(database, clock=clock) as engine:
        value = engine.run("emp_001", of_one_step(world.step()), "shop")

        assert value == "shop at try 3"
        assert world.tries == [("shop", 10), ("shop", 30)]
        assert story(engine) == [
            ("ask_1", 1, "failed", 0),
            ("ask_1", 2, "failed", 10),
            ("ask_1", 3, "completed", 30),
        ]


def test_where_the_wait_ended_while_the_process_was_dead_it_is_tried_at_once(database: Path) -> None:
    crash(database, "failed")
    clock = ManualClock(NOON + 500 * SECOND, skip=False)
    world = World(clock, down=0)
    with Engine(database, clock=clock) as engine:
        assert engine.run("emp_001", of_one_step(world.step()), "shop") == "shop at try 2"

    assert world.tries == [("shop", 500)]


def test_crashes_after_the_workflow_had_failed_leave_the_retries_that_are_left(database: Path) -> None:
    """Four tries fail the workflow; it is run again, and killed in its first try of four."""
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine, pytest.raises(ConnectionError):
        engine.run("emp_001", of_one_step(World(clock, down=99).step()), "shop")
    crash(database, "executed", noon_plus=100)
    clock = ManualClock(NOON + 200 * SECOND)
    world = World(clock, down=99)
    with Engine(database, clock=clock) as engine, pytest.raises(ConnectionError):
        engine.run("emp_001", of_one_step(world.step()), "shop")

    assert world.tries == [("shop", 200), ("shop", 220), ("shop", 250)]


def test_a_wait_that_a_crash_cut_off_after_the_workflow_had_failed_keeps_its_count(database: Path) -> None:
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine, pytest.raises(ConnectionError):
        engine.run("emp_001", of_one_step(World(clock, down=99).step()), "shop")
    crash(database, "failed", noon_plus=100)
    clock = ManualClock(NOON + 100 * SECOND)
    world = World(clock, down=2)
    with Engine(database, clock=clock) as engine:
        assert engine.run("emp_001", of_one_step(world.step()), "shop") == "shop at try 8"

    assert world.tries == [("shop", 110), ("shop", 130), ("shop", 160)]


# ---- while it waits


def run_and_wait_for_a_retry(pipe: Connection, database: Path, how: str) -> Any:
    clock = ManualClock(NOON, skip=False)
    world = World(clock, down=1)

    def tell(moment: Moment) -> None:
        if moment.name == "step.failed":
            pipe.send("it waits")

    def workflow(ctx: Context) -> str:
        match how:
            case "here":
                return ctx.step(world.step(), "shop")
            case "beside":
                return ctx.submit(world.step(), "shop").result()
        return ctx.step(world.step_async(), "shop")

    with Engine(database, clock=clock, observers=[tell]) as engine:
        try:
            return engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            waiting = story(engine)
            clock.advance(10)
            return waiting, engine.run("emp_001", workflow)


@pytest.mark.parametrize("how", ["here", "beside", "async"])
def test_ctrl_c_ends_the_wait_at_once_and_the_next_run_in_the_same_process_goes_on(database: Path, how: str) -> None:
    with child(run_and_wait_for_a_retry, database, how) as waiting:
        assert waiting.receive() == "it waits"
        waiting.signal(signal.SIGINT)

        assert waiting.outcome() == ([("ask_1", 1, "failed", 0)], "shop at try 2")


@pytest.mark.parametrize("how", ["here", "beside", "async"])
def test_a_cancellation_from_another_process_ends_the_wait_at_once(database: Path, how: str) -> None:
    with child(run_and_be_cancelled, database, how) as waiting:
        assert waiting.receive() == "it waits"
        with Engine(database) as engine:
            engine.cancel("emp_001")

        assert waiting.outcome() == ("WorkflowCancelledError", [("ask_1", 1, "failed", 0)])


def run_and_be_cancelled(pipe: Connection, database: Path, how: str) -> Any:
    try:
        return run_and_wait_for_a_retry(pipe, database, how)
    except WorkflowCancelledError as error:
        with Engine(database) as engine:
            return type(error).__name__, story(engine)


def test_steps_that_wait_for_their_retries_hold_no_worker(database: Path) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=2)

    def workflow(ctx: Context) -> list[str]:
        slow = [ctx.submit(world.step(), what) for what in "abc"]
        quick = ctx.submit(world.step(Retry(attempts=3, delay_seconds=0)), "quick")
        return [quick.result(), *[future.result() for future in slow]]

    with Engine(database, clock=clock, max_workers=1) as engine:
        value = engine.run("emp_001", workflow)

        assert value == ["quick at try 3", "a at try 3", "b at try 3", "c at try 3"]
        assert {row.thread for row in engine.steps("emp_001")} == {"worker 1"}
    tried_at = {what: [at for each, at in world.tries if each == what] for what in ("a", "b", "c", "quick")}
    assert tried_at == {"a": [0, 10, 30], "b": [0, 10, 30], "c": [0, 10, 30], "quick": [0, 0, 0]}


def test_a_wake_before_its_time_is_no_reason_to_try(database: Path) -> None:
    """The alarm asks which waits are due; meanwhile that one ends, and its step fails again and waits anew.
    Then the alarm wakes, by the same key, the new wait for the old one."""
    clock = ManualClock(NOON, skip=False)
    world = World(clock, down=1)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", of_one_step(world.step()), "shop")
        eventually(lambda: file_of(engine).alarm._wake(("emp_001", "ask_1")))
        clock.advance(4)
        eventually(lambda: file_of(engine).alarm._wake(("emp_001", "ask_1")))
        clock.advance(6)

        assert handle.result() == "shop at try 2"
    assert world.tries == [("shop", 0), ("shop", 10)]


def test_with_suspension_the_wait_gives_its_thread_back(database: Path) -> None:
    clock = ManualClock(NOON)
    world = World(clock, down=2)
    moments: list[str] = []
    with Engine(database, clock=clock, suspend=True, observers=[lambda moment: moments.append(moment.name)]) as engine:
        value = engine.run("emp_001", workflow_of_world(world))

        assert value == ["0", "shop at try 3"]
        assert [run.ended for run in engine.runs("emp_001")] == ["suspended", "suspended", "completed"]
        assert [row[1:3] for row in story(engine) if row[0] == "ask_2"] == [
            (1, "failed"),
            (2, "failed"),
            (3, "completed"),
        ]
    assert world.tries == [("shop", 0), ("shop", 10), ("shop", 30)]
    assert moments.count("workflow.suspended") == 2
    assert len(effects(database)) == 1


def workflow_of_world(world: World) -> Callable[[Context], list[str]]:
    """It must be found again by its name, to be woken."""
    global _world  # noqa: PLW0603
    _world = world
    return ask_in_the_world


_world: World


def ask_in_the_world(ctx: Context) -> list[str]:
    return [ctx.step(act, "0"), ctx.step(_world.step(), "shop")]


def ask_beside(ctx: Context) -> list[str]:
    """Several wait for their retries, one has no retries left."""
    futures = [ctx.submit(_world.step(), what) for what in "abc"]
    try:
        ctx.map(_world.step(Retry(attempts=1)), ["hopeless"])
    except ConnectionError as error:
        return [str(error), *[future.result() for future in futures]]
    return []


def test_with_suspension_parallel_retries_all_come_to_their_end(database: Path) -> None:
    clock = ManualClock(NOON)
    workflow_of_world(World(clock, down=2))
    with Engine(database, clock=clock, suspend=True) as engine:
        value = engine.run("emp_001", ask_beside)

        assert value == ["hopeless is down, 1", *[f"{what} at try 3" for what in "abc"]]
    assert sorted(_world.tries)[:3] == [("a", 0), ("a", 10), ("a", 30)]


def fail_beside(ctx: Context) -> None:
    """The workflow fails while a step of it waits for its retry, which is seen to first."""
    ctx.submit(_world.step(), "slow")
    ctx.step(_world.step(Retry(attempts=1)), "hopeless")


@pytest.mark.parametrize("suspend", [False, True])
def test_a_workflow_fails_only_when_what_it_has_submitted_has_had_its_retries(database: Path, suspend: bool) -> None:
    clock = ManualClock(NOON)
    workflow_of_world(World(clock, down=2))
    with Engine(database, clock=clock, suspend=suspend) as engine:
        with pytest.raises(ConnectionError, match="hopeless is down"):
            engine.run("emp_001", fail_beside)
        eventually(lambda: engine.workflow("emp_001").status == "failed")

        assert [(row.step_key, row.attempt, row.status) for row in engine.steps("emp_001")] == [
            ("ask_1", 3, "completed"),
            ("ask_2", 1, "failed"),
        ]


def test_killed_while_suspended_another_engine_goes_on(database: Path) -> None:
    crash(database, "failed")
    clock = ManualClock(NOON + 7 * SECOND)
    workflow_of_world(World(clock, down=0))
    with Engine(database, clock=clock, suspend=True) as engine:
        engine.run("emp_002", ask_in_the_world)
        value = engine.run("emp_001", of_one_step(_world.step()), "shop")

        assert value == "shop at try 2"


def test_an_attempt_may_begin_before_the_call_that_began_the_last_one_returns(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, second = Workers.submit, threading.Event()
    begun: list[object] = []

    def put_slowly(workers: Workers, work: Callable[[], object]) -> None:
        begun.append(work)
        put(workers, work)
        assert len(begun) > 1 or second.wait(PATIENCE_SECONDS)
        second.set()

    monkeypatch.setattr(Workers, "submit", put_slowly)
    with Engine(database, observers=[lambda _: None]) as engine:

        def workflow(ctx: Context) -> str:
            return ctx.submit(second_time).result()

        assert engine.run("emp_001", workflow) == "at last"


@step(retry=Retry(attempts=2, delay_seconds=0.2, jitter=0))
def second_time() -> str:
    if current_step().attempt == 1:
        raise ConnectionError("not yet")
    return "at last"
