"""Waiting survives: timers sleep only the rest, no message is lost or taken twice, timeouts and winners stay."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Moment, Retry, WaitTimeoutError, step
from durable.clock import ManualClock
from durable.errors import SerializationError, WorkflowEndedError, WorkflowNotFoundError
from durable.observer import crash_at
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import call_in_child, child, crash_in_child, eventually, is_main_thread_in
from tests.support.stored import is_waiting, outcomes, rows
from tests.support.workflows import act, effects

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT_ONCE_SECONDS = 1.0


@dataclass
class Approval:
    by: str
    cents: int


# ---- timers


def nap(ctx: Context, seconds: float) -> str:
    ctx.step(act, "before")
    ctx.sleep(seconds)
    return ctx.step(act, "after")


def nap_until_killed(pipe: Connection, database: Path, moment: str) -> None:
    clock = ManualClock(NOON, skip=False)
    with Engine(database, clock=clock, observers=[crash_at("sleep_2", moment)]) as engine:
        engine.run("emp_001", nap, 60)


def test_after_sigkill_only_the_rest_is_slept(database: Path) -> None:
    crash_in_child(nap_until_killed, database, "started")
    clock = ManualClock(NOON + timedelta(seconds=40))
    with Engine(database, clock=clock) as engine:
        result = engine.run("emp_001", nap, 60)

    assert result == "AFTER"
    assert clock.now() == NOON + timedelta(seconds=60)
    assert effects(database) == ["act_1", "act_3"]


def test_a_timer_that_came_due_while_the_process_was_dead_is_over_at_once(database: Path) -> None:
    crash_in_child(nap_until_killed, database, "started")
    clock = ManualClock(NOON + timedelta(hours=1), skip=False)
    with Engine(database, clock=clock) as engine:
        result = engine.run("emp_001", nap, 60)

    assert result == "AFTER"
    assert clock.now() == NOON + timedelta(hours=1)


def test_a_timer_of_which_nothing_was_written_begins_anew(database: Path) -> None:
    crash_in_child(nap_until_killed, database, "scheduled")
    clock = ManualClock(NOON + timedelta(hours=1))
    with Engine(database, clock=clock) as engine:
        engine.run("emp_001", nap, 60)

    assert clock.now() == NOON + timedelta(hours=1, seconds=60)


def test_a_timer_waits_for_its_instant_and_not_less(database: Path) -> None:
    clock = ManualClock(NOON, skip=False)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", nap, 60)
        eventually(lambda: outcomes(engine).get("sleep_2") == ("running", None))
        clock.advance(59)
        with pytest.raises(TimeoutError):
            handle.result(timeout=0.2)
        clock.advance(1)

        assert handle.result(PATIENCE_SECONDS) == "AFTER"


def test_timers_beside_each_other_take_as_long_as_the_longest(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        for timer in [ctx.timer(30), ctx.timer(60), ctx.timer(45)]:
            timer.result()

    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        engine.run("emp_001", workflow)

    assert clock.now() == NOON + timedelta(seconds=60)


@pytest.mark.parametrize("instant", [NOON, NOON - timedelta(days=1), NOON + timedelta(days=1)])
def test_sleep_until_ends_at_its_instant_and_at_once_where_that_is_past(database: Path, instant: datetime) -> None:
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        engine.run("emp_001", lambda_free(lambda ctx: ctx.sleep_until(instant)))

    assert clock.now() == max(NOON, instant)


def lambda_free(body: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """A workflow with a name."""

    def workflow(ctx: Context) -> Any:
        return body(ctx)

    return workflow


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused_before_anything_is_written(database: Path, seconds: float) -> None:
    with Engine(database) as engine:
        with pytest.raises(ValueError, match="expected a number of seconds from 0"):
            engine.run("emp_001", lambda_free(lambda ctx: ctx.sleep(seconds)))
        with pytest.raises(ValueError, match="add tzinfo=UTC"):
            engine.run("emp_002", lambda_free(lambda ctx: ctx.sleep_until(datetime(2026, 1, 1))))  # noqa: DTZ001
        with pytest.raises(ValueError, match="timeout_seconds: expected a number of seconds from 0"):
            engine.run("emp_003", lambda_free(lambda ctx: ctx.wait_event("go", timeout_seconds=seconds)))

        assert [engine.steps(each.workflow_id) for each in engine.workflows()] == [[], [], []]


@pytest.mark.parametrize(
    "wait",
    [
        lambda ctx, duration: ctx.sleep(duration),
        lambda ctx, duration: ctx.timer(duration).result(),
        lambda ctx, duration: str(ctx.event("news", timeout_seconds=duration).exception()),
    ],
    ids=["sleep", "timer", "event"],
)
def test_a_duration_may_be_a_timedelta(database: Path, wait: Callable[[Context, Any], Any]) -> None:
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        engine.run("emp_001", lambda_free(lambda ctx: wait(ctx, timedelta(minutes=1, milliseconds=500))))

    assert clock.now() == NOON + timedelta(seconds=60.5)


def test_a_timedelta_is_compared_as_the_number_of_its_seconds(database: Path) -> None:
    durations = iter([60, timedelta(minutes=1)])

    def workflow(ctx: Context) -> str:
        ctx.sleep(next(durations))
        return ctx.step(fail_in_the_first_run)

    def fail_in_the_first_run() -> str:
        lives.append(1)
        if len(lives) == 1:
            raise KeyboardInterrupt
        return "done"

    lives: list[int] = []
    with Engine(database, clock=ManualClock(NOON)) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)

        assert engine.run("emp_001", workflow) == "done"


@pytest.mark.parametrize("scale", [1, 1_000, 1_000_000_000])
@pytest.mark.parametrize(
    ("wait", "subject"),
    [
        (lambda ctx, number: ctx.sleep(number), "sleep: "),
        (lambda ctx, number: ctx.timer(number), "sleep: "),
        (lambda ctx, number: ctx.wait_event("news", timeout_seconds=number), "event 'news': timeout_seconds: "),
    ],
    ids=["sleep", "timer", "event"],
)
def test_a_timestamp_is_no_duration_and_the_advice_waits_for_its_instant(
    database: Path, wait: Callable[[Context, Any], Any], subject: str, scale: int
) -> None:
    clock = ManualClock(datetime.fromtimestamp(1_700_000_000 - 60, UTC))
    with Engine(database, clock=clock) as engine:
        with pytest.raises(ValueError, match="must be a timestamp") as refused:
            engine.run("emp_001", lambda_free(lambda ctx: wait(ctx, 1_700_000_000 * scale)))
        assert str(refused.value).startswith(subject)
        assert engine.steps("emp_001") == []

        (advised,) = re.findall(r"ctx\.sleep_until\((.*)\)$", str(refused.value))
        engine.run("emp_002", lambda_free(lambda ctx: ctx.sleep_until(eval(advised))))

    assert clock.now() == datetime.fromtimestamp(1_700_000_000, UTC)


@pytest.mark.parametrize("instant", [1_700_000_000, 1.5, "2026-01-01", date(2026, 1, 1), timedelta(1)])
def test_sleep_until_takes_an_instant_and_nothing_else(database: Path, instant: Any) -> None:
    with Engine(database) as engine:
        with pytest.raises(TypeError, match=r"sleep_until: expected a datetime with a time zone, got .*ctx\.sleep"):
            engine.run("emp_001", lambda_free(lambda ctx: ctx.sleep_until(instant)))

        assert engine.steps("emp_001") == []


@pytest.mark.parametrize("duration", ["60", None, [60]])
def test_what_is_no_duration_is_refused_by_name(database: Path, duration: Any) -> None:
    with (
        Engine(database) as engine,
        pytest.raises(TypeError, match="sleep: expected a number of seconds or a timedelta, got"),
    ):
        engine.run("emp_001", lambda_free(lambda ctx: ctx.sleep(duration)))


def test_a_timer_is_on_time_also_where_every_worker_is_busy(database: Path) -> None:
    leave = threading.Event()

    def be_busy() -> str:
        leave.wait()
        return "done"

    def workflow(ctx: Context) -> str:
        work, timeout = ctx.submit(be_busy), ctx.timer(60)
        winner = "work" if ctx.first(work, timeout).result() is work else "timeout"
        leave.set()
        return winner

    clock = ManualClock(skip=False)
    with Engine(database, clock=clock, max_workers=1) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: outcomes(engine).keys() == {"be_busy_1", "sleep_2"})
        clock.advance(60)
        try:
            assert handle.result(5) == "timeout"
        finally:
            leave.set()


# ---- messages


def receive(ctx: Context, count: int, name: str = "news") -> list[Any]:
    return [ctx.wait_event(name) for _ in range(count)]


def receive_in_parallel(ctx: Context, count: int) -> list[Any]:
    return [future.result() for future in [ctx.event("news") for _ in range(count)]]


def prepare(ctx: Context) -> None:
    """A workflow that exists and waits to be run again: messages may be sent to it."""


def left_alone(engine: Engine, workflow: Callable[..., Any], *args: Any) -> None:
    """A first life that ends before it has come to anything."""

    def leave(moment: Moment) -> None:
        if moment.name == "workflow.started":
            raise SystemExit

    with Engine(engine.path, observers=[leave]) as other, pytest.raises(SystemExit):
        other.run("emp_001", workflow, *args)


def send_from_here(pipe: Connection, database: Path, *values: Any, key: str | None = None) -> list[bool]:
    pipe.recv()
    with Engine(database) as engine:
        return [engine.send("emp_001", "news", value, key=key) for value in values]


def send_with_key(pipe: Connection, database: Path, value: Any) -> list[bool]:
    return send_from_here(pipe, database, value, key="the one")


@pytest.mark.parametrize("workflow", [receive, receive_in_parallel])
def test_what_is_sent_before_the_wait_is_received_in_the_order_of_sending(
    database: Path, workflow: Callable[..., Any]
) -> None:
    with Engine(database) as engine:
        left_alone(engine, workflow, 4)
        for number in range(4):
            engine.send("emp_001", "news", number)

        assert engine.run("emp_001", workflow, 4) == [0, 1, 2, 3]


def test_first_sent_is_first_received_also_from_other_processes(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", receive, 6)
        for value in (10, 20, 30):
            with child(send_from_here, database, value, value + 1) as sender:
                sender.send()
                assert sender.outcome() == [True, True]

        assert handle.result(PATIENCE_SECONDS) == [10, 11, 20, 21, 30, 31]


def test_of_many_that_send_and_many_that_wait_each_message_is_received_once(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", receive_in_parallel, 24)
        with child(send_from_here, database, *range(8)) as one, child(send_from_here, database, *range(8, 16)) as two:
            one.send()
            two.send()
            for number in range(16, 24):
                engine.send("emp_001", "news", number)
            one.outcome()
            two.outcome()

        assert sorted(handle.result(PATIENCE_SECONDS)) == list(range(24))
        assert rows(database, "select count(distinct received_by) from messages") == [(24,)]


def test_a_wait_wakes_at_once_when_another_process_sends(database: Path) -> None:
    with Engine(database) as engine, child(send_from_here, database, "now") as sender:
        handle = engine.start("emp_001", receive, 1)
        eventually(lambda: outcomes(engine).get("news_1") == ("running", None))
        sender.send()
        sender.outcome()
        began = time.monotonic()

        assert handle.result(PATIENCE_SECONDS) == ["now"]
        assert time.monotonic() - began < AT_ONCE_SECONDS


def test_a_send_with_a_key_is_recorded_once_also_when_two_processes_race(database: Path) -> None:
    with Engine(database) as engine:
        left_alone(engine, receive, 2)
        with child(send_with_key, database, "one") as first, child(send_with_key, database, "two") as second:
            first.send()
            second.send()
            told = [*first.outcome(), *second.outcome()]
        again = engine.send("emp_001", "news", "three", key="the one")
        engine.send("emp_001", "news", "last")

        assert sorted(told) == [False, True]
        assert again is False
        assert engine.run("emp_001", receive, 2) == ["one" if told[0] else "two", "last"]


def test_a_key_belongs_to_the_workflow_that_it_is_sent_to(database: Path) -> None:
    with Engine(database) as engine:
        left_alone(engine, receive, 1)
        engine.start("emp_002", receive, 1)

        assert [engine.send(each, "news", 7, key="k") for each in ("emp_001", "emp_002")] == [True, True]
        assert engine.run("emp_001", receive, 1) == [7]


def test_a_received_message_stays_received_when_the_workflow_runs_again(database: Path) -> None:
    with Engine(database) as engine:
        left_alone(engine, receive, 3)
        for number in range(3):
            engine.send("emp_001", "news", number)
        crash_in_child(receive_until_killed, database, "news_2", "checkpointed")
        crash_in_child(receive_until_killed, database, "news_3", "executed")

        assert engine.run("emp_001", receive, 3) == [0, 1, 2]
        assert rows(database, "select received_by from messages order by id") == [("news_1",), ("news_2",), ("news_3",)]


def receive_until_killed(pipe: Connection, database: Path, key: str, moment: str) -> None:
    with Engine(database, observers=[crash_at(key, moment)]) as engine:
        engine.run("emp_001", receive, 3)


def test_a_message_has_its_type(database: Path) -> None:
    def workflow(ctx: Context) -> Approval:
        return ctx.wait_event("approval", type=Approval)

    with Engine(database) as engine:
        left_alone(engine, workflow)
        engine.send("emp_001", "approval", Approval("Ann", 250_000))

        assert engine.run("emp_001", workflow) == Approval("Ann", 250_000)


def test_a_message_of_the_wrong_type_is_an_outcome_and_counts_as_received(database: Path) -> None:
    seen: list[str] = []

    def workflow(ctx: Context) -> Approval:
        try:
            ctx.wait_event("approval", type=Approval)
        except SerializationError as error:
            seen.append(str(error))
        approval = ctx.wait_event("approval", type=Approval)
        ctx.step(die_once)
        return approval

    def die_once() -> None:
        if len(seen) == 1:
            raise SystemExit

    with Engine(database) as engine:
        left_alone(engine, workflow)
        engine.send("emp_001", "approval", "yes")
        engine.send("emp_001", "approval", Approval("Ann", 5))
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        result = engine.run("emp_001", workflow)

        assert result == Approval("Ann", 5)
        assert len(seen) == 2
        assert seen[0] == seen[1]
        assert "does not fit" in seen[0]
        assert "Approval" in seen[0]
        assert rows(database, "select received_by from messages order by id") == [("approval_1",), ("approval_2",)]


def test_what_cannot_be_sent_is_refused_and_nothing_is_left(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("done", prepare)
        left_alone(engine, receive, 1)

        with pytest.raises(WorkflowNotFoundError, match="no workflow 'emp_0001'; did you mean 'emp_001'"):
            engine.send("emp_0001", "news", 1)
        with pytest.raises(WorkflowEndedError, match="is completed and receives nothing more") as ended:
            engine.send("done", "news", 1)
        with pytest.raises(SerializationError):
            engine.send("emp_001", "news", threading.Lock())
        assert (ended.value.workflow_id, ended.value.status) == ("done", "completed")
        assert rows(database, "select * from messages") == []


# ---- timeouts


def ask(ctx: Context) -> list[Any]:
    """One answer with patience, and one without end."""
    try:
        first = ctx.wait_event("answer", timeout_seconds=60)
    except WaitTimeoutError as error:
        first = str(error)
    return [first, ctx.wait_event("answer")]


def test_a_timeout_is_a_recorded_outcome_also_when_a_message_comes_later(database: Path) -> None:
    told = "event 'answer' of 'emp_001': no message within 60 s"
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", ask)
        eventually(lambda: outcomes(engine).get("answer_2") == ("running", None))
        assert clock.now() == NOON + timedelta(seconds=60)
        handle.end()
        engine.send("emp_001", "answer", "late")
        result = engine.run("emp_001", ask)

        assert result == [told, "late"]
        assert outcomes(engine) == {"answer_1": ("failed", None), "answer_2": ("completed", "late")}


def test_a_message_in_time_ends_the_wait_before_its_timeout(database: Path) -> None:
    clock = ManualClock(NOON, skip=False)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", ask)
        engine.send("emp_001", "answer", 1)
        eventually(lambda: outcomes(engine).get("answer_2") == ("running", None))
        engine.send("emp_001", "answer", 2)

        assert handle.result(PATIENCE_SECONDS) == [1, 2]
        assert clock.now() == NOON


def test_a_timeout_is_counted_from_the_first_run(database: Path) -> None:
    with Engine(database, clock=ManualClock(NOON, skip=False)) as engine:
        handle = engine.start("emp_001", ask)
        eventually(lambda: outcomes(engine).get("answer_1") == ("running", None))
        handle.end()
    clock = ManualClock(NOON + timedelta(seconds=50))
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", ask)
        eventually(lambda: outcomes(engine).get("answer_2") == ("running", None))

        assert clock.now() == NOON + timedelta(seconds=60)
        handle.end()


# ---- races: the winner is on record


class Contest:
    """A race that its second runner wins in the first life; by the second life all have ended, so that any may win."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.lives = 0
        self._hold, self._fast_is_first = threading.Event(), threading.Event()

    def slow(self) -> str:
        self._hold.wait()
        return "slow"

    def fast(self) -> str:
        return "fast"

    def slow_branch(self, ctx: Context) -> str:
        if self.lives == 1:
            self._hold.wait()
        return ctx.step(self.fast)

    def fast_branch(self, ctx: Context) -> str:
        result = ctx.step(self.fast)
        if self.lives == 2:
            self._fast_is_first.wait(0.1)  # the delay that turns the order round
        return result

    async def slow_later(self) -> str:
        await asyncio.to_thread(self._hold.wait)
        return "slow"

    def runners(self, ctx: Context) -> list[Any]:
        match self.kind:
            case "steps":
                return [ctx.submit(self.slow), ctx.submit(self.fast)]
            case "async steps":
                return [ctx.submit(self.slow_later), ctx.submit(self.fast)]
            case "branches":
                return [ctx.branch(self.slow_branch), ctx.branch(self.fast_branch)]
            case "timers":
                return [ctx.timer(60), ctx.timer(30)]
            case "events":
                return [ctx.event("slow"), ctx.event("fast")]
            case _:
                return [ctx.event("slow"), ctx.timer(30)]

    def end_it(self, ctx: Context, runners: list[Any], winner: int) -> int:
        """All come to their end, and the first life to its own."""
        self._hold.set()
        for runner in runners:
            runner.exception()
        ctx.step(self.die_once)
        return winner

    def workflow(self, ctx: Context) -> int:
        self.lives += 1
        runners = self.runners(ctx)
        return self.end_it(ctx, runners, runners.index(ctx.first(*runners).result()))

    async def workflow_async(self, ctx: Context) -> int:
        self.lives += 1
        runners = self.runners(ctx)
        winner = runners.index(await ctx.first(*runners))
        self._hold.set()
        for runner in runners:
            await runner
        ctx.step(self.die_once)
        return winner

    def die_once(self) -> None:
        if self.lives == 1:
            raise SystemExit


