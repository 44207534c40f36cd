"""The dashboard in a browser: a report from a file, `durable ui`, and the widget."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest

from durable import Context, Engine, current_step, lab
from durable.dashboard.drawn.page import write_report
from durable.dashboard.drawn.server import Server
from durable.store.reader import Reader
from tests.browser.conftest import ARTIFACTS
from tests.browser.lesson import KERNEL_MS, PAGE_MS, write_notebook
from tests.browser.server import start_server
from tests.browser.test_everyone import violations
from tests.dashboard.flows import ATTACK, HOSTILE_ID, approved, make_world, parcel, unpaid
from tests.support.patience import PATIENCE_SECONDS, patient
from tests.support.processes import eventually

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


def picture(page, name: str) -> None:
    folder = ARTIFACTS / "dashboard"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)


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
        picture(self.page, name)

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


def test_a_live_page_draws_how_far_a_step_and_a_map_say_that_they_are(look, server) -> None:
    go = threading.Event()

    def load(part: int) -> None:
        current_step().publish("<b onclick=hurt>rows", 30, total=100)
        current_step().publish("file", ATTACK)
        if part:
            go.wait(PATIENCE_SECONDS)

    def loading(ctx: Context) -> None:
        ctx.map(load, [0, 1], max_concurrent=1)

    with Engine(server.reader.path) as engine:
        handle = engine.start("loading_1", loading)
        try:
            seen = look(server.url)
            seen.wait_for_rows("waiting_1", "loading_1")
            seen.open("loading_1")
            bars = seen.page.get_by_role("progressbar")
            bars.nth(1).wait_for(timeout=STEP_MS)  # of the map, from load_1 on; and of load_2
            shares = bars.evaluate_all("all => all.map((bar) => [bar.ariaLabel, bar.value])")
            words = seen.page.get_by_role("region", name="table of progress").inner_text()
            seen.picture("progress")
        finally:
            go.set()
        handle.result()
    bars.first.wait_for(state="hidden", timeout=STEP_MS)

    assert shares == [["progress of load_1", 0.5], ["progress of load_2", 0.3]]
    assert "map 1 of 2 (50 %)" in words
    assert "<b onclick=hurt>rows 30 of 100 (30 %)" in words
    assert 'file "<img src=x onerror=' in words
    assert violations(seen, "body") == []


def hostile() -> Any:
    return pd.DataFrame({"<img src=x onerror='hurt=1'>": range(40), "city": ["<b>Rome</b>"] * 40})


def frames(ctx: Context) -> None:
    ctx.step(hostile)
    ctx.step(hostile)


def test_a_frame_is_shown_as_a_table_when_it_is_asked_for_and_names_in_it_are_text(look, server) -> None:
    with Engine(server.reader.path) as engine:
        engine.run("frames", frames)
    seen = look(server.url)
    seen.open("frames")
    steps = seen.page.locator(".durable-steplist > li")
    assert "frame/1, " in steps.first.locator(".durable-of-brief").inner_text()
    steps.first.locator("summary").click()
    assert seen.page.locator(".durable-steplist table").count() == 0
    steps.first.get_by_role("button", name="Show as a table").click()
    table = steps.first.locator("table")
    table.wait_for(timeout=STEP_MS)
    seen.picture("frame")

    rows = [row.split("\t") for row in table.inner_text().splitlines()]
    assert rows[0] == ["", "<img src=x onerror='hurt=1'>", "city"]
    assert rows[2] == ["0", "0", "<b>Rome</b>"]
    assert rows[7] == ["...", "...", "..."]
    assert rows[-1] == ["39", "39", "<b>Rome</b>"]
    assert table.locator("img, b").count() == 0
    assert seen.page.locator(".durable-steplist table").count() == 1
    assert violations(seen, "body") == []
    assert seen.too_wide() == []
    steps.first.get_by_role("button", name="Hide the table").click()
    table.wait_for(state="detached", timeout=STEP_MS)


def test_a_link_to_a_workflow_opens_it_and_a_wrong_one_says_so(look, server) -> None:
    seen = look(server.url)
    seen.page.goto(f"{server.url}#waiting_1")
    seen.wait_for_workflow("waiting_1")
    seen.page.goto(f"{server.url}#wating_1")
    seen.wait_for_workflow("wating_1")

    assert seen.page.get_by_role("alert").inner_text() == "no workflow 'wating_1'; did you mean 'waiting_1'?"


# ---- the widget

MODEL = """<!doctype html><html lang="en"><head><title>a front end</title><style>{css}</style></head>
<body data-jp-theme-light="{is_light}"><main id="out"></main><script type="module">{script}
globalThis.sent = [];
const heard = {{}};
globalThis.values = {{}};
const model = {{
  get: (name) => values[name],
  on: (name, listener) => {{ heard[name] = listener; }},
  off: () => {{}},
  send: (message) => sent.push(message),
}};
globalThis.change = (name, value) => {{ values[name] = value; heard[`change:${{name}}`]?.(); }};
globalThis.begin = () => widget.render({{ model, el: document.getElementById("out") }});
</script></body></html>"""


class FrontEnd:
    """A page with the widget's own JavaScript, and the widget itself, with messages carried by hand between them."""

    def __init__(self, page, widget, is_light: str = "true") -> None:
        self.page, self.widget = page, widget
        self._told: dict[str, Any] = {}
        script = widget._esm.replace("export default", "globalThis.widget =")
        page.set_content(MODEL.format(css=widget._css, script=script, is_light=is_light))
        self.carry()
        page.evaluate("begin()")

    def carry(self) -> None:
        for message in self.page.evaluate("sent.splice(0)"):
            self.widget.handle(message)
        for name in ("allows", "answer", "said"):
            value = getattr(self.widget, name)
            if self._told.get(name) is not value:
                self._told[name] = value
                self.page.evaluate("([name, value]) => change(name, value)", [name, value])

    def wait_for(self, locator) -> None:
        def is_there() -> bool:
            self.carry()
            return locator.count() > 0 and locator.first.is_visible()

        eventually(is_there)

    def open(self, workflow_id: str) -> None:
        self.wait_for(self.page.get_by_role("button", name=workflow_id, exact=True))
        self.page.get_by_role("button", name=workflow_id, exact=True).click()
        self.wait_for(self.page.get_by_role("heading", name=workflow_id, exact=True))

    def act(self, name: str, workflow_id: str, says: str, **fields: str) -> None:
        """Choose an action, fill in its fields, do it, and wait for what the page says."""
        self.page.get_by_role("button", name=name, exact=True).click()
        for label, value in fields.items():
            self.page.get_by_label(label.replace("_", " "), exact=True).fill(value)
        self.page.get_by_role("button", name=f"{name} {workflow_id}").click()
        self.wait_for(self.page.locator(".durable-said", has_text=says))


