"""The panel for everyone: read by a machine, by keyboard alone, in a narrow window, on a dark page."""

from __future__ import annotations

import pytest

from durable.examples.effects import list_effects
from tests.browser.server import start_server

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

STEP = "provision_laptop_2"


def violations(lesson, context=".durable-panel") -> list[str]:
    """What axe finds wrong with the panel, or another part of the page, in words."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(lesson.page, context=context).response["violations"]
    return [f"{rule['id']}: {node['html'][:120]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


@pytest.fixture(params=["lab-Light", "lab-Dark", "notebook-Light", "notebook-Dark"])
def themed(request, tmp_path):
    front_end, theme = request.param.split("-")
    server = start_server(front_end, tmp_path, tmp_path, theme=f"JupyterLab {theme}")
    yield server, theme
    server.stop()


def test_axe_finds_nothing_wrong_before_a_crash_at_it_and_after_it(themed, open_lesson):
    server, theme = themed
    lesson = open_lesson(server, f"axe-{theme}")
    lesson.open()
    is_light = "true" if theme == "Light" else "false"
    lesson.page.locator(f"body[data-jp-theme-light={is_light}]").wait_for(state="attached")
    assert violations(lesson) == []
    lesson.arm("executed", STEP)
    lesson.click("Run all")
    lesson.wait_for_phase("back")
    lesson.panel.scroll_into_view_if_needed()
    lesson.picture("crashed")
    assert violations(lesson) == []
    lesson.resume()
    lesson.wait_until_next(STEP)
    lesson.click("Next step")
    lesson.wait_until_next("send_welcome_email_4")
    lesson.panel.get_by_role("button", name="MacBook Pro").click()
    lesson.panel.get_by_role("region", name=f"value of {STEP}").wait_for()
    lesson.picture("resumed")
    assert violations(lesson) == []
    lesson.panel.evaluate("panel => { panel.querySelector('select').ariaLabel = null }")

    assert any("select" in found for found in violations(lesson))  # axe does look


def test_by_keyboard_alone_it_is_stepped_crashed_and_resumed_in_a_narrow_window(server, open_lesson):
    lesson = open_lesson(server, width=600)
    lesson.open()
    lesson.picture("open")
    assert lesson.cut_off() == []  # in JupyterLab its sidebar takes half of the window
    press_on(lesson, "Next step", "Enter")
    lesson.wait_until_next(STEP)
    press_on(lesson, "Next step", "Space")
    lesson.wait_for_step(STEP, "completed")
    press_on(lesson, "Crash now", "Enter")
    lesson.wait_for_phase("back")
    lesson.panel.locator("button:focus", has_text="Resume").wait_for()
    lesson.page.keyboard.press("Enter")
    lesson.wait_for_phase("alive")
    lesson.wait_for_step(STEP, "replayed")
    lesson.panel.locator("button:focus", has_text="Next step").wait_for()
    lesson.page.keyboard.press("Tab")
    lesson.page.keyboard.press("Enter")  # Run all
    lesson.wait_for_status("completed")
    lesson.step(STEP, "replayed").get_by_role("button").press("Enter")
    lesson.panel.get_by_role("region", name=f"value of {STEP}").wait_for()
    lesson.page.set_viewport_size({"width": 600, "height": 2800})
    lesson.picture("narrow")

    assert lesson.cut_off() == []
    lesson.panel.evaluate("panel => { panel.querySelector('.durable-axis').style.width = '700px' }")
    assert any("durable-axis" in found for found in lesson.cut_off())  # it does look
    assert len(list_effects(lesson.database, "emp_001")) == 4
    assert lesson.page.locator(".jp-CodeCell", has_text="lab.panel(").count() == 1  # no key of the notebook's was hit


def press_on(lesson, button: str, key: str) -> None:
    """Walk to a button with Tab, from the first control of the panel, and press a key on it."""
    if not lesson.panel.locator(":focus").count():
        lesson.panel.locator("button").first.focus()
    for _ in range(20):
        if lesson.panel.locator("button:focus", has_text=button).count():
            lesson.page.keyboard.press(key)
            return
        lesson.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not come to {button}")