CONTESTS = ["steps", "async steps", "branches", "timers", "events", "an event and a timer"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", CONTESTS)
def test_the_winner_of_a_race_stays_the_winner_when_a_replay_would_turn_the_order_round(
    database: Path, kind: str, is_async: bool
) -> None:
    contest = Contest(kind)
    workflow = contest.workflow_async if is_async else contest.workflow
    clock = ManualClock(NOON, skip=False)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: len(outcomes(engine)) >= 2)
        clock.advance(30)
        engine.send("emp_001", "fast")
        eventually(lambda: outcomes(engine).get("first_3") == ("completed", 1))
        clock.advance(30)
        engine.send("emp_001", "slow")
        with pytest.raises(SystemExit):
            handle.result(PATIENCE_SECONDS)

        assert engine.run("emp_001", workflow) == 1
        assert contest.lives == 2


class Arrivals:
    """Three steps that end in the order in which they are let go; on a replay, all at once."""

    ORDER = ("c", "a", "b")

    def __init__(self) -> None:
        self.lives = 0
        self._may_end = {what: threading.Event() for what in self.ORDER}

    def travel(self, what: str) -> str:
        self._may_end[what].wait()
        return what

    def note(self, what: str) -> str:
        """The next is let go only when this one was seen."""
        following = dict(zip(self.ORDER, self.ORDER[1:], strict=False)).get(what)
        if following is not None:
            self._may_end[following].set()
        return what

    def workflow(self, ctx: Context) -> str:
        self.lives += 1
        self._may_end["c"].set()
        travelling = [ctx.submit(self.travel, what) for what in "abc"]
        seen = [ctx.step(self.note, arrived.result()) for arrived in ctx.as_completed(travelling)]
        ctx.step(self.die_once)
        return "".join(seen)

    async def workflow_async(self, ctx: Context) -> str:
        self.lives += 1
        self._may_end["c"].set()
        travelling = [ctx.submit(self.travel, what) for what in "abc"]
        seen = [ctx.step(self.note, arrived.result()) async for arrived in ctx.as_completed(travelling)]
        ctx.step(self.die_once)
        return "".join(seen)

    def die_once(self) -> None:
        if self.lives == 1:
            raise SystemExit


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_order_of_arrival_is_recorded(database: Path, is_async: bool) -> None:
    arrivals = Arrivals()
    workflow = arrivals.workflow_async if is_async else arrivals.workflow
    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)

        assert engine.run("emp_001", workflow) == "cab"
        assert arrivals.lives == 2


