"""A workflow of 10,000 steps in a page that stays usable: what is drawn is bounded, and so is how often."""

from __future__ import annotations

import pytest

from tests.browser.conftest import ARTIFACTS
from tests.browser.lesson import KERNEL_MS, write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

CELL = """
from durable import Context, lab

def note(number: int) -> int:
    return number

def noting(ctx: Context, count: int) -> None:
    for number in range(count):
        ctx.step(note, number)

lab.panel(noting, "long", db="workflow.db", count=10_000)
"""
WATCH = """
() => {
  globalThis.watched = { longest: 0, frames: 0, total: 0, stuck: 0, draws: 0, most: 0 };
  let last = performance.now();
  const look = (now) => {
    watched.longest = Math.max(watched.longest, now - last);
    watched.total += now - last;
    if (now - last > 250) watched.stuck += now - last;  // milliseconds between two frames
    watched.frames += 1;
    last = now;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  const count = document.querySelector(".durable-progress span");
  const times = [];
  new MutationObserver(() => {
    const now = performance.now();
    watched.draws += 1;
    times.push(now);
    watched.most = Math.max(watched.most, times.filter((time) => now - time < 1000).length);
  }).observe(count, { childList: true, characterData: true, subtree: true });
}
"""


def wait_while_it_goes_on(lesson) -> None:
    """Until the workflow is completed; however long that takes here, its progress has to move all the time."""
    progress = lesson.panel.locator(".durable-progress span")
    while lesson.panel.get_attribute("data-status") != "completed":
        lesson.page.wait_for_function(
            "text => document.querySelector('.durable-panel').dataset.status === 'completed'"
            " || document.querySelector('.durable-progress span').textContent !== text",
            arg=progress.inner_text(),
            timeout=KERNEL_MS,
        )


def test_ten_thousand_steps_do_not_freeze_the_page(server, open_lesson, tmp_path):
    lesson = open_lesson(server, notebook=write_notebook(tmp_path / "long.ipynb", CELL))
    lesson.open()
    lesson.page.evaluate(WATCH)
    lesson.click("Run all")
    wait_while_it_goes_on(lesson)
    watched = lesson.page.evaluate("watched")
    ARTIFACTS.mkdir(exist_ok=True)
    (ARTIFACTS / f"{server.front_end}-long.txt").write_text(f"{watched}\n")
    lesson.panel.get_by_text("10000 steps completed").wait_for()
    assert lesson.panel.locator(".durable-step").count() <= 40
    assert lesson.panel.locator("*").count() < 1500
    assert watched["most"] <= 21  # 20 a second, and the click's own
    assert watched["draws"] > 3  # it did show progress meanwhile
    assert watched["stuck"] < 0.1 * watched["total"]  # with a kernel at work on the same cores
    lesson.click("Earlier")
    lesson.panel.get_by_text("steps 9921 to 9960 of 10000").wait_for()
    lesson.picture("earlier")
    lesson.step("note_9921", "completed").get_by_role("button").click()
    lesson.panel.get_by_text("value of note_9921").wait_for()

    assert lesson.panel.locator(".durable-value pre").inner_text() == "9920"
