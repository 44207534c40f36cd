"""Steps: their keys, their values, their failures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.engine import make_url

from durable import Context, SerializationError, StepTimeoutError
from durable.errors import CorruptionError
from tests.conformance import world
from tests.conformance.differences import differs
from tests.conformance.engines import Lab, also_in_memory
from tests.support.patience import PATIENCE_SECONDS
from tests.values.gallery import look


@also_in_memory
def test_keys_are_drawn_in_program_order(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.branches)
        keys = [step.step_key for step in engine.steps("wf")]

    assert keys == [
        "leg_1/bridge_1/act_1",
        "leg_1/act_2",
        "leg_1/act_3",
        "leg_1/act_4",
        "leg_2/bridge_1/act_1",
        "leg_2/act_2",
        "leg_2/act_3",
        "leg_2/act_4",
        "act_3",
    ]


@also_in_memory
def test_a_step_is_a_block_of_the_workflows_own_code(lab: Lab) -> None:
    world.settings["fail"] = True
    with lab.open() as engine, pytest.raises(ValueError, match="once"):
        engine.run("wf", world.blocks, "a", "b")
    with lab.open() as engine:
        value = engine.run("wf", world.blocks, "a", "b")
        rows = [(step.step_key, step.status) for step in engine.steps("wf")]

    assert value == ["A", "B", "none left"]
    assert world.effects() == ["block_1", "block_2", "block_3"]
    assert rows == [("block_1", "completed"), ("block_2", "completed"), ("block_3", "failed")]


def test_a_completed_workflow_returns_its_recorded_result_and_runs_nothing(lab: Lab) -> None:
    with lab.open() as engine:
        first = engine.run("wf", world.errand, "a", "b")
    with lab.open() as engine:
        second = engine.run("wf", world.errand, "a", "b")

    assert first == second == ["A", "B"]
    assert world.effects() == ["act_1", "act_2"]


@also_in_memory
def test_values_come_back_decoded_with_their_type_in_the_first_run_too(lab: Lab) -> None:
    expected = [world.Parcel(7, frozenset({"a", "b"})), world.Parcel(0, frozenset({"a", "b"}))]

    with lab.open() as engine:
        values = [engine.run("wf", world.parcels, 7) for _ in range(2)]
        step = engine.steps("wf")[0]

    assert values == [expected, expected]
    assert sorted(step.value["labels"]) == ["a", "b"]


def test_frames_arrays_and_other_values_come_back_exactly(lab: Lab) -> None:
    expected = look([world.keepsakes()] * 3)

    with lab.open() as engine:
        handle = engine.start("wf", world.keeping, world.keepsakes())
        engine.send("wf", "more", world.keepsakes())
        values = [handle.result()]
    with lab.open() as engine:
        values.append(engine.run("wf", world.keeping, world.keepsakes()))
        published = engine.read("wf", "kept")

    assert list(map(look, values)) == [expected] * 2
    assert look(published) == look(world.keepsakes())
    assert world.effects() == ["keep_1", "keep_2", "keep_3", "keep_4"]


@also_in_memory
def test_a_step_knows_its_idempotency_key_and_attempt(lab: Lab) -> None:
    with lab.open() as engine:
        told = engine.run("wf", world.information)

    assert told == [("wf/key_and_attempt_1", 1), ("wf/key_and_attempt_2", 1)]


@differs("the database in a step")
def test_a_step_knows_where_its_workflow_is_saved(lab: Lab) -> None:
    with lab.open() as engine:
        told = engine.run("wf", world.whereabouts)

    assert told == (lab.place if lab.name == "sqlite" else make_url(lab.place).database)


@also_in_memory
def test_a_value_without_exact_json_form_is_refused_by_name_and_nothing_of_it_is_stored(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(SerializationError, match=r"step 'untyped_set_2' of 'wf': its result has a set") as raised:
            engine.run("wf", world.nameless)
        saved = [step.step_key for step in engine.steps("wf") if step.status == "completed"]

    assert raised.value.type_name == "set"
    assert saved == ["act_1"]


@also_in_memory
@pytest.mark.parametrize(
    "workflow", [world.give_hopeless, world.submit_hopeless, world.register_hopeless], ids=lambda fn: fn.__name__
)
def test_a_type_that_can_never_be_stored_is_refused_before_the_effect(
    lab: Lab, workflow: Callable[[Context], None]
) -> None:
    told = r"'hopeless_result' of 'wf': its result is annotated Model, which has no JSON form; return plain data"
    with lab.open() as engine:
        for _ in range(2):
            with pytest.raises(SerializationError, match=told):
                engine.run("wf", workflow)
        assert engine.steps("wf") == []

    assert world.effects() == []


def test_a_workflow_whose_result_can_never_be_stored_does_not_begin(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(SerializationError, match="'wf': its result is annotated Model, which has no JSON form"):
            engine.run("wf", world.hopeless_workflow)
        assert engine.find_workflow("wf") is None

    assert world.effects() == []


@also_in_memory
@pytest.mark.parametrize(
    "workflow",
    [
        world.pass_future,
        world.pass_futures,
        world.pass_future_in_a_field,
        world.pass_future_in_what_holds_itself,
        world.pass_future_in_map,
        world.pass_future_in_partial,
        world.pass_future_to_compensation,
        world.pass_future_to_child,
    ],
    ids=lambda fn: fn.__name__,
)
def test_a_future_as_an_argument_is_refused_before_the_effect(lab: Lab, workflow: Callable[[Context], None]) -> None:
    with lab.open() as engine:
        with pytest.raises(SerializationError, match=r"a future|a Future.*; pass its \.result\(\), or await") as raised:
            engine.run("wf", workflow)
        assert [step.step_key for step in engine.steps("wf")] == ["take_1"]

    assert raised.value.type_name == "Future"
    assert world.effects() == ["take_1"]


def test_a_failed_workflow_keeps_its_completed_steps_and_tries_the_failed_one_anew(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.broken)
        status = engine.workflow("wf").status
        world.settings["repaired"] = True
        value = engine.run("wf", world.broken)
        steps = [(step.step_key, step.status, step.attempt) for step in engine.steps("wf")]
        tries = [(step.step_key, step.status, step.attempt) for step in engine.attempts("wf")]

    assert (status, value) == ("failed", "BOAT")
    assert world.effects() == ["act_1", "refuse_at_first_2", "refuse_at_first_2"]
    assert steps == [("act_1", "completed", 1), ("refuse_at_first_2", "completed", 2)]
    assert tries == [("refuse_at_first_2", "failed", 1)]


@also_in_memory
def test_the_finished_siblings_of_a_failed_step_never_run_again(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.broken_beside_others)
        world.settings["repaired"] = True
        value = engine.run("wf", world.broken_beside_others)

    assert value == ["LEFT", "BOAT", "RIGHT"]
    assert sorted(world.effects()) == ["act_1", "act_3", "refuse_at_first_2", "refuse_at_first_2"]


@also_in_memory
def test_a_failure_that_the_workflow_caught_stays_as_it_was_recorded(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no  train today"):
            engine.run("wf", world.brave)
        world.settings["repaired"] = True
        value = engine.run("wf", world.brave)

    assert value == "DESPITE NO BOAT TODAY TRAIN"
    assert world.effects() == ["refuse_1", "act_2", "refuse_at_first_3", "refuse_at_first_3"]


@also_in_memory
def test_an_error_is_of_its_own_class_in_the_first_run_and_ever_after(lab: Lab) -> None:
    told = []
    for _ in range(2):
        with lab.open() as engine, pytest.raises(ValueError) as raised:
            engine.run("wf", world.nobody_asks)
        told.append((type(raised.value), str(raised.value)))

    assert told == [(ValueError, "no boat today")] * 2


@also_in_memory
def test_an_error_whose_class_has_a_constructor_of_its_own_is_of_that_class(lab: Lab) -> None:
    told = []
    for _ in range(2):
        with lab.open() as engine, pytest.raises(world.OddError) as raised:
            engine.run("wf", world.odd)
        told.append((raised.value.lines, repr(raised.value.__cause__)))

    assert told == [(["twice"] * 2, "KeyError('twice')")] * 2


@also_in_memory
def test_a_damaged_outcome_is_noticed_before_anything_is_made_of_it(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.broken)
        lab.damage("BEFORE", "BEFORF")
        world.settings["repaired"] = True
        with pytest.raises(CorruptionError, match="'act_1' of 'wf': its stored outcome does not match its checksum"):
            engine.run("wf", world.broken)

    assert world.effects() == ["act_1", "refuse_at_first_2"]


@also_in_memory
def test_retries_are_counted_and_each_try_is_on_record(lab: Lab) -> None:
    with lab.open() as engine:
        value = engine.run("wf", world.persistent)
        tries = [(step.step_key, step.attempt) for step in engine.attempts("wf")]

    assert value == ["HERE", "BESIDE", "no boat today"]
    assert tries == [
        ("third_time_1", 1),
        ("third_time_1", 2),
        ("third_time_2", 1),
        ("third_time_2", 2),
        ("never_3", 1),
    ]


@also_in_memory
def test_a_step_that_outruns_its_time_fails(lab: Lab) -> None:
    with lab.open() as engine, pytest.raises(StepTimeoutError, match=r"did not end within 0\.05 s"):
        engine.run("wf", world.impatient)


@also_in_memory
def test_a_step_may_have_a_process_of_its_own(lab: Lab) -> None:
    with lab.open() as engine:
        assert engine.run("wf", world.isolated)


@also_in_memory
def test_observers_get_the_same_moments(lab: Lab) -> None:
    told: list[tuple[str, str | None, int | None]] = []
    with lab.open(observers=[lambda moment: told.append((moment.name, moment.step_key, moment.attempt))]) as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.broken)
        first, world.settings["repaired"] = list(told), True
        told.clear()
        engine.run("wf", world.broken)

    names = ["scheduled", "started", "executed"]
    assert first == [
        ("workflow.started", None, None),
        *[(f"step.{name}", "act_1", 1) for name in [*names, "checkpointed"]],
        *[(f"step.{name}", "refuse_at_first_2", 1) for name in [*names, "failed"]],
        ("workflow.failed", None, None),
    ]
    assert told == [
        ("workflow.started", None, None),
        ("step.replayed", "act_1", 1),
        *[(f"step.{name}", "refuse_at_first_2", 2) for name in [*names, "checkpointed"]],
        ("workflow.completed", None, None),
    ]


@also_in_memory
def test_the_clock_and_chance_are_recorded(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.moods)
        world.settings["repaired"] = True

        assert engine.run("wf", world.moods) == "BOAT"


@also_in_memory
def test_async_workflows_and_steps_run_as_well(lab: Lab) -> None:
    with lab.open() as engine:
        value = engine.run("wf", world.errand_async, "a", "b")
        keys = [step.step_key for step in engine.steps("wf")]

    assert value == ["A", "B", "LEG"]
    assert keys == ["act_async_1", "act_async_2", "leg_async_3/act_1"]


@differs("running rows")
def test_a_step_that_runs_is_seen_in_the_table(lab: Lab) -> None:
    import threading

    world.settings.update(begun=threading.Event(), go=threading.Event())
    with lab.open() as engine:
        handle = engine.start("wf", world.holding)
        world.settings["begun"].wait(PATIENCE_SECONDS)
        seen = [(step.step_key, step.status) for step in engine.steps("wf")]
        world.settings["go"].set()

        assert handle.result(PATIENCE_SECONDS) == "HELDAFTER"
    assert seen == ([("held_1", "running")] if lab.name == "sqlite" else [])
