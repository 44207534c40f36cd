"""Thousands of workflows wait without a thread each, and all of them are woken."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter

import pytest

from durable import Context, Engine
from durable.clock import ManualClock
from durable.testing import wait_for_change

MAX_WORKFLOWS = 8
SECONDS = {1_000: 20.0, 10_000: 60.0}  # to start so many, and to wake them; a quarter of it is usual

many = pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])


def wait_for_a_number(ctx: Context, number: int) -> int:
    """Waits for a message."""
    return number + ctx.wait_event("more", type=int)


def sleep_until(ctx: Context, number: int, instant: datetime) -> int:
    """Waits for an instant."""
    ctx.sleep_until(instant)
    return number


class Threads:
    """The highest number of threads seen, beyond those that were there before."""

    def __init__(self) -> None:
        self._before, self.most = threading.active_count(), 0

    def count(self) -> None:
        self.most = max(self.most, threading.active_count() - self._before)


def count_rows(database: Path, which: str) -> int:
    with closing(sqlite3.connect(database)) as db:
        return int(db.execute(f"select count(*) from {which}").fetchone()[0])


def count_suspended(database: Path) -> int:
    return count_rows(database, "runs where ended = 'suspended'")


@many
def test_workflows_that_wait_for_a_message_hold_no_thread_each(database: Path, count: int) -> None:
    threads, began_at = Threads(), perf_counter()
    with Engine(database, suspend=True, max_workflows=MAX_WORKFLOWS) as engine:
        handles = []
        for number in range(count):
            handles.append(engine.start(f"w{number}", wait_for_a_number, number))
            threads.count()
        while count_suspended(database) < count:
            assert perf_counter() - began_at < SECONDS[count]
            wait_for_change(engine)
        started_seconds, began_at = perf_counter() - began_at, perf_counter()
        for number in range(count):
            engine.send(f"w{number}", "more", 1)
            threads.count()
        results = [handle.result(SECONDS[count]) for handle in handles]
        woken_seconds = perf_counter() - began_at

    print(f"{count}: started in {started_seconds:.1f} s, woken in {woken_seconds:.1f} s, {threads.most} threads")
    assert results == [number + 1 for number in range(count)]
    assert threads.most <= MAX_WORKFLOWS + 1  # and the alarm
    assert max(started_seconds, woken_seconds) < SECONDS[count]


@pytest.mark.thorough
@many
def test_workflows_that_sleep_are_woken_by_another_engine_when_they_are_due(database: Path, count: int) -> None:
    threads, clock = Threads(), ManualClock(skip=False)
    instant = clock.now() + timedelta(days=1)
    with Engine(database, suspend=True, max_workflows=MAX_WORKFLOWS, clock=clock) as engine:
        for number in range(count):
            engine.start(f"w{number}", sleep_until, number, instant)
        while count_suspended(database) < count:
            wait_for_change(engine)
    with Engine(database, suspend=True, max_workflows=MAX_WORKFLOWS, clock=clock) as engine:
        assert engine.recover().resumed == []
        clock.advance(86400)
        began_at = perf_counter()
        while count_rows(database, "workflows where status = 'running'"):
            threads.count()
            assert perf_counter() - began_at < SECONDS[count]
            wait_for_change(engine)

        print(f"{count}: woken in {perf_counter() - began_at:.1f} s")
        assert {each.status for each in engine.workflows()} == {"completed"}
    assert threads.most <= MAX_WORKFLOWS + 1
