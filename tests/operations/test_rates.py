"""Rates: of the calls of a map no more than `per_second` begin in any second, and hardly fewer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from durable import Context, Engine, Retry, current_step, step
from durable.clock import ManualClock
from durable.errors import RunStopped
from durable.observer import crash_at
from tests.support.patience import patient
from tests.support.processes import call_in_child, crash_in_child, eventually
from tests.support.selection import first_alone

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
begun: list[float] = []  # in seconds since noon
clocks: list[ManualClock] = []


@pytest.fixture
def clock() -> ManualClock:
    begun.clear()
    clocks[:] = [ManualClock(NOON)]
    return clocks[0]


def note(_: int) -> int:
    begun.append((clocks[0].now() - NOON).total_seconds())
    return 1


async def note_async(number: int) -> int:
    return note(number)


@step(retry=Retry(attempts=3, delay_seconds=0, jitter=0))
def note_at_third(number: int) -> int:
    note(number)
    if current_step().attempt < 3:
        raise ConnectionError("not yet")
    return 1


@step(retry=Retry(attempts=3, delay_seconds=0, jitter=0))
async def note_at_third_async(number: int) -> int:
    return note_at_third(number)


def child(ctx: Context, number: int) -> int:
    return ctx.step(note, number)


async def child_async(ctx: Context, number: int) -> int:
    return await ctx.submit(note, number)


def batch(ctx: Context, count: int, per_second: float, max_concurrent: int | None = None) -> int:
    return sum(ctx.map(note, range(count), per_second=per_second, max_concurrent=max_concurrent))


def paced(fn: Callable[..., int], per_second: float) -> Callable[[Context, int], int]:
    def workflow(ctx: Context, count: int) -> int:
        return sum(ctx.map(fn, range(count), per_second=per_second))

    return workflow


def most_in_a_second(instants: list[float], seconds: float = 1.0) -> int:
    """Return how many of the instants lie in one second, its end excluded, at most."""
    return max(sum(first <= each < first + seconds for each in instants) for first in instants)


@pytest.mark.parametrize("fn", [note, note_async, child, child_async], ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("suspend", [False, True])
def test_no_more_calls_begin_in_a_second_than_are_allowed_and_no_fewer(
    database: Path, clock: ManualClock, fn: Callable[..., int], suspend: bool
) -> None:
    with Engine(database, clock=clock, suspend=suspend) as engine:
        assert engine.run("wf", paced(fn, 5), 12) == 12

    assert begun == [0.0] * 5 + [1.01] * 5 + [2.02] * 2


@pytest.mark.parametrize("watched", [False, True])
def test_a_minute_holds_the_rate(database: Path, clock: ManualClock, watched: bool) -> None:
    observers = [lambda _: None] if watched else []
    with Engine(database, clock=clock, observers=observers, synchronous="off") as engine:
        engine.run("wf", batch, 300, 5, max_concurrent=8)

    assert most_in_a_second(begun) == 5
    assert 59 <= begun[-1] - begun[0] < 59 * 1.05


def test_a_rate_below_one_is_a_pause(database: Path, clock: ManualClock) -> None:
    with Engine(database, clock=clock) as engine:
        engine.run("wf", batch, 3, 0.1)

    assert begun == [0.0, 10.01, 20.02]


@pytest.mark.parametrize("fn", [note_at_third, note_at_third_async], ids=lambda fn: fn.__name__)
def test_further_attempts_count_as_well(database: Path, clock: ManualClock, fn: Callable[..., int]) -> None:
    with Engine(database, clock=clock) as engine:
        assert engine.run("wf", paced(fn, 2), 2) == 2

    assert begun == [0.0, 0.0, 1.01, 1.01, 2.02, 2.02]


def test_a_resumed_workflow_begins_a_second_later(database: Path, clock: ManualClock) -> None:
    broken = [True]

    def fails_once(number: int) -> int:
        note(number)
        if number == 3 and broken:
            raise ValueError("no")
        return 1

    with Engine(database, clock=clock) as engine:
        workflow = paced(fails_once, 2)
        with pytest.raises(ValueError, match="no"):
            engine.run("wf", workflow, 4)
        broken.clear()
        assert engine.run("wf", workflow, 4) == 4

    assert begun == [0.0, 0.0, 1.01, 1.01, 2.02]


@pytest.mark.parametrize(("per_second", "max_concurrent"), [(0, None), (-1, None), (2.5, None), (5, 0)])
def test_other_numbers_are_refused(database: Path, per_second: float, max_concurrent: int | None) -> None:
    with Engine(database) as engine, pytest.raises(ValueError, match="_"):
        engine.run("wf", batch, 1, per_second, max_concurrent)


def test_stop_ends_a_map_that_waits_for_its_turn(database: Path, clock: ManualClock) -> None:
    assert clock.now() == NOON  # the time that the steps note; the engine has that of the machine
    engine = Engine(database)
    handle = engine.start("wf", batch, 3, 0.001)
    eventually(lambda: begun)
    assert engine.stop(timeout_seconds=patient(5))
    with pytest.raises(RunStopped):
        handle.result()

    assert len(begun) == 1


# ---- under SIGKILL, by the time of the machine


def write_down(number: int) -> int:
    with (current_step().database.parent / "begun").open("a") as file:
        file.write(f"{time.time()}\n")
    return number


def numbers(ctx: Context) -> list[int]:
    return ctx.map(write_down, range(12), per_second=5, max_concurrent=4)


def run_numbers(_: Connection, database: Path, *at: str) -> list[int]:
    with Engine(database, observers=[crash_at.parse(each) for each in at]) as engine:
        return engine.run("wf", numbers)


@pytest.mark.parametrize("moment", first_alone(["executed", "started", "checkpointed"]))
def test_the_rate_is_kept_across_a_crash(database: Path, moment: str) -> None:
    for number in (3, 7):
        crash_in_child(run_numbers, database, f"write_down_{number}:{moment}")

    assert call_in_child(run_numbers, database) == list(range(12))
    instants = [float(line) for line in (database.parent / "begun").read_text().split()]
    assert len(instants) >= 12
    # a busy machine may let time pass between the begin of a call and its look at the clock
    assert most_in_a_second(instants, 0.8) <= 5


@pytest.mark.thorough
def test_the_rate_is_held_by_the_time_of_the_machine(database: Path) -> None:
    instants: list[float] = []
    lock = threading.Lock()

    def call(_: int) -> None:
        with lock:
            instants.append(time.monotonic())

    def calls(ctx: Context) -> None:
        ctx.map(call, range(301), per_second=5, max_concurrent=8)

    with Engine(database) as engine:
        engine.run("wf", calls)

    assert most_in_a_second(instants, 0.8) <= 5
    assert timedelta(seconds=60) <= timedelta(seconds=instants[-1] - instants[0]) <= timedelta(seconds=60 * 1.05)


def test_an_engine_that_suspends_and_is_closed_waits_for_a_map_that_waits_for_its_pace(
    database: Path, clock: ManualClock
) -> None:
    """No row tells of such a wait, so the workflow cannot be suspended for it."""
    engine = Engine(database, suspend=True, clock=clock)
    started = engine.start("emp_001", batch, 2, 1)
    closing = threading.Thread(target=engine.close, daemon=True)
    closing.start()
    eventually(lambda: not closing.is_alive())

    assert started.result() == 2
