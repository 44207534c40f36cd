"""The main job, clicked by hand in a real browser: step, crash, resume, and nothing is done again."""

from __future__ import annotations

import os

import pytest

from durable.examples.effects import list_effects
from tests.browser.lesson import write_notebook

pytestmark = pytest.mark.browser

ONCE = [
    "created a record for Jane Doe",
    "ordered a laptop for Jane Doe",
    "opened accounts for Jane Doe",
    "sent a welcome to emp_001@company.com",
]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_after_a_crash_and_a_resume_two_steps_are_replayed_and_two_run(lesson):
    lesson.open()
    first = lesson.pid()
    lesson.click("Next step")
    lesson.wait_until_next("provision_laptop_2")
    lesson.click("Next step")
    lesson.wait_for_step("provision_laptop_2", "completed")
    lesson.picture("two-steps")
    assert lesson.states() == {
        "create_record_1": "completed",
        "provision_laptop_2": "completed",
        "setup_access_3": "upcoming",
        "send_welcome_email_4": "upcoming",
    }

    lesson.click("Crash now")
    lesson.wait_for_death()
    lesson.picture("crashed")
    assert f"Process {first} was killed by SIGKILL" in lesson.sentence()
    assert not is_alive(first)
    lesson.wait_for_phase("back")
    lesson.picture("kernel-is-back")
    lesson.click("Resume")
    lesson.wait_for_phase("alive")
    lesson.wait_until_next("setup_access_3")
    second = lesson.pid()
    assert "2 steps were replayed, not run." in lesson.sentence()
    lesson.click("Run all")
    lesson.wait_for_status("completed")

    assert lesson.states() == {
        "create_record_1": "replayed",
        "provision_laptop_2": "replayed",
        "setup_access_3": "completed",
        "send_welcome_email_4": "completed",
    }
    assert lesson.lives() == [f"process {first} ✝ killed", f"process {second} ✓ completed"]
    assert first != second
    assert list_effects(lesson.database, "emp_001") == ONCE


@pytest.mark.thorough
def test_a_crash_between_effect_and_save_is_told_as_a_repeated_effect(lesson):
    lesson.open()
    lesson.arm("executed", "provision_laptop_2")
    lesson.click("Run all")
    lesson.wait_for_death()
    lesson.picture("crashed")
    assert "after the effect of provision_laptop_2 and before its checkpoint" in lesson.sentence()
    assert lesson.states()["provision_laptop_2"] == "zombie"

    lesson.wait_for_phase("back")
    lesson.click("Resume")
    lesson.wait_for_phase("alive")
    lesson.wait_until_next("provision_laptop_2")
    lesson.picture("resumed")
    assert "provision_laptop_2 is a zombie step." in lesson.sentence()
    assert "The effects log shows its effect" in lesson.sentence()
    lesson.click("Run all")
    lesson.wait_for_status("completed")
    lesson.picture("completed")
    assert "provision_laptop_2 ran twice." in lesson.sentence()
    assert sorted(list_effects(lesson.database, "emp_001")) == sorted([*ONCE, "ordered a laptop for Jane Doe"])

    lesson.click("Reset")
    lesson.wait_for_status("new")

    assert set(lesson.states().values()) == {"upcoming"}
    assert list_effects(lesson.database, "emp_001") == []


@pytest.mark.thorough
def test_running_the_cell_again_in_a_living_kernel_goes_on_where_it_was(lesson):
    lesson.open()
    lesson.click("Next step")
    lesson.wait_until_next("provision_laptop_2")
    lesson.run_cell()
    lesson.wait_for_step("create_record_1", "replayed")
    lesson.click("Run all")
    lesson.wait_for_status("completed")

    assert lesson.states()["create_record_1"] == "replayed"
    assert sorted(list_effects(lesson.database, "emp_001")) == sorted(ONCE)
    assert lesson.foreign == []
    lesson.page.evaluate("fetch('http://localhost:1/').catch(() => null)")
    assert lesson.foreign == ["http://localhost:1/"]  # what the page asks of others is seen
    lesson.foreign.clear()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("moment", "foretold", "told", "state"),
    [
        ("started", "for the first time", "send_welcome_email_4 was begun twice and ran once.", "completed"),
        ("checkpointed", "nothing is done again", "4 steps were replayed and 0 ran.", "replayed"),
    ],
)
def test_what_a_crash_will_do_is_told_before_it_and_what_it_did_after_it(
    server, open_lesson, moment, foretold, told, state
):
    lesson, step = open_lesson(server, f"crash-{moment}"), "send_welcome_email_4"
    lesson.open()
    lesson.arm(moment, step)
    assert foretold in lesson.foretold()
    lesson.click("Run all")
    lesson.wait_for_death()
    lesson.resume()
    if moment == "started":
        lesson.wait_until_next(step)
        lesson.click("Next step")
    lesson.wait_for_status("completed")
    lesson.picture(moment)

    assert told in lesson.sentence()
    assert lesson.states()[step] == state
    assert sorted(list_effects(lesson.database, "emp_001")) == sorted(ONCE)


