"""A page with the panel's own JavaScript and a model, without Jupyter; the controller is in this process."""

from __future__ import annotations

import time
from pathlib import Path

from durable import lab
from durable.dashboard.drawn import LOOK, module_of
from durable.lab.panel.controller import Controller
from tests.support.patience import PATIENCE_SECONDS

SCRIPT = Path(lab.__file__).parent / "panel/panel.js"
KERNEL = """
() => {
  const connect = (listener) => { globalThis.tellStatus = (status) => listener(null, status); };
  model.widget_manager = { kernel: { statusChanged: { connect, disconnect: () => {} } } };
}
"""
DRAW = """
state => new Promise((drawn) => { hear(state); requestAnimationFrame(() => requestAnimationFrame(drawn)) })
"""
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
    """The page, and the states that a controller tells it. Its clock stands still unless it `is_live`."""

    def __init__(
        self,
        page,
        database: Path,
        marks: str,
        workflow,
        *,
        is_live: bool = False,
        has_kernel: bool = False,
        **kwargs,
    ) -> None:
        self.page = page
        self.controller = Controller(
            workflow,
            "emp_001",
            db=database,
            kwargs=kwargs,
            kill=lambda: None,
            notice_seconds=0,
            on_change=self._take,
        )
        self.controller.open()
        script = module_of(SCRIPT).replace("export default", "globalThis.panel =")
        css = LOOK.read_text()
        if not is_live:
            page.clock.install()
        page.set_content(PAGE.format(css=css, script=script, marks=marks))
        if has_kernel:
            page.evaluate(KERNEL)
        page.evaluate("state => begin(state)", self.state)
        self.panel = page.locator(".durable-panel")

    def _take(self, state: dict) -> None:
        self.state = state

    def tell_status(self, *statuses: str) -> None:
        """What the front end says of the kernel, if it `has_kernel`."""
        for status in statuses:
            self.page.evaluate("status => tellStatus(status)", status)

    def crash(self) -> None:
        """The last message before the kill, as the kernel sends it."""
        self.controller.crash_now()
        self.hear()

    def hear(self, **changes) -> None:
        """The next state, with changes, drawn."""
        self.page.evaluate("state => hear(state)", self.state | changes)
        self.page.clock.run_for(100)  # it is drawn with the next frame

    def wait_for(self, what) -> None:
        """Pass clicks to the controller and its states to a live page, until a condition of the page holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not what():
            assert time.monotonic() < deadline, self.panel.inner_text()
            for message in self.page.evaluate("sent.splice(0)"):
                self.controller.handle(message)
            self.page.evaluate(
                DRAW,
                self.state,
            )

    def wait_for_text(self, text: str) -> None:
        """Until a text is seen in the panel."""
        self.wait_for(lambda: self.panel.get_by_text(text).count() > 0)

    def click(self, button: str) -> None:
        self.panel.get_by_role("button", name=button, exact=True).click()

    def sentence(self) -> str:
        return self.panel.locator(".durable-sentence").inner_text()
