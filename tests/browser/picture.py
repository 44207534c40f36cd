"""The picture of the panel in the README, after a crash and a resume: `python -m tests.browser.picture [FILE]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.browser.lesson import Lesson
from tests.browser.server import start_server

PICTURE = Path(__file__).parents[2] / "docs" / "panel.png"
STEP = "provision_laptop_2"


def take_picture(target: Path) -> None:
    """Order a laptop, crash before that is saved, resume, and stop before the last step."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, sync_playwright() as driver:
        server = start_server("notebook", Path(folder), Path(folder))
        browser = driver.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": 1460, "height": 1200})
            lesson = Lesson(page, server, Path(folder) / "lesson", Path(folder))
            lesson.open()
            lesson.arm("executed", STEP)
            lesson.click("Run all")
            lesson.wait_for_phase("back")
            lesson.click("Resume")
            lesson.wait_for_phase("alive")
            lesson.wait_until_next(STEP)
            lesson.click("Next step")
            lesson.wait_until_next("send_welcome_email_4")
            page.mouse.move(0, 0)
            target.parent.mkdir(exist_ok=True)
            lesson.panel.screenshot(path=target)
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
