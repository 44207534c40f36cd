"""Parallel steps that nobody watches are saved many in one transaction; each promise holds for them as for any step."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, StoreError
from durable.errors import FencedError, SerializationError
from tests.support import workflows
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import crash_in_child, eventually

MANY = 100
in_each_step: list[Callable[[int], object]] = []  # what a test wants done in a step, after its effect


def note(number: int) -> int:
    """Have an effect."""
    workflows.have_effect(str(number))
    for do in in_each_step:
        do(number)
    return number


def fan_out(ctx: Context, count: int) -> int:
    return sum(future.result() for future in [ctx.submit(note, number) for number in range(count)])


def statuses(database: Path) -> dict[str, str]:
    """As another program reads them, without a word from the engine."""
    with closing(sqlite3.connect(database)) as db:
        return dict(db.execute("select step_key, status from steps"))


# ---- crashes


def die_in_a_step(_: Connection, database: Path, last: int) -> None:
    in_each_step.append(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == last else None)
    with Engine(database) as engine:
        engine.run("emp_001", fan_out, MANY)


@pytest.mark.parametrize("last", [0, 1, 7, 31, 32, 33, 50, 64, 80, 98, 99])
def test_a_crash_between_effect_and_save_repeats_only_what_the_table_calls_running(database: Path, last: int) -> None:
    crash_in_child(die_in_a_step, database, last)
    before, effects = statuses(database), Counter(workflows.effects(database))
    with Engine(database) as engine:
        assert engine.run("emp_001", fan_out, MANY) == sum(range(MANY))
        tries = {step.step_key: step.attempt for step in engine.steps("emp_001")}

    assert set(effects) <= set(before), "an effect happened before its running row was there"
    assert effects[f"note_{last + 1}"] == 1
    again = Counter(workflows.effects(database))
    assert {key for key in again if again[key] != effects[key]} == {
        key for key in tries if before.get(key) != "completed"
    }
    assert {key for key in tries if tries[key] == 2} == {key for key in before if before[key] == "running"}


# ---- what the table says meanwhile


def test_a_step_is_saved_as_it_ends_while_every_thread_is_busy(database: Path) -> None:
    leave = threading.Event()

    def hold(number: int) -> int:
        assert not number or leave.wait(PATIENCE_SECONDS)
        return number

    def workflow(ctx: Context) -> list[int]:
        futures = [ctx.submit(hold, number) for number in (0, 1)]
        assert futures[0].result() == 0
        eventually(lambda: statuses(database) == {"hold_1": "completed", "hold_2": "running"})
        leave.set()
        return [future.result() for future in futures]

    with Engine(database, max_workers=1) as engine:
        assert engine.run("emp_001", workflow) == [0, 1]


def test_no_more_steps_are_said_to_run_than_may_run_at_once(database: Path) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    def hold(number: int) -> int:
        entered.release()
        assert leave.wait(PATIENCE_SECONDS)
        return number

    def workflow(ctx: Context) -> int:
        futures = [ctx.submit(hold, number) for number in range(20)]
        for _ in range(4):
            assert entered.acquire(timeout=PATIENCE_SECONDS), "fewer than max_workers run"
        time.sleep(0.02)  # leaves room for one too many
        assert statuses(database) == {f"hold_{number}": "running" for number in (1, 2, 3, 4)}
        leave.set()
        return sum(future.result() for future in futures)

    with Engine(database, max_workers=4) as engine:
        assert engine.run("emp_001", workflow) == sum(range(20))


def test_the_row_names_the_thread_that_ran_the_step(database: Path) -> None:
    def where() -> str:
        time.sleep(0.001)
        return threading.current_thread().name

    def workflow(ctx: Context) -> list[str]:
        return [future.result() for future in [ctx.submit(where) for _ in range(10)]]

    with Engine(database) as engine:
        names = engine.run("emp_001", workflow)

        assert [step.thread for step in engine.steps("emp_001")] == names
    assert set(names) <= {f"worker {number}" for number in range(1, 33)}


# ---- what goes wrong


def test_a_run_that_was_superseded_saves_nothing_more(database: Path) -> None:
    def supersede(number: int) -> None:
        if number == MANY // 2:
            with closing(sqlite3.connect(database, isolation_level=None)) as db:
                db.execute("update workflows set epoch = epoch + 1")
                superseded_at.append(statuses(database))

    superseded_at: list[dict[str, str]] = []
    in_each_step[:] = [supersede]
    try:
        with Engine(database) as engine, pytest.raises(FencedError):
            engine.run("emp_001", fan_out, MANY)
    finally:
        in_each_step.clear()

    assert statuses(database) == superseded_at[0]
    assert len(workflows.effects(database)) <= len(superseded_at[0]), "a step began without a row"


def test_a_failed_save_ends_the_run_and_reaches_every_future(database: Path) -> None:
    errors: list[BaseException | None] = []

    def break_the_table(number: int) -> None:
        if number == 40:
            with closing(sqlite3.connect(database, isolation_level=None)) as db:
                db.execute("alter table steps rename to gone")

    def workflow(ctx: Context) -> None:
        futures = [ctx.submit(note, number) for number in range(MANY)]
        errors.extend(future.exception() for future in futures)

    in_each_step[:] = [break_the_table]
    try:
        with Engine(database) as engine, pytest.raises(StoreError, match="no such table"):
            engine.run("emp_001", workflow)
    finally:
        in_each_step.clear()

    kinds = {type(error) for error in errors}
    assert kinds <= {type(None), StoreError}
    assert StoreError in kinds


def test_a_failed_begin_reaches_the_futures_that_still_wait(database: Path) -> None:
    # nothing is in flight when the first begin fails, so no piece that ends can have the others looked at
    errors: list[BaseException | None] = []

    def workflow(ctx: Context) -> None:
        with closing(sqlite3.connect(database, isolation_level=None)) as db:
            db.execute("alter table steps rename to gone")
        futures = [ctx.submit(note, number) for number in range(10)]
        errors.extend(future.exception() for future in futures)

    with Engine(database, max_workers=1) as engine, pytest.raises(StoreError, match="no such table"):
        engine.run("emp_001", workflow)

    assert [type(error) for error in errors] == [StoreError] * 10


def test_a_result_without_json_form_stops_the_run_and_is_not_saved(database: Path) -> None:
    def bad(number: int) -> Any:
        return object() if number == 3 else number

    def workflow(ctx: Context) -> list[Any]:
        return [future.result() for future in [ctx.submit(bad, number) for number in range(8)]]

    with Engine(database) as engine:
        with pytest.raises(SerializationError, match="bad_4"):
            engine.run("emp_001", workflow)

        assert engine.workflow("emp_001").status == "running"
    assert statuses(database)["bad_4"] == "running"


def test_a_callback_that_waits_for_another_step_holds_nothing_up(database: Path) -> None:
    seen: list[int] = []

    def second_after(first: Any, second: Any) -> None:
        seen.extend([first.result(), second.result()])

    def workflow(ctx: Context) -> None:
        entered = threading.Event()

        def hold() -> int:
            assert entered.wait(PATIENCE_SECONDS)
            return 2

        first, second = ctx.submit(one), ctx.submit(hold)
        first.add_done_callback(lambda done: second_after(done, second))
        entered.set()
        third = ctx.submit(note, 3)
        assert third.result() == 3
        eventually(lambda: seen == [1, 2])

    def one() -> int:
        return 1

    with Engine(database) as engine:
        engine.run("emp_001", workflow)

    assert seen == [1, 2]
