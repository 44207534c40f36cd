"""Rewind: what is recorded from a step on is taken back, whatever had become of the workflow; nothing of it is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, NonDeterminismError, Retry, WorkflowBusyError, WorkflowCancelledError, lab, step
from durable.clock import ManualClock
from durable.errors import StepNotFoundError, WaitTimeoutError, WorkflowNotFoundError
from durable.observer import Moment, crash_at
from durable.replay.keys import program_order
from tests.support import workflows
from tests.support.processes import KILLED, call_in_child, child, crash_in_child
from tests.support.workflows import act, effects, errand, journey

# ---- workflows with something to take back


class Shop:
    """A world in which a delivery may fail, and everything that happens is written down."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.is_open = True

    def do(self, what: str) -> str:
        """A step."""
        self.happened.append(what)
        return what.upper()

    def deliver(self) -> str:
        """A step that may fail."""
        self.happened.append("deliver")
        if not self.is_open:
            raise ConnectionError("nobody opens")
        return "DELIVERED"

    def order(self, ctx: Context) -> str:
        """A saga."""
        ctx.step(self.do, "reserve")
        ctx.on_failure(self.do, "release")
        ctx.step(self.do, "pay")
        return ctx.step(self.deliver)

    def caught(self, ctx: Context) -> str:
        """Handles the failure, and goes on."""
        try:
            return ctx.step(self.deliver)
        except ConnectionError:
            return ctx.step(self.do, "leave at the door")


def two_letters(ctx: Context) -> list[str]:
    """Two messages of one name."""
    return [ctx.wait_event("letter", type=str), ctx.wait_event("letter", type=str)]


def race_with_a_day(ctx: Context) -> str:
    """A step beats a timer, which is given up as the workflow ends."""
    day, fast = ctx.timer(86400), ctx.submit(act, "fast")
    winner = ctx.first(day, fast).result()
    return ctx.step(act, f"then {winner.result()}")


def record_and_race(ctx: Context) -> float:
    """What the engine itself records."""
    number = ctx.random()
    ctx.first(ctx.submit(act, "a"), ctx.submit(act, "b")).result()
    return number


def errand_in_child(pipe: Connection, database: Path, crash_point: str | None) -> Any:
    """Run five steps, perhaps only up to a crash."""
    observers = [crash_at.parse(crash_point)] if crash_point else []
    with Engine(database, observers=observers) as engine:
        return engine.run("emp_001", workflows.errand_of_five)


def keys(records: list[Any]) -> list[tuple[str, str]]:
    return [(record.step_key, record.status) for record in records]


# ---- from whatever had become of it


def complete(database: Path) -> None:
    call_in_child(errand_in_child, database, None)


def crash(database: Path) -> None:
    crash_in_child(errand_in_child, database, "act_4:executed")


def fail(database: Path) -> None:
    def break_down() -> None:
        raise ConnectionError("the van is broken")

    workflows.after_effect["d"] = break_down
    try:
        with Engine(database) as engine, pytest.raises(ConnectionError):
            engine.run("emp_001", workflows.errand_of_five)
    finally:
        del workflows.after_effect["d"]


def cancel(database: Path) -> None:
    with Engine(database) as engine:
        workflows.after_effect["d"] = lambda: engine.cancel("emp_001")
        try:
            with pytest.raises(WorkflowCancelledError):
                engine.run("emp_001", workflows.errand_of_five)
        finally:
            del workflows.after_effect["d"]


@pytest.mark.parametrize("end", [complete, crash, fail, cancel])
def test_the_next_run_goes_on_from_the_step_and_keeps_what_was_before_it(
    database: Path, end: Callable[[Path], None]
) -> None:
    end(database)
    before = len(effects(database))
    with Engine(database) as engine:
        epoch = engine.workflow("emp_001").epoch
        engine.rewind("emp_001", to="act_3")

        rewound = engine.workflow("emp_001")
        assert (rewound.status, rewound.output, rewound.error) == ("running", None, None)
        assert (rewound.epoch, rewound.cancel_requested_at) == (epoch + 1, None)
        assert keys(engine.steps("emp_001")) == [("act_1", "completed"), ("act_2", "completed")]
        assert workflows.list_faults(engine.path) == []
        assert engine.resume("emp_001").result() == ["A", "B", "C", "D", "E"]
    assert effects(database)[before:] == ["act_3", "act_4", "act_5"]


