"""Workflows: their ids, their children, how they are cancelled, undone, forked, deleted."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

import pytest

from durable import (
    DurableError,
    Moment,
    NonDeterminismError,
    WorkflowBusyError,
    WorkflowCancelledError,
    WorkflowConflictError,
)
from durable.errors import (
    InvalidNameError,
    NotSupportedError,
    RunStopped,
    StepNotFoundError,
    WorkflowEndedError,
    WorkflowNotFoundError,
)
from tests.conformance import world
from tests.conformance.differences import differs
from tests.conformance.engines import Lab, leave_before_it_waits, leave_waiting
from tests.conformance.test_waiting import waits_for
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import child, eventually, is_main_thread_in


@pytest.mark.parametrize("how", ["run", "start", "resume"])
def test_a_renamed_function_goes_on_with_what_its_former_name_began(lab: Lab, how: str) -> None:
    lab.run_and_die("wf", world.outing, at="act_2:started")
    with lab.open() as engine:
        if how == "run":
            result = engine.run("wf", world.journey)
        elif how == "start":
            result = engine.start("wf", world.journey).result()
        else:
            result = engine.resume("wf").result()
        assert engine.run("wf", world.journey) == result

    assert result == ["FIRST", "SECOND", "wf"]
    assert world.effects() == ["act_1", "act_2"]


def test_the_conflict_with_a_function_of_another_name_names_what_helps(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.outing)
        with pytest.raises(WorkflowConflictError) as raised:
            engine.run("wf", world.stroll)

    advice = "mark the function with @durable.workflow(former_names=['tests.conformance.world:outing']) if it was"
    assert advice in str(raised.value)


def test_an_id_belongs_to_one_function_and_its_arguments(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.errand, "a")
        for fn, args in ((world.errand, ("b",)), (world.mapped, ())):
            with pytest.raises(WorkflowConflictError) as raised:
                engine.run("wf", fn, *args)

    assert raised.value.recorded == 'tests.conformance.world:errand with {"what":["a"]}'
    assert world.effects() == ["act_1"]


def test_arguments_that_do_not_fit_are_refused_before_anything_is_recorded(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(TypeError, match="missing a required argument: 'number'"):
            engine.run("wf", world.parcels)

        assert engine.workflows() == []


def test_workflows_are_listed_by_status_and_found_by_id(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("good", world.errand, "a")
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("bad", world.broken)
        listed = {status: [each.workflow_id for each in engine.workflows(status)] for status in ("completed", "failed")}
        record = engine.workflow("good")

        assert engine.workflows("nonsense") == []
        assert engine.find_workflow("nobody") is None
        with pytest.raises(WorkflowNotFoundError, match="no workflow 'nobody'"):
            engine.workflow("nobody")
    assert listed == {"completed": ["good"], "failed": ["bad"]}
    assert (record.function, record.arguments, record.output) == (
        "tests.conformance.world:errand",
        '{"what":["a"]}',
        '["A"]',
    )


@pytest.mark.parametrize("workflow_id", ["", "a\0b", "x" * 256])
def test_an_unsound_id_is_refused(lab: Lab, workflow_id: str) -> None:
    with lab.open() as engine, pytest.raises(InvalidNameError):
        engine.run(workflow_id, world.errand)


@differs("functions")
def test_a_function_of_a_test(lab: Lab) -> None:
    def local(ctx: object) -> int:
        return 7

    with lab.open() as engine:
        if lab.name == "sqlite":
            assert engine.run("wf", local) == 7
        else:
            with pytest.raises(InvalidNameError, match="at the top level of a module"):
                engine.run("wf", local)
            assert engine.workflows() == []


@differs("threads")
def test_the_thread_of_a_workflow(lab: Lab) -> None:
    with lab.open() as engine:
        is_here = engine.run("wf", world.thread_of) == threading.get_ident()

    assert is_here == (lab.name == "sqlite")


@differs("busy")
def test_a_second_run_of_an_id_that_is_running(lab: Lab) -> None:
    world.settings.update(begun=threading.Event(), go=threading.Event())
    with lab.open() as engine:
        first = engine.start("wf", world.holding)
        world.settings["begun"].wait(PATIENCE_SECONDS)
        if lab.name == "sqlite":
            with pytest.raises(WorkflowBusyError):
                engine.start("wf", world.holding)
            world.settings["go"].set()
        else:
            second = engine.start("wf", world.holding)
            world.settings["go"].set()
            assert second.result(PATIENCE_SECONDS) == "HELDAFTER"

        assert first.result(PATIENCE_SECONDS) == "HELDAFTER"
    assert world.effects() == ["held_1", "act_2"]


def test_a_workflow_that_swallows_an_interrupt_does_not_complete(lab: Lab) -> None:
    world.settings["interrupt"] = True
    with lab.open() as engine:
        with pytest.raises(RunStopped):
            engine.run("wf", world.swallows_an_interrupt)
        assert engine.workflow("wf").status == "running", engine.workflow("wf")

        assert engine.run("wf", world.swallows_an_interrupt) == "done"
    assert world.effects() == ["interrupt_once_1"] * 2


def test_an_interrupted_run_records_nothing_of_what_has_not_begun_and_goes_on_in_the_same_process(lab: Lab) -> None:
    world.settings.update(begun=threading.Event(), go=threading.Event())
    with lab.open() as engine:
        handle = engine.start("wf", world.holding)
        world.settings["begun"].wait(PATIENCE_SECONDS)
        handle.interrupt()
        world.settings["go"].set()
        with pytest.raises(RunStopped):
            handle.result(PATIENCE_SECONDS)
        saved, status = [step.step_key for step in engine.steps("wf")], engine.workflow("wf").status

        assert engine.run("wf", world.holding) == "HELDAFTER"
    assert (saved, status) == (["held_1"], "running")  # a thread cannot be stopped: its step ended, and was saved
    assert world.effects() == ["held_1", "act_2"]


@pytest.mark.parametrize("workflow", [world.holding, world.holding_async])
def test_stop_lets_the_steps_in_flight_end_and_leaves_the_rest(lab: Lab, workflow: Callable[..., object]) -> None:
    world.settings.update(begun=threading.Event(), go=threading.Event())

    def let_go() -> None:
        eventually(lambda: is_main_thread_in("stop") and is_main_thread_in("let_through"))
        world.settings["go"].set()

    with lab.open() as engine:
        handle = engine.start("wf", workflow)
        world.settings["begun"].wait(PATIENCE_SECONDS)
        threading.Thread(target=let_go).start()

        assert engine.stop(PATIENCE_SECONDS)
        with pytest.raises((RunStopped, asyncio.CancelledError)):
            handle.result(PATIENCE_SECONDS)
        assert len(world.effects()) == 1
    with lab.open() as engine:
        assert engine.run("wf", workflow) == "HELDAFTER"
    assert len(world.effects()) == 2


def test_stop_does_not_wait_for_a_step_that_outlasts_its_time(lab: Lab) -> None:
    world.settings.update(begun=threading.Event(), go=threading.Event())
    with lab.open() as engine:
        engine.start("wf", world.holding)
        world.settings["begun"].wait(PATIENCE_SECONDS)

        begun_at = time.monotonic()
        assert not engine.stop(timeout_seconds=0.1)
        assert time.monotonic() - begun_at < PATIENCE_SECONDS / 2
        world.settings["go"].set()


def test_a_process_ends_although_a_workflow_waits(lab: Lab) -> None:
    with child(leave_waiting, lab.name, lab.place, os.environ[world.WORLD]) as process:
        assert process.outcome() is None
        assert process.join() == 0
    with lab.open() as engine:
        assert engine.workflow("wf").status == "running", engine.workflow("wf")


def test_a_workflow_that_begins_to_wait_while_its_process_ends_goes_on_later(lab: Lab) -> None:
    with child(leave_before_it_waits, lab.name, lab.place, os.environ[world.WORLD]) as process:
        assert process.outcome() is None
        assert process.join() == 0
    with lab.open() as engine:
        assert engine.workflow("wf").status == "running", engine.workflow("wf")


def test_it_works_where_an_event_loop_is_running_as_in_a_notebook_cell(lab: Lab) -> None:
    async def cell() -> list[object]:
        with lab.open() as engine:
            told: list[object] = [engine.run("one", world.errand, "a")]
            told.append(await engine.start("two", world.errand_async, "b"))
            return [*told, len(engine.steps("two")), len(engine.workflows())]

    assert asyncio.run(cell()) == [["A"], ["B", "LEG"], 2, 2]


# ---- children


def test_children_have_ids_and_steps_of_their_own(lab: Lab) -> None:
    world.settings["repaired"] = True
    with lab.open() as engine:
        value = engine.run("wf", world.parent)
        parents = {each.workflow_id: each.parent_id for each in engine.workflows()}
        keys = [step.step_key for step in engine.steps("wf/errand_1")]

    assert value == ["PARENT", "A", "B", "BOAT"]
    assert parents == {"wf": None, "wf/errand_1": "wf", "other": "wf"}
    assert keys == ["act_1", "act_2"]


def test_a_failed_child_fails_its_parent_and_is_tried_anew_with_it(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.parent)
        world.settings["repaired"] = True

        assert engine.run("wf", world.parent) == ["PARENT", "A", "B", "BOAT"]
    assert world.effects().count("refuse_at_first_2") == 2
    assert len(world.effects()) == 6


def test_a_child_is_cancelled_with_its_parent(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.parent_of_a_wait)
        eventually(lambda: waits_for(engine, "the child", "go"))
        engine.cancel("wf")
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)
        eventually(lambda: engine.workflow("the child").status == "cancelled")

        assert engine.workflow("wf").status == "cancelled"


def test_a_workflow_that_was_cancelled_before_it_fails_is_cancelled(lab: Lab) -> None:
    def cancel(moment: Moment) -> None:
        if moment.name == "step.failed":
            engine.cancel("wf")

    with lab.open(observers=[cancel]) as engine:
        with pytest.raises(WorkflowCancelledError):
            engine.run("wf", world.broken)

        assert engine.workflow("wf").status == "cancelled"


# ---- undone


def test_a_failed_saga_is_undone_in_reverse_and_is_final(lab: Lab) -> None:
    with lab.open() as engine:
        for _ in range(2):
            with pytest.raises(ValueError, match="no visa today"):
                engine.run("wf", world.saga)

    assert world.effects() == ["act_1", "book_3/act_2", "refuse_4", "book_3/act_1/act_1", "act_2/act_1"]


def test_a_cancelled_workflow_is_undone_and_is_final(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.saga_that_waits)
        eventually(lambda: waits_for(engine, "wf", "go"))
        engine.cancel("wf")
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)
        with pytest.raises(WorkflowCancelledError):
            engine.run("wf", world.saga_that_waits)
        with pytest.raises(WorkflowEndedError):
            engine.cancel("wf")

        assert engine.workflow("wf").status == "cancelled"
    assert world.effects() == ["act_1", "act_2/act_1"]


def test_a_compensation_registered_after_a_branch_with_a_race_is_run(lab: Lab) -> None:
    # Life 1 dies as it waits; the loser of the race in the branch, which has ended, still waits on record.
    # Life 2 begins when the workflow is cancelled already: it only replays in order to undo.
    lab.run_and_die("wf", world.saga_after_a_race, at="go_3:started")
    with lab.open_beside() as engine:
        engine.cancel("wf")
    with lab.open() as engine:
        eventually(lambda: engine.workflow("wf").status == "cancelled")

    assert world.effects() == ["race_with_an_event_1/act_2", "act_2/act_1"]


def test_a_workflow_that_fails_without_a_registered_compensation_is_stopped(lab: Lab) -> None:
    lab.run_and_die("wf", world.saga_of_changing_code, at="refuse_4:executed")
    world.settings["new"] = True
    with lab.open() as engine:
        with pytest.raises(NonDeterminismError) as missed:
            engine.run("wf", world.saga_of_changing_code)

        assert (missed.value.step_key, missed.value.recorded) == ("act_2", "act_2, book_3/act_1")
        assert world.effects() == ["act_1", "book_3/act_2", "refuse_4"]

        del world.settings["new"]
        with pytest.raises(ValueError, match="no visa today"):
            engine.run("wf", world.saga_of_changing_code)
    undone = ["book_3/act_1/act_1", "act_2/act_1"]
    assert world.effects() == ["act_1", "book_3/act_2", "refuse_4", "refuse_4", *undone]


def test_a_step_in_flight_ends_and_is_saved_before_its_workflow_is_cancelled(lab: Lab) -> None:
    world.settings.update(begun=threading.Event(), go=threading.Event())
    with lab.open() as engine:
        handle = engine.start("wf", world.holding)
        world.settings["begun"].wait(PATIENCE_SECONDS)
        engine.cancel("wf")
        world.settings["go"].set()
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)
        steps = [(step.step_key, step.value) for step in engine.steps("wf")]

    assert steps == [("held_1", "HELD")]
    assert world.effects() == ["held_1"]


# ---- another way


def test_a_fork_keeps_what_came_before_a_step_in_program_order(lab: Lab) -> None:
    world.settings["repaired"] = True
    with lab.open() as engine:
        engine.run("wf", world.branches)
        engine.fork("wf", "fork", at="leg_2")
        before = sorted(world.effects())
        value = engine.resume("fork").result(PATIENCE_SECONDS)

        assert value == engine.run("wf", world.branches)
    again = world.effects()[len(before) :]
    assert sorted(again) == ["act_3", "leg_2/act_2", "leg_2/act_3", "leg_2/act_4", "leg_2/bridge_1/act_1"]


def test_a_fork_needs_a_step_that_is_there_and_an_id_that_is_free(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.errand, "a", "b")
        engine.run("other", world.errand, "a", "b")
        with pytest.raises(StepNotFoundError, match="did you mean 'act_2'"):
            engine.fork("wf", "fork", at="act_22")
        with pytest.raises(WorkflowConflictError):
            engine.fork("wf", "other", at="act_2")
        with pytest.raises(WorkflowConflictError, match="cannot become a fork of itself; give the fork an id of its"):
            engine.fork("wf", "wf", at="act_2")
        with pytest.raises(WorkflowNotFoundError):
            engine.fork("nobody", "fork", at="act_2")


def test_a_child_that_begins_while_its_parent_is_being_cancelled_is_cancelled_with_it(lab: Lab) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold_the_child(moment: Moment) -> None:
        if moment.workflow_id == "wf" and moment.name == "step.started":
            begun.set()
            go.wait(PATIENCE_SECONDS)

    with lab.open(observers=[hold_the_child]) as engine:
        handle = engine.start("wf", world.parent_of_a_wait)
        assert begun.wait(PATIENCE_SECONDS)
        engine.cancel("wf")
        go.set()
        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)

        eventually(
            lambda: engine.find_workflow("the child") is None or engine.workflow("the child").status != "running"
        )


def test_a_fork_at_the_step_that_failed_tries_it_anew(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.broken)
        engine.fork("wf", "fork", at="refuse_at_first_2")
        world.settings["repaired"] = True

        assert engine.resume("fork").result(PATIENCE_SECONDS) == "BOAT"
    assert world.effects() == ["act_1", "refuse_at_first_2", "refuse_at_first_2"]


def test_a_fork_that_is_cancelled_before_its_first_run_undoes_what_it_was_forked_with(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no visa today"):
            engine.run("wf", world.saga)
        undone = len(world.effects())
        engine.fork("wf", "fork", at="book_3")
        engine.cancel("fork")
        eventually(lambda: engine.workflow("fork").status == "cancelled")

    assert world.effects()[undone:] == ["act_2/act_1"]


def test_a_fork_has_what_was_published_before(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.progress)
        engine.fork("wf", "fork", at="act_4")
        before = engine.read("fork", "progress")
        engine.resume("fork").result(PATIENCE_SECONDS)

        assert before == engine.read("fork", "progress") == 1.0
        assert [each.value for each in engine.watch("fork")] == [each.value for each in engine.watch("wf")]


def test_a_deleted_id_begins_anew_and_its_children_are_gone(lab: Lab) -> None:
    world.settings["repaired"] = True
    with lab.open() as engine:
        engine.run("wf", world.parent)
        engine.delete("wf")

        assert engine.workflows() == []
        assert engine.run("wf", world.errand, "z") == ["Z"]


# ---- what only one of them has


@differs("transaction")
def test_a_transaction_on_the_engines_own_file(lab: Lab) -> None:
    with lab.open() as engine:
        if lab.name == "sqlite":
            assert engine.run("wf", world.entry) == 1
        else:
            with pytest.raises(NotSupportedError, match="on DBOS there is none") as raised:
                engine.run("wf", world.entry)
            assert raised.value.operation == "transaction"


@differs("restart")
def test_a_workflow_is_run_anew_as_another_call(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.errand, "a")
        try:
            told: object = engine.restart("wf", world.errand, "b")
        except NotSupportedError as error:
            told = error.operation
        again = engine.run("wf", world.errand, "b" if lab.name == "sqlite" else "a")

    assert (told, again) == ((["B"], ["B"]) if lab.name == "sqlite" else ("restart", ["A"]))


@differs("rewind", "lives")
def test_rewinding_and_the_lives_of_a_workflow(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.errand, "a")
        calls = [lambda: engine.runs("wf"), lambda: engine.owner("wf"), lambda: engine.rewind("wf", to="act_1")]
        told = []
        for call in calls:
            try:
                told.append(type(call()).__name__)
            except DurableError as error:
                told.append(type(error).__name__)

    assert told == (["list", "NoneType", "NoneType"] if lab.name == "sqlite" else ["NotSupportedError"] * 3)


@differs("engines in a process", "suspension")
def test_engines_in_a_process_and_their_options(lab: Lab) -> None:
    with lab.open():
        if lab.name == "sqlite":
            with lab.open(suspend=True) as other:
                assert other.workflows() == []
        else:
            with pytest.raises(NotSupportedError), lab.open():
                pass
            with pytest.raises(TypeError, match="suspend"), lab.open(suspend=True):
                pass