def test_a_race_that_a_failure_wins_is_won(database: Path) -> None:
    def fail() -> str:
        raise ValueError("no")

    def workflow(ctx: Context) -> str:
        futures = [ctx.event("never"), ctx.submit(fail)]
        winner = ctx.first(*futures).result()
        return f"{futures.index(winner)}: {winner.exception()}"

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == "1: no"


def test_a_race_of_nothing_or_of_strangers_is_refused(database: Path) -> None:
    with Engine(database) as engine:
        for futures in ((), (threading.Lock(),), (asyncio.Future,)):
            with pytest.raises(TypeError, match=r"ctx.first: expected futures of this workflow"):
                engine.run("emp_001", lambda_free(lambda ctx, futures=futures: ctx.first(*futures)))


# ---- losers


def wait_for_ever(ctx: Context, how: str) -> None:
    try:
        if how == "sleeps":
            ctx.sleep(1e9)
        elif how == "is retried":
            ctx.step(refuse_patiently)
        elif how == "waits within":
            ctx.branch(wait_for_ever, "sleeps").result()
        else:
            ctx.wait_event("never")
    finally:
        ctx.step(act, "clean up")


@step(retry=Retry(attempts=2, delay_seconds=1e9, max_delay_seconds=1e9))
def refuse_patiently() -> None:
    raise ValueError("not now")


