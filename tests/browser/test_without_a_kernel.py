"""Front ends that hide the kernel from the panel, as VS Code and Colab do: it says in words what to do.

They cannot be tried here. This is the panel's own JavaScript in a page of its own, with a model that is all it gets.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from durable import Context, lab
from durable.dashboard import LOOK, module_of
from durable.examples.onboarding import onboarding
from durable.lab.controller import Controller
from tests.browser.conftest import ARTIFACTS
from tests.browser.test_everyone import violations

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

FOLDER = Path(lab.__file__).parent
PAGE = """<!doctype html><html lang="en"><head><title>a front end</title><style>{css}</style></head>
<body {marks}><main id="out"></main><script type="module">{script}
globalThis.sent = [];
globalThis.model = {{
  listeners: [],
  get: () => model.state,
  on: (_, listener) => model.listeners.push(listener),
  off: () => {{}},
  send: (message) => sent.push(message),
}};
globalThis.hear = (state) => {{ model.state = state; model.listeners.forEach((listener) => listener()); }};
globalThis.begin = (state) => {{ model.state = state; render({{ model, el: document.getElementById("out") }}); }};
</script></body></html>"""


class FrontEnd:
    """A page with a panel, and the states that a controller tells it."""

    def __init__(self, page, database: Path, marks: str, workflow) -> None:
        self.page = page
        self.controller = Controller(
            workflow, "emp_001", db=database, kill=lambda: None, notice_seconds=0, on_change=self._take
        )
        self.controller.open()
        script = module_of(FOLDER / "panel.js").replace("export default", "globalThis.panel =")
        css = LOOK.read_text()
        page.clock.install()
        page.set_content(PAGE.format(css=css, script=script, marks=marks))
        page.evaluate("state => begin(state)", self.state)
        self.panel = page.locator(".durable-panel")

    def _take(self, state: dict) -> None:
        self.state = state

    def crash(self) -> None:
        """The last message before the kill, as the kernel sends it."""
        self.controller.crash_now()
        self.hear()

    def hear(self, **changes) -> None:
        """The next state, with changes, drawn."""
        self.page.evaluate("state => hear(state)", self.state | changes)
        self.page.clock.run_for(100)  # it is drawn with the next frame

    def sentence(self) -> str:
        return self.panel.locator(".durable-sentence").inner_text()


@pytest.fixture
def open_front_end(browser, database):
    opened: list[FrontEnd] = []

    def make(marks: str = "", workflow=onboarding) -> FrontEnd:
        opened.append(FrontEnd(browser.new_page(viewport={"width": 900, "height": 700}), database, marks, workflow))
        return opened[-1]

    yield make
    for front_end in opened:
        front_end.page.close()
        front_end.controller.close()


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
