"""The notebooks, solved and unsolved, and one way to run a solution without its notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from durable.lab.course.build import NOTEBOOKS as FOLDER
from durable.lab.course.build import SOLVED, execute, read
from tests.support.patience import patient

NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
SOLVED_NOTEBOOKS = sorted(SOLVED.glob("[0-9]*.ipynb"))
SANDBOX = FOLDER / "your_own_workflow.ipynb"
CELL_SECONDS = round(patient(120))  # the client of notebooks wants an int


def run(notebook: Path, folder: Path) -> Any:
    """Run a notebook in a folder of its own, from top to bottom; the same notebook with its outputs."""
    return execute(read(notebook), folder)