LOSERS: dict[str, Callable[[Context], Any]] = {
    "timer": lambda ctx: ctx.timer(1e9),
    "event": lambda ctx: ctx.event("never"),
    "step to be retried": lambda ctx: ctx.submit(refuse_patiently),
    "branch that sleeps": lambda ctx: ctx.branch(wait_for_ever, "sleeps"),
    "branch that waits": lambda ctx: ctx.branch(wait_for_ever, "waits"),
    "branch that is retried": lambda ctx: ctx.branch(wait_for_ever, "is retried"),
    "branch in a branch": lambda ctx: ctx.branch(wait_for_ever, "waits within"),
}


@pytest.mark.parametrize("loser", LOSERS)
def test_a_loser_that_only_waits_does_not_hold_the_workflow_s_end(database: Path, loser: str) -> None:
    def workflow(ctx: Context) -> str:
        return ctx.first(LOSERS[loser](ctx), ctx.submit(act, "work")).result().result()

    with Engine(database, clock=ManualClock(skip=False)) as engine:
        assert engine.start("emp_001", workflow).result(PATIENCE_SECONDS) == "WORK"
        assert rows(database, "select * from waits") == []
        assert rows(database, "select * from steps where status = 'running'") == []
        assert effects(database) == ["act_2"]  # nothing was done on the way out
        assert engine.run("emp_001", workflow) == "WORK"


