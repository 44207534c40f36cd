"""`durable lab` as a learner meets it: the page of the course, a notebook, a crash, a resume, and ticks that stay."""

from __future__ import annotations

import time

import pytest

from durable.lab.questions.checks import read_solutions
from tests.browser.lesson import PAGE_MS
from tests.browser.server import start_server, write_settings
from tests.browser.test_course import RUN_MS, TRACKER, Reader
from tests.browser.test_everyone import violations
from tests.support.notebooks import FOLDER

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

MOST_CLICKS = 10
MOST_SECONDS = 120  # on a busy machine; the figure that counts is printed


@pytest.fixture
def course(tmp_path):
    write_settings(tmp_path, TRACKER, {"windowingMode": "none"})
    server = start_server("course", tmp_path, tmp_path, restart_limit=None)
    yield server
    server.stop()


@pytest.fixture
def lesson(course, open_lesson):
    lesson = open_lesson(course, "page")
    lesson.page.set_default_timeout(RUN_MS)
    return lesson


def test_from_durable_lab_to_a_resumed_workflow_in_few_clicks(tmp_path, open_lesson):
    began = time.monotonic()
    server = start_server("course", tmp_path, tmp_path, restart_limit=None)
    try:
        lesson = open_lesson(server, "first-resume")
        page, clicks = lesson.page, []

        def click(what, place):
            clicks.append(what)
            place.click(timeout=RUN_MS)

        page.goto(lesson.address)
        lesson.picture("page")
        click("the first notebook", page.get_by_role("link", name="What survives when the process dies?"))
        page.locator(".jp-NotebookPanel-toolbar", has_text="Python 3").wait_for(timeout=PAGE_MS)
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(timeout=PAGE_MS)
        cell = page.locator(".jp-CodeCell", has_text="lab.panel(")
        click("the cell of the panel", cell.locator(".cm-content"))
        click("run", page.locator("[data-command='notebook:run-cell-and-select-next']").first)
        lesson.wait_for_phase("alive", PAGE_MS)
        for number in range(2):
            click("Next step", lesson.panel.get_by_role("button", name="Next step"))
            lesson.wait_until_next(["provision_laptop_2", "setup_access_3"][number])
        click("Crash now", lesson.panel.get_by_role("button", name="Crash now"))
        lesson.wait_for_phase("back")
        click("Resume", lesson.panel.get_by_role("button", name="Resume"))
        lesson.wait_for_phase("alive")
        lesson.wait_for_step("create_record_1", "replayed")
        seconds = time.monotonic() - began
        lesson.picture("resumed")
    finally:
        server.stop()
    print(f"from `durable lab` to a resumed workflow: {len(clicks)} clicks, {seconds:.1f} s ({', '.join(clicks)})")

    assert len(clicks) <= MOST_CLICKS
    assert seconds < MOST_SECONDS


def test_a_check_that_passes_is_ticked_on_the_page_forgotten_by_a_reset_and_saved_as_a_file(lesson):
    page = lesson.page
    page.goto(lesson.address)
    assert page.locator(".tick[data-done=true]").count() == 0
    assert violations(lesson, "main") == []
    reader = Reader(
        lesson, page.get_by_role("link", name="At which instant is a step safe?").evaluate("link => link.href")
    )
    reader.run_all_above("q1.check(")
    reader.write("safe_moments = None", read_solutions()["02.q1"])
    reader.run_cell("q1.check(")
    reader.wait_for_verdict("q1.check(", "right")

    page.goto(lesson.address)
    page.locator(".tick[data-task='02.q1'][data-done=true]").wait_for()
    assert page.locator(".tick[data-done=true]").count() == 1
    assert violations(lesson, "main") == []
    lesson.picture("ticked")
    page.get_by_label("Your name").fill("Jane Doe")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    saved = download.value.path().read_text(encoding="utf-8")
    assert "The progress of Jane Doe" in saved
    assert 'data-task="02.q1" data-done="true"' in saved

    page.get_by_role("button", name="Reset notebook 2").click()
    page.get_by_text(
        "02_steps_and_checkpoints begins anew; your copy is 02_steps_and_checkpoints_before_1.ipynb"
    ).wait_for()
    course = lesson.folder.parent / "durable-course"
    assert page.locator(".tick[data-done=true]").count() == 0
    assert (course / "02_steps_and_checkpoints.ipynb").read_bytes() == (
        FOLDER / "02_steps_and_checkpoints.ipynb"
    ).read_bytes()


def test_the_page_asks_for_the_token_of_the_server(course, lesson):
    lesson.page.goto(f"{course.url}/durable/course")
    lesson.page.get_by_text("Token authentication is enabled").wait_for()
    answer = lesson.page.request.post(f"{course.url}/durable/course", form={"notebook": "02_steps_and_checkpoints"})

    assert answer.status == 403


def test_a_link_in_a_notebook_opens_the_glossary_at_its_term(course, lesson):
    page = lesson.page
    page.goto(f"{course.url}/lab/tree/01_crash_and_resume.ipynb?token={course.token}")
    page.locator(".jp-RenderedMarkdown a", has_text="zombie step").click(timeout=RUN_MS)
    page.locator(".jp-MarkdownViewer h3", has_text="zombie step").wait_for()
    lesson.picture("glossary")

    assert page.locator(".jp-MarkdownViewer h3", has_text="zombie step").is_visible()
