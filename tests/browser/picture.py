"""The pictures of the panel in the README: `python -m tests.browser.picture` takes them, of a real crash and resume.

`docs/panel.png` shows the panel after it, `docs/crash-and-resume.gif` shows what happens, click by click.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.browser.lesson import Lesson
from tests.browser.server import start_server
from tests.support.patience import PATIENCE_SECONDS

DOCS = Path(__file__).parents[2] / "docs"
STEP = "provision_laptop_2"
COLORS = 64
MAX_BYTES = 1_000_000
READ_MS, CLICK_MS, LAST_MS = 2200, 700, 5000
SHOWN_MS = 250  # of a frame in which something moves: waiting for a new kernel takes longer than it is shown
POINTER = """
([x, y]) => {
  const pointer = document.getElementById("pointer") ?? document.body.appendChild(document.createElement("div"));
  pointer.id = "pointer";
  pointer.hidden = x === null;
  pointer.style = `position: fixed; left: ${x - 16}px; top: ${y - 16}px; width: 32px; height: 32px; z-index: 9999;
    border: 4px solid #e8590c; border-radius: 50%; pointer-events: none; display: ${x === null ? "none" : "block"}`;
}
"""


@contextmanager
def open_panel(width: int) -> Iterator[Lesson]:
    """Open notebook 1 in a browser, and run the cell of its panel."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, sync_playwright() as driver:
        server = start_server("notebook", Path(folder), Path(folder))
        browser = driver.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": width, "height": 1200})
            lesson = Lesson(page, server, Path(folder) / "lesson", Path(folder))
            lesson.open()
            yield lesson
        finally:
            browser.close()
            server.stop()


def take_picture(target: Path) -> None:
    """Order a laptop, crash before that is saved, resume, and stop before the last step."""
    with open_panel(1460) as lesson:
        lesson.arm("executed", STEP)
        lesson.click("Run all")
        lesson.wait_for_phase("back")
        lesson.click("Resume")
        lesson.wait_for_phase("alive")
        lesson.wait_until_next(STEP)
        lesson.click("Next step")
        lesson.wait_until_next("send_welcome_email_4")
        lesson.page.mouse.move(0, 0)
        target.parent.mkdir(exist_ok=True)
        lesson.panel.screenshot(path=target)


class Film:
    """Frames of the top of the panel, each with how long it is shown."""

    def __init__(self, lesson: Lesson, height: int) -> None:
        self._lesson = lesson
        lesson.page.add_style_tag(content=".jp-Cell:not(:has(.durable-panel)) { visibility: hidden }")
        lesson.panel.evaluate("panel => panel.scrollIntoView({ block: 'start' })")
        box = lesson.panel.bounding_box()
        self._clip = {"x": box["x"] - 4, "y": box["y"] - 4, "width": box["width"] + 8, "height": height}
        self.frames: list[tuple[bytes, int]] = []

    def shoot(self, shown_ms: int) -> None:
        """Take a frame; one that equals the last is that one, shown for longer."""
        frame = self._lesson.page.screenshot(clip=self._clip)
        if self.frames and self.frames[-1][0] == frame:
            self.frames[-1] = frame, max(self.frames[-1][1], shown_ms)
        else:
            self.frames.append((frame, shown_ms))

    def click(self, button: str) -> None:
        """Show where the click goes, and click."""
        box = self._lesson.panel.get_by_role("button", name=button).bounding_box()
        page = self._lesson.page
        page.evaluate(POINTER, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
        self.shoot(CLICK_MS)
        self._lesson.click(button)
        page.mouse.move(0, 0)
        page.evaluate(POINTER, [None, None])

    def roll(self, is_over: Callable[[], bool], shown_ms: int = SHOWN_MS) -> None:
        """Take frames until something has happened, and a last one that can be read."""
        deadline = time.monotonic() + 3 * PATIENCE_SECONDS
        while not is_over():
            assert time.monotonic() < deadline, self._lesson.panel.inner_text()
            self.shoot(shown_ms)
        self.shoot(READ_MS)

    def save(self, target: Path) -> None:
        """Write the frames as one GIF. Raises ValueError if it is too large for a page."""
        images = [Image.open(io.BytesIO(frame)).convert("RGB") for frame, _ in self.frames]
        palette = Image.new("RGB", (images[0].width, images[0].height * len(images)))
        for place, image in enumerate(images):
            palette.paste(image, (0, place * image.height))
        colors = palette.quantize(COLORS, dither=Image.Dither.NONE)
        first, *rest = [image.quantize(palette=colors, dither=Image.Dither.NONE) for image in images]
        times = [shown for _, shown in self.frames]
        first.save(target, save_all=True, append_images=rest, duration=times, loop=0, optimize=True, disposal=1)
        if target.stat().st_size > MAX_BYTES:
            raise ValueError(f"{target} has {target.stat().st_size} bytes, more than {MAX_BYTES}")


def take_film(target: Path, width: int = 1180, height: int = 640) -> None:
    """Run two steps, kill the process while the next one runs, resume in a new one, and run to the end."""
    with open_panel(width) as lesson:
        film = Film(lesson, height)
        film.shoot(READ_MS)
        film.click("Next step")
        film.roll(lambda: lesson.panel.locator("[data-key=provision_laptop_2][data-next=true]").count() > 0)
        film.click("Next step")
        film.roll(lambda: lesson.states()[STEP] == "completed")
        film.click("Crash now")
        film.roll(lambda: lesson.panel.get_attribute("data-phase") != "alive")
        film.roll(lambda: lesson.panel.get_attribute("data-phase") == "back", 400)
        film.click("Resume")
        lesson.wait_for_phase("alive")
        lesson.panel.evaluate("panel => panel.scrollIntoView({ block: 'start' })")
        film.roll(lambda: lesson.panel.locator("[data-key=setup_access_3][data-next=true]").count() > 0)
        film.click("Run all")
        film.roll(lambda: lesson.panel.get_attribute("data-status") == "completed")
        film.shoot(LAST_MS)
        film.save(target)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
    take_picture(folder / "panel.png")
    take_film(folder / "crash-and-resume.gif")
