"""Many workflows at once: listed in parts, tried again, deleted, and deleted by themselves once they are old."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable import Context, Engine
from durable.clock import ManualClock
from durable.store.ownership.owner import Owner
from tests.support.processes import eventually
from tests.support.workflows import act, effects

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
broken: set[str] = set()


def refuse_some(what: str) -> str:
    if what in broken:
        raise ValueError(f"no {what} today")
    return act(what)


def order(ctx: Context, what: str) -> str:
    ctx.step(act, what)
    return ctx.step(refuse_some, what)


def refund(ctx: Context, what: str) -> str:
    return ctx.child(order, what, workflow_id=f"part of {ctx.workflow_id}").result()


def waits_in_a_child(ctx: Context) -> None:
    ctx.child(wait, workflow_id="the child")


def wait(ctx: Context) -> None:
    ctx.wait_event("go")


def run_some(engine: Engine, *ids: str) -> None:
    """Run an order of each id. Those of `broken` fail."""
    for each in ids:
        if each in broken:
            with pytest.raises(ValueError, match="today"):
                engine.run(each, order, each)
        else:
            engine.run(each, order, each)


@pytest.fixture(autouse=True)
def repaired():
    broken.clear()


def ids(records) -> list[str]:
    return [record.workflow_id for record in records]


def test_workflows_are_listed_by_function_prefix_and_time_in_parts(database: Path) -> None:
    clock = ManualClock(BEGIN)
    with Engine(database, clock=clock) as engine:
        run_some(engine, "a_1", "a_2")
        clock.advance(timedelta(days=3).total_seconds())
        run_some(engine, "b_1")
        engine.run("c", refund, "c")

        assert ids(engine.workflows(prefix="a_")) == ["a_1", "a_2"]
        assert ids(engine.workflows(function="refund")) == ["c"]
        assert ids(engine.workflows(since="2d")) == ["b_1", "c", "part of c"]
        assert ids(engine.workflows(since=BEGIN, until=timedelta(days=1))) == ["a_1", "a_2"]
        assert ids(engine.workflows("completed", limit=2, offset=1)) == ["a_2", "b_1"]
        with pytest.raises(ValueError, match="as in '30d', got 'soon'"):
            engine.workflows(since="soon")


@pytest.mark.parametrize("suspend", [False, True])
def test_failed_workflows_are_tried_again_and_keep_their_completed_steps(database: Path, suspend: bool) -> None:
    broken.update(("b", "c"))
    with Engine(database, suspend=suspend) as engine:
        run_some(engine, "a", "b", "c")
        with pytest.raises(ValueError, match="no c today"):
            engine.run("d", refund, "c")
        broken.discard("b")
        found = engine.retry(function="order")
        results = {}
        for handle in found.resumed:
            try:
                results[handle.workflow_id] = handle.result()
            except ValueError as error:
                results[handle.workflow_id] = str(error)

        assert results == {"b": "B", "c": "no c today"}  # and not the child: its parent tries it again
        assert found.left == {}
        broken.clear()
        assert sorted(handle.result() for handle in engine.retry().resumed) == ["C", "C"]
    assert effects(database, "b") == ["act_1", "refuse_some_2"]


def test_a_workflow_whose_function_is_gone_is_left_and_named(database: Path) -> None:
    def local(ctx: Context) -> None:
        raise ValueError("the end")

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="the end"):
            engine.run("wf", local)
        found = engine.retry()

    assert found.resumed == []
    assert "cannot be imported here" in found.left["wf"]


def test_ended_workflows_are_deleted_with_their_children_and_no_others(database: Path) -> None:
    clock = ManualClock(BEGIN)
    broken.add("bad")
    with Engine(database, clock=clock, suspend=True) as engine:
        run_some(engine, "old", "bad")
        engine.run("old parent", refund, "x")
        handle = engine.start("has a child that waits", waits_in_a_child)
        eventually(lambda: engine.find_workflow("the child") is not None)
        clock.advance(timedelta(days=40).total_seconds())
        run_some(engine, "new")
        owner = Owner(database, "old")
        busy = engine.delete_ended(older_than="30d")
        owner.release()

        assert busy == 1  # the parent; `old` seems to run
        assert engine.delete_ended(older_than="30d") == 1
        assert engine.find_workflow("old parent") is None
        assert ids(engine.workflows()) == ["bad", "has a child that waits", "the child", "new"]
        assert engine.delete_ended("failed") == 1
        assert not handle.done()
        with pytest.raises(ValueError, match="expected 'completed', 'failed' or 'cancelled', got 'running'"):
            engine.delete_ended("running")
        engine.cancel("has a child that waits")


def test_a_file_gets_smaller_once_most_of_it_is_deleted(database: Path) -> None:
    with Engine(database, synchronous="off") as engine:
        engine.run("kept", order, "kept")
        for number in range(5):
            engine.run(f"large {number}", order, "x" * 500_000)
        before = database.stat().st_size
        deleted = engine.delete_ended(prefix="large")

        assert deleted == 5
        assert database.stat().st_size < before / 4
        assert engine.run("kept", order, "kept") == "KEPT"
        engine.run("next", order, "next")
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)


def test_many_are_deleted_in_batches(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable.recovery.bulk.BATCH", 3)
    with Engine(database, synchronous="off") as engine:
        run_some(engine, *map(str, range(10)))
        owner = Owner(database, "1")

        assert engine.delete_ended() == 9
        assert ids(engine.workflows()) == ["1"]
        owner.release()


def test_retention_deletes_what_is_old_and_ended_well(database: Path) -> None:
    broken.add("failed")
    with Engine(database, clock=ManualClock(BEGIN)) as engine:
        run_some(engine, "old", "failed")
    with Engine(database, clock=ManualClock(BEGIN + timedelta(days=20))) as engine:
        run_some(engine, "new")
    with Engine(database, clock=ManualClock(BEGIN + timedelta(days=31)), retention="30d") as engine:
        eventually(lambda: engine.find_workflow("old") is None)
        assert ids(engine.workflows()) == ["failed", "new"]

    with pytest.raises(ValueError, match="retention: expected a timedelta"):
        Engine(database, retention="for ever")