@pytest.fixture(params=["true", "false"], ids=["light", "dark"])
def front_end(request, browser, tmp_path):
    path = tmp_path / "live.db"
    with Engine(path) as engine:
        with pytest.raises(ValueError, match="no money"):
            engine.run("failed_1", unpaid, 7)
        engine.start("waiting_1", approved)
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        widget = lab.dashboard(path, allow=True)
        yield FrontEnd(page, widget, request.param)
        page.close()
        widget.close()
        engine.stop()


def test_the_widget_does_what_it_is_asked_and_says_what_it_does(front_end) -> None:
    page = front_end.page
    front_end.open("waiting_1")
    page.get_by_role("button", name="Send", exact=True).click()
    assert page.locator("input:focus").input_value() == "approval"  # what it waits for
    assert "Leaves a message for it." in page.locator(".durable-action").inner_text()
    picture(page, "actions")
    assert violations(front_end) == []
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_label("value, as JSON").fill("yes")
    page.get_by_role("button", name="Send to waiting_1").click()
    front_end.wait_for(page.locator(".durable-said[data-tone=problem]", has_text="not valid JSON"))
    page.get_by_label("value, as JSON").fill('"yes"')
    page.get_by_role("button", name="Send to waiting_1").click()
    front_end.wait_for(page.locator(".durable-badge[data-state=completed]"))
    assert page.locator(":focus").inner_text() in ("Send", "waiting_1")
    front_end.act("Fork", "waiting_1", "fork_1 stands before approval_1 now", step="approval_1", new_id="fork_1")
    front_end.act("Rewind", "waiting_1", "Resume runs it from there", step="approval_1")
    front_end.wait_for(page.locator(".durable-badge[data-state=rewound]"))
    front_end.act("Cancel", "waiting_1", "Its cancellation is on record.")
    page.get_by_role("button", name="All workflows").click()
    front_end.open("failed_1")
    front_end.act("Retry", "failed_1", "It runs in this process now.")
    front_end.wait_for(page.locator("dd", has_text="2"))
    assert violations(front_end) == []


def test_without_leave_the_widget_offers_nothing(browser, world) -> None:
    page = browser.new_page()
    widget = lab.dashboard(world)
    front_end = FrontEnd(page, widget)
    front_end.open("failed_1")

    assert page.locator(".durable-actions").count() == 0
    page.close()
    widget.close()


CELL = """from durable import lab
lab.dashboard({path!r})"""


@pytest.mark.thorough
def test_in_jupyterlab_the_widget_is_live_while_another_process_works(browser, tmp_path) -> None:
    path = tmp_path / "my flow.db"
    with Engine(path) as engine:
        engine.run("first", parcel, "a lamp")
        notebook = write_notebook(tmp_path / "dashboard.ipynb", CELL.format(path=str(path)))
        server = start_server("lab", tmp_path, tmp_path)
        server.trust(notebook)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        try:
            page.goto(server.page(notebook.name))
            cell = page.locator(".jp-CodeCell", has_text="lab.dashboard(")
            cell.locator(".cm-content").click(timeout=PAGE_MS)
            seen = Seen(page, [], [])
            dashboard = page.locator(".durable-dashboard")
            for _ in range(8):
                page.keyboard.press("Control+Enter")
                try:
                    dashboard.wait_for(timeout=KERNEL_MS / 8)
                    break
                except Exception:  # the page has no kernel yet
                    cell.locator(".cm-content").click(timeout=PAGE_MS)
            seen.wait_for_rows("first")
            engine.run("second", parcel, "a chair")
            seen.wait_for_rows("first", "second")
            seen.open("second")
            seen.picture("jupyterlab")
            assert violations(seen, ".durable-dashboard") == []
            assert "a chair" in dashboard.inner_text()
        finally:
            page.close()
            server.stop()
