"""A notebook of durable cells in JupyterLab and Notebook 7: its kernel dies, is restarted by hand, and it goes on."""

from __future__ import annotations

import nbformat
import pytest

from tests.browser.lesson import KERNEL, KERNEL_MS, PAGE_MS, STEP_MS, Lesson

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

CELLS = [
    "%load_ext durable",
    "import durable, os, signal, time\nfrom pathlib import Path\nimport matplotlib.pyplot as plt",
    """def note(epoch):
    with open("effects", "a") as file:
        file.write(f"{epoch} in {os.getpid()}\\n")""",
    """%%durable load
numbers = [number**2 for number in range(6)]
plt.figure(figsize=(3, 1)); plt.plot(numbers)
print(len(numbers), "numbers loaded")""",
    """%%durable train
losses = []
for epoch in durable.each(range(6), every_seconds=0):
    losses.append(numbers[epoch] / 2)
    note(epoch)
    print("epoch", epoch)
    if epoch == 2 and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while epoch == 4 and not Path("go").exists():
        time.sleep(0.1)
print("trained to", losses[-1])""",
    "print('the end is', sum(losses))",
]


class Reader:
    """A reader who uses the menus."""

    def __init__(self, lesson: Lesson) -> None:
        self.page, self.lesson = lesson.page, lesson
        self.page.goto(lesson.address)
        lesson.begin_cell("%load_ext")

    def choose(self, menu: str, entry: str) -> None:
        """Choose an entry of a menu."""
        self.page.get_by_role("menuitem", name=menu, exact=True).click(timeout=PAGE_MS)
        self.page.locator(".lm-Menu-item", has_text=entry).first.click(timeout=STEP_MS)

    def confirm(self) -> None:
        """Say yes to a dialog."""
        self.page.locator(".jp-Dialog .jp-mod-accept").click(timeout=KERNEL_MS)

    def wait_for(self, text: str) -> None:
        """Wait until a cell shows a text."""
        self.page.locator(".jp-Cell-outputArea", has_text=text).first.wait_for(timeout=KERNEL_MS)

    def output(self, number: int) -> list[str]:
        """Return the lines of text that a cell shows."""
        cell = self.page.locator(".jp-CodeCell").nth(number)
        return cell.locator(".jp-OutputArea-output pre").inner_text(timeout=STEP_MS).splitlines()


def test_run_all_goes_on_after_the_death_of_its_kernel_and_after_a_restart(server, open_lesson, tmp_path):
    path = tmp_path / "an analysis.ipynb"
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), path)
    lesson = open_lesson(server, notebook=path)
    reader = Reader(lesson)
    reader.choose("Run", "Run All Cells")
    reader.confirm()  # the page says that the kernel has died, and is back
    lesson.picture("died")
    reader.choose("Run", "Run All Cells")
    reader.wait_for("epoch 4")
    lesson.picture("goes-on")
    reader.choose("Kernel", "Restart Kernel and Run All Cells")
    reader.confirm()
    reader.page.locator(".jp-Cell-outputArea", has_text="epoch 4").first.wait_for(state="detached", timeout=KERNEL_MS)
    reader.wait_for("epoch 4")
    (lesson.folder / "go").touch()
    reader.wait_for("the end is")

    assert reader.output(4) == [*(f"epoch {epoch}" for epoch in range(6)), "trained to 12.5"]
    assert reader.output(3) == ["6 numbers loaded"]
    assert reader.page.locator(".jp-CodeCell img").count() == 1
    effects = (lesson.folder / "effects").read_text().splitlines()
    assert [line.split()[0] for line in effects] == ["0", "1", "2", "2", "3", "4", "4", "5"]
    assert len({line.split()[-1] for line in effects}) == 3
    assert (lesson.folder / "an analysis.durable.db").exists()
