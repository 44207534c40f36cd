"""What a learner does with notebook 01 in a browser. It waits for the page, never for the clock."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat

from tests.support.notebooks import FOLDER
from tests.support.patience import patient

NAME = "01_crash_and_resume.ipynb"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
RUN_CELL = "Control+Enter"
PAGE_MS = patient(60_000)  # a cold start of Jupyter's page and a kernel
KERNEL_MS = patient(30_000)  # a kernel's death, its restart, and what the page makes of it
STEP_MS = patient(15_000)
BEGIN_MS = patient(4_000)  # until a cell that was run shows it
TRIES = 8
CUT_OFF = """
panel => {
  const cell = (panel.closest(".jp-OutputArea-output") ?? document.body).getBoundingClientRect();
  const room = panel.getBoundingClientRect();
  const found = room.right > cell.right + 1 ? [`the panel itself, ${room.right} beyond ${cell.right}`] : [];
  for (const node of panel.querySelectorAll("*")) {
    const box = node.getBoundingClientRect();
    const style = getComputedStyle(node);
    if (!box.width || node.parentElement.closest(".durable-scroll, pre, select")) continue;  // these scroll, or open
    const isTooWide = box.right > room.right + 1 || box.left < room.left - 1;
    const isCut = style.overflowX === "hidden" && style.textOverflow !== "ellipsis" && node.scrollWidth > box.width + 1;
    const isSpilt = node.tagName === "BUTTON" && style.overflowX === "visible" && node.scrollWidth > node.clientWidth;
    if (isTooWide || isCut || isSpilt) found.push(`${node.className}: ${node.textContent.slice(0, 40)}`);
  }
  return found;
}
"""


def write_notebook(path: Path, cell: str) -> Path:
    """A notebook of one cell."""
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)], metadata=KERNEL), path)
    return path


class Lesson:
    """The notebook in a folder of its own, the page that shows it, and the panel in it."""

    def __init__(self, page, server, folder: Path, pictures: Path, notebook: Path = FOLDER / NAME) -> None:
        self.page, self.folder, self.front_end = page, folder, server.front_end
        self._log = server.log
        self._pictures = pictures
        self._count = 0
        folder.mkdir()
        shutil.copy(notebook, folder / notebook.name)
        server.trust(folder / notebook.name)
        self.address = server.page(f"{folder.name}/{notebook.name}")
        self.foreign: list[str] = []  # what the page asked of others than our server
        page.on("request", self._note)
        page.on("websocket", self._note)
        self.panel = page.locator(".durable-panel")

    def _note(self, request) -> None:
        place = urlsplit(request.url).netloc  # data and blobs have none, and ask nobody
        if place and place != urlsplit(self.address).netloc:
            self.foreign.append(request.url)

    @property
    def database(self) -> Path:
        return self.folder / "workflow.db"

    def open(self) -> None:
        """Open the notebook and run the panel's cell."""
        self.page.goto(self.address)
        self.run_cell()

    def run_cell(self) -> None:
        """Run the panel's cell."""
        self.begin_cell("lab.panel(")
        self.wait_for_phase("alive", PAGE_MS)

    def begin_cell(self, text: str) -> None:
        """Run the cell with this text."""
        cell = self.page.locator(".jp-CodeCell", has_text=text)
        self.press_run(cell, cell.locator(".jp-InputPrompt", has_text="*").or_(self.panel))

    def press_run(self, cell: Any, begun: Any) -> None:
        """Run a cell until `begun` is seen; again where nothing happens, as on a page that has no kernel yet."""
        from playwright.sync_api import TimeoutError as NotSeenError  # where there is none, the tests are skipped

        cell.wait_for(timeout=PAGE_MS)
        for patience in range(TRIES, -1, -1):
            self.choose_kernel()
            cell.locator(".cm-content").click(timeout=PAGE_MS)
            self.page.keyboard.press(RUN_CELL)
            try:
                begun.first.wait_for(timeout=BEGIN_MS)
                break
            except NotSeenError:
                if not patience:
                    raise

    def choose_kernel(self) -> None:
        """A cell that was run before the page had a kernel makes it ask for one."""
        choice = self.page.locator(".jp-Dialog .jp-mod-accept")
        if choice.count():
            choice.first.click(timeout=STEP_MS)

    def click(self, button: str) -> None:
        self.panel.get_by_role("button", name=button).click(timeout=STEP_MS)

    def arm(self, moment: str, step: str) -> None:
        """Choose where to crash, and wait until the panel says so."""
        self.panel.get_by_label("moment to crash at").select_option(moment)
        self.panel.get_by_label("step to crash at").select_option(step)
        self.panel.get_by_text("Armed: process").wait_for(timeout=STEP_MS)

    def wait_for_phase(self, phase: str, timeout: float = KERNEL_MS) -> None:
        self.page.locator(f".durable-panel[data-phase={phase}]").wait_for(timeout=timeout)

    def wait_for_death(self) -> None:
        """Until the page knows that the kernel died; a new one may be there already."""
        self.page.locator(".durable-panel:is([data-phase=dead], [data-phase=back])").wait_for(timeout=KERNEL_MS)

    def wait_for_status(self, status: str) -> None:
        self.page.locator(f".durable-panel[data-status={status}]").wait_for(timeout=STEP_MS)

    def wait_for_step(self, key: str, state: str) -> None:
        self.step(key, state).wait_for(timeout=STEP_MS)

    def wait_until_next(self, key: str) -> None:
        """Until this is the step that the next click lets through."""
        self.panel.locator(f".durable-step[data-key='{key}'][data-next=true]").wait_for(timeout=STEP_MS)

    def step(self, key: str, state: str):
        return self.panel.locator(f".durable-step[data-key='{key}'][data-state={state}]")

    def states(self) -> dict[str, str]:
        """The state of each step that the page shows."""
        steps = self.panel.locator(".durable-step").all()
        return {step.get_attribute("data-key"): step.get_attribute("data-state") for step in steps}

    def pid(self) -> int:
        return int(self.panel.get_attribute("data-pid"))

    def sentence(self) -> str:
        return self.panel.locator(".durable-sentence").inner_text()

    def lives(self) -> list[str]:
        texts = self.panel.locator(".durable-life").all_inner_texts()
        return [re.sub(r" \d\d:\d\d:\d\d$", "", text) for text in texts]

    def foretold(self) -> str:
        return self.panel.locator(".durable-foretold").inner_text()

    def resume(self) -> None:
        """Click Resume when it can be clicked, and wait until the new kernel shows the panel."""
        self.wait_for_phase("back")
        self.click("Resume")
        self.wait_for_phase("alive")

    def cut_off(self) -> list[str]:
        """What of the panel cannot be seen for lack of width: none, where it fits into the room that it has."""
        return self.panel.evaluate(CUT_OFF)

    def keep_how_it_ended(self) -> None:
        """A last picture, the output of the panel's cell in words, and what the server has said."""
        self.picture("end")
        texts = (
            self.page.locator(".jp-CodeCell", has_text="lab.panel(").locator(".jp-Cell-outputArea").all_inner_texts()
        )
        (self._pictures / "output.txt").write_text("\n".join(texts))
        shutil.copy(self._log, self._pictures / "server.log")

    def picture(self, what: str) -> None:
        """Keep what the page shows now."""
        self._count += 1
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._pictures / f"{self._count}-{what}.png")
