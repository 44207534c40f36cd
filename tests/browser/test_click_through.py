"""The main job, clicked by hand in a real browser: step, crash, resume, and nothing is done again."""

from __future__ import annotations

import os

import pytest

from durable.examples.effects import list_effects

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