def test_a_loser_that_works_is_waited_for_and_saved(database: Path) -> None:
    leave = threading.Event()

    def work() -> str:
        leave.wait()
        return act("late")

    def workflow(ctx: Context) -> str:
        future = ctx.submit(work)
        winner = ctx.first(future, ctx.timer(0)).result()
        leave.set()
        return "work" if winner is future else "timer"

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == "timer"
        assert outcomes(engine)["work_1"] == ("completed", "LATE")


def test_after_the_race_the_loser_may_still_be_waited_for(database: Path) -> None:
    def workflow(ctx: Context) -> list[Any]:
        event = ctx.event("news")
        ctx.first(event, ctx.submit(act, "work")).result()
        return [event.result()]

    with Engine(database) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: outcomes(engine).get("first_3") == ("completed", 1))
        engine.send("emp_001", "news", 5)

        assert handle.result(PATIENCE_SECONDS) == [5]


# ---- Ctrl+C, the end of the engine, the end of the interpreter


def wait_somehow(ctx: Context, how: str) -> None:
    if how == "sleep":
        ctx.sleep(1e6)
    elif how == "event":
        ctx.wait_event("never")
    elif how == "retry":
        ctx.step(refuse_patiently)
    elif how == "race":
        ctx.first(ctx.event("never"), ctx.timer(1e6)).result()
    elif how == "as completed":
        next(iter(ctx.as_completed([ctx.event("never"), ctx.timer(1e6)])))
    else:
        ctx.branch(wait_somehow, "sleep").result()


