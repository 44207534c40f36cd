"""Timers, messages, races, and what a workflow publishes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from durable import WaitTimeoutError
from durable.clock import ManualClock
from durable.errors import (
    InvalidNameError,
    NotPublishedError,
    SerializationError,
    WorkflowEndedError,
    WorkflowNotFoundError,
)
from tests.conformance import world
from tests.conformance.differences import differs
from tests.conformance.engines import AnyEngine, Lab, also_in_memory
from tests.support.machine import Machine
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually


def waits_for(engine: AnyEngine, workflow_id: str, *events: str | None) -> bool:
    return engine.find_workflow(workflow_id) is not None and (
        [wait.event for wait in engine.waits(workflow_id)] == [*events]
    )


def test_timers_run_beside_steps(lab: Lab) -> None:
    with lab.open() as engine:
        began_at = time.monotonic()
        value = engine.run("wf", world.naps)

        assert time.monotonic() - began_at >= 0.1
    assert value == ["BEFORE", "BESIDE"]


def test_a_manual_clock_skips_what_is_only_waited_for(lab: Lab) -> None:
    with lab.open(clock=ManualClock()) as engine:
        assert engine.run("wf", world.long_nap) == "RESTED"


def test_a_machine_that_is_set_back_makes_no_running_sleep_longer(lab: Lab) -> None:
    machine = Machine()
    with lab.open(clock=machine.clock) as engine:
        handle = engine.start("wf", world.long_nap)
        eventually(lambda: waits_for(engine, "wf", None))
        machine.ahead = -86400.0
        machine.passed += 3600.0

        assert handle.result(PATIENCE_SECONDS) == "RESTED"


def test_messages_are_received_first_sent_first_by_their_name(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.letters)
        eventually(lambda: waits_for(engine, "wf", "news"))
        for event, value in (("other", 1), ("news", "a")):
            engine.send("wf", event, value)
            time.sleep(0.002)  # two of the same millisecond have no order in DBOS
        eventually(lambda: waits_for(engine, "wf", "news"))
        engine.send("wf", "news", "b")

        assert handle.result(PATIENCE_SECONDS) == ["a", 1, "b", "END"]
        assert engine.run("wf", world.letters) == ["a", 1, "b", "END"]


def test_a_message_received_by_a_failed_workflow_is_received_once(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.letter_and_failure)
        eventually(lambda: waits_for(engine, "wf", "news"))
        engine.send("wf", "news", "a")
        engine.send("wf", "news", "b")
        with pytest.raises(ValueError, match="no boat today"):
            handle.result(PATIENCE_SECONDS)
        world.settings["repaired"] = True

        assert engine.start("wf", world.letter_and_failure).result(PATIENCE_SECONDS) == ["a", "b"]


@differs("messages to the failed")
def test_a_message_to_a_failed_workflow(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.broken)
        if lab.name == "sqlite":
            assert engine.send("wf", "news", "a")
        else:
            with pytest.raises(WorkflowEndedError, match="is failed and receives nothing"):
                engine.send("wf", "news", "a")


def test_a_message_sent_again_after_the_end_is_the_one_that_was_received(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.wait_for_go)
        assert engine.send("wf", "go", "on", key="once")
        handle.result(PATIENCE_SECONDS)

        assert engine.send("wf", "go", "on", key="once") is False
        with pytest.raises(WorkflowEndedError):
            engine.send("wf", "go", "on", key="another")
        with pytest.raises(WorkflowEndedError):
            engine.send("wf", "go", "on")


@differs("message keys")
def test_of_several_messages_with_one_key_only_the_first_is_kept(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.letter_and_failure)
        world.settings["repaired"] = True
        eventually(lambda: waits_for(engine, "wf", "news"))
        told = [engine.send("wf", "news", value, key="once") for value in ("a", "b")]
        eventually(lambda: waits_for(engine, "wf", "news") and len(engine.steps("wf")) == 3)
        engine.send("wf", "news", "c")

        assert handle.result(PATIENCE_SECONDS) == ["a", "c"]
    assert told == [True, lab.name == "dbos"]


def test_a_timeout_is_an_outcome_also_where_a_message_has_come_since(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.no_letter)
        world.settings["repaired"] = True

        assert engine.run("wf", world.no_letter) == "BOAT"
        [waited] = [step for step in engine.steps("wf") if step.kind == "event"]
    assert waited.status == "failed"
    assert WaitTimeoutError.__name__ in (waited.error or "")


@also_in_memory
def test_the_order_of_a_race_is_recorded(lab: Lab) -> None:
    world.settings |= {"begun": threading.Event(), "go": threading.Event()}
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.contest)
        world.settings["repaired"] = True

        assert engine.run("wf", world.contest) == ["fast", "FAST", "SLOW"]


def test_a_wait_that_has_lost_its_race_does_not_hold_the_workflow_up(lab: Lab) -> None:
    with lab.open() as engine:
        assert engine.run("wf", world.race_with_an_event) == "FAST"
        assert engine.waits("wf") == []
        assert [(step.step_key, step.status) for step in engine.steps("wf")] == [
            ("never_1", "failed"),
            ("act_2", "completed"),
            ("first_3", "completed"),
        ]


@pytest.mark.parametrize(
    "workflow", [world.race_of_no_interest, world.race_of_no_interest_async], ids=lambda fn: fn.__name__
)
def test_a_race_that_no_code_asks_for_does_not_end_the_workflow(lab: Lab, workflow: Callable[..., Any]) -> None:
    with lab.open() as engine:
        assert engine.run("wf", workflow) == "END"
        assert engine.waits("wf") == []


def test_a_message_type_that_can_never_be_stored_is_refused_before_the_wait(lab: Lab) -> None:
    told = r"event 'model' of 'wf': its result is annotated Model, which has no JSON form; send plain data instead"
    with lab.open() as engine:
        for _ in range(2):
            with pytest.raises(SerializationError, match=told):
                engine.run("wf", world.wait_for_hopeless)
        assert engine.steps("wf") == []


def test_published_values_can_be_read_and_watched(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.progress)

        assert engine.read("wf", "progress") == 1.0
        assert engine.read("wf", "parcel", type=world.Parcel) == world.Parcel(1)
        assert [(each.name, each.value) for each in engine.watch("wf")] == [
            ("progress", 0.5),
            ("parcel", {"number": 1, "labels": []}),
            ("progress", 1.0),
        ]
        with pytest.raises(NotPublishedError):
            engine.read("wf", "something else")


def test_a_message_key_that_cannot_be_stored_is_refused(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.wait_for_go)
        for key in ("a\0", "\ud800", 7):
            with pytest.raises(InvalidNameError, match="expected a str without NUL and lone surrogates"):
                engine.send("wf", "go", "on", key=key)
        engine.send("wf", "go", "on", key="")

        assert handle.result(PATIENCE_SECONDS) == "on"


def test_a_message_to_an_unknown_or_ended_workflow_is_refused(lab: Lab) -> None:
    with lab.open() as engine:
        engine.run("wf", world.errand)
        with pytest.raises(WorkflowNotFoundError):
            engine.send("nobody", "news", 1)
        with pytest.raises(WorkflowEndedError):
            engine.send("wf", "news", 1)
