"""The notebooks run top to bottom without a click, tell no lies in their committed outputs, and survive their crash."""

from __future__ import annotations

import base64
import re

import nbclient
import nbformat
import pytest
from jupyter_core.utils import run_sync

from durable.examples.effects import list_effects
from tests.notebooks import CELL_SECONDS, NOTEBOOKS, WIDGET_VIEW, execute, tidy

MAX_BYTES = 150_000
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|var|opt|Users|work|private)/|[A-Z]:\\\\")

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def outputs_of(content) -> list:
    return [output for cell in content.cells for output in cell.get("outputs", [])]


def text_of(output) -> str:
    data = output.get("data", {})
    return "\n".join(
        [output.get("text", ""), *(str(value) for kind, value in sorted(data.items()) if kind.startswith("text/"))]
    )


def cell_with(content, cell_id: str):
    return next(cell for cell in content.cells if cell.id == cell_id)


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["01_crash_and_resume.ipynb"]


@each_notebook
def test_it_runs_from_top_to_bottom_without_a_click_and_shows_what_is_committed(notebook, tmp_path):
    committed = nbformat.read(notebook, as_version=4)
    ran = tidy(execute(notebook, tmp_path))

    assert [output.output_type for output in outputs_of(ran)] == [
        output.output_type for output in outputs_of(committed)
    ]
    assert [text_of(output) for output in outputs_of(ran)] == [text_of(output) for output in outputs_of(committed)]


@each_notebook
def test_it_is_small_and_holds_no_path_no_warning_and_no_dead_widget(notebook):
    content = nbformat.read(notebook, as_version=4)
    said = "\n".join(map(text_of, outputs_of(content)))

    assert notebook.stat().st_size < MAX_BYTES
    assert not ABSOLUTE.search(notebook.read_text(encoding="utf-8"))
    assert "Warning" not in said
    assert "Traceback" not in said
    assert "widgets" not in content.metadata
    assert not any(WIDGET_VIEW in output.get("data", {}) for output in outputs_of(content))


@each_notebook
def test_its_cells_are_short_and_all_of_them_have_been_run(notebook):
    content = nbformat.read(notebook, as_version=4)
    code = [cell for cell in content.cells if cell.cell_type == "code"]

    assert all(len(cell.source.splitlines()) <= 25 for cell in code)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert content.cells[0].source.splitlines()[0].endswith("?")


@each_notebook
def test_its_pictures_are_pictures(notebook):
    content = nbformat.read(notebook, as_version=4)
    pictures = [output.data["image/png"] for output in outputs_of(content) if "image/png" in output.get("data", {})]

    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.parametrize("text", ["/home/jane/x.db", "see /tmp/a", "C:\\\\data"])
def test_an_absolute_path_would_be_found(text):
    assert ABSOLUTE.search(text)


# ---- the same crash as in the browser, clicked without one


def test_after_a_kernel_death_the_same_cell_replays_two_steps_and_runs_two(tmp_path):
    content = nbformat.read(NOTEBOOKS[0], as_version=4)
    panel = cell_with(content, "panel")
    panel.source = panel.source.replace("lab.panel(", "panel = lab.panel(")
    content.cells = [panel, *(nbformat.v4.new_code_cell(source) for source in (STEP_TWICE, CRASH, "1 + 1", RUN_ALL))]
    client = nbclient.NotebookClient(
        content, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with client.setup_kernel():
        first = run(client, 0, 1)
        with pytest.raises(nbclient.exceptions.DeadKernelError):
            run(client, 2, 3)
        assert shown_crash(client)["pid"] == int(first)
        start_again(client)
        second = run(client, 0, 4)

    assert second.splitlines()[1:] == [
        "create_record_1 replayed",
        "provision_laptop_2 replayed",
        "setup_access_3 completed",
        "send_welcome_email_4 completed",
    ]
    assert first != second.splitlines()[0]
    assert list_effects(tmp_path / "workflow.db", "emp_001") == [
        "created a record for Jane Doe",
        "ordered a laptop for Jane Doe",
        "opened accounts for Jane Doe",
        "sent a welcome to emp_001@company.com",
    ]


CLICK = """
import threading
changed = threading.Event()
panel.observe(lambda change: changed.set(), "state")

def click(button):  # as the page does: a message to the widget
    panel._handle_custom_msg({"do": button}, [])

def wait_for(key, state):
    while not any(c["key"] == key and c["state"] == state for column in panel.state["columns"] for c in column):
        changed.wait(10)
        changed.clear()
"""
STEP_TWICE = f"""{CLICK}
for key in ("create_record_1", "provision_laptop_2"):
    click("next")
    wait_for(key, "completed")
print(panel.state["pid"], end="")
"""
CRASH = "click('crash')"
RUN_ALL = f"""{CLICK}
wait_for("provision_laptop_2", "replayed")
click("all")
wait_for("send_welcome_email_4", "completed")
print(panel.state["pid"])
for column in panel.state["columns"]:
    for card in column:
        print(card["key"], card["state"])
"""


def run(client, *cells: int) -> str:
    """Run some cells of the client's notebook; what the last of them printed."""
    for index in cells:
        cell = client.execute_cell(client.nb.cells[index], index)
    return "".join(output.get("text", "") for output in cell.outputs)


def start_again(client) -> None:
    """What Jupyter does after a kernel's death: a new kernel for the same notebook."""
    client.create_kernel_manager()
    run_sync(client.async_start_new_kernel)()
    run_sync(client.async_start_new_kernel_client)()


def shown_crash(client) -> dict:
    """What the dead kernel had told the page last."""
    states = [state["state"] for state in client.widget_state.values() if "columns" in state.get("state", {})]
    return states[-1]["crash"]