async def wait_somehow_async(ctx: Context, how: str) -> None:
    if how == "sleep":
        await ctx.timer(1e6)
    elif how == "event":
        await ctx.event("never")
    elif how == "retry":
        await ctx.submit(refuse_patiently)
    elif how == "race":
        await ctx.first(ctx.event("never"), ctx.timer(1e6))
    elif how == "as completed":
        async for _ in ctx.as_completed([ctx.event("never"), ctx.timer(1e6)]):
            pass
    else:
        await ctx.branch(wait_somehow_async, "sleep")


WAYS = ["sleep", "event", "retry", "race", "as completed", "branch"]


def interrupt_while_waiting(pipe: Connection, database: Path, how: str, is_async: bool, suspend: bool) -> Any:
    with Engine(database, suspend=suspend) as engine:
        workflow = wait_somehow_async if is_async else wait_somehow
        try:
            engine.run("emp_001", workflow, how)
        except KeyboardInterrupt:
            pipe.send([run.ended for run in engine.runs("emp_001")])
        try:
            engine.run("emp_001", workflow, how)  # at once again, and again interrupted
        except KeyboardInterrupt:
            return engine.owner("emp_001")
    return "was not interrupted"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("how", WAYS)
def test_ctrl_c_ends_a_wait_at_once_and_the_same_process_can_go_on(database: Path, how: str, is_async: bool) -> None:
    with child(interrupt_while_waiting, database, how, is_async, False) as waiter:
        for life in (1, 2):
            eventually(lambda life=life: is_waiting(database, life))
            waiter.signal(signal.SIGINT)
            if life == 1:
                assert waiter.receive() == ["interrupted"]

        assert waiter.outcome() is None
    assert rows(database, "select ended from runs") == [("interrupted",), ("interrupted",)]
    assert rows(database, "select status from workflows") == [("running",)]


