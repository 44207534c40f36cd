"""What the panel draws, clicked in a page without Jupyter: compensations, messages, errors of earlier attempts."""

from __future__ import annotations

import threading

import pytest

from durable import Context, Engine, Retry, current_step, step
from durable.examples.saga import saga
from tests.browser.conftest import ARTIFACTS
from tests.browser.lesson import CUT_OFF
from tests.browser.test_everyone import violations

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

DARK = "data-jp-theme-light='false' style='background: #111'"
HOSTILE = '<img src=x onerror="globalThis.hacked = 1">'


def look(front_end, name: str) -> None:
    """Keep a picture, and hold that axe finds nothing, on a light page and on a dark one."""
    ARTIFACTS.mkdir(exist_ok=True)
    front_end.page.set_viewport_size({"width": 1180, "height": 900})
    for theme in ("light", "dark"):
        front_end.page.evaluate("isLight => { document.body.dataset.jpThemeLight = isLight }", theme == "light")
        front_end.panel.screenshot(path=ARTIFACTS / f"panel-{name}-{theme}.png")
        assert violations(front_end) == []
        assert front_end.panel.evaluate(CUT_OFF) == []
    assert front_end.page.evaluate("globalThis.hacked") is None


def word_of(front_end, key: str) -> str:
    return front_end.panel.locator(f".durable-step[data-key='{key}'] .durable-word").inner_text()


def test_a_compensation_is_registered_and_then_run(open_front_end):
    front_end = open_front_end(workflow=saga, is_live=True, delay_seconds=0.0)
    for key in ("create_record_1", "remove_record_2"):
        front_end.click("Next step")
        front_end.wait_for(lambda key=key: front_end.panel.locator(f"[data-key={key}] .durable-result").is_visible())
    assert word_of(front_end, "remove_record_2") == "◇ registered, runs if the workflow fails"
    look(front_end, "registered")
    front_end.click("Run all")
    front_end.wait_for_text("What was to be undone is undone")

    assert word_of(front_end, "remove_record_2") == "◇ registered, and has run"
    assert word_of(front_end, "remove_record_2/remove_record_1") == "✓ completed"
    undone = front_end.panel.get_by_role("list", name="steps of compensations").locator(".durable-step")
    assert [step.get_attribute("data-key") for step in undone.all()] == [
        "return_laptop_4/return_laptop_1",
        "remove_record_2/remove_record_1",
    ]
    look(front_end, "compensated")


def deciding(ctx: Context) -> object:
    ctx.step(len, "wish")
    return ctx.wait_event(HOSTILE)


@pytest.mark.parametrize(
    ("typed", "reads", "received"),
    [
        ('{"granted": true}', "is sent as an object", '{"granted":true}'),
        (HOSTILE, "is sent as a text", None),
        ("12", "is sent as a number", "12"),
    ],
)
def test_a_message_is_sent_to_the_event_that_the_workflow_waits_for(open_front_end, typed, reads, received):
    front_end = open_front_end(workflow=deciding, is_live=True)
    front_end.click("Run all")
    box = front_end.panel.get_by_label("message", exact=True)
    front_end.wait_for(box.is_visible)
    assert front_end.panel.get_by_label("event", exact=True).input_value() == HOSTILE
    box.fill(typed)
    front_end.panel.get_by_text(reads).wait_for()
    look(front_end, "message")
    box.press("Enter")
    front_end.wait_for(lambda: front_end.panel.get_attribute("data-status") == "completed")
    assert front_end.panel.locator("button:focus", has_text="Next step").count() == 1  # the form is gone

    output = front_end.controller.state()["rows"][1]["output"]
    assert output == received or (received is None and "onerror" in output)
    look(front_end, "received")


def test_a_workflow_resumed_at_an_event_shows_that_a_message_has_come(open_front_end, database):
    with Engine(database) as engine:
        handle = engine.start("emp_001", deciding)
        while not engine.waits("emp_001"):
            handle.done()
        handle.end()
        engine.send("emp_001", HOSTILE, "come")
    front_end = open_front_end(workflow=deciding, is_live=True)
    front_end.wait_for_text("has come. Next step goes on with")
    look(front_end, "come")
    front_end.click("Next step")
    front_end.wait_for(lambda: front_end.panel.get_attribute("data-status") == "completed")

    assert front_end.sentence().startswith("Completed.")


