"""Logs: both engines tell `logging` the same of a workflow."""

from __future__ import annotations

import logging

import pytest

from tests.conformance import world
from tests.conformance.engines import Lab


def test_retries_failures_and_resumptions_are_logged_alike(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "durable")
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", world.broken)
        world.settings["repaired"] = True
        engine.run("wf", world.broken)
        engine.run("wf 2", world.persistent)

    logged = [record for record in caplog.records if record.name == "durable"]
    assert [(one.levelname, one.workflow_id, one.run, one.step_key, one.attempt) for one in logged] == [
        ("INFO", "wf", 1, None, None),
        ("ERROR", "wf", 1, None, None),
        ("INFO", "wf", 2, None, None),
        ("INFO", "wf", 2, None, None),
        ("INFO", "wf 2", 1, None, None),
        ("WARNING", "wf 2", 1, "third_time_1", 1),
        ("WARNING", "wf 2", 1, "third_time_1", 2),
        ("WARNING", "wf 2", 1, "third_time_2", 1),
        ("WARNING", "wf 2", 1, "third_time_2", 2),
        ("WARNING", "wf 2", 1, "never_3", 1),
        ("INFO", "wf 2", 1, None, None),
    ]
    assert "ValueError: no boat today" in caplog.text
