"""A learner's run through notebook 1 by keyboard alone: real key presses, no click, no cell rewritten by a program."""

from __future__ import annotations

import re

import pytest

from durable.lab.questions.checks import read_solutions
from tests.browser.lesson import BEGIN_MS, KERNEL_MS, PAGE_MS, STEP_MS, TRIES
from tests.browser.server import start_server, write_settings
from tests.browser.test_course import ERRORS, TRACKER
from tests.support.patience import patient

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

RUN_MS = patient(60_000)
ACTIVE = ".jp-Notebook .jp-Cell.jp-mod-active"
ON_A_CELL = "() => document.activeElement.matches('.jp-Cell') && document.activeElement.matches('.jp-mod-active')"
PLACE = f"() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')].indexOf(document.querySelector('{ACTIVE}'))"


@pytest.fixture
def server(tmp_path):
    write_settings(tmp_path, TRACKER, {"windowingMode": "none"})
    server = start_server("lab", tmp_path, tmp_path)
    yield server
    server.stop()


class Keys:
    """A notebook under the hands of somebody without a mouse."""

    def __init__(self, lesson) -> None:
        self.page, self.lesson, self.pressed = lesson.page, lesson, 0
        self.page.goto(lesson.address)
        self.page.locator(".jp-CodeCell").first.wait_for(timeout=PAGE_MS)
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(timeout=PAGE_MS)
        self.page.wait_for_function(ON_A_CELL, timeout=PAGE_MS)

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            self.page.keyboard.press(key)
            self.pressed += 1

    def run_to(self, text: str) -> None:
        """Run cells with Shift+Enter, until the one with this text is next. Each has to have ended."""
        cell = self.page.locator(ACTIVE)
        for _ in range(60):
            if text in cell.locator(".jp-InputArea").inner_text():
                return
            self.run_this()
        raise AssertionError(f"Shift+Enter does not come to {text}")

    def run_this(self) -> None:
        """Run the active cell; again if nothing happens, as on a page whose kernel is not there yet."""
        from playwright.sync_api import TimeoutError as NotSeenError  # where there is none, the tests are skipped

        place = self.page.evaluate(PLACE)
        prompt = self.page.locator(".jp-Notebook .jp-Cell").nth(place).locator(".jp-InputPrompt")
        for _ in range(TRIES):
            self.press("Shift+Enter")
            self.page.wait_for_function(f"place => ({PLACE})() !== place", arg=place, timeout=RUN_MS)
            if not self.page.locator(f".jp-Notebook .jp-Cell:nth-child({place + 1} of .jp-Cell).jp-CodeCell").count():
                return
            try:
                prompt.filter(has_text=re.compile(r"\[[*\d]")).wait_for(timeout=BEGIN_MS)
            except NotSeenError:
                self.press("ArrowUp")
            else:
                prompt.filter(has_text=re.compile(r"\[\d")).wait_for(timeout=RUN_MS)
                return
        raise AssertionError("a cell does not run")

    def tab_to(self, what: str, key: str = "Tab") -> None:
        """Walk with Tab until the focus is on what matches."""
        for _ in range(40):
            if self.page.evaluate("what => document.activeElement.matches(what)", what):
                return
            self.press(key)
        raise AssertionError(f"{key} does not come to {what}")

    def back_to_the_cell(self) -> None:
        """Leave a widget for the cell that holds it."""
        self.tab_to(".jp-Cell", "Shift+Tab")

    def press_on(self, button: str, key: str = "Enter") -> None:
        """Walk to a button of the panel with Tab, and press a key on it."""
        for _ in range(40):
            if self.page.locator(".durable-panel button:focus", has_text=button).count():
                self.press(key)
                return
            self.press("Tab")
        raise AssertionError(f"Tab does not come to {button}")

    def predict(self, question: str, place: int) -> None:
        """From the cell after a question: go up to it, and choose the answer at a place, counted from 0."""
        box = self.page.locator(".durable-predict", has_text=question)
        box.wait_for(timeout=RUN_MS)
        self.press("ArrowUp")
        self.tab_to(".durable-predict input")
        self.press("Space")
        self.press("ArrowDown", place)
        box.locator("label").nth(place).locator("input:checked").wait_for(timeout=STEP_MS)
        self.back_to_the_cell()
        self.press("ArrowDown")

    def write(self, code: str) -> None:
        """Replace the code of the active cell, and run it."""
        self.press("Enter")
        self.press("Control+a")
        self.page.keyboard.type(code)
        self.run_this()


def test_notebook_1_is_read_crashed_resumed_and_solved_by_keyboard_alone(server, open_lesson):
    lesson = open_lesson(server, "by-keyboard")
    keys = Keys(lesson)
    first_question = "how many of the four steps will run"
    keys.run_to("lab.panel(")
    keys.predict(first_question, 2)
    keys.run_to("Now click.")
    lesson.wait_for_phase("alive", PAGE_MS)
    keys.press("ArrowUp")
    keys.press_on("Next step")
    lesson.wait_until_next("provision_laptop_2")
    keys.press_on("Next step", "Space")
    lesson.wait_for_step("provision_laptop_2", "completed")
    keys.press_on("Crash now")
    lesson.wait_for_phase("back")
    lesson.picture("crashed")
    lesson.panel.locator("button:focus", has_text="Resume").wait_for(timeout=KERNEL_MS)
    keys.press("Enter")
    lesson.wait_for_phase("alive", PAGE_MS)
    lesson.wait_until_next("setup_access_3")
    keys.press_on("Run the imports again")
    lesson.panel.get_by_role("button", name="Run the imports again").wait_for(state="hidden", timeout=RUN_MS)
    keys.press_on("Run all")
    lesson.wait_for_status("completed")
    answer = lesson.page.locator(".durable-predict", has_text=first_question)
    answer.get_by_text("It is: 2.").wait_for(timeout=RUN_MS)
    lesson.picture("completed")

    keys.back_to_the_cell()
    keys.press("ArrowDown")
    keys.run_to("db = Path(tempfile.mkdtemp())")
    keys.predict("What will the row of provision_laptop_2 say?", 1)
    keys.run_to("my_guess = {")
    keys.write(read_solutions()["01.q1"])
    keys.run_to("will_run = None")
    lesson.page.get_by_text("all three. Only the gap").wait_for(timeout=RUN_MS)
    keys.write(read_solutions()["01.q2"])
    keys.run_to("In three lines")
    lesson.picture("solved")

    assert lesson.page.locator(ERRORS).all_inner_texts() == []
    assert lesson.page.locator(".durable-predict[data-state=right]").count() >= 2
    assert not lesson.page.get_by_text("not yet:").count()
    assert keys.pressed < 200