@step(retry=Retry(attempts=3, delay_seconds=0))
def reach_the_office() -> int:
    attempt = current_step().attempt
    if attempt < 3:
        raise ConnectionError(f"line {attempt} is dead {HOSTILE}")
    return attempt


def calling(ctx: Context) -> int:
    return ctx.step(reach_the_office)


def test_the_errors_of_earlier_attempts_are_on_the_card(open_front_end):
    front_end = open_front_end(workflow=calling, is_live=True)
    front_end.click("Run all")
    front_end.wait_for(lambda: front_end.panel.get_attribute("data-status") == "completed")
    look(front_end, "errors")

    failures = front_end.panel.locator(".durable-failures li").all_inner_texts()
    assert [failure[:40] for failure in failures] == [
        "attempt 1: ConnectionError: line 1 is de",
        "attempt 2: ConnectionError: line 2 is de",
    ]


def ring(number: int) -> str:
    if number == 13:
        raise ConnectionError(HOSTILE)
    return HOSTILE


def ringing(ctx: Context) -> None:
    ctx.step(len, "begin")
    ctx.map(ring, range(60), max_concurrent=8, per_second=1000)


def test_a_map_of_many_items_is_one_card_with_a_bar_that_opens(open_front_end):
    front_end = open_front_end(workflow=ringing, is_live=True)
    front_end.click("Run all")
    front_end.wait_for(lambda: front_end.panel.get_attribute("data-status") == "failed")
    group = front_end.panel.locator(".durable-group")
    assert front_end.panel.locator(".durable-step").count() == 2
    assert group.get_by_role("progressbar").evaluate("bar => [bar.value, bar.max]") == [60, 60]
    assert "✗ 59 completed, 1 failed" in group.inner_text()
    assert "begun per second, at most 1000 per second, at most 8 at once" in group.inner_text()
    look(front_end, "map")
    button = group.get_by_role("button", name="Show each, ring, 60 times")
    button.focus()
    front_end.page.keyboard.press("Enter")
    front_end.wait_for(lambda: front_end.panel.locator("[data-key=ring_15][data-state=failed]").count() == 1)
    look(front_end, "map-open")
    assert group.get_by_role("button", name="Show as one, ring, 60 times").evaluate(
        "button => button === document.activeElement"
    )
    front_end.page.keyboard.press("Enter")
    front_end.wait_for(lambda: front_end.panel.locator(".durable-step").count() == 2)


def thirty(ctx: Context) -> None:
    for number in range(30):
        ctx.step(len, "x" * number)


def test_a_workflow_of_thirty_steps_fits_on_a_screen(open_front_end):
    front_end = open_front_end(workflow=thirty, is_live=True)
    front_end.click("Run all")
    front_end.wait_for(lambda: front_end.panel.get_attribute("data-status") == "completed")
    look(front_end, "thirty")
    front_end.page.set_viewport_size({"width": 1280, "height": 800})
    box = front_end.panel.locator("> .durable-flow").bounding_box()

    assert front_end.panel.locator("> .durable-flow .durable-step").count() == 30
    assert box["y"] + box["height"] < 800  # with the buttons above it, on a small laptop
    front_end.page.add_style_tag(content=".durable-step { padding: 40px !important }")
    assert front_end.panel.locator("> .durable-flow").bounding_box()["height"] > 800  # it does measure


go_on = threading.Event()


def load() -> int:
    current_step().publish(HOSTILE, 40, total=100)
    go_on.wait()
    return 100


def loading(ctx: Context) -> int:
    return ctx.step(load)


def test_a_step_shows_how_far_it_is(open_front_end):
    go_on.clear()
    front_end = open_front_end(workflow=loading, is_live=True)
    front_end.click("Run all")
    bar = front_end.panel.get_by_role("progressbar", name="progress of load_1")
    try:
        front_end.wait_for(bar.is_visible)
        assert bar.evaluate("bar => [bar.value, bar.max]") == [0.4, 1]
        look(front_end, "progress")
    finally:
        go_on.set()
    front_end.wait_for(lambda: front_end.panel.get_attribute("data-status") == "completed")

    assert not bar.is_visible()
