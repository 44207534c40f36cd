"""Status: the cells of a notebook as a table of text."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.cells.notebook import Notebook
    from durable.store.records import WorkflowRecord

_BYTES = re.compile(r'"\$value":"[0-9a-f]{64}","format":"[^"]*","bytes":(\d+)')
HEADS = ("cell", "state", "size", "age")


def status(notebook: Notebook) -> str:
    """Return a line for each cell: whether it is done, how far it is, what has changed, its size and its age."""
    rows = [HEADS, *(_row(notebook, record) for record in notebook.list_records())]
    if len(rows) == 1:
        return f"no cells in {notebook.path}"
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(notebook: Notebook, record: WorkflowRecord) -> tuple[str, str, str, str]:
    texts = [step.output for step in notebook.engine.steps(record.workflow_id) if step.output is not None]
    if record.output is not None:
        texts = [record.output]
    size = sum(len(text) + sum(map(int, _BYTES.findall(text))) for text in texts)
    return record.workflow_id, _state(notebook, record, texts), _size(size), _age(record.updated_at)


def _state(notebook: Notebook, record: WorkflowRecord, texts: list[str]) -> str:
    if changes := notebook.find_changes_now(record):
        return f"changed: {', '.join(changes)}"
    if record.status == "completed":
        return "done"
    if not texts:
        return "not done"
    passes = [str(at if isinstance(at, str) else at + 1) for _, at in json.loads(texts[-1])["at"]]
    return f"partly done: pass {' / '.join(passes)}"


def _size(count: float) -> str:
    for unit, bytes_of_it in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_of_it:
            return f"{count / bytes_of_it:.1f} {unit}"
    return f"{count:.0f} B"


def _age(at: datetime) -> str:
    seconds = (datetime.now(UTC) - at).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
