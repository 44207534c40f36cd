"""One source, two notebooks: people write the solved one, the reader's is derived from it.

A solved notebook has cells tagged `exercise` (a stub that runs), `solution` (with the exercise's name as a second tag,
as in `q2`), `check`, and `assert`: these are folded, hold assertions alone, and tie the text to what was computed. The
solved notebook is run in a clean kernel and committed with its outputs. The reader's notebook is the same without
solutions (`q2.solution()` shows them), without assertions, and without outputs, since those are for the reader to
predict.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"
SOLVED = NOTEBOOKS / "solved"
SOLUTIONS = Path(__file__).with_name("solutions.json")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 180
FIXED = {"COLUMNS": "80", "PYTHONHASHSEED": "0"}  # tables are as wide as the terminal; sets have one order
DIFFERS = (  # differences between runs that say nothing
    (re.compile(r"0x[0-9a-f]{6,}"), "0x0"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?"), "<instant>"),
    (re.compile(r"\b\d+\.\d+ ?(ms|s|seconds)\b"), r"<some> \1"),
    (re.compile(r"\b(process|pid) \d+"), r"\1 <number>"),
    (re.compile(r"\bdurable-worker:\S+"), "durable-worker:<some>"),
    (re.compile(r"\b\d+ of 100 runs"), "<some> of 100 runs"),
    (re.compile(r"(size|\d+\.\d kB) +(age|\d+ s)\b"), "<size> <age>"),  # the state of durable cells
)


def build(names: Iterable[str] = (), *, anew: bool = False) -> None:
    """Run all solved notebooks, or those named (`04_parallel`), and write them, the readers' and the solutions."""
    wanted = set(names)
    for path in sorted(SOLVED.glob("*.ipynb")):
        if wanted and path.stem not in wanted:
            continue
        solved = read(path)
        _write(path, solved, anew=anew)
        nbformat.write(derive(solved), NOTEBOOKS / path.name)  # type: ignore[no-untyped-call]
    SOLUTIONS.write_text(as_json(collect_all()), encoding="utf-8")


def collect_all() -> dict[str, list[str]]:
    """Return the solutions of all solved notebooks."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOLVED.glob("*.ipynb")):
        found |= collect_solutions(path.stem[:2], read(path))
    return found


def as_json(solutions: dict[str, list[str]]) -> str:
    """Return the text of the solutions file: a line of code is a line of the file."""
    return json.dumps(solutions, indent=1, ensure_ascii=False) + "\n"


def read(path: Path) -> Any:
    """Read a notebook as nbformat has it."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def derive(solved: Any, without: Sequence[str] = ("solution", "assert")) -> Any:
    """Return the reader's notebook: cells with the same ids, without those of some tags and without outputs.

    It is in the folder above, beside the pages that the solved one links to.
    """
    content = copy.deepcopy(solved)
    content.cells = [cell for cell in content.cells if not set(without) & set(tags(cell))]
    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("](../", "](")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return content


def collect_solutions(number: str, solved: Any) -> dict[str, list[str]]:
    """Return the code of the solution cells, as lines, by the name of their exercise: `04.q2`."""
    found: dict[str, list[str]] = {}
    for cell in solved.cells:
        if "solution" in tags(cell):
            (question,) = [tag for tag in tags(cell) if tag != "solution"]
            found.setdefault(f"{number}.{question}", []).extend(cell.source.splitlines())
    return found


def tags(cell: Any) -> list[str]:
    """Return the tags of a cell."""
    return list(cell.metadata.get("tags", []))


# ---- running


def execute(content: Any, folder: Path) -> Any:
    """Run a notebook in a folder of its own, in a clean kernel, and return it with its outputs."""
    import nbclient

    client = nbclient.NotebookClient(
        copy.deepcopy(content),
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    return tidy(client.execute(env=os.environ | FIXED))


def tidy(content: Any) -> Any:
    """Remove what is not worth keeping: times of execution, and widgets, which are dead without their kernel."""
    content.metadata.pop("widgets", None)
    content.metadata.language_info = {"name": "python"}
    for number, cell in enumerate((cell for cell in content.cells if cell.cell_type == "code"), start=1):
        cell.metadata.pop("execution", None)
        cell.execution_count = number
        cell.outputs = _join_streams(cell.outputs)
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
            if "data" in output:
                output.data.pop(WIDGET_VIEW, None)
    return content


def _join_streams(outputs: Sequence[Any]) -> list[Any]:
    """Join the pieces of a text, since their number is chance."""
    joined: list[Any] = []
    for output in outputs:
        if joined and "name" in output and output["name"] == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def words_of(output: Any) -> str:
    """Return the content of an output, without parts that differ in each run: times, process numbers, addresses."""
    data = output.get("data", {})
    said = [output.get("text", ""), *(str(data[kind]) for kind in sorted(data) if kind.startswith("text/"))]
    said += [kind for kind in sorted(data) if not kind.startswith("text/")]
    text = "\n".join(said)
    for pattern, instead in DIFFERS:
        text = pattern.sub(instead, text)
    return text


def keep_quiet(ran: Any, committed: Any) -> Any:
    """Keep the committed outputs of a cell that is the same and says the same, so that a diff shows real changes.

    Pictures of measured times differ slightly in each run; they stay as long as the cell and its words do.
    """
    before = {cell.id: cell for cell in committed.cells}
    for cell in ran.cells:
        old = before.get(cell.id)
        if cell.cell_type != "code" or old is None or old.source != cell.source:
            continue
        if [words_of(output) for output in old.outputs] == [words_of(output) for output in cell.outputs]:
            cell.outputs = copy.deepcopy(old.outputs)
    return tidy(ran)


def _write(path: Path, content: Any, *, anew: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        ran = execute(content, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if path.exists() and not anew:
        ran = keep_quiet(ran, read(path))
    nbformat.write(ran, path)  # type: ignore[no-untyped-call]
    print(f"{path.relative_to(NOTEBOOKS.parent)}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201 - a command
