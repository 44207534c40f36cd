"""Durable cells that are timed, each piece in a fresh process: `python -m tests.benchmarks.cells NAME FOLDER COUNT`."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from durable import Engine
from durable.store.file import File
from tests.benchmarks.workloads import sequence

SETUP = ["%load_ext durable", '%durable file "notebook.durable.db"', "import durable, time, numpy as np, pandas as pd"]
LARGE = """%%durable array
array = np.random.default_rng(0).normal(size={count} * 50_000)

%%durable frame
rows = {count} * 50_000
frame = pd.DataFrame({{"key": np.arange(rows), "value": np.random.default_rng(1).normal(size=rows)}})

%%durable words
words = [{{"word": "word " * 3, "number": number}} for number in range(100)]

%%durable total
total = len(words) * 2
print(total)"""
READING = """

%%durable mean
mean = float(array.mean() + frame["value"].mean())"""
LOOP = """%%durable train
weights, losses = np.zeros(100_000), []
began = time.perf_counter()
for epoch in {items}:
    weights = weights * 0.9 + np.random.standard_normal(100_000)
    losses.append(float(weights.sum()))
seconds = time.perf_counter() - began"""


def cells_written(folder: Path, count: int) -> float:
    """Run the cells for the first time."""
    return _run(folder, LARGE + READING, count)


def cells_restored(folder: Path, count: int) -> float:
    """Seconds to bring back the variables and the output of cells, of which two made values of so many MB together."""
    return _run(folder, LARGE, count)


def cells_restored_with_a_reader(folder: Path, count: int) -> float:
    """Seconds to bring back those and one cell that reads both."""
    return _run(folder, LARGE + READING, count)


def allowed(folder: Path, _: int) -> float:
    """Seconds for 1.2 verified reads of the values of these cells, and ten small steps for each cell."""
    return _allowed(folder, ["array", "frame", "words", "total"], reads=1)


def allowed_with_a_reader(folder: Path, _: int) -> float:
    """Seconds for the same, with one cell more, and 1.2 reads of the values that it reads."""
    return _allowed(folder, ["array", "frame", "words", "total", "mean"], reads=2)


def loop_of_each(folder: Path, count: int) -> float:
    """Seconds for a loop over `each`, in a durable cell."""
    return float(_shell(folder, LOOP.format(items=f"durable.each(range({count}))")).user_ns["seconds"])


def plain_loop(folder: Path, count: int) -> float:
    """Seconds for the same loop without it."""
    return float(_shell(folder, LOOP.format(items=f"range({count})")).user_ns["seconds"])


def _run(folder: Path, cells: str, count: int) -> float:
    shell = _shell(folder)
    began = time.perf_counter()
    for cell in cells.format(count=count).split("\n\n"):
        shell.run_cell(cell).raise_error()
    return time.perf_counter() - began


def _shell(folder: Path, *cells: str) -> Any:
    import os

    os.chdir(folder)
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    sys.stdout = sys.stderr  # what the cells print is no figure
    shell = InteractiveShell.instance()
    for cell in (*SETUP, *cells):
        shell.run_cell(cell).raise_error()
    return shell


def _allowed(folder: Path, cells: list[str], reads: int) -> float:
    with Engine(folder / "notebook.durable.db", synchronous="normal") as engine:
        records = {record.workflow_id: record for record in engine.workflows()}
        began = time.perf_counter()
        engine.run(f"small steps {time.monotonic_ns()}", sequence, 10 * len(cells))
        steps = time.perf_counter() - began
    file = File(folder / "notebook.durable.db")
    began = time.perf_counter()
    for cell in cells:
        output, values = records[cell].output or "", file.values_for(cell, lambda: "")
        for sha256 in re.findall(r'"\$value":"([0-9a-f]{64})"', output):
            values.get(sha256)
        json.loads(output)
    return (time.perf_counter() - began) * 1.2 * reads + steps


if __name__ == "__main__":
    _, name, folder, count = sys.argv
    out = sys.stdout
    print(globals()[name](Path(folder), int(count)), file=out)
