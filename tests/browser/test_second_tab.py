"""A second tab of the browser: the panel is drawn there too, and both follow one process."""

from __future__ import annotations

import json

import pytest

from tests.browser.conftest import ARTIFACTS
from tests.browser.lesson import NAME, PAGE_MS, STEP_MS
from tests.browser.server import start_server
from tests.support.processes import eventually

pytestmark = [pytest.mark.browser, pytest.mark.thorough]


def has_outputs(notebook) -> bool:
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
    except ValueError:  # Jupyter writes it just now
        return False
    return any(cell.get("outputs") for cell in content["cells"])


@pytest.fixture
def lesson(tmp_path, open_lesson):
    """Notebook 01, as `durable lab` opens it, with its panel drawn and saved by Jupyter itself."""
    server = start_server("course", tmp_path, tmp_path, restart_limit=None)
    lesson = open_lesson(server, "first-tab")
    lesson.address = f"{server.url}/lab/tree/{NAME}?token={server.token}"
    lesson.open()
    notebook = tmp_path / "durable-course" / NAME
    eventually(lambda: has_outputs(notebook))  # a second tab shows what is in the file
    yield lesson
    server.stop()


@pytest.fixture
def open_tab(browser, lesson):
    pages = []

    def make():
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        pages.append(page)
        page.goto(lesson.address)
        return page, page.locator(".durable-panel")

    yield make
    for page in pages:
        page.close()


def test_a_second_tab_shows_the_panel_of_a_living_process_and_follows_it(lesson, open_tab):
    page, panel = open_tab()
    panel.and_(page.locator("[data-phase=alive]")).wait_for(timeout=PAGE_MS)
    lesson.click("Next step")
    panel.locator("[data-key=create_record_1][data-state=completed]").wait_for(timeout=STEP_MS)
    panel.get_by_role("button", name="Next step").click()
    lesson.wait_for_step("provision_laptop_2", "completed")
    panel.scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / "second-tab-alive.png")

    assert panel.locator(".durable-sentence").inner_text() == lesson.sentence()
