"""Context variables: a workflow and its steps see their caller's; a workflow sees none that a step has set."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from tests.conformance import world
from tests.conformance.engines import AnyEngine, Lab


def in_french(call: Callable[..., Any], *args: Any) -> Any:
    """Call something where the language is French."""

    def speak_french() -> Any:
        world.language.set("French")
        return call(*args)

    return contextvars.copy_context().run(speak_french)


def test_a_started_workflow_and_its_steps_see_the_callers_variables_and_none_of_another_step(lab: Lab) -> None:
    with lab.open() as engine:
        said = in_french(engine.start, "wf", world.conversation).result()

    assert said == ["French"] * 12


def test_a_workflow_that_is_run_sees_none_that_a_step_has_set(lab: Lab) -> None:
    with lab.open() as engine:
        said = in_french(engine.run, "wf", world.conversation)

    assert said == ["French"] * 12


def test_a_step_sees_what_the_workflow_had_set_as_it_was_called(lab: Lab) -> None:
    with lab.open() as engine:
        said = engine.start("wf", world.sets_its_own).result()

    assert said == ["of the workflow", "later", "later", "later"]
    assert world.language.get() == "none"


def test_workflows_do_not_see_each_others_variables(lab: Lab) -> None:
    with lab.open() as engine:
        engine.start("one", world.sets_its_own).result()
        said = [engine.start(f"other {number}", world.overheard).result() for number in range(5)]

    assert said == ["none"] * 5


def test_a_workflow_that_a_step_starts_is_in_no_step(lab: Lab) -> None:
    with lab.open() as engine:
        said = start_within_a_step(engine)

    assert said == "in no step"


def start_within_a_step(engine: AnyEngine) -> Any:
    def starting() -> str:
        result: str = engine.start("inner", world.is_in_no_step).result()
        return result

    world.settings["step"] = starting
    return engine.run("outer", world.calls_step_of_settings)
