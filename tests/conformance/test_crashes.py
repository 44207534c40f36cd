"""SIGKILL: what is on record when a process dies is all that the next one needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable import Context, WorkflowCancelledError
from durable.errors import ExecutorBusyError
from tests.conformance import world
from tests.conformance.differences import differs
from tests.conformance.engines import Lab
from tests.conformance.test_waiting import waits_for
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import KILLED, eventually

RESULT = [
    *["START", "LEFT", "RIGHT"],
    *["NORTH", "NORTH 1", "NORTH 2", "NORTH BRIDGE"],
    *["SOUTH", "SOUTH 1", "SOUTH 2", "SOUTH BRIDGE"],
    *["FAST", "CHILD", "hello", "END"],
]


@pytest.mark.thorough
def test_a_workflow_that_is_killed_again_and_again_comes_to_its_end(lab: Lab) -> None:
    """Each life dies at its third effect, before that is saved, or at its third save: each gets a little further."""
    lab.run_and_die("wf", world.tour, at="executed 1")
    with lab.open_beside() as engine:
        engine.send("wf", "news", "hello")
    lives, is_killed = 1, True
    while is_killed and lives < 30:
        lives += 1
        with lab.running("wf", world.tour, at=["started 4", "executed 3", "checkpointed 3"][lives % 3]) as process:
            is_killed = process.join() == KILLED

    assert process.pipe.recv() == RESULT
    assert lives > 5
    assert world.repeated() == []


def test_a_message_sent_while_no_process_runs_the_workflow_is_received(lab: Lab) -> None:
    lab.run_and_die("wf", world.letters, at="news_1:started")

    with lab.open() as engine:
        engine.send("wf", "news", "a")
        handle = engine.start("wf", world.letters)
        eventually(lambda: waits_for(engine, "wf", "other", "news"))
        engine.send("wf", "other", 1)
        engine.send("wf", "news", "b")

        assert handle.result(PATIENCE_SECONDS) == ["a", 1, "b", "END"]


def test_a_message_whose_receipt_was_not_saved_is_received_by_the_next_run(lab: Lab) -> None:
    with lab.running("wf", world.letters, at="news_1:executed") as process, lab.open_beside() as engine:
        eventually(lambda: waits_for(engine, "wf", "news"))
        engine.send("wf", "news", "a")
        lab.expect_death(process, "news_1:executed")

    with lab.open() as engine:
        handle = engine.start("wf", world.letters)
        eventually(lambda: waits_for(engine, "wf", "other", "news"))
        engine.send("wf", "other", 1)
        engine.send("wf", "news", "b")

        assert handle.result(PATIENCE_SECONDS) == ["a", 1, "b", "END"]


@pytest.mark.thorough
def test_a_timer_that_a_crash_has_interrupted_keeps_its_instant(lab: Lab) -> None:
    instants = []
    for _ in range(2):
        lab.run_and_die("wf", world.long_nap, at="sleep_1:started")
        with lab.open_beside() as engine:
            instants += [wait.wake_at for wait in engine.waits("wf")]

    assert len(instants) == 2
    assert instants[0] == instants[1] is not None


@pytest.mark.thorough
def test_retries_are_counted_across_crashes(lab: Lab) -> None:
    lab.run_and_die("wf", world.persistent, at="third_time_1:failed")
    with lab.open() as engine:
        assert engine.run("wf", world.persistent) == ["HERE", "BESIDE", "no boat today"]

    assert world.effects().count("third_time_1") == 3


def test_a_saga_is_undone_to_its_end_when_it_is_killed_half_way(lab: Lab) -> None:
    lab.run_and_die("wf", world.saga, at="book_3/act_1/act_1:checkpointed")
    with lab.open() as engine, pytest.raises(ValueError, match="no visa today"):
        engine.run("wf", world.saga)

    assert world.effects() == ["act_1", "book_3/act_2", "refuse_4", "book_3/act_1/act_1", "act_2/act_1"]


@pytest.mark.thorough
@pytest.mark.parametrize(("moment", "times"), [("executed", 2), ("checkpointed", 1)])
def test_a_cancelled_workflow_that_is_killed_while_it_is_undone_is_undone_to_its_end(
    lab: Lab, moment: str, times: int
) -> None:
    at = f"act_2/act_1:{moment}"
    with lab.running("wf", world.saga_that_waits, at=at) as process, lab.open_beside() as engine:
        eventually(lambda: waits_for(engine, "wf", "go"))
        engine.cancel("wf")
        lab.expect_death(process, at)

    with lab.open() as engine:
        with pytest.raises(WorkflowCancelledError):
            engine.start("wf", world.saga_that_waits).result(PATIENCE_SECONDS)
        assert engine.workflow("wf").status == "cancelled"
    assert world.effects() == ["act_1", *["act_2/act_1"] * times]


@differs("dead processes")
def test_a_workflow_of_a_dead_process_is_taken_up(lab: Lab) -> None:
    lab.run_and_die("wf", world.errand, "a", "b", at="act_1:checkpointed")

    with lab.open() as engine:
        if lab.name == "sqlite":
            assert [handle.workflow_id for handle in engine.recover().resumed] == ["wf"]
        eventually(lambda: engine.workflow("wf").status == "completed")
    assert world.effects() == ["act_1", "act_2"]


@differs("executor ids")
def test_a_second_process_beside_a_living_one(lab: Lab) -> None:
    with lab.running("wf", world.wait_for_go) as process:
        with lab.open_beside() as engine:
            eventually(lambda: waits_for(engine, "wf", "go"))
        if lab.name == "sqlite":
            with lab.open() as engine:
                assert engine.owner("wf") == process.pid
        else:
            with pytest.raises(ExecutorBusyError), lab.open():
                pass


@pytest.mark.soak
@pytest.mark.parametrize("moment", ["started", "executed", "checkpointed"])
@pytest.mark.parametrize("workflow", [world.branches, world.race_with_an_event, world.naps, world.family])
def test_a_kill_at_each_step(lab: Lab, workflow: Callable[[Context], Any], moment: str) -> None:
    with lab.open() as engine:
        whole = engine.run("whole", workflow)
        steps = [step for step in engine.steps("whole") if step.status == "completed"]

    for number, step in enumerate(steps):
        if step.kind == "first" and moment == "started":
            continue  # a race has no such moment
        workflow_id = f"wf{number}"
        lab.run_and_die(workflow_id, workflow, at=f"{workflow_id}/{step.step_key}:{moment}")
        with lab.open(observers=[world.note_saved]) as engine:
            assert engine.run(workflow_id, workflow) == whole
    assert world.repeated() == []
