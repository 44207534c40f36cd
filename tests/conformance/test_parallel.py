"""Parallel steps and branches, and who may ask for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durable import ScopeError
from tests.conformance import world
from tests.conformance.engines import Lab, also_in_memory


@also_in_memory
def test_parallel_steps_each_keep_their_own_result(lab: Lab) -> None:
    with lab.open() as engine:
        value = engine.run("wf", world.beside, "slow", "a", "b")
        outputs = {step.step_key: step.value for step in engine.steps("wf")}

    assert value == ["SLOW", "A", "B"]
    assert outputs == {"slow_1": "SLOW", "act_2": "A", "act_3": "B"}


@also_in_memory
def test_map_returns_in_the_order_of_its_items(lab: Lab) -> None:
    with lab.open() as engine:
        assert engine.run("wf", world.mapped) == ["A", "B", "C"]


@also_in_memory
def test_map_waits_for_all_and_raises_the_first_error_in_program_order_with_the_others_noted(lab: Lab) -> None:
    told = []
    for _ in range(2):
        with lab.open() as engine, pytest.raises(ValueError) as raised:
            engine.run("wf", world.partly)
        told.append((str(raised.value), raised.value.__notes__))

    assert told == [("no b today", ["also failed: ValueError: no d today"])] * 2
    assert sorted(world.effects()).count("refuse_some_1") == 1
    assert sorted(world.effects()).count("refuse_some_3") == 1


@also_in_memory
def test_branches_within_branches_run_beside_each_other(lab: Lab) -> None:
    with lab.open() as engine:
        value = engine.run("wf", world.branches)

    assert value == [
        "MAIN",
        *["LEFT", "LEFT 1", "LEFT 2", "LEFT BRIDGE"],
        *["RIGHT", "RIGHT 1", "RIGHT 2", "RIGHT BRIDGE"],
    ]


@also_in_memory
def test_branches_and_steps_may_be_closures(lab: Lab) -> None:
    with lab.open() as engine:
        values = [engine.run("wf", world.closure, 21) for _ in range(2)]
        keys = [step.step_key for step in engine.steps("wf")]

    assert values == [[42], [42]]
    assert keys == ["inside_1/double_1"]


def test_an_error_that_no_code_asked_for_fails_the_workflow(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.nobody_asks)

        assert engine.workflow("wf").status == "failed"
    assert sorted(world.effects()) == ["act_2", "refuse_1"]


@also_in_memory
def test_an_operation_in_a_thread_of_ones_own_is_a_scope_error_that_names_submit_and_branch(lab: Lab) -> None:
    with lab.open() as engine, pytest.raises(ScopeError, match=r"ctx.submit \(one step\) or ctx.branch"):
        engine.run("wf", world.by_hand)

    assert world.effects() == []


@also_in_memory
def test_an_operation_inside_a_step_is_a_scope_error(lab: Lab) -> None:
    with lab.open() as engine, pytest.raises(ScopeError, match="was called inside a step"):
        engine.run("wf", world.nested)

    assert world.effects() == []


@pytest.mark.parametrize("workflow", [world.asks_with_a_timeout, world.survives_a_timeout])
def test_an_answer_that_depends_on_the_time_alone_ends_the_run(lab: Lab, workflow: Callable[..., object]) -> None:
    with lab.open() as engine:
        with pytest.raises(ScopeError, match=r"ctx\.first\(future, ctx\.timer\(seconds\)\)"):
            engine.run("wf", workflow)
        keys = [step.step_key for step in engine.steps("wf")]

    assert "act_2" not in [*keys, *world.effects()]


@pytest.mark.parametrize("at", ["executed 2", "checkpointed 3"])
def test_a_map_with_a_rate_survives_a_crash(lab: Lab, at: str) -> None:
    lab.run_and_die("wf", world.paced, at=at)
    with lab.open() as engine:
        assert engine.run("wf", world.paced) == ["A", "B", "C", "D"]

    assert world.repeated() == []
    assert set(world.effects()) == {"act_1", "act_2", "act_3"}


@pytest.mark.parametrize("at", ["executed 2", "checkpointed 4"])
def test_the_tasks_of_hosted_code_keep_their_keys_through_a_crash(lab: Lab, at: str) -> None:
    lab.run_and_die("wf", world.hosts, at=at)
    with lab.open() as engine:
        value = engine.run("wf", world.hosts)
        keys = {step.step_key for step in engine.steps("wf")}

    assert value == ["BEFORE", [["A 1", "A 2"], ["B 1", "B 2"], "C"]]
    tasks = {f"host_2/subtask_{task}/act_{number}" for task in (1, 2) for number in (1, 2)}
    assert keys == {"act_1", "host_2/act_3", *tasks}
    assert world.repeated() == []


def test_hosted_code_waits_for_a_message(lab: Lab) -> None:
    with lab.open() as engine:
        started = engine.start("wf", world.hosts_what_waits)
        engine.send("wf", "news", "rain")

        assert started.result() == "rain, BESIDE"
    assert world.effects() == ["host_1/subtask_1/act_1"]
