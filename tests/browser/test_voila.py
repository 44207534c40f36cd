"""Voila shows the notebook without its cells: start, crash, reload, resume."""

from __future__ import annotations

import nbformat
import pytest

from durable.examples.effects import list_effects
from tests.browser.lesson import PAGE_MS
from tests.browser.server import start_server
from tests.support.notebooks import NOTEBOOKS

pytestmark = [pytest.mark.browser, pytest.mark.thorough]


@pytest.fixture
def voila(tmp_path):
    pytest.importorskip("voila")
    server = start_server("voila", tmp_path, tmp_path)
    yield server
    server.stop()


def test_in_voila_the_page_is_reloaded_to_resume(voila, open_lesson, tmp_path):
    content = nbformat.read(NOTEBOOKS[0], as_version=4)
    content.cells = [cell for cell in content.cells if cell.id in ("title", "panel")]
    nbformat.write(content, tmp_path / "panel.ipynb")
    lesson = open_lesson(voila, notebook=tmp_path / "panel.ipynb")
    lesson.page.goto(lesson.address)
    lesson.wait_for_phase("alive", PAGE_MS)
    first = lesson.pid()
    lesson.click("Next step")
    lesson.wait_until_next("provision_laptop_2")
    lesson.click("Crash now")
    lesson.wait_for_phase("back")
    lesson.picture("crashed")
    assert f"Process {first} was killed by SIGKILL" in lesson.sentence()
    assert "Reload the page" in lesson.sentence()
    lesson.click("Reload and resume")
    lesson.page.locator(f".durable-panel:not([data-pid='{first}'])").wait_for(timeout=PAGE_MS)
    lesson.wait_for_step("create_record_1", "replayed")
    lesson.click("Run all")
    lesson.wait_for_status("completed")
    lesson.picture("completed")

    assert lesson.states()["create_record_1"] == "replayed"
    assert len(list_effects(lesson.database, "emp_001")) == 4