BRANCHES = """
from durable import Context, lab

def pack(what: str) -> str:
    return what

def detour(ctx: Context, side: str) -> str:
    return ctx.step(pack, f"{side} bridge") + ctx.step(pack, f"{side} hill")

def leg(ctx: Context, side: str) -> list[str]:
    inner = ctx.branch(detour, side)
    return [*ctx.map(pack, [f"{side} {number}" for number in range(3)]), inner.result()]

def travel(ctx: Context) -> None:
    ctx.step(pack, "bag")
    for future in [ctx.branch(leg, side) for side in ("north", "south")]:
        future.result()
    ctx.step(pack, "home")

lab.panel(travel, "travel", db="workflow.db")
"""


@pytest.mark.thorough
def test_branches_are_drawn_within_one_another_and_side_by_side(server, open_lesson, tmp_path):
    lesson = open_lesson(server, notebook=write_notebook(tmp_path / "branches.ipynb", BRANCHES), width=1600)
    lesson.open()
    lesson.click("Run all")
    lesson.wait_for_status("completed")
    lesson.panel.scroll_into_view_if_needed()
    lesson.picture("branches")

    bag, home = (lesson.step(key, "completed").bounding_box() for key in ("pack_1", "pack_4"))
    north, south = (lesson.panel.locator(f"[data-branch=leg_{number}]") for number in (2, 3))
    left, right = north.bounding_box(), south.bounding_box()
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] < right["x"]
    assert bag["y"] + bag["height"] < left["y"] < left["y"] + left["height"] < home["y"]
    assert north.locator("[data-branch='leg_2/detour_1'] .durable-step").count() == 2
    assert north.get_by_text("4 side by side").count() == 0  # that is said by the page's style, and to a screen reader
    assert north.get_by_role("list", name="4 side by side").count() == 1
    assert lesson.cut_off() == []


FRAMES = """
import pandas as pd
from durable import Context, lab

def hostile(rows: int) -> dict:
    frame = pd.DataFrame({"<img src=x onerror='document.title=1'>": range(rows), "city": ["<b>Rome</b>"] * rows})
    return {"<i>all</i>": frame, "count": rows}

def flow(ctx: Context) -> None:
    ctx.step(hostile, 40)

lab.panel(flow, "flow", db="workflow.db")
"""


@pytest.mark.thorough
def test_a_click_on_a_value_shows_its_frame_as_a_table_and_names_in_it_as_text(server, open_lesson, tmp_path):
    lesson = open_lesson(server, notebook=write_notebook(tmp_path / "frames.ipynb", FRAMES))
    lesson.open()
    lesson.click("Run all")
    lesson.wait_for_status("completed")
    title = lesson.page.title()
    lesson.step("hostile_1", "completed").get_by_role("button").click()
    part = lesson.panel.locator("[data-place='$.<i>all</i>']")
    part.wait_for()
    part.scroll_into_view_if_needed()
    lesson.picture("frame")

    rows = [row.split("\t") for row in part.locator("table").inner_text().splitlines()]
    assert rows[0] == ["", "<img src=x onerror='document.title=1'>", "city"]
    assert rows[1][:2] == ["int64", "int64"]
    assert rows[2:4] == [["0", "0", "<b>Rome</b>"], ["1", "1", "<b>Rome</b>"]]
    assert rows[7] == ["...", "...", "..."]
    assert rows[-1] == ["39", "39", "<b>Rome</b>"]
    assert part.locator("img, b, i").count() == 0
    assert part.locator(".durable-title").inner_text().startswith("$.<i>all</i>: frame/1, ")
    assert lesson.page.title() == title
    assert lesson.cut_off() == []
    lesson.panel.get_by_role("button", name="Close").click()
    part.wait_for(state="hidden")
