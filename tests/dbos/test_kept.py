"""Rows on DBOS that this release has saved: every later release goes on with them, and repeats no saved step."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dbos import DBOS

from durable.on_dbos import DBOSEngine
from tests.conformance import world
from tests.dbos import kept
from tests.support.patience import PATIENCE_SECONDS

ROWS = Path(__file__).with_name("kept.json")
RESULT = [["ROME"], 2, "2026-01-01T00:00:00+00:00", ["HAT", "COAT"], "NORTH", "HOTEL", "TICKET"]


@pytest.fixture
def url(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the kept rows, and a world in which nothing has happened since."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    DBOS.migrate(postgres_url)
    kept.load(postgres_url, json.loads(ROWS.read_text(encoding="utf-8")))
    return postgres_url


def effects_of(workflow_id: str) -> list[str]:
    return [line.split()[1] for line in world.lines() if line.split()[2:] == [workflow_id]]


def test_kept_rows_resume_and_no_saved_step_runs_again(url: str) -> None:
    with DBOSEngine(url, executor_id=kept.EXECUTOR) as engine:
        waiting = engine.resume("waiting")
        engine.send("waiting", "answer", "ticket")
        results = [
            engine.run("completed", kept.travel, "Rome"),
            engine.resume("crashed").result(PATIENCE_SECONDS),
            waiting.result(PATIENCE_SECONDS),
        ]

    assert results == [RESULT, RESULT, RESULT]
    assert [effects_of(each) for each in ("completed", "crashed", "waiting")] == [[], ["act_9"], ["act_9"]]


def test_kept_failures_are_raised_again_or_tried_anew(url: str) -> None:
    with DBOSEngine(url, executor_id=kept.EXECUTOR) as engine:
        before: list[Any] = [[step.step_key for step in engine.steps(each)] for each in ("failed", "undone")]
        for workflow_id, workflow in {"failed": kept.give_up, "undone": kept.undo}.items():
            with pytest.raises(ValueError, match="no boat today"):
                engine.run(workflow_id, workflow)
        attempts = [step.attempt for step in engine.steps("failed")]

    assert before == [["act_1", "refuse_2"], ["act_1", "act_2", "act_2/act_1", "refuse_3"]]
    assert [effects_of(each) for each in ("failed", "undone")] == [["refuse_2"], []]
    assert attempts == [1, 2]


def test_the_kept_rows_tell_nothing_of_the_machine() -> None:
    assert not re.search(r"/home/|/work/|/tmp/|/root/", ROWS.read_text(encoding="utf-8"))
