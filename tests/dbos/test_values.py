"""Values of practitioners on DBOS and PostgreSQL: each comes back equal every way that a value can take."""

from __future__ import annotations

from typing import Any

import pytest

from durable.on_dbos import DBOSEngine
from tests.values import travel
from tests.values.gallery import VALUES, look

TURNS = 6  # the values are shared out among so many tests


@pytest.mark.thorough
@pytest.mark.parametrize("turn", range(TURNS))
def test_each_value_comes_back_every_way(
    turn: int, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*VALUES][turn::TURNS]
    monkeypatch.setattr(travel, "looks", 0)
    with DBOSEngine(postgres_url) as engine:
        for number, name in enumerate(names):
            annotation, value = VALUES[name]
            workflow, workflow_id = travel.travel_of(name, annotation, value, False), f"wf_{number}"
            workflow.__name__ = workflow.__qualname__ = f"travel_{number}"  # DBOS finds functions by their path
            monkeypatch.setattr(travel, workflow.__name__, workflow, raising=False)
            running = engine.start(workflow_id, workflow, value)
            engine.send(workflow_id, "it", value, type=annotation)
            engine.send(workflow_id, "go on")
            seen = [running.result(), engine.read(workflow_id, "it", type=Any if annotation is None else annotation)]

            assert [look(each) for each in seen] == [look(value)] * 2, name

    assert capsys.readouterr().out == ""  # else what differs on its way, see `check`
    assert travel.looks == 4 * len(names)
