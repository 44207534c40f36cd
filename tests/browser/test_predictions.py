"""Predictions and recall in Notebook 7 and in Voila: chosen by a click, answered by what runs, kept over a crash."""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.browser.lesson import KERNEL, KERNEL_MS, PAGE_MS
from tests.browser.server import start_server

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

HAS_BEGUN = re.compile(r"\[(\*|\d+)\]")  # the prompt of a cell that runs, or that has run
ASK = 'from durable import lab\nlab.predict("How many?", ["one", "two"], of="many")'
ANSWER = 'many = "two"'
RECALL = 'from durable import lab\nlab.recall("01")'
ASK_PANEL = 'from durable import lab\nlab.predict("How many steps will run?", [4, 3, 2], of="panel.ran")'
PANEL = """from durable import lab
from durable.examples.onboarding import onboarding

lab.panel(onboarding, "emp_001", db="workflow.db", name="Jane Doe", delay_seconds=0.2)"""


@pytest.fixture(params=["notebook", "voila"])
def page_of(request, tmp_path, open_lesson):
    """Opens a notebook of the cells given in a front end, and runs them all."""
    if request.param == "voila":
        pytest.importorskip("voila")
    server = start_server(request.param, tmp_path, tmp_path)

    def open_page(*cells: str):
        path = tmp_path / "asked.ipynb"
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=KERNEL), path)
        lesson = open_lesson(server, notebook=path)
        lesson.page.set_default_timeout(PAGE_MS)
        lesson.page.goto(lesson.address)
        if request.param == "notebook":
            lesson.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(timeout=PAGE_MS)
            for cell in cells:
                shown = lesson.page.locator(".jp-CodeCell", has_text=cell.splitlines()[-1])
                lesson.press_run(shown, shown.locator(".jp-InputPrompt", has_text=HAS_BEGUN))
        return lesson

    yield open_page
    server.stop()


def asked(lesson, question: str):
    return lesson.page.locator(".durable-predict", has_text=question)


def test_a_prediction_is_answered_once_it_is_chosen_and_the_answer_is_there(page_of):
    lesson = page_of(ASK, ANSWER)
    question = asked(lesson, "How many?")
    question.get_by_text("The answer is known by now. Choose, and you see it.").wait_for()
    question.get_by_text("one", exact=True).click()
    question.get_by_text("You said one. It is: two.").wait_for()
    lesson.picture("answered")

    assert question.get_attribute("data-state") == "revealed"


def test_a_question_to_recall_shows_its_answer_and_why(page_of):
    lesson = page_of(RECALL)
    question = asked(lesson, "What does a resume do with a completed step?")
    question.get_by_text("answers it from its row", exact=True).click()
    question.get_by_text("It is: answers it from its row. The function runs again from the top").wait_for()
    lesson.picture("recalled")

    assert lesson.page.locator(".durable-predict").count() == 3


def test_a_prediction_about_the_panel_outlives_the_crash(page_of):
    lesson = page_of(ASK_PANEL, PANEL)
    lesson.wait_for_phase("alive", PAGE_MS)
    question = asked(lesson, "How many steps will run?")
    question.get_by_text("4", exact=True).click()
    first = lesson.pid()
    lesson.click("Next step")
    lesson.wait_until_next("provision_laptop_2")
    lesson.click("Next step")
    lesson.wait_for_step("provision_laptop_2", "completed")
    lesson.click("Crash now")
    lesson.wait_for_phase("back")
    lesson.panel.get_by_role("button", name="esume").click(timeout=KERNEL_MS)  # in Voila: Reload and resume
    lesson.page.locator(f".durable-panel:not([data-pid='{first}'])").wait_for(timeout=PAGE_MS)
    lesson.wait_for_step("provision_laptop_2", "replayed")
    assert question.get_attribute("data-state") == "chosen"
    lesson.click("Run all")
    lesson.wait_for_status("completed")
    question.get_by_text("You said 4. It is: 2.").wait_for()
    lesson.picture("answered")