def test_nothing_of_the_story_is_lost(database: Path) -> None:
    fail(database)
    with Engine(database) as engine:
        before = {row.step_key: row for row in engine.steps("emp_001")}
        engine.rewind("emp_001", to="act_3")
        engine.resume("emp_001").result()

        story = {row.step_key: row for row in engine.attempts("emp_001")}
        assert list(story) == ["act_3", "act_4"]
        for key, row in story.items():
            assert (row.output, row.error, row.epoch) == (before[key].output, before[key].error, 1)
            assert (row.status, row.attempt, row.superseded_by) == (before[key].status, 1, 2)
        assert [row.attempt for row in engine.steps("emp_001")] == [1, 1, 2, 2, 1]


def test_every_step_of_a_rich_workflow_can_be_rewound_to(database: Path) -> None:
    with Engine(database) as engine:
        result = engine.run("emp_001", journey, 2)
        all_keys = [row.step_key for row in engine.steps("emp_001")]
        for key in all_keys:
            before = len(effects(database))
            engine.rewind("emp_001", to=key)
            kept = [row.step_key for row in engine.steps("emp_001")]

            assert kept == [each for each in all_keys if program_order(each) < program_order(key)]
            assert engine.resume("emp_001").result() == result
            assert sorted(effects(database)[before:]) == sorted(set(all_keys) - set(kept))
        assert workflows.list_faults(engine.path) == []


