"""Clocks: time that is skipped brings the same order as real time, and a machine that is set back delays no wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Retry, WaitTimeoutError, step
from durable.clock import ManualClock
from tests.support.machine import BEGAN_AT, Machine
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually
from tests.support.workflows import act

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR, DAY = 3600.0, 86400.0
REAL_SECONDS = 0.1


def work() -> str:
    time.sleep(REAL_SECONDS)
    return "work"


async def work_async() -> str:
    await asyncio.sleep(REAL_SECONDS)
    return "work"


tries: list[int] = []


@step(retry=Retry(attempts=4, delay_seconds=HOUR, backoff=1, max_delay_seconds=HOUR, jitter=0))
def fail_three_times() -> str:
    tries.append(1)
    if len(tries) < 4:
        raise ConnectionError("not yet")
    return "at last"


@step(retry=Retry(attempts=4, delay_seconds=HOUR, backoff=1, max_delay_seconds=HOUR, jitter=0))
async def fail_three_times_async() -> str:
    tries.append(1)
    if len(tries) < 4:
        raise ConnectionError("not yet")
    return "at last"


# ---- what can be skipped, and how far


def month(ctx: Context) -> str:
    for _ in range(30):
        ctx.sleep(DAY)
    return ctx.step(act, "pay")


def patience(ctx: Context) -> str:
    try:
        return ctx.wait_event("never", timeout_seconds=DAY)
    except WaitTimeoutError:
        return ctx.step(act, "give up")


def retries(ctx: Context) -> str:
    return ctx.step(fail_three_times)


def retries_of_coroutine(ctx: Context) -> str:
    return ctx.step(fail_three_times_async)


def retries_beside(ctx: Context) -> str:
    return ctx.submit(fail_three_times).result()


def retries_in_map(ctx: Context) -> list[str]:
    return ctx.map(one_of_three, ["a", "b"])


@step(retry=Retry(attempts=2, delay_seconds=HOUR, max_delay_seconds=HOUR, jitter=0))
def one_of_three(what: str) -> str:
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError("not yet")
    return what


async def retries_async(ctx: Context) -> str:
    return await ctx.submit(fail_three_times_async)


def branch_that_sleeps(ctx: Context) -> str:
    future = ctx.branch(month)
    return future.result()


async def branch_that_sleeps_async(ctx: Context) -> str:
    return await ctx.branch(month)


def child_that_sleeps(ctx: Context) -> str:
    result: str = ctx.child(month).result()
    return result


def nobody_asks(ctx: Context) -> str:
    ctx.timer(DAY)
    return "returned"


def compensation_that_is_retried(ctx: Context) -> str:
    ctx.on_failure(fail_three_times)
    try:
        raise ValueError("it fails")
    finally:
        tries.clear()


SKIPPED: list[tuple[Callable[..., Any], float, Any]] = [
    (month, 30 * DAY, "PAY"),
    (patience, DAY, "GIVE UP"),
    (retries, 3 * HOUR, "at last"),
    (retries_of_coroutine, 3 * HOUR, "at last"),
    (retries_beside, 3 * HOUR, "at last"),
    (retries_async, 3 * HOUR, "at last"),
    (retries_in_map, HOUR, ["a", "b"]),
    (branch_that_sleeps, 30 * DAY, "PAY"),
    (branch_that_sleeps_async, 30 * DAY, "PAY"),
    (child_that_sleeps, 30 * DAY, "PAY"),
    (nobody_asks, DAY, "returned"),
    (compensation_that_is_retried, 3 * HOUR, ValueError),
]


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
@pytest.mark.parametrize(("workflow", "seconds", "result"), SKIPPED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_waits_takes_no_time_and_the_clock_stands_at_its_end(
    database: Path, workflow: Callable[..., Any], seconds: float, result: Any, suspend: bool
) -> None:
    tries.clear()
    clock = ManualClock(NOON)
    with Engine(database, clock=clock, suspend=suspend) as engine:
        handle = engine.start("emp_001", workflow)
        try:
            ended = handle.result(PATIENCE_SECONDS)
        except ValueError as error:
            ended = type(error)

    assert ended == result
    assert clock.now() == NOON + timedelta(seconds=seconds)


# ---- the order is that of real time


def step_or_timer(ctx: Context, fn: Callable[[], str]) -> str:
    future = ctx.submit(fn)
    return "work" if ctx.first(ctx.timer(HOUR), future).result() is future else "timer"


async def step_or_timer_async(ctx: Context, fn: Callable[[], str]) -> str:
    future = ctx.submit(fn)
    return "work" if await ctx.first(ctx.timer(HOUR), future) is future else "timer"


def race_in_branch(ctx: Context, fn: Callable[[], str]) -> str:
    return ctx.branch(step_or_timer, fn).result()


@pytest.mark.parametrize("fn", [work, work_async])
@pytest.mark.parametrize("workflow", [step_or_timer, step_or_timer_async, race_in_branch])
def test_a_step_ends_before_a_timer_beside_it_and_the_clock_has_not_moved(
    database: Path, workflow: Callable[..., Any], fn: Callable[..., Any]
) -> None:
    def play(ctx: Context) -> str:
        return step_or_timer(ctx, fn)

    async def play_async(ctx: Context) -> str:
        return await step_or_timer_async(ctx, fn)

    def play_in_branch(ctx: Context) -> str:
        return race_in_branch(ctx, fn)

    plays = {step_or_timer: play, step_or_timer_async: play_async, race_in_branch: play_in_branch}
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        assert engine.run("emp_001", plays[workflow]) == "work"
        assert clock.now() == NOON


def race_with_many_timers(ctx: Context) -> str:
    future = ctx.submit(work)
    timers = [ctx.timer(HOUR + number) for number in range(50)]
    return "work" if ctx.first(future, *timers).result() is future else "timer"


def test_no_time_is_skipped_while_the_losers_of_a_race_are_given_up(database: Path) -> None:
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        assert engine.run("emp_001", race_with_many_timers) == "work"
        assert clock.now() == NOON


class WatchedClock(ManualClock):
    """Counts how often it was asked whether time may be skipped."""

    glances = 0

    def wait(self, *args: Any) -> None:
        super().wait(*args)
        self.glances += 1

    def pass_by(self, _: object) -> None:
        """Return once time could have been skipped since."""
        seen = self.glances
        eventually(lambda: self.glances > seen + 1)


def race_of_what_ends_slowly(ctx: Context, clock: WatchedClock) -> Any:
    may_end = threading.Event()
    future = ctx.submit(may_end.wait, PATIENCE_SECONDS)
    future.add_done_callback(clock.pass_by)
    race = ctx.first(ctx.timer(HOUR), future)
    may_end.set()
    return race.result() is future and clock.now() == NOON


def test_no_time_is_skipped_between_the_end_of_a_step_and_the_race_that_it_wins(database: Path) -> None:
    clock = WatchedClock(NOON)

    def play(ctx: Context) -> Any:
        return race_of_what_ends_slowly(ctx, clock)

    with Engine(database, clock=clock) as engine:
        assert engine.run("emp_001", play)


def test_timers_end_in_the_order_of_their_instants(database: Path) -> None:
    days = [3, 1, 4, 1.5, 9, 2, 6]

    def workflow(ctx: Context) -> list[float]:
        timers = {ctx.timer(number * DAY): number for number in days}
        return [timers[ended] for ended in ctx.as_completed(list(timers))]

    with Engine(database, clock=ManualClock(NOON)) as engine:
        assert engine.run("emp_001", workflow) == sorted(days)


def test_two_workflows_of_an_engine_share_its_time(database: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return "held"

    def busy(ctx: Context) -> str:
        return ctx.step(hold)

    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("busy", busy)
        entered.wait()
        sleeper = engine.start("month", month)
        with pytest.raises(TimeoutError):
            sleeper.result(REAL_SECONDS)
        before = clock.now()
        leave.set()

        assert (handle.result(), sleeper.result(PATIENCE_SECONDS)) == ("held", "PAY")
        assert (before, clock.now()) == (NOON, NOON + timedelta(days=30))


# ---- without skip


def test_without_skip_what_waits_waits_for_advance(database: Path) -> None:
    clock = ManualClock(NOON, skip=False)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", patience)
        eventually(lambda: [each.status for each in engine.steps("emp_001")] == ["running"])
        clock.advance(DAY - 1)
        with pytest.raises(TimeoutError):
            handle.result(REAL_SECONDS)
        clock.advance(1)

        assert handle.result(PATIENCE_SECONDS) == "GIVE UP"


def test_it_ticks_each_time_that_it_is_read() -> None:
    clock = ManualClock(NOON, tick_seconds=1)

    assert [clock.now() for _ in range(3)] == [NOON + timedelta(seconds=number) for number in (1, 2, 3)]


# ---- the machine's own clock


def test_the_clock_of_a_machine_that_is_set_back_goes_on_from_where_it_stood() -> None:
    machine = Machine()
    machine.passed = 10.0
    machine.ahead = -DAY
    assert machine.seconds() == 10.0
    machine.passed = 70.0
    machine.ahead = -2 * DAY  # and once more
    assert machine.seconds() == 70.0

    machine.ahead = 0.0
    machine.passed = 80.0
    assert machine.seconds() == 80.0


def test_a_machine_that_is_set_forward_is_followed_as_after_it_was_suspended() -> None:
    machine = Machine()
    machine.ahead = DAY
    assert machine.seconds() == DAY
    machine.ahead = DAY - HOUR
    assert machine.seconds() == DAY


def test_clocks_that_drift_apart_are_no_step() -> None:
    machine = Machine()
    for _ in range(1000):
        machine.passed += HOUR
        machine.ahead -= 0.3
        assert machine.seconds() == pytest.approx(machine.passed + machine.ahead)


@pytest.mark.parametrize("at", ["reading", "comparing"])
def test_a_process_that_is_stopped_between_the_two_clocks_is_no_step(at: str) -> None:
    machine = Machine()
    if at == "comparing":
        machine.ahead = 10.0  # as it was set forward, the two are compared
    machine.stops_for = DAY
    machine.seconds()
    machine.passed += 1.0

    assert machine.seconds() == DAY + 1.0 + machine.ahead


@step(retry=Retry(attempts=2, delay_seconds=HOUR, max_delay_seconds=HOUR, jitter=0))
def fail_once() -> str:
    tries.append(1)
    if len(tries) < 2:
        raise ConnectionError("not yet")
    return "at last"


def event_in_vain(ctx: Context) -> str:
    try:
        return str(ctx.wait_event("news", timeout_seconds=HOUR))
    except WaitTimeoutError:
        return "at last"


def sleeper(ctx: Context) -> str:
    ctx.sleep(HOUR)
    return "at last"


def sleeper_until(ctx: Context) -> str:
    ctx.sleep_until(datetime.fromtimestamp(BEGAN_AT + HOUR, UTC))
    return "at last"


def trier(ctx: Context) -> str:
    return ctx.step(fail_once)


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize("workflow", [sleeper, sleeper_until, event_in_vain, trier])
def test_a_machine_that_is_set_back_makes_no_running_wait_longer(
    database: Path, workflow: Callable[[Context], str], suspend: bool
) -> None:
    machine = Machine()
    tries.clear()
    with Engine(database, clock=machine.clock, suspend=suspend) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: engine.waits("emp_001"))
        machine.ahead = -DAY
        machine.passed += HOUR - 1
        with pytest.raises(TimeoutError):
            handle.result(0.2)
        machine.passed += 1

        try:
            assert handle.result(PATIENCE_SECONDS) == "at last"
        finally:
            handle.interrupt()
