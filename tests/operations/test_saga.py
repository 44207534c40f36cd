"""Sagas: what was registered is undone in reverse when the workflow fails or is cancelled, through every crash."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Moment, NonDeterminismError, Retry, WorkflowCancelledError, step
from durable.clock import ManualClock
from durable.observer import crash, crash_at
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import KILLED, child, crash_in_child, eventually
from tests.support.stored import outcomes
from tests.support.workflows import act, act_async, effects


def done(database: Path) -> list[str]:
    """What really happened, in order."""
    log = database.with_suffix(".effects.log")
    return [line.partition("\t")[0] for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def undo(what: str) -> None:
    act(f"undo {what}")


async def undo_async(what: str) -> None:
    await act_async(f"undo {what}")


def refuse(what: str) -> None:
    act(what)
    raise ValueError(f"no {what}")


def trip(ctx: Context) -> None:
    """Three bookings, each to be undone, and a fourth that fails."""
    for what in ("train", "hotel"):
        ctx.step(act, what)
        ctx.on_failure(undo, what)
    ctx.step(act, "boat")
    ctx.on_failure(undo_async, "boat")
    ctx.step(refuse, "visa")


async def trip_async(ctx: Context) -> None:
    for what in ("train", "hotel"):
        await ctx.submit(act, what)
        ctx.on_failure(undo, what)
    await ctx.submit(act_async, "boat")
    ctx.on_failure(undo_async, "boat")
    await ctx.submit(refuse, "visa")


def trip_in_branches(ctx: Context) -> None:
    ctx.branch(book, "train").result()
    ctx.branch(book, "hotel").result()
    ctx.step(refuse, "visa")


def book(ctx: Context, what: str) -> None:
    ctx.step(act, what)
    ctx.on_failure(undo, what)


STORY = ["train", "hotel", "boat", "visa", "undo boat", "undo hotel", "undo train"]


# ---- in reverse, as steps


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
@pytest.mark.parametrize("workflow", [trip, trip_async])
def test_what_was_done_is_undone_in_reverse(database: Path, workflow: Callable[..., Any], suspend: bool) -> None:
    with Engine(database, suspend=suspend) as engine:
        with pytest.raises(ValueError, match="no visa"):
            engine.run("emp_001", workflow)

        assert done(database) == STORY
        kinds = {each.step_key: (each.kind, each.status) for each in engine.steps("emp_001")}
        assert kinds["undo_2"] == ("on_failure", "completed")
        assert kinds["undo_2/undo_1"] == ("compensation", "completed")
        assert engine.workflow("emp_001").status == "failed"


def test_what_branches_have_registered_is_undone_in_reverse_of_program_order(database: Path) -> None:
    with Engine(database) as engine, pytest.raises(ValueError, match="no visa"):
        engine.run("emp_001", trip_in_branches)

    assert done(database) == ["train", "hotel", "visa", "undo hotel", "undo train"]


def test_a_workflow_that_completes_undoes_nothing(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", lucky_trip)

        assert done(database) == ["train"]


def lucky_trip(ctx: Context) -> None:
    ctx.step(act, "train")
    ctx.on_failure(undo, "train")
    try:
        ctx.step(refuse_quietly)
    except ValueError:
        return


def refuse_quietly() -> None:
    raise ValueError("caught")


def test_one_that_has_compensated_is_final(database: Path) -> None:
    with Engine(database) as engine:
        for _ in range(2):
            with pytest.raises(ValueError, match="no visa"):
                engine.run("emp_001", trip)

        assert done(database) == STORY
        assert len(engine.runs("emp_001")) == 1


def test_a_compensation_that_fails_is_noted_and_the_others_run(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.on_failure(undo, "train")
        ctx.on_failure(refuse, "undo hotel")
        ctx.on_failure(undo, "boat")
        raise KeyError("visa")

    with Engine(database) as engine:
        notes = []
        for _ in range(2):
            with pytest.raises(KeyError, match="visa") as failed:
                engine.run("emp_001", workflow)
            notes.append(failed.value.__notes__)

        assert done(database) == ["undo boat", "undo hotel", "undo train"]
        assert notes == [["its compensation 'refuse' failed too: ValueError: no undo hotel"]] * 2


tries: list[str] = []


@step(retry=Retry(attempts=3, delay_seconds=3600, max_delay_seconds=3600, jitter=0))
def undo_at_last(what: str) -> None:
    tries.append(what)
    if len(tries) < 3:
        raise ConnectionError("not now")
    undo(what)


def retried(ctx: Context) -> None:
    ctx.on_failure(undo, "train")
    ctx.on_failure(undo_at_last, "hotel")
    raise KeyError("visa")


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
def test_a_compensation_is_retried_as_a_step_is(database: Path, suspend: bool) -> None:
    tries.clear()
    with Engine(database, suspend=suspend, clock=ManualClock()) as engine, pytest.raises(KeyError):
        engine.run("emp_001", retried)

    assert done(database) == ["undo hotel", "undo train"]
    assert tries == ["hotel"] * 3


# ---- cancelled


def long_trip(ctx: Context) -> None:
    ctx.step(act, "train")
    ctx.on_failure(undo, "train")
    ctx.step(act, "hotel")
    ctx.on_failure(undo_async, "hotel")
    ctx.wait_event("visa")
    ctx.step(act, "boat")


async def long_trip_async(ctx: Context) -> None:
    await ctx.submit(act, "train")
    ctx.on_failure(undo, "train")
    await ctx.submit(act, "hotel")
    ctx.on_failure(undo_async, "hotel")
    await ctx.event("visa")
    await ctx.submit(act, "boat")


CANCELLED = ["train", "hotel", "undo hotel", "undo train"]


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
@pytest.mark.parametrize("workflow", [long_trip, long_trip_async])
def test_a_cancelled_workflow_is_undone_too(database: Path, workflow: Callable[..., Any], suspend: bool) -> None:
    with Engine(database, suspend=suspend) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: "visa_5" in outcomes(engine))
        engine.cancel("emp_001")
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)

        assert done(database) == CANCELLED
        assert engine.workflow("emp_001").status == "cancelled"
        with pytest.raises(WorkflowCancelledError):
            engine.run("emp_001", workflow)
        assert done(database) == CANCELLED


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
def test_a_compensation_of_a_cancelled_workflow_waits_for_its_next_try_too(database: Path, suspend: bool) -> None:
    """A message comes for what the workflow had waited for, and it is cancelled again, as a compensation is retried:
    neither is a reason to try it before its time, nor to begin another life."""
    clock = ManualClock()
    tried_at: list[float] = []

    @step(retry=Retry(attempts=3, delay_seconds=3600, backoff=1, max_delay_seconds=3600, jitter=0))
    def undo_in_hours() -> None:
        tried_at.append((clock.now() - began_at).total_seconds())
        engine.send("emp_001", "visa")
        engine.cancel("emp_001")
        if len(tried_at) < 3:
            raise ConnectionError("not now")

    def workflow(ctx: Context) -> None:
        ctx.on_failure(undo_in_hours)
        ctx.wait_event("visa")

    with Engine(database, suspend=suspend, clock=clock) as engine:
        began_at = clock.now()
        handle = engine.start("emp_001", workflow)
        eventually(lambda: "visa_2" in outcomes(engine) and (engine.owner("emp_001") is None) is suspend)
        engine.cancel("emp_001")
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)

        assert tried_at == [0, 3600, 7200]
        assert [run.ended for run in engine.runs("emp_001")] == [*["suspended"] * 3 * suspend, "cancelled"]


def wait_until_killed(pipe: Connection, database: Path) -> None:
    with Engine(database) as engine:
        engine.start("emp_001", long_trip)
        eventually(lambda: "visa_5" in outcomes(engine))
        pipe.send("waiting")
        pipe.recv()


def test_one_that_a_dead_process_left_is_resumed_to_be_undone(database: Path) -> None:
    with child(wait_until_killed, database) as process:
        assert process.receive() == "waiting"
        assert process.kill() == KILLED
    with Engine(database) as engine:
        engine.cancel("emp_001")
        eventually(lambda: engine.workflow("emp_001").status == "cancelled")

        assert done(database) == CANCELLED


def test_a_step_in_flight_ends_before_anything_is_undone(database: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return act("held")

    def workflow(ctx: Context) -> None:
        ctx.on_failure(undo, "train")
        ctx.submit(hold)
        ctx.wait_event("never")

    with Engine(database) as engine:
        handle = engine.start("emp_001", workflow)
        entered.wait()
        engine.cancel("emp_001")
        leave.set()
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)

    assert done(database) == ["held", "undo train"]


# ---- what is on record is undone, or the run is stopped


@step(retry=Retry(attempts=5, delay_seconds=3600))
def flaky() -> None:
    raise ConnectionError("not now")


LOSERS: dict[str, Callable[[Context], Any]] = {
    "retry": lambda ctx: ctx.submit(flaky),
    "event": lambda ctx: ctx.event("approval"),
    "timer": lambda ctx: ctx.timer(3600),
    "child": lambda ctx: ctx.child(long_trip),
}


@pytest.mark.parametrize("loser", LOSERS)
def test_what_is_registered_after_a_branch_with_a_race_is_undone(database: Path, loser: str) -> None:
    # Life 1: the branch ends while the loser of its race still waits; the compensation is registered; all is suspended.
    # Life 2 replays in order to undo: the wait of the loser ends with the cancellation, the branch ends as it did.
    def race(ctx: Context) -> str:
        return ctx.first(LOSERS[loser](ctx), ctx.submit(act, "train")).result().result()

    def workflow(ctx: Context) -> None:
        ctx.branch(race).result()
        ctx.on_failure(undo, "train")
        ctx.wait_event("visa")

    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: "visa_3" in outcomes(engine) and engine.owner("emp_001") is None)
        engine.cancel("emp_001")
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)

        assert engine.workflow("emp_001").status == "cancelled"
        assert [row.step_key for row in engine.steps("emp_001") if row.kind == "compensation"] == ["undo_2/undo_1"]


def test_a_cancelled_workflow_that_misses_a_registered_compensation_is_stopped(database: Path) -> None:
    registers = [True]  # a decision that is not recorded

    def workflow(ctx: Context) -> None:
        ctx.on_failure(undo, "train")
        visa = ctx.event("visa")
        if registers:
            ctx.on_failure(undo, "hotel")
        visa.result()

    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: [run.ended for run in engine.runs("emp_001")] == ["suspended"])
        registers.clear()
        engine.cancel("emp_001")
        with pytest.raises(NonDeterminismError, match="bring the code back that registers it") as missed:
            handle.result(PATIENCE_SECONDS)

        assert (missed.value.step_key, missed.value.recorded) == ("undo_3", "undo_3")
        assert (engine.workflow("emp_001").status, engine.runs("emp_001")[-1].ended) == ("running", "stopped")
        assert done(database) == []

        registers.append(True)
        with pytest.raises(WorkflowCancelledError):
            engine.run("emp_001", workflow)
        assert engine.workflow("emp_001").status == "cancelled"
        assert done(database) == ["undo hotel", "undo train"]


def test_a_retry_of_a_step_does_not_hide_that_a_registered_compensation_was_missed(database: Path) -> None:
    # Life 1: the first try fails, the compensation is registered, the second try is interrupted.
    # Life 2: the second try succeeds. The code has seen no failure, so it has no reason to take another way.
    tries: list[int] = []
    registered = threading.Event()

    @step(retry=Retry(attempts=2, delay_seconds=0))
    def book_at_last() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("not now")
        registered.wait()
        if len(tries) == 2:
            raise SystemExit

    def workflow(ctx: Context) -> None:
        booking = ctx.submit(book_at_last)
        if len(tries) < 2:
            ctx.on_failure(undo, "train")
            registered.set()
        booking.result()
        raise KeyError("visa")

    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        with pytest.raises(NonDeterminismError, match="undo_2"):
            engine.run("emp_001", workflow)

        assert (engine.workflow("emp_001").status, engine.runs("emp_001")[-1].ended) == ("running", "stopped")


def test_what_the_code_registered_on_a_way_that_it_left_is_superseded(database: Path) -> None:
    # Life 1: the booking fails, and only therefore something is registered; the workflow fails, and is undone.
    # Life 2, rewound to behind the registration: the booking is tried anew and succeeds. The code goes another way.
    repaired: list[bool] = []

    def book_boat() -> None:
        if not repaired:
            raise ConnectionError("no boat")

    def workflow(ctx: Context) -> None:
        try:
            ctx.step(book_boat)
        except ConnectionError as error:
            ctx.on_failure(undo, "train")
            ctx.step(act, "train")
            raise KeyError("visa") from error
        raise KeyError("boat")

    with Engine(database) as engine:
        with pytest.raises(KeyError, match="visa"):
            engine.run("emp_001", workflow)
        engine.rewind("emp_001", to="act_3")
        repaired.append(True)
        with pytest.raises(KeyError, match="boat"):
            engine.run("emp_001", workflow)

        assert engine.workflow("emp_001").status == "failed"
        assert [row.step_key for row in engine.steps("emp_001")] == ["book_boat_1"]
        assert "undo_2" in [row.step_key for row in engine.attempts("emp_001")]
        assert done(database) == ["train", "undo train"]


# ---- crashes in the middle of it


class CrashAtNth:
    """Kills the process at the nth moment of a compensation."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, moment: Moment) -> None:
        if moment.step_key is not None and "/" in moment.step_key:
            self.left -= 1
            if self.left == 0:
                crash()


