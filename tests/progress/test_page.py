"""The page of the course, and the file for a teacher."""

from __future__ import annotations

import re

from durable.progress.page import draw_file, draw_page, list_lessons
from tests.support.notebooks import FOLDER, NOTEBOOKS

LESSONS = list_lessons(FOLDER)
FIRST = dict.fromkeys(LESSONS[0].tasks, "2026-01-02T03:04:05Z")


def ticks(page: str) -> dict[str, str]:
    return dict(re.findall(r'data-task="([\w.]+)" data-done="(\w+)"', page))


def test_each_notebook_has_its_exercises_and_its_recall():
    assert [lesson.name for lesson in LESSONS] == [path.stem for path in NOTEBOOKS]
    assert LESSONS[3].tasks == ("04.q1", "04.q2", "04.q3", "04.recall")
    assert all(2 <= len(lesson.tasks) <= 6 for lesson in LESSONS)


def test_what_is_done_has_a_tick_and_a_finished_notebook_says_what_one_can_do_now():
    page = draw_page(LESSONS, FIRST | {"04.q1": "2026-01-03T00:00:00Z"}, base="/", token="")
    able = page.partition("What you can do now")[2]

    assert {task for task, is_done in ticks(page).items() if is_done == "true"} == {*FIRST, "04.q1"}
    assert LESSONS[0].afterwards in able
    assert LESSONS[3].afterwards not in able
    assert f"{len(FIRST) + 1} of {sum(len(lesson.tasks) for lesson in LESSONS)} tasks are done" in page


def test_with_nothing_done_no_ability_is_claimed():
    able = draw_page(LESSONS, {}, base="/", token="").partition("What you can do now")[2]

    assert not any(lesson.afterwards in able for lesson in LESSONS)
    assert "grows with each notebook" in able


def test_the_addresses_are_those_of_the_server_also_below_a_prefix():
    page = draw_page(LESSONS, {}, base="/user/jane/", token="")

    assert '<a href="/user/jane/lab/tree/01_crash_and_resume.ipynb">' in page
    assert 'action="/user/jane/durable/course/file"' in page


def test_a_readers_name_is_shown_as_text():
    page = draw_file(LESSONS, FIRST, "<script>alert(1)</script>")

    assert "<script>" not in page
    assert "The progress of &lt;script&gt;" in page
    assert "2026-01-02T03:04:05Z" in page
    assert ticks(page)["01.q1"] == "true"
    assert "The progress of a reader" in draw_file(LESSONS, FIRST, "")
