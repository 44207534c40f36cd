"""Many workflows at once, on both engines."""

from __future__ import annotations

import pytest

from tests.conformance import world
from tests.conformance.engines import AnyEngine, Lab


def run_three(engine: AnyEngine) -> None:
    """Two that fail, of which one is a child's parent, and one that is completed."""
    engine.run("good 1", world.errand, "a")
    with pytest.raises(ValueError, match="no boat today"):
        engine.run("bad 1", world.broken)
    with pytest.raises(ValueError, match="no boat today"):
        engine.run("bad 2", world.parent_of_a_failure)


def ids(records) -> list[str]:
    return [record.workflow_id for record in records]


def test_workflows_are_listed_by_status_prefix_function_and_time_in_parts(lab: Lab) -> None:
    with lab.open() as engine:
        run_three(engine)

        assert ids(engine.workflows(prefix="bad")) == ["bad 1", "bad 2", "bad 2/broken_1"]
        assert ids(engine.workflows("failed", prefix="bad", limit=1, offset=1)) == ["bad 2"]
        assert ids(engine.workflows(function="errand")) == ["good 1"]
        assert ids(engine.workflows(function="tests.conformance.world:broken", limit=1)) == ["bad 1"]
        assert ids(engine.workflows("completed", since="1h")) == ["good 1"]
        assert engine.workflows(until="1h") == []


def test_failed_workflows_are_tried_again_and_ended_ones_deleted(lab: Lab) -> None:
    with lab.open() as engine:
        run_three(engine)
        world.settings["repaired"] = True
        found = engine.retry()

        assert {handle.workflow_id: handle.result() for handle in found.resumed} == {"bad 1": "BOAT", "bad 2": "BOAT"}
        assert engine.workflows("failed") == []
        assert world.effects().count("act_1") == 3  # once for each of `errand` and `broken`
        assert engine.delete_ended(older_than="1h") == 0
        assert engine.delete_ended(prefix="bad") == 2
        assert ids(engine.workflows()) == ["good 1"]
