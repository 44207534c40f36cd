"""A headless Chromium, and a Jupyter server for it. What it saw is kept in `artifacts/`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from durable.examples.onboarding import onboarding
from tests.browser.front_end import FrontEnd
from tests.browser.lesson import Lesson
from tests.browser.server import start_server
from tests.support.selection import first_alone

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
VOILA_FONTS = "https://cdn.jsdelivr.net/npm/@fortawesome/"  # asked for by Voila's own page
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """The browser of this machine; none is downloaded."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    """Chromium, or a skip where there is none; `.ci/run` takes a skip for a failure.

    It is closed after each file: its driver keeps an event loop in this thread, and other tests want one of their own.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no chromium on the path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=first_alone(["lab", "notebook"]))
def server(request, tmp_path_factory):
    home = tmp_path_factory.mktemp(request.param)
    server = start_server(request.param, home, home)
    yield server
    server.stop()


@pytest.fixture
def open_lesson(request, browser):
    """Makes a lesson on a server, and keeps how it ended. No page may ask anything of the world outside."""
    lessons: list[Lesson] = []

    def make(server, name: str | None = None, width: int = 1280, **options) -> Lesson:
        name = name or request.node.originalname.removeprefix("test_")[:40]
        page = browser.new_page(viewport={"width": width, "height": 1000})
        lessons.append(Lesson(page, server, server.folder / name, ARTIFACTS / f"{server.front_end}-{name}", **options))
        return lessons[-1]

    yield make
    for lesson in lessons:
        lesson.keep_how_it_ended()
        lesson.page.close()
    known = {"voila": VOILA_FONTS}
    foreign = [(lesson.front_end, url) for lesson in lessons for url in lesson.foreign]
    assert [url for front_end, url in foreign if not url.startswith(known.get(front_end, "none is known"))] == []


@pytest.fixture
def lesson(open_lesson, server):
    """Notebook 01, open in the browser, in a folder of its own."""
    return open_lesson(server)


@pytest.fixture
def open_front_end(browser, database):
    """Makes pages with a panel and without Jupyter."""
    opened: list[FrontEnd] = []

    def make(marks: str = "", workflow=onboarding, **options) -> FrontEnd:
        page = browser.new_page(viewport={"width": 900, "height": 700})
        opened.append(FrontEnd(page, database, marks, workflow, **options))
        return opened[-1]

    yield make
    for front_end in opened:
        front_end.page.close()
        front_end.controller.close()
