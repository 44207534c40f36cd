"""What a workflow publishes is read and watched while it runs, from any process, in order, and is not told twice."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Moment, NonDeterminismError, SerializationError, WorkflowCancelledError
from durable.clock import ManualClock
from durable.errors import NotPublishedError, WorkflowNotFoundError
from durable.observer import crash_at
from durable.store.records import Published
from durable.testing import wait_for_change
from tests.support.processes import child, crash_in_child
from tests.support.workflows import act


@dataclass
class Laptop:
    owner: str
    cents: int = 0


def told(published: list[Published]) -> list[tuple[str, Any]]:
    return [(each.name, each.value) for each in published]


def count_down(ctx: Context, start: int) -> str:
    """Publishes before and between steps."""
    for left in range(start, 0, -1):
        ctx.publish("left", left)
        ctx.step(act, f"{left}")
    ctx.publish("state", {"is": "done"})
    return "lift-off"


# ---- read


def test_the_latest_value_of_each_name_is_read(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", count_down, 3)

        assert engine.read("emp_001", "left") == 1
        assert engine.read("emp_001", "state") == {"is": "done"}
        assert {(row.step_key, row.kind) for row in engine.steps("emp_001")} == {
            ("left_1", "publish"),
            ("act_2", "step"),
            ("left_3", "publish"),
            ("act_4", "step"),
            ("left_5", "publish"),
            ("act_6", "step"),
            ("state_7", "publish"),
        }


def test_what_was_not_published_is_not_read(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", count_down, 1)
        engine.run("emp_002", count_down, 0)

        with pytest.raises(WorkflowNotFoundError):
            engine.read("emp_003", "left")
        with pytest.raises(WorkflowNotFoundError):
            next(engine.watch("emp_003"))
        for workflow_id, name in (("emp_002", "left"), ("emp_001", "act")):
            with pytest.raises(NotPublishedError, match=f"workflow '{workflow_id}' has published no '{name}' yet"):
                engine.read(workflow_id, name)


def test_a_value_has_its_type(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.publish("one", Laptop("Jane", 5))
        ctx.publish("several", [Laptop("Jane"), Laptop("Joe")], type=list[Laptop])
        ctx.publish("pair", (Laptop("Jane"), 7), type=tuple[Laptop, int])
        ctx.publish("nothing", None)
        ctx.publish("maybe", None, type=Laptop | None)

    with Engine(database) as engine:
        engine.run("emp_001", workflow)

        assert engine.read("emp_001", "one") == {"owner": "Jane", "cents": 5}
        assert engine.read("emp_001", "one", type=Laptop) == Laptop("Jane", 5)
        assert engine.read("emp_001", "several", type=list[Laptop]) == [Laptop("Jane"), Laptop("Joe")]
        assert engine.read("emp_001", "pair", type=tuple[Laptop, int]) == (Laptop("Jane"), 7)
        assert engine.read("emp_001", "nothing") is None
        assert engine.read("emp_001", "maybe", type=Laptop | None) is None
        with pytest.raises(SerializationError, match="workflow 'emp_001': its published 'one'"):
            engine.read("emp_001", "one", type=int)


@pytest.mark.parametrize(
    ("value", "kind"),
    [([Laptop("Jane")], None), ("\ud800", None), (7, str), (threading.Lock(), None)],
)
def test_a_value_without_exact_form_is_refused_and_nothing_is_kept(database: Path, value: Any, kind: Any) -> None:
    def workflow(ctx: Context) -> None:
        ctx.publish("it", value, type=kind)

    with Engine(database) as engine:
        with pytest.raises(SerializationError):
            engine.run("emp_001", workflow)

        assert engine.steps("emp_001") == []
        assert [run.ended for run in engine.runs("emp_001")] == ["stopped"]


# ---- watch


def test_a_watch_of_an_ended_workflow_tells_all_in_order_and_ends(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", count_down, 3)
        engine.run("emp_002", count_down, 1)

        assert told(list(engine.watch("emp_001"))) == [("left", 3), ("left", 2), ("left", 1), ("state", {"is": "done"})]


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
def test_a_watch_ends_however_its_workflow_ends(database: Path, ending: str) -> None:
    def workflow(ctx: Context) -> None:
        ctx.publish("left", 1)
        if ending == "failed":
            raise ValueError
        engine.cancel("emp_001")
        ctx.publish("left", 0)

    with Engine(database) as engine:
        handle = engine.start("emp_001", workflow)

        assert told(list(engine.watch("emp_001"))) == [("left", 1)]
        with pytest.raises((ValueError, WorkflowCancelledError)):
            handle.result()
        assert engine.workflow("emp_001").status == ending


def run_when_let(pipe: Connection, database: Path) -> Any:
    """Before each step it waits for a word."""

    def hold(moment: Moment) -> None:
        if moment.name == "step.started":
            pipe.recv()

    with Engine(database, observers=[hold]) as engine:
        pipe.send("it is open")
        return engine.run("emp_001", count_down, 3)


def test_another_process_is_watched_as_it_goes(database: Path) -> None:
    seen: list[Any] = []
    with child(run_when_let, database) as publisher, Engine(database) as engine:
        publisher.receive()
        while engine.find_workflow("emp_001") is None:
            wait_for_change(engine)
        for each in engine.watch("emp_001"):  # tells of each before the step behind it is let go
            seen.append((each.name, each.value, len([row for row in engine.steps("emp_001") if row.kind == "step"])))
            assert engine.read("emp_001", each.name) == each.value
            publisher.send() if each.name == "left" else None
        assert publisher.outcome() == "lift-off"

    assert [(name, value) for name, value, _ in seen] == [
        ("left", 3),
        ("left", 2),
        ("left", 1),
        ("state", {"is": "done"}),
    ]
    assert all(steps <= number + 1 for number, (_, _, steps) in enumerate(seen))


def run_and_crash(pipe: Connection, database: Path, step: str, moment: str) -> None:
    with Engine(database, observers=[crash_at(step, moment)]) as engine:
        engine.run("emp_001", count_down, 3)


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["scheduled", "executed", "checkpointed"])
def test_nothing_is_published_twice_whenever_it_crashes(database: Path, moment: str) -> None:
    crash_in_child(run_and_crash, database, "left_3", moment)
    with Engine(database) as engine:
        watch = engine.watch("emp_001")
        before = [next(watch)]
        if moment == "checkpointed":
            before.append(next(watch))
        engine.run("emp_001", count_down, 3)
        rest = list(watch)

        assert told([*before, *rest]) == [("left", 3), ("left", 2), ("left", 1), ("state", {"is": "done"})]
        assert told(list(engine.watch("emp_001"))) == told([*before, *rest])


def test_of_parallel_branches_each_is_told_in_its_order(database: Path) -> None:
    def leg(ctx: Context, name: str) -> None:
        for number in range(20):
            ctx.publish(name, number)

    def workflow(ctx: Context) -> None:
        for future in [ctx.branch(leg, name) for name in "abcd"]:
            future.result()

    with Engine(database) as engine:
        engine.run("emp_001", workflow)
        watched = told(list(engine.watch("emp_001")))

        of_each = {name: [value for each, value in watched if each == name] for name in "abcd"}
        assert of_each == {name: list(range(20)) for name in "abcd"}
        assert len(watched) == 80
        assert [engine.read("emp_001", name) for name in "abcd"] == [19] * 4


def test_another_value_on_a_replay_is_a_divergence(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.publish("left", value)
        if value == 1:
            raise KeyboardInterrupt

    with Engine(database) as engine:
        value = 1
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        value = 2
        with pytest.raises(NonDeterminismError, match=r"step 'left_1' was recorded as left\(1\), the code now calls"):
            engine.run("emp_001", workflow)

        assert engine.read("emp_001", "left") == 1


def take_another_way(engine: Engine) -> tuple[list[Published], list[Published]]:
    """What a watch has seen before a failed step is tried anew with another outcome, and what after."""

    def fail(way: str) -> None:
        if ways[0] == way:
            raise ConnectionError

    def workflow(ctx: Context) -> str:
        ctx.publish("at", "start")
        try:
            ctx.step(fail, "the first")
        except ConnectionError:
            ctx.publish("at", "an end")
            raise
        ctx.publish("at", "the goal")
        return "there"

    ways = ["the first"]
    with pytest.raises(ConnectionError):
        engine.run("emp_001", workflow)
    ways = ["none"]
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as db:
        db.execute("update workflows set status = 'running'")  # a watch that began as the second run did
        watch = engine.watch("emp_001")
        before = [next(watch), next(watch)]
        db.execute("update workflows set status = 'failed'")
    assert engine.run("emp_001", workflow) == "there"
    return before, list(watch)


def test_a_watch_goes_on_where_a_step_that_is_tried_anew_takes_another_way(database: Path) -> None:
    with Engine(database, clock=ManualClock()) as engine:
        before, after = take_another_way(engine)

        assert told(before) == [("at", "start"), ("at", "an end")]
        assert told(after) == [("at", "the goal")]
        assert engine.read("emp_001", "at") == "the goal"


def test_a_watch_tells_what_is_published_anew_after_a_rewind(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        for number in numbers:
            ctx.publish("at", number)
        if numbers[0] == 1:
            raise SystemExit

    numbers = [1, 2, 3]
    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        watch = engine.watch("emp_001")
        before = [next(watch), next(watch), next(watch)]
        engine.rewind("emp_001", to="at_1")
        numbers = [11, 12]
        engine.run("emp_001", workflow)

        assert told(before) == [("at", 1), ("at", 2), ("at", 3)]
        assert told(list(watch)) == [("at", 11), ("at", 12)]


def test_an_async_workflow_publishes(database: Path) -> None:
    async def workflow(ctx: Context) -> None:
        ctx.publish("left", 1)
        await ctx.submit(act, "it")
        ctx.publish("left", 0)

    with Engine(database) as engine:
        engine.run("emp_001", workflow)

        assert told(list(engine.watch("emp_001"))) == [("left", 1), ("left", 0)]


def test_several_watch_at_once_and_each_is_told_all(database: Path) -> None:
    def watch() -> None:
        seen.append(told(list(engine.watch("emp_001"))))

    def let_go(ctx: Context) -> str:
        ctx.step("wait for the watchers", begin.wait)
        return count_down(ctx, 5)

    begin, seen = threading.Event(), list[Any]()
    with Engine(database) as engine:
        handle = engine.start("emp_001", let_go)
        watchers = [threading.Thread(target=watch) for _ in range(3)]
        for watcher in watchers:
            watcher.start()
        begin.set()
        for watcher in watchers:
            watcher.join()

        assert handle.result() == "lift-off"
        assert seen == [[*[("left", left) for left in (5, 4, 3, 2, 1)], ("state", {"is": "done"})]] * 3
