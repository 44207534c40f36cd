"""Front ends that hide the kernel from the panel, as VS Code and Colab do: it says in words what to do.

They cannot be tried here. This is the panel's own JavaScript in a page of its own, with a model that is all it gets.
"""

from __future__ import annotations

import pytest

from durable import Context
from tests.browser.conftest import ARTIFACTS
from tests.browser.test_everyone import violations

pytestmark = [pytest.mark.browser, pytest.mark.thorough]


@pytest.mark.parametrize(
    ("marks", "advice"),
    [
        ("", "If the kernel does not start again by itself, restart it; then run this cell again."),
        (
            "data-vscode-theme-kind='vscode-dark'",
            "VS Code starts no dead kernel by itself: run this cell again, and it offers to.",
        ),
    ],
)
def test_after_a_crash_it_says_what_to_do_and_offers_no_button_that_does_nothing(open_front_end, marks, advice):
    front_end = open_front_end(marks)
    pid = front_end.state["pid"]
    assert front_end.panel.get_by_role("button", name="Crash now").is_visible()
    front_end.crash()

    assert front_end.sentence().startswith(f"Process {pid} was killed by SIGKILL at")
    assert front_end.sentence().endswith(advice)
    assert [button.inner_text() for button in front_end.panel.locator("button:visible").all()] == []


def test_a_message_that_cannot_be_sent_is_told_as_a_kernel_that_is_gone(open_front_end):
    front_end = open_front_end()
    front_end.page.evaluate("() => { model.send = () => { throw new Error('no comm') } }")
    front_end.panel.get_by_role("button", name="Next step").click()

    assert front_end.sentence().startswith(f"Process {front_end.state['pid']} is gone.")


@pytest.mark.parametrize(
    ("status", "told", "life"),
    [
        ("restarting", "was interrupted: its kernel was restarted.", "■ interrupted"),
        ("autorestarting", "is gone.", "■ gone"),
    ],
)
def test_a_process_that_ends_has_one_name_and_jupyters_two_dialogs_are_explained(open_front_end, status, told, life):
    front_end = open_front_end(has_kernel=True)
    pid = front_end.state["pid"]
    front_end.tell_status(status, "idle")

    assert front_end.sentence().startswith(f"Process {pid} {told} A new kernel has started.")
    assert front_end.panel.locator(".durable-life").inner_text().startswith(f"process {pid} {life} ")
    hint = front_end.panel.get_by_text("Jupyter may ask.").inner_text()
    assert "“Kernel Restarting”" in hint
    assert "“Run Command?” comes in a notebook that is not trusted yet" in hint
    front_end.page.screenshot(path=ARTIFACTS / f"front-end-{status}.png")
    assert violations(front_end) == []


def test_a_click_without_an_answer_is_told_in_words(open_front_end):
    front_end = open_front_end()
    front_end.panel.get_by_role("button", name="Next step").click()
    assert front_end.page.evaluate("sent") == [{"do": "next"}]
    assert front_end.panel.get_by_text("No answer yet").count() == 0
    front_end.page.clock.run_for(6_500)

    assert (
        front_end.panel.get_by_text("No answer yet")
        .inner_text()
        .endswith("If it is gone, restart the kernel and run this cell again; nothing that was saved is lost.")
    )


@pytest.mark.parametrize("marks", ["", "data-vscode-theme-kind='vscode-dark'", "data-vscode-theme-kind='vscode-light'"])
def test_it_can_be_read_without_the_variables_of_jupyter(open_front_end, marks):
    front_end = open_front_end(marks)
    front_end.page.screenshot(path=ARTIFACTS / f"front-end-{marks[-6:-1].strip('-') or 'plain'}.png")

    assert violations(front_end) == []
    paper = front_end.panel.evaluate("panel => getComputedStyle(panel).backgroundColor")
    assert paper == ("rgb(17, 24, 39)" if "dark" in marks else "rgb(255, 255, 255)")


def two_if_need_be(ctx: Context, is_needed: bool = False) -> None:
    if is_needed:
        first, second = ctx.submit(len, "a"), ctx.submit(len, "b")
        first.result(), second.result()


def test_guesses_of_the_same_name_are_drawn_as_often_as_they_are_told_and_no_longer(open_front_end):
    front_end = open_front_end(workflow=two_if_need_be)
    for _ in range(3):  # each state is drawn over the one before
        front_end.hear()
    cards = front_end.panel.locator(".durable-step")

    assert cards.all_inner_texts() == 2 * ["len\n○ possible"]
    front_end.hear(columns=[])
    assert cards.count() == 0