def test_the_key_of_a_branch_stands_for_its_first_step(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", journey, 2)
        engine.rewind("emp_001", to="leg_6")

        assert {row.step_key.partition("/")[0] for row in engine.steps("emp_001")} == {
            *("count_up_1", "count_up_2", "act_3", "act_async_4", "leg_5")
        }


def test_the_code_may_change_from_the_step_on_and_not_before(database: Path) -> None:
    days = {"second": "b", "third": "c"}

    def trip(ctx: Context) -> list[str]:
        return [ctx.step(act, what) for what in ("a", days["second"], days["third"])]

    with Engine(database) as engine:
        assert engine.run("emp_001", trip) == ["A", "B", "C"]
        engine.rewind("emp_001", to="act_3")
        days["third"] = "new"
        assert engine.run("emp_001", trip) == ["A", "B", "NEW"]
        engine.rewind("emp_001", to="act_3")
        days["second"] = "other"
        with pytest.raises(NonDeterminismError) as diverged:
            engine.run("emp_001", trip)

        assert diverged.value.step_key == "act_2"


# ---- failures, compensations


def test_compensations_are_taken_back_too_and_run_again_when_it_fails_again(database: Path) -> None:
    shop = Shop()
    shop.is_open = False
    with Engine(database) as engine:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                engine.run("emp_001", shop.order)
            engine.rewind("emp_001", to="do_3")
        shop.is_open = True

        assert engine.run("emp_001", shop.order) == "DELIVERED"
        assert shop.happened == ["reserve", *["pay", "deliver", "release"] * 2, "pay", "deliver"]
        assert keys(engine.steps("emp_001")) == [(key, "completed") for key in ("do_1", "do_2", "do_3", "deliver_4")]
        assert [(row.step_key, row.attempt) for row in engine.attempts("emp_001") if row.kind == "compensation"] == [
            ("do_2/do_1", 1),
            ("do_2/do_1", 2),
        ]


def test_a_failure_before_the_step_that_ended_the_workflow_is_tried_anew(database: Path) -> None:
    shop = Shop()
    shop.is_open = False

    def beside(ctx: Context) -> list[str]:
        delivery, other = ctx.submit(shop.deliver), ctx.submit(shop.do, "other")
        return [ctx.step(shop.do, other.result()), delivery.result()]

    with Engine(database) as engine:
        with pytest.raises(ConnectionError):
            engine.run("emp_001", beside)
        shop.is_open = True
        engine.rewind("emp_001", to="do_3")

        assert engine.run("emp_001", beside) == ["OTHER", "DELIVERED"]
        assert sorted(shop.happened) == ["OTHER", "OTHER", "deliver", "deliver", "other"]


def test_a_failure_that_was_handled_before_the_step_stays_as_it_was(database: Path) -> None:
    shop = Shop()
    shop.is_open = False
    with Engine(database) as engine:
        engine.run("emp_001", shop.caught)
        shop.is_open = True
        engine.rewind("emp_001", to="do_2")

        assert engine.run("emp_001", shop.caught) == "LEAVE AT THE DOOR"
        assert shop.happened == ["deliver", "leave at the door", "leave at the door"]


def test_a_failure_that_was_handled_can_be_rewound_to_and_another_way_taken(database: Path) -> None:
    shop = Shop()
    shop.is_open = False
    with Engine(database) as engine:
        engine.run("emp_001", shop.caught)
        shop.is_open = True
        engine.rewind("emp_001", to="deliver_1")

        assert engine.run("emp_001", shop.caught) == "DELIVERED"
        assert keys(engine.steps("emp_001")) == [("deliver_1", "completed")]


def test_a_rewound_step_has_all_its_retries_again(database: Path) -> None:
    tries: list[int] = []

    @step(retry=Retry(attempts=3, delay_seconds=10))
    def call() -> str:
        tries.append(len(tries))
        raise ConnectionError("no answer")

    def calling(ctx: Context) -> None:
        ctx.step(call)

    with Engine(database, clock=ManualClock()) as engine:
        with pytest.raises(ConnectionError):
            engine.run("emp_001", calling)
        engine.rewind("emp_001", to="call_1")
        with pytest.raises(ConnectionError):
            engine.run("emp_001", calling)

        assert len(tries) == 6
        assert [row.attempt for row in engine.attempts("emp_001")] == [1, 2, 3, 4, 5]


# ---- waits, messages, races, children


def test_messages_that_the_steps_received_can_be_received_again(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", two_letters)
        engine.send("emp_001", "letter", "first")
        engine.send("emp_001", "letter", "second")
        assert handle.result() == ["first", "second"]
        engine.rewind("emp_001", to="letter_2")

        assert engine.run("emp_001", two_letters) == ["first", "second"]
        engine.rewind("emp_001", to="letter_1")
        assert engine.run("emp_001", two_letters) == ["first", "second"]


def test_a_wait_that_ran_out_of_time_waits_anew_from_now(database: Path) -> None:
    def patient(ctx: Context) -> str:
        ctx.step(act, "ask")
        return ctx.wait_event("answer", type=str, timeout_seconds=60)

    clock = ManualClock()
    with Engine(database, clock=clock) as engine:
        with pytest.raises(WaitTimeoutError):
            engine.run("emp_001", patient)
        clock.advance(1000)
        engine.rewind("emp_001", to="answer_2")
        engine.send("emp_001", "answer", "yes")

        assert engine.run("emp_001", patient) == "yes"


def test_a_wait_that_was_given_up_as_the_workflow_ended_is_waited_for_again(database: Path) -> None:
    with Engine(database) as engine:
        assert engine.run("emp_001", race_with_a_day) == "THEN FAST"
        assert keys(engine.steps("emp_001"))[0] == ("sleep_1", "failed")
        engine.rewind("emp_001", to="act_4")

        assert keys(engine.steps("emp_001"))[0] == ("sleep_1", "running")
        assert engine.run("emp_001", race_with_a_day) == "THEN FAST"
        assert effects(database) == ["act_2", "act_4", "act_4"]


def test_what_the_engine_records_itself_can_be_rewound_again_and_again(database: Path) -> None:
    with Engine(database) as engine:
        numbers = [engine.run("emp_001", record_and_race)]
        for _ in range(3):
            engine.rewind("emp_001", to="random_1")
            numbers.append(engine.run("emp_001", record_and_race))

        assert len(set(numbers)) == 4
        recorded = [row for row in engine.attempts("emp_001") if row.name == "random"]
        assert [json.loads(row.output or "") for row in recorded] == numbers[:3]
        assert [row.attempt for row in engine.attempts("emp_001") if row.name == "first"] == [1, 2, 3]


def test_children_stay_as_they_ended(database: Path) -> None:
    def parent(ctx: Context) -> list[str]:
        result: list[str] = ctx.child(errand, "a", "b").result()
        return result

    with Engine(database) as engine:
        engine.run("emp_001", parent)
        engine.rewind("emp_001", to="errand_1")

        assert engine.run("emp_001", parent) == ["A", "B"]
        assert [run.ended for run in engine.runs("emp_001/errand_1")] == ["completed"]
    assert len(effects(database)) == 2


def test_what_was_suspended_before_the_step_is_resumed_by_recover(database: Path) -> None:
    def waiting(ctx: Context) -> str:
        ctx.step(act, "before")
        return ctx.wait_event("go", type=str)

    def notice(moment: Moment) -> None:
        if moment.name == "workflow.suspended":
            suspended.set()

    suspended = threading.Event()
    with Engine(database, suspend=True, observers=[notice]) as engine:
        engine.start("emp_001", waiting)
        suspended.wait()
    with Engine(database) as engine:
        engine.rewind("emp_001", to="act_1")
        engine.send("emp_001", "go", "now")
        (handle,) = resumed(engine, waiting)

        assert handle.result() == "now"
    assert effects(database) == ["act_1", "act_1"]


def resumed(engine: Engine, workflow: Any) -> list[Any]:
    """What recover resumes, where the function is one of this test."""
    globals()["_found"] = workflow
    workflow.__module__, workflow.__qualname__ = __name__, "_found"
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as db:
        db.execute("update workflows set function = ?", (f"{__name__}:_found",))
    return engine.recover().resumed


# ---- refusals


def test_a_step_that_is_not_on_record_is_refused_with_the_one_that_may_be_meant(database: Path) -> None:
    complete(database)
    with Engine(database) as engine:
        before = engine.steps("emp_001"), engine.workflow("emp_001")
        with pytest.raises(StepNotFoundError, match="no step 'act3' on record; did you mean 'act_3'") as refused:
            engine.rewind("emp_001", to="act3")
        with pytest.raises(StepNotFoundError, match="it has act_1, act_2, act_3, act_4, act_5"):
            engine.rewind("emp_001", to="zzz")
        with pytest.raises(WorkflowNotFoundError, match="did you mean 'emp_001'"):
            engine.rewind("emp_01", to="act_3")

        assert (refused.value.workflow_id, refused.value.step_key) == ("emp_001", "act3")
        assert (engine.steps("emp_001"), engine.workflow("emp_001")) == before


def test_a_workflow_that_runs_is_not_rewound(database: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait()

    workflows.after_effect["d"] = hold
    with Engine(database) as engine:
        handle = engine.start("emp_001", workflows.errand_of_five)
        entered.wait()
        with pytest.raises(WorkflowBusyError) as busy:
            engine.rewind("emp_001", to="act_1")
        leave.set()

        assert busy.value.pid == os.getpid()
        assert handle.result() == ["A", "B", "C", "D", "E"]
    del workflows.after_effect["d"]


def run_up_to_a_moment(pipe: Connection, database: Path) -> Any:
    """Five steps; says when the third has been executed, and waits to be let go on."""

    def hold(moment: Moment) -> None:
        if (moment.name, moment.step_key) == ("step.executed", "act_3"):
            pipe.send("here")
            pipe.recv()

    with Engine(database, observers=[hold]) as engine:
        return engine.run("emp_001", workflows.errand_of_five)


def test_a_zombie_of_before_cannot_write(database: Path) -> None:
    # the zombie has executed step 3, stops, and loses its lock; the workflow is rewound, and not run yet
    # the zombie wakes and wants to save step 3
    with child(run_up_to_a_moment, database) as zombie:
        zombie.receive()
        zombie.stop()
        shutil.rmtree(f"{database}-locks")
        with Engine(database) as engine:
            engine.rewind("emp_001", to="act_2")
            before = engine.steps("emp_001"), engine.workflow("emp_001")
            zombie.signal(signal.SIGCONT)
            zombie.send()

            assert zombie.outcome().type_name == "FencedError"
            assert (engine.steps("emp_001"), engine.workflow("emp_001")) == before
            assert engine.resume("emp_001").result() == ["A", "B", "C", "D", "E"]


def rewind_again_and_again(pipe: Connection, database: Path) -> None:
    """Say that it begins, then rewind and run for ever."""
    pipe.send("begins")
    with Engine(database) as engine:
        while True:
            engine.rewind("emp_001", to="act_2")
            engine.run("emp_001", workflows.errand_of_five)


@pytest.mark.thorough
def test_a_crash_in_a_rewind_leaves_it_done_or_not_done(database: Path) -> None:
    complete(database)
    chance = random.Random(7)
    for _ in range(8):
        with child(rewind_again_and_again, database) as killed:
            killed.receive()
            time.sleep(chance.uniform(0.02, 0.08))  # the instant of the kill, which is left to chance
            assert killed.kill() == KILLED
        with Engine(database) as engine:
            assert workflows.list_faults(engine.path) == []
            assert engine.resume("emp_001").result() == ["A", "B", "C", "D", "E"]
            tries = [row.attempt for row in engine.attempts("emp_001") if row.step_key == "act_5"]
            assert tries == list(range(1, len(tries) + 1))


# ---- seen by others


def test_the_lab_shows_a_rewound_workflow(database: Path) -> None:
    crash(database)
    with Engine(database) as engine:
        engine.rewind("emp_001", to="act_2")
        assert list(lab.steps(database, "emp_001").index) == ["act_1"]
        engine.resume("emp_001").result()

        assert list(lab.steps(database, "emp_001").status) == ["completed"] * 5
        assert lab.timeline(database, "emp_001").axes
        assert [run.ended for run in engine.runs("emp_001")] == ["crashed", "completed"]
