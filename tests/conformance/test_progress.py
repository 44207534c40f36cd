"""Progress out of running steps and of maps: what others see of it, and when it is gone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from durable.store.records import ProgressRecord
from tests.conformance import world
from tests.conformance.engines import Lab
from tests.support.processes import eventually

Line = tuple[str, str, Any, float | None]


@pytest.fixture(autouse=True)
def held() -> None:
    """The steps wait until the test lets them go on."""
    world.settings.update(begun=threading.Event(), go=threading.Event())


def seen(engine: Any) -> list[Line]:
    """What can be seen of the progress now."""
    if engine.find_workflow("wf") is None:
        return []
    return [(each.step_key, each.name, each.value, each.total) for each in engine.progress("wf")]


def test_the_latest_values_of_a_running_step_are_seen_and_gone_with_its_end(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.training)
        eventually(lambda: len(seen(engine)) == 2)
        eventually(lambda: ("train_1", "epoch", 3, 3.0) in seen(engine))
        while_it_ran = engine.progress("wf")
        world.settings["go"].set()

        assert handle.result() == 3
        assert seen(engine) == []
    assert [(each.name, each.value, each.share) for each in while_it_ran] == [
        ("epoch", 3, 1.0),
        ("phase", "evaluation", None),
    ]


def test_the_progress_of_an_attempt_ends_with_it(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.retrained)
        eventually(lambda: seen(engine) == [("train_again_1", "try", 1, None)])
        world.settings["begun"].set()
        eventually(lambda: not world.settings["begun"].is_set())

        assert seen(engine) == []
        world.settings["go"].set()
        assert handle.result() == "done"


@pytest.mark.parametrize("fn", ["item", "item_workflow", "item_async"])
def test_a_map_shows_how_many_of_its_calls_have_ended(lab: Lab, fn: str) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.mapping, fn)
        eventually(lambda: (f"{fn}_1", "map", 2, 5.0) in seen(engine))
        world.settings["go"].set()

        assert handle.result() == list(range(5))
        assert seen(engine) == []


def test_those_who_watch_see_progress_if_they_ask_for_it(lab: Lab) -> None:
    with lab.open() as engine:
        handle = engine.start("wf", world.training)
        eventually(lambda: ("train_1", "epoch", 3, 3.0) in seen(engine))
        told = engine.watch("wf", progress=True)
        first = next(told)
        world.settings["go"].set()
        handle.result()

        assert isinstance(first, ProgressRecord)
        assert (first.step_key, first.name) == ("train_1", "epoch")
        assert list(engine.watch("wf")) == []


def test_after_a_crash_the_last_progress_is_seen_until_the_next_run(lab: Lab) -> None:
    with lab.running("wf", world.dying) as process, lab.open_beside() as engine:
        eventually(lambda: seen(engine) == [("publish_and_die_1", "half", 1, 2.0)])
        eventually(world.lines)
        process.kill()

        assert seen(engine) == [("publish_and_die_1", "half", 1, 2.0)]
    with lab.open() as engine:
        assert engine.run("wf", world.dying) == "done"
        assert seen(engine) == []


def test_deleting_a_workflow_deletes_its_progress(lab: Lab) -> None:
    with lab.running("wf", world.dying) as process, lab.open_beside() as engine:
        eventually(lambda: seen(engine))
        process.kill()
    with lab.open() as engine:
        engine.run("wf", world.dying)
        engine.delete("wf")
        world.settings["go"].set()
        engine.run("wf", world.training)

        assert seen(engine) == []
