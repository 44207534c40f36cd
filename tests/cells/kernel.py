"""One life of a notebook in a kernel of its own, as nbclient runs it; it costs some seconds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from tests.cells.life import FILE, LOAD, Told
from tests.cells.world import Kill
from tests.support.patience import PATIENCE_SECONDS

SOURCES = Path(__file__).parents[2]
BEGIN = """import pathlib as _path
from tests.cells import world as _world
_world.begin(get_ipython(), _path.Path.cwd(), _world.Kill(*{kill}))"""
END = """import json as _json, pathlib as _path
from tests.cells.look import look as _look, next_numbers as _next_numbers
_ = _path.Path("told.json").write_text(_json.dumps([_look(get_ipython().user_ns), _next_numbers()]))"""


def live_in_kernel(folder: Path, cells: Sequence[str], kill: Kill = Kill()) -> Told | None:  # noqa: B008
    """Run the cells in a kernel. Return what it tells, or None if it was killed."""
    sources = [LOAD, FILE, BEGIN.format(kill=repr(tuple(kill))), *cells, END]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "IPYTHONDIR": str(folder / "ipython")}
    client = NotebookClient(
        notebook,
        timeout=int(PATIENCE_SECONDS),
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env=environment, stderr=subprocess.DEVNULL)
    except DeadKernelError:
        return None
    variables, numbers = json.loads((folder / "told.json").read_text())
    outputs = [cell.outputs for cell in notebook.cells[3:-1]]
    errors = [_error_of(each) for each in outputs]
    texts = ["" if error else _text_of(each) for error, each in zip(errors, outputs, strict=True)]
    return Told(texts, errors, variables, numbers)


def _error_of(outputs: list[Any]) -> str:
    return "".join(f"{each.ename}: {each.evalue}" for each in outputs if each.output_type == "error")


def _text_of(outputs: list[Any]) -> str:
    """Return all that a cell shows: texts, and the data of each mime type."""
    return "".join(each.text if each.output_type == "stream" else json.dumps(each.data) for each in outputs)
