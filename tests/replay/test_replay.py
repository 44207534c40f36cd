"""A later run is answered from what was recorded, and what is recorded tells the whole story: rules 10 and 11."""

from __future__ import annotations

import functools
import gc
import random
import sqlite3
import threading
import weakref
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Moment, SerializationError, StepInfo, WorkflowConflictError, current_step
from durable.clock import ManualClock
from durable.errors import CorruptionError, WorkflowNotFoundError
from durable.observer import crash_at
from tests.support import workflows
from tests.support.processes import KILLED, call_in_child, child, crash_in_child
from tests.support.selection import first_alone
from tests.support.workflows import act


def select(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """What any other program sees, at this instant."""
    with closing(sqlite3.connect(database)) as db:
        return db.execute(sql).fetchall()


# ---- replay


def test_steps_of_an_interrupted_run_are_answered_in_the_next(database: Path) -> None:
    moments: list[tuple[str, str | None]] = []
    armed = [True]

    def die() -> str:
        if armed:
            raise SystemExit
        return "lived"

    def workflow(ctx: Context) -> list[str]:
        first = ctx.step(act, "a")
        futures = [ctx.submit(act, "b"), ctx.branch(join, "c", "d")]
        mapped = ctx.map(act, ["e"])
        return [first, *[future.result() for future in futures], *mapped, ctx.step(die)]

    def join(ctx: Context, *what: str) -> str:
        return "+".join(workflows.errand(ctx, *what))

    with Engine(database, observers=[lambda moment: moments.append((moment.name, moment.step_key))]) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        effects = workflows.effects(database)
        armed.clear()
        moments.clear()
        result = engine.run("emp_001", workflow)

    assert result == ["A", "B", "C+D", "E", "lived"]
    assert workflows.effects(database) == effects
    assert sorted(key for name, key in moments if name == "step.replayed" and key) == sorted(effects)
    assert [name for name, key in moments if key == "die_5"] == [
        "step.scheduled",
        "step.started",
        "step.executed",
        "step.checkpointed",
    ]


def test_what_a_step_drew_by_chance_is_the_same_in_every_later_run(database: Path) -> None:
    drawn: list[float] = []
    lives = iter(range(10))

    def workflow(ctx: Context) -> list[float]:
        numbers = [ctx.step(random.random) for _ in range(3)]
        drawn.extend(numbers)
        if next(lives) < 2:
            raise SystemExit
        return numbers

    with Engine(database) as engine:
        for _ in range(2):
            with pytest.raises(SystemExit):
                engine.run("emp_001", workflow)
        result = engine.run("emp_001", workflow)

    assert drawn == result * 3


@pytest.mark.thorough
def test_ten_thousand_steps_are_replayed_and_none_runs_again(database: Path) -> None:
    ran: list[int] = []
    armed = [True]

    def count(number: int) -> int:
        ran.append(number)
        return number

    def workflow(ctx: Context) -> int:
        total = sum(ctx.step(count, number) for number in range(10_000))
        if armed:
            raise SystemExit
        return total

    with Engine(database, synchronous="off") as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        armed.clear()
        assert engine.run("emp_001", workflow) == 49_995_000

    assert len(ran) == 10_000


@pytest.mark.thorough
def test_a_vacuum_amid_a_long_replay_makes_no_step_run_again(database: Path) -> None:
    # A long history is read by ranges of rowids. SQLite's VACUUM keeps those of a table with an index, in fact though
    # not in its documentation.
    ran: list[int] = []
    lives: list[int] = []

    def count(number: int) -> int:
        ran.append(number)
        return number

    def workflow(ctx: Context) -> int:
        lives.append(len(lives))
        total = 0
        for number in range(1000):
            if len(lives) == 2 and number == 300:
                with closing(sqlite3.connect(database)) as db:
                    db.execute("vacuum")
            total += ctx.step(count, number)
        if len(lives) == 1:
            raise SystemExit
        return total

    with Engine(database, synchronous="off") as engine:
        engine.run("before", workflows.errand, *"abcdefgh")
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        engine.delete("before")
        assert engine.run("emp_001", workflow) == sum(range(1000))

    assert len(ran) == 1000


@pytest.mark.thorough
def test_parallel_steps_are_replayed_under_the_keys_that_they_had(database: Path) -> None:
    ran: list[int] = []
    keys: list[list[str]] = []

    def count(number: int) -> int:
        ran.append(number)
        return number

    def part(ctx: Context) -> int:
        futures = [ctx.submit(count, number) for number in range(300)]
        keys[-1] += [future.key for future in futures]
        return sum(future.result() for future in futures) + ctx.first(*futures[:2]).result().result()

    def workflow(ctx: Context) -> int:
        keys.append([])
        total = ctx.branch(part).result() + sum(ctx.map(count, range(300, 600), max_concurrent=7))
        if len(keys) < 3:
            raise SystemExit
        return total

    with Engine(database, synchronous="off") as engine:
        for _ in range(2):
            with pytest.raises(SystemExit):
                engine.run("emp_001", workflow)
        total = engine.run("emp_001", workflow)

    assert total - sum(range(600)) in (0, 1)  # whichever came first
    assert sorted(ran) == list(range(600))
    assert keys == [[f"part_1/count_{number}" for number in range(1, 301)]] * 3


@pytest.mark.thorough
@pytest.mark.parametrize("place", [100, 300, 599])
def test_what_is_unusual_in_a_long_history_is_replayed_too(database: Path, place: int) -> None:
    ran: list[int] = []
    armed = [True]

    def say(number: int) -> str:
        ran.append(number)
        if number == place + 1:
            raise ValueError("no " * 1000)
        return '\N{SNOWMAN}\0"' * (1000 if number == place else 1)

    def workflow(ctx: Context) -> list[str]:
        said = []
        for number in range(601):
            try:
                said.append(ctx.step(say, number))
            except ValueError as error:
                said.append(str(error))
        if armed:
            raise SystemExit
        return said

    with Engine(database, synchronous="off") as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        armed.clear()
        said = engine.run("emp_001", workflow)

    assert said[place : place + 2] == ['\N{SNOWMAN}\0"' * 1000, "no " * 1000][: 601 - place]
    assert [*said[:place], *said[place + 2 :]] == ['\N{SNOWMAN}\0"'] * 599
    assert ran == list(range(601))


@pytest.mark.thorough
@pytest.mark.parametrize("damage", ["checksum = 9e999", "checksum = 0.5", "output = '1'", "output = null"])
def test_damage_amid_a_long_history_is_found(database: Path, damage: str) -> None:
    def workflow(ctx: Context) -> None:
        for number in range(600):
            ctx.step(abs, number)
        raise SystemExit

    with Engine(database, synchronous="off") as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        with closing(sqlite3.connect(database)) as db:
            db.execute(f"update steps set {damage} where step_key = 'abs_300'")
            db.commit()
        with pytest.raises(CorruptionError, match="abs_300"):
            engine.run("emp_001", workflow)

        assert engine.workflow("emp_001").status == "running"
        assert len(engine.steps("emp_001")) == 600


@pytest.mark.thorough
@pytest.mark.parametrize("others", [1, 9])  # its rows lie close together in the table, or with much between them
def test_a_long_workflow_is_replayed_though_others_wrote_at_the_same_time(database: Path, others: int) -> None:
    ran: list[int] = []
    armed = [True]

    def count(number: int) -> int:
        ran.append(number)
        return number

    def workflow(ctx: Context) -> int:
        total = 0
        for number in range(600):
            total += ctx.step(count, number)
            if armed:
                for each in range(others):
                    engine.run(f"other_{number}_{each}", note, number)
        if armed:
            raise SystemExit
        return total

    with Engine(database, synchronous="off") as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        armed.clear()
        assert engine.run("emp_001", workflow) == sum(range(600))

    assert len(ran) == 600


def note(ctx: Context, number: int) -> None:
    ctx.step(abs, number)


class Load:
    """Something large."""

    def weigh(self) -> int:
        return 7


def weigh(load: Load) -> int:
    return load.weigh()


@pytest.mark.parametrize("kind", first_alone(["closure", "partial", "method"]))
def test_a_replay_keeps_nothing_alive_that_a_step_s_function_held(database: Path, kind: str) -> None:
    def bind(load: Load) -> Callable[[], int]:
        def weigh_it() -> int:
            return load.weigh()

        return {"closure": weigh_it, "partial": functools.partial(weigh, load), "method": load.weigh}[kind]

    armed, kept = [True], []

    def workflow(ctx: Context) -> int:
        total = 0
        for _ in range(3):
            load = Load()
            total += ctx.step(bind(load))
            left = weakref.ref(load)
            del load
            gc.collect()
            kept.append(left() is not None)
        if armed:
            raise SystemExit
        return total

    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        armed.clear()
        assert engine.run("emp_001", workflow) == 21
        assert len(engine.attempts("emp_001")) == 0

    assert kept == [False] * 6


# ---- same id, other call


def greet(ctx: Context, name: str, *more: str, loud: bool = False) -> str:
    """A workflow whose calls can be told apart."""
    told = ctx.step(act, f"hello {name} {' '.join(more)}")
    return told if loud else told.lower()


def greet_too(ctx: Context, name: str) -> str:
    """Another workflow."""
    return ctx.step(act, name)


def test_a_completed_workflow_returns_its_recorded_result_without_a_call(database: Path) -> None:
    moments: list[Moment] = []
    with Engine(database, observers=[moments.append]) as engine:
        assert engine.run("emp_001", greet, "Jane", loud=True) == "HELLO JANE "
        before = select(database, "select * from workflows") + select(database, "select * from runs")
        moments.clear()

        assert engine.run("emp_001", greet, "Jane", loud=True) == "HELLO JANE "
        assert engine.run("emp_001", greet, name="Jane", loud=True) == "HELLO JANE "
        assert engine.start("emp_001", greet, "Jane", loud=True).result() == "HELLO JANE "
        assert engine.resume("emp_001").result() == "HELLO JANE "
        assert moments == []
        assert select(database, "select * from workflows") + select(database, "select * from runs") == before
    assert len(workflows.effects(database)) == 1


def greet_in_child(_: Connection, database: Path) -> str:
    with Engine(database) as engine:
        return engine.run("emp_001", greet, "Jane", "and", "John")


def test_another_process_gets_the_recorded_result_too(database: Path) -> None:
    assert call_in_child(greet_in_child, database) == "hello jane and john"

    with Engine(database) as engine:
        assert engine.run("emp_001", greet, "Jane", "and", "John") == "hello jane and john"
    assert len(workflows.effects(database)) == 1


OTHER_CALLS: dict[str, Callable[[Engine], Any]] = {
    "another function": lambda engine: engine.run("emp_001", greet_too, "Jane"),
    "another value": lambda engine: engine.run("emp_001", greet, "John"),
    "one more": lambda engine: engine.run("emp_001", greet, "Jane", "and"),
    "a keyword": lambda engine: engine.run("emp_001", greet, "Jane", loud=True),
    "in the background": lambda engine: engine.start("emp_001", greet, "John"),
}


@pytest.mark.parametrize("state", ["completed", "failed", "interrupted"])
@pytest.mark.parametrize("call", OTHER_CALLS.values(), ids=OTHER_CALLS.keys())
def test_an_id_used_for_another_call_is_refused_and_nothing_runs(
    database: Path, call: Callable[[Engine], Any], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:
        if state == "failed":
            raise ValueError("not today")
        if state == "interrupted":
            raise SystemExit

    monkeypatch.setitem(workflows.after_effect, "hello Jane ", end)
    with Engine(database) as engine:
        with suppress(ValueError, SystemExit):
            engine.run("emp_001", greet, "Jane")
        before = [select(database, f"select * from {table}") for table in ("workflows", "runs", "steps", "attempts")]

        with pytest.raises(WorkflowConflictError) as conflict:
            call(engine)

        assert conflict.value.workflow_id == "emp_001"
        assert "greet" in conflict.value.recorded
        assert conflict.value.recorded != conflict.value.called
        assert [
            select(database, f"select * from {table}") for table in ("workflows", "runs", "steps", "attempts")
        ] == before
        assert engine.owner("emp_001") is None
    assert workflows.effects(database) == ["act_1"]


def test_a_deleted_id_may_be_used_anew(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", greet, "Jane")
        engine.run("emp_002", greet, "Jane")
        engine.delete("emp_001")

        assert engine.run("emp_001", greet_too, "John") == "JOHN"
        assert [workflow.workflow_id for workflow in engine.workflows()] == ["emp_002", "emp_001"]
        engine.delete("emp_001")
        with pytest.raises(WorkflowNotFoundError):
            engine.steps("emp_001")
        with pytest.raises(WorkflowNotFoundError):
            engine.delete("emp_001")


# ---- resume


def greet_and_crash(_: Connection, database: Path) -> None:
    with Engine(database, observers=[crash_at("act", "executed")]) as engine:
        engine.run("emp_001", greet, "Jane", "and", "John", loud=True)


def test_resume_goes_on_with_the_recorded_function_and_arguments(database: Path) -> None:
    crash_in_child(greet_and_crash, database)

    with Engine(database) as engine:
        assert engine.resume("emp_001").result() == "HELLO JANE AND JOHN"
    assert workflows.effects(database) == ["act_1", "act_1"]


def test_resume_names_an_id_that_it_does_not_know_and_a_close_one(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("onboarding", greet, "Jane")

        with pytest.raises(WorkflowNotFoundError, match="did you mean 'onboarding'") as unknown:
            engine.resume("onbording")
        assert unknown.value.workflow_id == "onbording"


def test_resume_of_a_function_that_cannot_be_imported_says_so(database: Path) -> None:
    def local(_: Context) -> str:
        return "done"

    with Engine(database) as engine:
        engine.run("emp_001", local)

        with pytest.raises(WorkflowNotFoundError, match="cannot be imported"):
            engine.resume("emp_001")


# ---- at least once, visibly


def test_the_running_row_is_there_before_the_effect_with_the_number_of_the_attempt(database: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    def look() -> str:
        seen.extend(select(database, "select step_key, status, attempt, epoch, output, ended_at from steps"))
        if len(seen) < 3:
            raise SystemExit
        return "seen"

    def workflow(ctx: Context) -> str:
        return ctx.step(look)

    with Engine(database) as engine:
        for _ in range(2):
            with pytest.raises(SystemExit):
                engine.run("emp_001", workflow)
        engine.run("emp_001", workflow)

    assert seen == [("look_1", "running", number, number, None, None) for number in (1, 2, 3)]


@pytest.mark.parametrize("how", ["step", "submit", "branch", "async"])
def test_a_step_knows_itself_and_its_idempotency_key_is_the_same_on_each_attempt(database: Path, how: str) -> None:
    infos: list[StepInfo] = []

    def look() -> str:
        infos.append(current_step())
        if len(infos) == 1:
            raise SystemExit
        if len(infos) == 2:
            raise ValueError("not today")
        return "seen"

    async def look_async() -> str:
        return look()

    def in_branch(ctx: Context) -> str:
        return ctx.step("look", look)

    def workflow(ctx: Context) -> str:
        match how:
            case "step":
                return ctx.step("look", look)
            case "submit":
                return ctx.submit("look", look).result()
            case "branch":
                return ctx.branch(in_branch).result()
        return ctx.step("look", look_async)

    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        with pytest.raises(ValueError, match="not today"):
            engine.run("emp_001", workflow)
        engine.run("emp_001", workflow)

    key = "in_branch_1/look_1" if how == "branch" else "look_1"
    assert [info.attempt for info in infos] == [1, 2, 3]
    assert {(info.workflow_id, info.key, info.idempotency_key) for info in infos} == {
        ("emp_001", key, f"emp_001/{key}")
    }
    assert {info.database for info in infos} == {database}


def test_no_two_steps_of_any_workflows_share_an_idempotency_key(database: Path) -> None:
    keys: list[str] = []

    def look() -> None:
        keys.append(current_step().idempotency_key)

    def plain(ctx: Context) -> None:
        ctx.step("b", look)

    def branched(ctx: Context) -> None:
        ctx.branch("a", plain)

    with Engine(database) as engine:
        engine.run("x", branched)
        engine.run("x/a_1", plain)
        engine.run("x%2Fa_1", plain)

    assert len(set(keys)) == 3


def test_the_attempts_table_keeps_every_try_that_a_later_one_superseded(database: Path) -> None:
    fates = iter([SystemExit(), ValueError("first"), ValueError("second"), None])

    def do() -> str:
        fate = next(fates)
        if fate is not None:
            raise fate
        return "done"

    def workflow(ctx: Context) -> str:
        return ctx.step(do)

    with Engine(database) as engine:
        for error in (SystemExit, ValueError, ValueError):
            with pytest.raises(error):
                engine.run("emp_001", workflow)
        engine.run("emp_001", workflow)
        attempts = engine.attempts("emp_001")

    assert [(one.attempt, one.epoch, one.status, one.superseded_by) for one in attempts] == [
        (1, 1, "running", 2),
        (2, 2, "failed", 3),
        (3, 3, "failed", 4),
    ]
    assert [one.ended_at is None for one in attempts] == [True, False, False]
    assert "second" in str(attempts[2].error)


def live(_: Connection, database: Path) -> None:
    with Engine(database, observers=[crash_at("act_2", "started")]) as engine:
        engine.run("emp_001", workflows.errand, "a", "b")


def test_the_runs_table_tells_each_life_and_how_it_ended(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endings = iter([KeyboardInterrupt(), ValueError("no"), None])

    def end() -> None:
        error = next(endings)
        if error is not None:
            raise error

    monkeypatch.setitem(workflows.after_effect, "b", end)
    with child(live, database) as first:
        pid = first.pid
        assert first.join() == KILLED
    with Engine(database) as engine:
        assert [(run.pid, run.ended, run.ended_at) for run in engine.runs("emp_001")] == [(pid, None, None)]
        assert engine.owner("emp_001") is None
        for error in (KeyboardInterrupt, ValueError):
            with pytest.raises(error):
                engine.run("emp_001", workflows.errand, "a", "b")
        engine.run("emp_001", workflows.errand, "a", "b")
        runs = engine.runs("emp_001")

    assert [(run.epoch, run.ended) for run in runs] == [
        (1, "crashed"),
        (2, "interrupted"),
        (3, "failed"),
        (4, "completed"),
    ]
    assert [run.ended_at is None for run in runs] == [True, False, False, False]
    assert workflows.effects(database) == ["act_1", "act_2", "act_2", "act_2"]


def test_the_table_says_when_and_where_each_step_ran(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step(act, "a")
        ctx.submit(act, "b").result()
        ctx.branch("side", workflows.errand, "c").result()

    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Engine(database, clock=ManualClock(start, tick_seconds=1)) as engine:
        engine.run("emp_001", workflow)
        steps = engine.steps("emp_001")

    assert [step.thread for step in steps] == ["main", "worker 1", "side_3"]
    instants = [instant for step in steps for instant in (step.started_at, step.ended_at) if instant is not None]
    assert instants == sorted(instants)
    assert len(set(instants)) == 6
    assert all(instant - start < timedelta(seconds=100) for instant in instants)
    assert select(database, "select started_at from steps limit 1")[0][0].startswith("2026-01-01T00:00:")
    assert len(select(database, "select started_at from steps limit 1")[0][0]) == len(
        "2026-01-01T00:00:01.000000+00:00"
    )


def test_the_classic_queries_work_in_any_sqlite_shell(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", workflows.errand, "a", "b")

        assert select(database, "select workflow_id, step_key, status, output from steps") == [
            ("emp_001", "act_1", "completed", '"A"'),
            ("emp_001", "act_2", "completed", '"B"'),
        ]
        assert select(database, "select workflow_id, count(*) from steps group by workflow_id") == [("emp_001", 2)]


# ---- moments


def test_the_moments_of_a_workflow_come_in_order_and_in_the_thread_of_the_step(database: Path) -> None:
    moments: list[tuple[str, str | None, str]] = []

    def workflow(ctx: Context) -> None:
        ctx.step(act, "a")
        ctx.submit(act, "b").result()

    def watch(moment: Moment) -> None:
        moments.append((moment.name, moment.step_key, threading.current_thread().name))

    with Engine(database, observers=[watch]) as engine:
        engine.run("emp_001", workflow)

    here = threading.current_thread().name
    steps = ["step.scheduled", "step.started", "step.executed", "step.checkpointed"]
    assert moments == [
        ("workflow.started", None, here),
        *[(name, "act_1", here) for name in steps],
        *[(name, "act_2", "worker 1") for name in steps],
        ("workflow.completed", None, here),
    ]


def test_an_observer_that_fails_changes_nothing(database: Path) -> None:
    def fail(_: Moment) -> None:
        raise ZeroDivisionError

    with Engine(database, observers=[fail]) as engine:
        assert engine.run("emp_001", workflows.errand, "a") == ["A"]


def test_what_an_observer_sees_in_the_table_is_what_the_moment_says(database: Path) -> None:
    seen: dict[str, Any] = {}

    def watch(moment: Moment) -> None:
        if moment.step_key:
            rows = select(database, "select status, output from steps")
            seen[moment.name] = (rows, workflows.effects(database))

    with Engine(database, observers=[watch]) as engine:
        engine.run("emp_001", workflows.errand, "a")

    assert seen == {
        "step.scheduled": ([], []),
        "step.started": ([("running", None)], []),
        "step.executed": ([("running", None)], ["act_1"]),
        "step.checkpointed": ([("completed", '"A"')], ["act_1"]),
    }


@pytest.mark.parametrize("parallel", [False, True], ids=["step", "submit"])
def test_a_recorded_value_that_fits_its_annotation_no_longer_ends_the_run_also_where_the_code_swallows_it(
    database: Path, parallel: bool
) -> None:
    effects: list[str] = []

    def price() -> int:
        return 7

    def text_price() -> str:
        return "7"

    price.__name__ = text_price.__name__ = "price"
    steps, is_first = [price], [True]

    def workflow(ctx: Context) -> None:
        with suppress(SerializationError):
            ctx.submit(steps[0]).result() if parallel else ctx.step(steps[0])
        if is_first:
            raise KeyboardInterrupt
        ctx.step(effects.append, "went on")

    with Engine(database) as engine:
        with suppress(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        steps[:], is_first[:] = [text_price], []
        with pytest.raises(SerializationError, match="does not fit str"):
            engine.run("emp_001", workflow)
        status, ends = engine.workflow("emp_001").status, [run.ended for run in engine.runs("emp_001")]

    assert (effects, status, ends) == ([], "running", ["interrupted", "stopped"])
