"""The bars of a workflow's progress: what they show, and when the cell goes on."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, current_step, lab
from durable.errors import WorkflowNotFoundError
from durable.lab.views import bars
from durable.store.records import ProgressRecord
from tests.support.patience import PATIENCE_SECONDS


class Screen:
    """What was displayed, each time. It lets the workflow go on once a text was seen."""

    def __init__(self, sought: str) -> None:
        self.seen: list[str] = []
        self.go = threading.Event()
        self._sought = sought

    def __call__(self, shown: Any, *, display_id: bool) -> Screen:
        assert display_id
        self.update(shown)
        return self

    def update(self, shown: Any) -> None:
        self.seen.append(shown._repr_html_())
        if self._sought in self.seen[-1]:
            self.go.set()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    made = Screen("rows 40 of 100 (40 %)")
    monkeypatch.setattr(bars, "display", made)
    return made


def test_the_bars_follow_a_workflow_to_its_end(database: Path, screen: Screen) -> None:
    def load() -> None:
        current_step().publish("rows", 40, total=100)
        screen.go.wait(PATIENCE_SECONDS)

    def loading(ctx: Context) -> None:
        ctx.step(load)

    with Engine(database) as engine:
        handle = engine.start("wf", loading)
        lab.progress(database, "wf")
        handle.result()

    (bar, *_) = [shown for shown in screen.seen if "<progress" in shown]
    assert '<progress max="1" value="0.400" aria-label="load_1"></progress>' in bar
    assert screen.seen[-1] == "<div>wf: completed</div><table></table>"


def test_the_cell_goes_on_if_the_process_has_died(database: Path, screen: Screen) -> None:
    with Engine(database) as engine:
        engine.run("wf", nothing)
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("update workflows set status = 'running'")
        db.execute("update runs set ended = null, ended_at = null")

    lab.progress(database, "wf")

    assert screen.seen == ["<div>wf: crashed</div><table></table>"]


def nothing(ctx: Context) -> None:
    ctx.step(len, "")


def test_what_a_step_says_is_no_markup_and_is_text_outside_of_a_notebook() -> None:
    said = ProgressRecord("wf", "it_1", "phase", '"<b>x</b>"', None, datetime.now(UTC))
    shown = bars.Bars("<wf>", "running", [said])

    assert "<b>" not in shown._repr_html_()
    assert "&lt;wf&gt;: running" in shown._repr_html_()
    assert repr(shown) == '<wf>: running\n  it_1: phase "<b>x</b>"'


def test_an_unknown_workflow_is_refused(database: Path) -> None:
    Engine(database).close()
    with pytest.raises(WorkflowNotFoundError):
        lab.progress(database, "wf")
