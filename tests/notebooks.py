"""Runs the notebooks in a clean kernel. As a command, it writes their outputs: `python -m tests.notebooks`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 120


def execute(notebook: Path, folder: Path) -> Any:
    """Run a copy of a notebook in a folder of its own, from top to bottom, and return it with its outputs."""
    copy = folder / notebook.name
    shutil.copy(notebook, copy)
    content = nbformat.read(copy, as_version=4)
    client = nbclient.NotebookClient(
        content, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute(env=os.environ | {"COLUMNS": "80"})  # tables are as wide as the terminal


def tidy(content: Any) -> Any:
    """What is worth keeping: no times of execution, and no widgets, which are dead without their kernel."""
    content.metadata.pop("widgets", None)
    content.metadata.language_info = {"name": "python"}
    for number, cell in enumerate((cell for cell in content.cells if cell.cell_type == "code"), start=1):
        cell.metadata.pop("execution", None)
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
            if "data" in output:
                output.data.pop(WIDGET_VIEW, None)
    return content


def main() -> None:
    """Write the outputs into the notebooks themselves."""
    for notebook in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(tidy(execute(notebook, Path(folder))), notebook)
        print(f"{notebook.name}: {notebook.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
