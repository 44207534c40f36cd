"""What would differ from run to run is recorded: `ctx.now`, `ctx.uuid4`, `ctx.random` give a replay what they gave."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from sqlite3 import connect
from typing import Any
from uuid import UUID

import pytest

from durable import Context, Engine, Moment, NonDeterminismError, ScopeError
from durable.clock import ManualClock
from durable.observer import crash_at
from tests.support import workflows
from tests.support.processes import KILLED, child, crash_in_child
from tests.support.workflows import act

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Draw:
    """One of each."""

    at: datetime
    id: UUID
    chance: float


def draw(ctx: Context) -> Draw:
    return Draw(ctx.now(), ctx.uuid4(), ctx.random())


def raffle(ctx: Context, draws: int) -> list[Draw]:
    """Draws between steps, in a loop, and two in branches."""
    drawn = []
    for number in range(draws):
        drawn.append(draw(ctx))
        ctx.step(act, f"ticket {number}")
    drawn += [future.result() for future in [ctx.branch(draw), ctx.branch(draw)]]
    ctx.step(act, "end")
    return drawn


async def raffle_async(ctx: Context, draws: int) -> list[Draw]:
    drawn = []
    for number in range(draws):
        drawn.append(draw(ctx))
        await ctx.submit(act, f"ticket {number}")
    drawn += await asyncio.gather(ctx.branch(draw), ctx.branch(draw))
    await ctx.submit(act, "end")
    return drawn


def kinds(engine: Engine) -> list[tuple[str, str]]:
    return [(row.step_key, row.kind) for row in engine.steps("emp_001") if row.kind != "step"]


def run_until_the_end(pipe: Connection, database: Path, name: str, moment: str) -> None:
    """It tells what it has drawn, and dies."""
    clock = ManualClock(NOON, tick_seconds=1.5)
    with Engine(database, clock=clock, observers=[crash_at("act_15", moment)]) as engine:
        engine.run("emp_001", {"raffle": raffle, "raffle_async": raffle_async}[name], 3)


@pytest.mark.parametrize("name", ["raffle", "raffle_async"])
def test_a_replay_is_given_what_the_first_run_was(database: Path, name: str) -> None:
    workflow = {"raffle": raffle, "raffle_async": raffle_async}[name]
    crash_in_child(run_until_the_end, database, name, "started")
    with closing(connect(database)) as db:
        sql = "select step_key, output from steps where kind <> 'step' order by position"
        recorded = dict(db.execute(sql).fetchall())
    with Engine(database, clock=ManualClock(NOON + timedelta(days=1))) as engine:
        drawn = engine.run("emp_001", workflow, 3)
        again = engine.run("emp_001", workflow, 3)

        assert {row.step_key: row.output for row in engine.steps("emp_001") if row.kind != "step"} == recorded
    assert drawn == again
    assert len(recorded) == 15
    assert {draw.at.date() for draw in drawn} == {NOON.date()}, "an instant is of the second life"
    assert [f'"{draw.id}"' for draw in drawn[:3]] == [recorded[f"uuid4_{place}"] for place in (2, 6, 10)]
    assert [repr(draw.chance) for draw in drawn[:3]] == [recorded[f"random_{place}"] for place in (3, 7, 11)]


def test_each_call_gives_another_value(database: Path) -> None:
    with Engine(database, clock=ManualClock(NOON, tick_seconds=1)) as engine:
        drawn = engine.run("emp_001", raffle, 20)

    assert len({draw.id for draw in drawn}) == len({draw.chance for draw in drawn}) == 22
    assert len({draw.at for draw in drawn}) == 22
    assert all(0 <= draw.chance < 1 and draw.id.version == 4 and draw.at.tzinfo is UTC for draw in drawn)
    assert [draw.at for draw in drawn[:20]] == sorted(draw.at for draw in drawn[:20])


@pytest.mark.parametrize(("moment", "is_kept"), [("executed", False), ("checkpointed", True)])
def test_a_value_is_kept_from_its_checkpoint_on(database: Path, moment: str, is_kept: bool) -> None:
    with child(draw_and_crash, database, moment) as crashed:
        first = crashed.receive() if is_kept else None
        assert crashed.join() == KILLED
    with Engine(database) as engine:
        second = engine.run("emp_001", draw_once)

        assert (second == first) is is_kept
        assert kinds(engine) == [("uuid4_1", "uuid4")]
        assert engine.attempts("emp_001") == []


def draw_and_crash(pipe: Connection, database: Path, moment: str) -> None:
    def tell(seen: Moment) -> None:
        if seen.name == "step.checkpointed" and seen.step_key == "uuid4_1":
            with closing(connect(database)) as db:
                pipe.send(db.execute("select output from steps").fetchone()[0].strip('"'))

    with Engine(database, observers=[tell, crash_at("uuid4", moment)]) as engine:
        engine.run("emp_001", draw_once)


def draw_once(ctx: Context) -> str:
    return str(ctx.uuid4())


@pytest.mark.thorough
def test_a_decision_by_chance_is_taken_once(database: Path) -> None:
    def toss(ctx: Context) -> str:
        side = ctx.step(act, "heads") if ctx.random() < 0.5 else ctx.step(act, "tails")
        if not tossed:
            tossed.append(side)
            raise KeyboardInterrupt
        return side

    sides = set()
    with Engine(database) as engine:
        for number in range(40):
            tossed: list[str] = []
            with pytest.raises(KeyboardInterrupt):
                engine.run(str(number), toss)
            assert [engine.run(str(number), toss)] == tossed
            sides |= set(tossed)

    assert sides == {"HEADS", "TAILS"}
    assert len(workflows.effects(database)) == 40


def test_a_value_stands_in_its_place_as_steps_do(database: Path) -> None:
    def workflow(ctx: Context) -> Any:
        value = getattr(ctx, called)()
        if called == "now":
            raise KeyboardInterrupt
        return str(value)

    called = "now"
    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        called = "uuid4"
        with pytest.raises(NonDeterminismError) as diverged:
            engine.run("emp_001", workflow)

    assert (diverged.value.recorded, diverged.value.called) == ("now()", "uuid4()")


@pytest.mark.parametrize("name", ["now", "uuid4", "random"])
def test_within_a_step_there_is_no_such_value(database: Path, name: str) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step("inside", lambda: str(getattr(ctx, name)()))

    with Engine(database) as engine, pytest.raises(ScopeError, match=f"operation '{name}' was called inside a step"):
        engine.run("emp_001", workflow)


def test_a_value_that_another_way_left_behind_may_be_left_behind_again(database: Path) -> None:
    """A step fails now in one way, now in another, and each way has a value of its own in the same place."""

    def fail() -> None:
        raise ways[0]

    def workflow(ctx: Context) -> None:
        try:
            ctx.step(fail)
        except ConnectionError:
            drawn.append(ctx.random())
            raise
        except ValueError:
            drawn.append(str(ctx.uuid4()))
            raise

    drawn: list[Any] = []
    with Engine(database) as engine:
        for error in [ConnectionError(), ValueError(), ConnectionError(), ValueError(), ConnectionError()]:
            ways = [error]
            with pytest.raises(type(error)):
                engine.run("emp_001", workflow)
        left = [(row.step_key, row.attempt) for row in engine.attempts("emp_001") if row.kind != "step"]

        assert sorted(left) == [("random_2", 1), ("random_2", 2), ("uuid4_2", 1), ("uuid4_2", 2)]
        assert [(row.step_key, row.attempt) for row in engine.steps("emp_001")] == [("fail_1", 5), ("random_2", 3)]
    assert len(set(drawn)) == 5
