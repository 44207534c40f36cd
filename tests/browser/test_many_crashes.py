"""A lesson that crashes again and again: Jupyter's restarter must not end it."""

from __future__ import annotations

import pytest

from durable import Engine
from tests.browser.server import start_server

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

STEP = "create_record_1"


@pytest.fixture
def open_server(tmp_path):
    servers = []

    def make(front_end="lab", **options):
        servers.append(start_server(front_end, tmp_path, tmp_path, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def crash_and_resume(lesson) -> int:
    """Crash now, resume, and wait until the new process waits at the same step; which process died."""
    pid = lesson.pid()
    lesson.click("Crash now")
    lesson.wait_for_death()
    lesson.resume()
    lesson.wait_until_next("provision_laptop_2")
    return pid


def begin(lesson) -> None:
    lesson.open()
    lesson.click("Next step")
    lesson.wait_until_next("provision_laptop_2")


def ended(lesson) -> list[str]:
    with Engine(lesson.database) as engine:
        return [run.ended for run in engine.runs("emp_001")]


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_six_crashes_in_a_row_on_a_server_with_the_default_settings_do_not_end_the_lesson(
    front_end, open_server, open_lesson
):
    lesson = open_lesson(open_server(front_end, restart_limit=None))
    begin(lesson)
    for _ in range(5):
        crash_and_resume(lesson)
    lesson.click("Crash now")
    lesson.panel.get_by_text("The crash comes in").wait_for()
    lesson.picture("waits")
    assert "Jupyter gives up a kernel that dies six times in a row" in lesson.foretold()
    lesson.wait_for_death()
    lesson.resume()
    lesson.wait_until_next("provision_laptop_2")

    assert ended(lesson) == ["crashed"] * 6 + [None]


@pytest.mark.soak
def test_sixty_crashes_in_a_row_on_a_server_as_durable_lab_starts_it(open_server, open_lesson):
    lesson = open_lesson(open_server(restart_limit=1000))
    begin(lesson)
    pids = [crash_and_resume(lesson) for _ in range(60)]

    assert len(set(pids)) == 60
    assert ended(lesson) == ["crashed"] * 60 + [None]
    lesson.click("Run all")
    lesson.wait_for_status("completed")
