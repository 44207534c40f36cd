"""The dashboard in a browser: a report from a file, `durable ui`, and the widget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from durable import Engine
from durable.dashboard.page import write_report
from durable.dashboard.server import Server
from durable.store.reader import Reader
from tests.browser.conftest import ARTIFACTS
from tests.browser.test_everyone import violations
from tests.dashboard.flows import ATTACK, HOSTILE_ID, approved, make_world, parcel
from tests.support.patience import patient

pytestmark = pytest.mark.browser

STEP_MS = patient(10_000)
WIDTHS = {"wide": 1280, "narrow": 420}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("a folder") / "my flow.db")


@pytest.fixture(scope="module")
def report(world):
    path = world.parent / "my report.html"
    with path.open("w", encoding="utf-8") as out, Reader(world) as reader:
        write_report(reader, out, 1000)
    return path


@dataclass
class Seen:
    """A page with a dashboard, and what it did that it should not do."""

    page: Any
    requests: list[str]
    errors: list[str]

    @property
    def rows(self) -> list[str]:
        return self.page.locator(".durable-open").all_inner_texts()

    def wait_for_rows(self, *ids: str) -> None:
        texts = [f"[data-id='{each}']" for each in ids]
        self.page.wait_for_function(
            "([count, wanted]) => document.querySelectorAll('.durable-open').length === count"
            " && wanted.every((one) => document.querySelector(one))",
            arg=[len(ids), texts],
            timeout=STEP_MS,
        )

    def open(self, workflow_id: str) -> None:
        self.page.get_by_role("button", name=workflow_id, exact=True).click()
        self.wait_for_workflow(workflow_id)

    def wait_for_workflow(self, workflow_id: str) -> None:
        self.page.get_by_role("heading", name=workflow_id, exact=True).wait_for(timeout=STEP_MS)

    def picture(self, name: str) -> None:
        folder = ARTIFACTS / "dashboard"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)

    def too_wide(self) -> list[str]:
        """What reaches beyond the window and does not scroll."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.durable-dashboard *')].filter((node) => {
              const box = node.getBoundingClientRect();
              return box.width && !node.parentElement.closest('.durable-scroll, pre') && box.right > innerWidth + 1;
            }).map((node) => `${node.className}: ${node.textContent.slice(0, 40)}`)"""
        )


@pytest.fixture
def look(browser):
    """Opens pages; none may ask anything of another place, run what a workflow wrote, or report an error."""
    seen: list[tuple[Seen, str]] = []

    def make(url: str, scheme: str = "light", width: int = 1280) -> Seen:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        one = Seen(page, [], [])
        page.on("request", lambda request: one.requests.append(request.url))
        page.on("pageerror", lambda error: one.errors.append(str(error)))
        page.on("console", lambda said: one.errors.append(said.text) if said.type == "error" else None)
        seen.append((one, url))
        page.goto(url)
        page.locator(".durable-open").first.wait_for(timeout=STEP_MS)
        return one

    yield make
    for one, url in seen:
        place = url.split("#")[0].rsplit("/", 1)[0]
        assert one.errors == []
        assert [each for each in one.requests if not each.startswith((place, "data:"))] == []
        assert one.page.evaluate("window.hurt") is None
        one.page.close()


def test_a_report_is_filtered_sorted_and_opened(look, report) -> None:
    seen = look(report.as_uri())
    assert len(seen.rows) == 12
    seen.page.get_by_role("button", name="2 failed").click()
    seen.wait_for_rows("failed_1", "undone_1")
    seen.page.get_by_label("id begins with").fill("un")
    seen.wait_for_rows("undone_1")
    seen.page.get_by_role("button", name="in all").click()
    seen.page.get_by_label("id begins with").fill("order_")
    seen.wait_for_rows("order_1", "order_1/parcel_4", "order_2")
    seen.page.get_by_role("button", name="workflow", exact=True).click()
    assert seen.rows == ["order_1", "order_1/parcel_4", "order_2"]
    seen.page.get_by_role("button", name="workflow", exact=True).click()
    assert seen.rows == ["order_2", "order_1/parcel_4", "order_1"]
    seen.page.get_by_label("function").select_option(label="order")
    seen.wait_for_rows("order_1")

    seen.open("order_1")
    seen.page.locator("summary", has_text="knock_3").click()
    tries = seen.page.locator("details[open] .durable-tries").inner_text()
    assert "attempt 1, run 1, main" in tries
    assert "ConnectionError: no answer 2" in tries
    seen.picture("workflow")
    seen.page.get_by_role("button", name="order_1/parcel_4").click()
    seen.wait_for_workflow("order_1/parcel_4")
    seen.page.go_back()
    seen.wait_for_workflow("order_1")
    seen.page.get_by_role("button", name="All workflows").click()
    seen.wait_for_rows("order_1")
    assert seen.page.locator(":focus").inner_text() == "order_1"
    assert seen.requests == [report.as_uri()]


def test_hostile_names_values_and_errors_are_text(look, report) -> None:
    seen = look(report.as_uri())
    seen.open(HOSTILE_ID)
    seen.page.locator("summary").click()
    assert f"packed {ATTACK}"[:20] in seen.page.locator("details pre").inner_text()
    seen.page.get_by_role("button", name="All workflows").click()
    seen.open("failed_1")

    assert "onerror=" in seen.page.get_by_role("region", name="error of the workflow").inner_text()
    assert seen.page.locator("img").count() == 0


def test_many_steps_come_in_pages(look, report) -> None:
    seen = look(f"{report.as_uri()}")
    seen.open("many_1")
    seen.page.get_by_role("button", name="Next", exact=True).last.click()
    seen.page.get_by_role("button", name="Next", exact=True).last.click()
    seen.page.get_by_text("steps 201 to 230 of 230").wait_for(timeout=STEP_MS)

    assert seen.page.locator("summary").count() == 30


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_axe_finds_nothing_wrong_and_nothing_is_cut_off(look, report, scheme, size) -> None:
    seen = look(report.as_uri(), scheme, WIDTHS[size])
    seen.picture(f"list-{scheme}-{size}")
    assert violations(seen, "body") == []
    assert seen.too_wide() == []
    for workflow_id in ("crashed_1", "failed_1", "waiting_1", "order_1", HOSTILE_ID):
        seen.page.evaluate("id => { location.hash = encodeURIComponent(id) }", workflow_id)
        seen.wait_for_workflow(workflow_id)
        seen.page.locator("summary").first.click()
        seen.picture(f"{workflow_id[:7].strip()}-{scheme}-{size}")
        assert violations(seen, "body") == []
        assert seen.too_wide() == []
    seen.page.evaluate("document.querySelector('summary').style.color = '#ddd'")
    seen.page.evaluate("document.querySelector('summary').style.background = '#ccc'")
    assert any("contrast" in found for found in violations(seen, "body"))  # axe does look


def test_a_report_is_used_by_keyboard_alone(look, report) -> None:
    seen = look(report.as_uri())
    press = seen.page.keyboard.press
    walk(seen, "2 failed")
    press("Enter")
    seen.wait_for_rows("failed_1", "undone_1")
    walk(seen, "failed_1")
    press("Enter")
    seen.wait_for_workflow("failed_1")
    assert seen.page.locator(":focus").inner_text() == "failed_1"
    walk(seen, "charge_2")
    press("Space")
    seen.page.locator("details[open]", has_text="charge_2").wait_for(timeout=STEP_MS)
    walk(seen, "All workflows", "Shift+Tab")
    press("Enter")
    seen.wait_for_rows("failed_1", "undone_1")

    assert seen.page.locator(":focus").inner_text() == "failed_1"


def walk(seen: Seen, text: str, key: str = "Tab") -> None:
    """Press a key until the control with this text has the focus."""
    for _ in range(60):
        seen.page.keyboard.press(key)
        focus = seen.page.locator(":focus")
        if focus.count() and text in focus.inner_text():
            return
    raise AssertionError(f"{key} does not come to {text}")


# ---- durable ui


@pytest.fixture
def server(tmp_path):
    """A server on a database with one workflow that waits for an approval."""
    path = tmp_path / "live.db"
    with Engine(path, suspend=True) as engine:
        engine.start("waiting_1", approved)
        engine.stop()
    with Reader(path) as reader, Server(reader) as server:
        yield server


def test_a_live_page_shows_what_changes_and_says_when_its_server_has_ended(look, server) -> None:
    seen = look(server.url)
    seen.wait_for_rows("waiting_1")
    with Engine(server.reader.path) as engine:
        engine.run("new_1", parcel, "a lamp")
        seen.wait_for_rows("waiting_1", "new_1")
        seen.open("waiting_1")
        engine.send("waiting_1", "approval", ATTACK)
        engine.resume("waiting_1").result()
        seen.page.locator(".durable-shown-head .durable-badge[data-state=completed]").wait_for(timeout=STEP_MS)
    seen.page.get_by_role("cell", name="approval_1").wait_for(timeout=STEP_MS)
    seen.picture("live")
    assert violations(seen, "body") == []
    server.close()
    seen.page.get_by_text("The server has ended").wait_for(timeout=STEP_MS)

    seen.errors[:] = [each for each in seen.errors if "ERR_" not in each]


def test_a_link_to_a_workflow_opens_it_and_a_wrong_one_says_so(look, server) -> None:
    seen = look(server.url)
    seen.page.goto(f"{server.url}#waiting_1")
    seen.wait_for_workflow("waiting_1")
    seen.page.goto(f"{server.url}#wating_1")
    seen.wait_for_workflow("wating_1")

    assert seen.page.get_by_role("alert").inner_text() == "no workflow 'wating_1'; did you mean 'waiting_1'?"
