"""A headless Chromium, and a Jupyter server for it. What it saw is kept in `artifacts/`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.browser.lesson import Lesson
from tests.browser.server import start_server

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
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


@pytest.fixture(scope="session")
def browser():
    """Chromium, or a skip where there is none; `.ci/run` takes a skip for a failure."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no chromium on the path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["lab", "notebook"])
def server(request, tmp_path_factory):
    home = tmp_path_factory.mktemp(request.param)
    server = start_server(request.param, home, home)
    yield server
    server.stop()


@pytest.fixture
def lesson(request, browser, server):
    """Notebook 01, open in the browser, in a folder of its own. How the test ended is kept."""
    name = request.node.originalname.removeprefix("test_")[:40]
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    lesson = Lesson(page, server, server.folder / name, ARTIFACTS / f"{server.front_end}-{name}")
    yield lesson
    lesson.keep_how_it_ended()
    page.close()
