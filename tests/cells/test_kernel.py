"""A real kernel, run by nbclient and killed: the notebook ends with the outputs that it would have had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from tests.support.patience import PATIENCE_SECONDS

CELLS = [
    '%load_ext durable\n%durable file "plots.durable.db"',
    "import durable, os, signal\nimport matplotlib.pyplot as plt, pandas as pd\n%matplotlib inline",
    """%%durable look
import sys
from IPython.display import Markdown, clear_output, display
print("first")
print("to stderr", file=sys.stderr)
handle = display(Markdown("**bold**"), display_id="note")
handle.update(Markdown("*updated*"))
del handle
plt.plot([1, 2, 3]); plt.title("a line")
pd.DataFrame({"a": [1, 2]})""",
    """%%durable loop
seen = []
for number in durable.each(range(5), every_seconds=0):
    print("pass", number)
    seen.append(number)
    if number == 3 and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
display(Markdown(f"{len(seen)} passes"))
seen""",
    """%%durable wait
import asyncio
got = await asyncio.sleep(0, "awaited")
got""",
]


def outputs_of(folder: Path) -> list[list[dict[str, Any]]]:
    """Run the notebook in a kernel of its own, and return the outputs of its durable cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(
        notebook, timeout=int(PATIENCE_SECONDS), kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [[_shown(each) for each in cell.outputs] for cell in notebook.cells[2:]]


def _shown(output: Any) -> dict[str, Any]:
    shown = {key: value for key, value in output.items() if key not in ("execution_count", "metadata", "transient")}
    return {**shown, "data": dict(shown["data"])} if "data" in shown else shown


def joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outputs with the pieces of each stream in one, as they come in any number."""
    whole: list[dict[str, Any]] = []
    for output in outputs:
        if (
            whole
            and output["output_type"] == whole[-1]["output_type"] == "stream"
            and output["name"] == whole[-1]["name"]
        ):
            whole[-1] = {**whole[-1], "text": whole[-1]["text"] + output["text"]}
        else:
            whole.append(output)
    return whole


@pytest.mark.thorough
def test_a_killed_kernel_shows_the_same_mime_bundles_in_its_next_lives(tmp_path: Path) -> None:
    control, folder = tmp_path / "control", tmp_path / "a folder"
    for each in (control, folder):
        each.mkdir()
    (control / "killed").touch()
    expected = [joined(outputs) for outputs in outputs_of(control)]

    with pytest.raises(DeadKernelError):
        outputs_of(folder)
    lives = [[joined(outputs) for outputs in outputs_of(folder)] for _ in range(2)]

    assert lives == [expected, expected]
    kinds = {kind for output in expected[0] for kind in output.get("data", {})}
    assert kinds == {"text/plain", "text/markdown", "text/html", "image/png"}
    assert expected[1][0]["text"] == "".join(f"pass {number}\n" for number in range(5))


def run_by_papermill(folder: Path, **parameters: int) -> list[str]:
    """Run a notebook with parameters, and return the text that each of its durable cells shows."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in PARAMETRIZED]
    cells[1].metadata["tags"] = ["parameters"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "in.ipynb")
    papermill.execute_notebook(
        str(folder / "in.ipynb"), str(folder / "out.ipynb"), parameters, progress_bar=False, cwd=str(folder)
    )
    ran = nbformat.read(folder / "out.ipynb", as_version=4)
    durable = [cell for cell in ran.cells if cell.source.startswith("%%durable")]
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in durable]


PARAMETRIZED = [
    '%load_ext durable\n%durable file "report.durable.db"\nimport durable, os, signal',
    "rate = 2",
    "%%durable numbers\nnumbers = list(range(4))\nprint('made')",
    """%%durable scaled
scaled = []
for number in durable.each(numbers, every_seconds=0):
    scaled.append(number * rate)
    print(number)
    if number == 2 and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
print(scaled)""",
]


@pytest.mark.thorough
def test_papermill_goes_on_after_a_crash_and_runs_again_what_reads_another_parameter(tmp_path: Path) -> None:
    with pytest.raises(DeadKernelError):
        run_by_papermill(tmp_path, rate=3)

    assert run_by_papermill(tmp_path, rate=3) == ["made\n", "0\n1\n2\n3\n[0, 3, 6, 9]\n"]
    other = run_by_papermill(tmp_path, rate=5)
    assert other == ["made\n", "scaled runs again: rate changed\n0\n1\n2\n3\n[0, 5, 10, 15]\n"]