ENDING = """
import sys
from durable import Context, Engine
from tests.support.workflows import act

def nap(ctx: Context) -> str:
    {wait}
    return ctx.step(act, "after")

engine = Engine(sys.argv[1])
engine.start("emp_001", nap)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("wait", ["ctx.sleep(0.3)", "ctx.first(ctx.timer(0.3), ctx.event('never')).result()"])
def test_a_timer_that_the_end_of_the_interpreter_overtakes_does_not_hang_it(database: Path, wait: str) -> None:
    script = ENDING.format(wait=wait)
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", script, database], cwd=root, timeout=PATIENCE_SECONDS, capture_output=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert rows(database, "select status from workflows") == [("running",)]


def test_leaving_the_engine_waits_for_what_waits(database: Path) -> None:
    clock = ManualClock(NOON)
    with Engine(database, clock=clock) as engine:
        handle = engine.start("emp_001", nap, 3600)

    assert handle.result() == "AFTER"
    assert clock.now() == NOON + timedelta(hours=1)


def close_while_waiting(pipe: Connection, database: Path) -> Any:
    def tell() -> None:
        eventually(lambda: is_main_thread_in("wait_for_started"))  # Ctrl+C before it would end the test
        pipe.send("closing")

    engine = Engine(database)
    handle = engine.start("emp_001", wait_somehow, "event")
    teller = threading.Thread(target=tell)
    teller.start()
    try:
        engine.close()
    except KeyboardInterrupt:
        teller.join()
        eventually(lambda: threading.active_count() == 1)  # its thread is told that it may go, and not waited for
        return handle.done(), threading.active_count()
    return "was not interrupted"


def test_ctrl_c_while_the_engine_is_closed_ends_what_waits_and_closes_it(database: Path) -> None:
    with child(close_while_waiting, database) as waiter:
        assert waiter.receive() == "closing"
        eventually(lambda: is_waiting(database, 1))
        waiter.signal(signal.SIGINT)

        assert waiter.outcome() == (True, 1)
    assert rows(database, "select ended from runs") == [("interrupted",)]


def fork_while_waiting(pipe: Connection, database: Path) -> Any:
    import os

    engine = Engine(database)
    handle = engine.start("emp_001", wait_somehow, "event")
    eventually(lambda: is_waiting(database, 1))
    pid = os.fork()
    if pid == 0:
        engine.close()
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    before = handle.done()
    handle.end()
    engine.close()
    return status, before


def test_a_fork_that_closes_its_copy_of_the_engine_neither_hangs_nor_ends_a_wait(database: Path) -> None:
    assert call_in_child(fork_while_waiting, database) == (7, False)


# ---- faults


def test_a_message_that_was_changed_in_the_file_ends_the_run_also_where_the_code_swallows_errors(
    database: Path,
) -> None:
    def workflow(ctx: Context) -> str:
        try:
            return ctx.wait_event("news")
        except Exception:
            return ctx.step(act, "swallowed")

    from durable.errors import CorruptionError

    with Engine(database) as engine:
        left_alone(engine, workflow)
        engine.send("emp_001", "news", "yes")
        with closing(sqlite3.connect(database)) as db:
            db.execute("""update messages set value = '"no!"'""")
            db.commit()
        with pytest.raises(CorruptionError, match="the message 'news' does not match its checksum"):
            engine.run("emp_001", workflow)

        assert engine.workflow("emp_001").status == "running"
        assert effects(database) == []


def test_an_observer_that_blocks_holds_only_its_own_wait(database: Path) -> None:
    leave = threading.Event()

    def block(moment: Moment) -> None:
        if (moment.step_key, moment.name) == ("sleep_1", "step.executed"):
            leave.wait()

    def workflow(ctx: Context) -> str:
        held, free = ctx.timer(10), ctx.timer(20)
        free.result()
        leave.set()
        held.result()
        return "done"

    clock = ManualClock(skip=False)
    with Engine(database, clock=clock, observers=[block]) as engine:
        handle = engine.start("emp_001", workflow)
        eventually(lambda: outcomes(engine).keys() == {"sleep_1", "sleep_2"})
        clock.advance(20)
        try:
            assert handle.result(PATIENCE_SECONDS) == "done"
        finally:
            leave.set()


def test_a_message_sent_again_after_the_end_is_the_one_that_is_there(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", wait_somehow, "event")
        assert engine.send("emp_001", "never", "first", key="k1")
        handle.result()

        assert not engine.send("emp_001", "never", "first", key="k1")
        with pytest.raises(WorkflowEndedError):
            engine.send("emp_001", "never", "second", key="k2")
