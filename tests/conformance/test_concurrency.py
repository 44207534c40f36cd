"""How many workflows run at once: children count, and one that only waits does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable.errors import RunStopped
from tests.conformance import world
from tests.conformance.engines import Lab
from tests.support.processes import eventually


def bounded(lab: Lab, max_workflows: int) -> Any:
    """An engine on which so many run at once, as a worker has it."""
    options: dict[str, Any] = {"suspend": True} if lab.name == "sqlite" else {}
    return lab.open(max_workflows=max_workflows, **options)


def test_no_more_children_run_at_once_than_workflows_may(lab: Lab) -> None:
    with bounded(lab, 2) as engine:
        assert engine.run("wf", world.crowd, 0, 8) == [*range(8), 0]

    assert world.most_inside() <= 2


def test_children_of_several_parents_share_the_places(lab: Lab) -> None:
    with bounded(lab, 2) as engine:
        handles = [engine.start(f"wf {first}", world.crowd, first, 3) for first in (0, 10, 20)]
        values = [handle.result() for handle in handles]

    assert values == [[first, first + 1, first + 2, first] for first in (0, 10, 20)]
    assert world.most_inside() <= 2


@pytest.mark.parametrize("workflow", [world.generations, world.generations_async])
def test_a_parent_holds_no_place_that_its_child_needs(lab: Lab, workflow: Callable[..., object]) -> None:
    with bounded(lab, 1) as engine:
        assert engine.run("wf", workflow, 4) == 10

    assert world.most_inside() == 1


def test_one_that_waits_for_a_place_can_be_interrupted_and_goes_on_later(lab: Lab) -> None:
    with bounded(lab, 1) as engine:
        first = engine.start("first", world.visitor, 1)
        eventually(world.lines)
        second = engine.start("second", world.visitor, 2)
        second.interrupt()
        with pytest.raises(RunStopped):
            second.result()

        assert first.result() == 1
        assert engine.run("second", world.visitor, 2) == 2
    assert world.lines() == ["in 1", "out 1", "in 2", "out 2"]