def run_until_killed(pipe: Connection, database: Path, number: int, is_async: bool) -> str:
    with Engine(database, observers=[CrashAtNth(number)], synchronous="off") as engine:
        try:
            engine.run("emp_001", trip_async if is_async else trip)
        except ValueError:
            return "lived"
    return "completed"


@pytest.mark.thorough
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_crash_at_any_moment_of_the_compensations_is_survived(tmp_path: Path, is_async: bool) -> None:
    number, lived = 0, False
    while not lived:
        number += 1
        database = tmp_path / f"{number}.db"
        with child(run_until_killed, database, number, is_async) as process:
            lived = process.join() != KILLED
        with Engine(database, synchronous="off") as engine, pytest.raises(ValueError, match="no visa"):
            engine.run("emp_001", trip_async if is_async else trip)

        story = done(database)
        assert list(dict.fromkeys(story)) == STORY, number
        assert len(story) - len(STORY) <= 1, number  # only what was in flight
    assert number == 3 * 4 + 1


def cancel_until_killed(pipe: Connection, database: Path, at: str) -> None:
    with Engine(database, observers=[crash_at.parse(at)]) as engine:
        engine.start("emp_001", long_trip)
        eventually(lambda: "visa_5" in outcomes(engine))
        engine.cancel("emp_001")
        pipe.recv()


@pytest.mark.parametrize("at", ["undo_async_4/undo_async_1:checkpointed", "undo_2/undo_1:executed"])
def test_a_crash_while_a_cancelled_workflow_is_undone_is_survived(database: Path, at: str) -> None:
    crash_in_child(cancel_until_killed, database, at)
    with Engine(database) as engine:
        for handle in engine.recover().resumed:
            with pytest.raises(WorkflowCancelledError):
                handle.result(PATIENCE_SECONDS)

        assert engine.workflow("emp_001").status == "cancelled"
        assert set(Counter(done(database)).items()) >= {("train", 1), ("hotel", 1), ("undo hotel", 1)}
        assert list(dict.fromkeys(done(database))) == CANCELLED
        assert "boat" not in done(database)
        assert effects(database)[0] == "act_1"
