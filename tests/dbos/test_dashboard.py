"""The dashboard of a PostgreSQL: the report, the live page and the widget, which run nothing there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from durable import Context, lab
from durable.dashboard.snapshot import Question, read_question, take
from durable.dashboard.source import open_source
from durable.errors import NotSupportedError
from durable.on_dbos import DBOSEngine
from tests.dashboard.test_report import Elements
from tests.dbos.test_worker_on_postgres import folder, submit, waits, worker
from tests.support.command_line import durable, error_of
from tests.support.processes import eventually

__all__ = ["folder"]


def test_workflows_of_workers_are_listed_shown_and_reported(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "onboarding", "done", "--input", '{"delay_seconds": 0.0}')
    submit(postgres_url, "flows.py:approval", "a1")
    source = open_source(postgres_url)
    with worker(postgres_url):
        eventually(lambda: waits(postgres_url, "a1"))
        eventually(
            lambda: take(source, Question())["counts"] == {"running": 1, "completed": 1, "failed": 0, "cancelled": 0}
        )
        answer = take(source, read_question({"sort": "created", "descending": False}))
        shown = take(source, Question(open="done"))["open"]
        waiting = take(source, Question(open="a1"))["open"]
    left = take(source, Question(prefix="a"))["rows"]
    filtered = take(source, Question(function="durable.examples.onboarding:onboarding"))
    missing = take(source, Question(open="none"))["open"]
    source.close()
    out = folder / "my report.html"
    said = durable("report", postgres_url, "-o", str(out)).stdout
    widget = lab.dashboard(postgres_url)
    widget.close()

    assert json.loads(json.dumps(answer)) == answer
    assert {row["id"]: row["state"] for row in answer["rows"]} == {"done": "completed", "a1": "waiting"}
    assert answer["counts"] == {"running": 1, "completed": 1, "failed": 0, "cancelled": 0}
    assert (shown["steps"][0]["key"], shown["steps"][0]["state"]) == ("create_record_1", "completed")
    assert [life["replayed"] for life in shown["timeline"]["lives"]] == [0]
    assert sorted(bar["key"] for bar in shown["timeline"]["bars"]) == sorted(step["key"] for step in shown["steps"])
    assert [wait["event"] for wait in waiting["waits"]] == ["approval"]
    assert [row["id"] for row in left] == ["a1"]
    assert [row["id"] for row in filtered["rows"]] == ["done"]
    assert filtered["counts"]["completed"] == 1
    assert "no workflow 'none'" in missing["problem"]
    assert ": 2 workflows, " in said
    assert Elements(out.read_text(encoding="utf-8")).data["durable-list"]["total"] == 2
    assert len(widget.answer["rows"]) == 2


def test_a_dashboard_of_postgresql_only_reads_and_a_wrong_url_is_refused_in_words(postgres_url: str) -> None:
    with pytest.raises(NotSupportedError, match="only reads"):
        lab.dashboard(postgres_url, allow=True)
    assert "postgresql://" in error_of("report", "mysql://me@host/flows")
    assert "does not answer" in error_of("report", "postgresql://me:secret@127.0.0.1:9/flows")
    assert "secret" not in error_of("ui", "postgresql://me:secret@127.0.0.1:9/flows", "--no-browser")


def large_frame() -> pd.DataFrame:
    return pd.DataFrame({"number": range(100_000)})


def frames(ctx: Context) -> None:
    ctx.step(large_frame)


def test_a_large_value_of_postgresql_is_told_in_a_list_and_shown_by_a_process_that_runs_nothing(
    postgres_url: str,
) -> None:
    with DBOSEngine(postgres_url) as engine:
        engine.run("wf", frames)

    listed = durable("steps", "wf", "--engine", postgres_url, env=os.environ | {"COLUMNS": "200"}).stdout
    shown = durable("steps", "wf", "--engine", postgres_url, "--value", "large_frame_1").stdout

    assert "bytes: 100000 rows x 1 columns: number int64" in listed
    assert "99999    99999" in shown
    pd.testing.assert_frame_equal(lab.value(postgres_url, "wf", "large_frame_1"), large_frame())
