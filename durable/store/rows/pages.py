"""Pages: how the recorded steps of a workflow are read for a replay, packed and a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from durable.replay.log import Checkpoint, Row

Read: TypeAlias = Callable[[str, tuple[Any, ...]], list[Any]]
"""`Connection.read`: returns the rows of a query with its parameters."""

ROW = (
    "step_key, output, fingerprint, checksum, epoch, case when status = 'completed' and kind = 'step' and attempt = 1"
    " then null else json_array(status, kind, attempt, error) || '' end"
)
_ROWS = f"select {ROW} from steps where workflow_id = ?"
_PAGE_ROWS, _FIRST_PAGE_ROWS = 250, 30
_PAGE_CHARACTERS = 1_000_000  # characters of outcomes, roughly
_EXTENT = "from steps not indexed where workflow_id = ? and rowid between ? and ?"
_PAGE = f"select {ROW} {_EXTENT}"
_NEXT = "select min(rowid) from steps not indexed where workflow_id = ? and rowid >= ?"
_SHORT_PAGE = (
    f"select count(*), json_group_array(json_array({ROW}))"
    f" filter (where ifnull(length(cast(ifnull(output, error) as blob)), 0) <= 50) {_EXTENT}"
)
_decode_page = msgspec.json.Decoder(list[tuple[str, Any, Any, Any, Any, Any]]).decode


def read_pages(read: Read, workflow_id: str) -> Iterator[list[Row]]:
    """Return the steps that are recorded now. A long workflow comes in pages, in about the order of its steps.

    A replay asks for them roughly in this order, so it has few of them in memory. Each is as SQLite returns it: a
    replay needs no object for most of them.
    """
    # Meanwhile only this run changes them, and it writes after the last. VACUUM leaves the rowids of a table with an
    # index alone. If a row were missed all the same, its key could not be begun anew.
    extent = "select count(*), min(rowid), max(rowid) from steps where workflow_id = ?"
    [(count, first, last)] = read(extent, (workflow_id,))
    if count <= _PAGE_ROWS or last - first > 4 * count:  # too many rows between them belong to other workflows
        return iter([read(_ROWS, (workflow_id,))])
    return _read_pages(read, workflow_id, first, last)


def _read_pages(read: Read, workflow_id: str, first: int, last: int) -> Iterator[list[Row]]:
    """Read as JSON, in two thirds of the time, up to the first page with an outcome that is not short."""
    are_short, rows = True, _FIRST_PAGE_ROWS
    while first <= last:
        extent = workflow_id, first, min(first + rows - 1, last)
        if are_short:
            [(count, text)] = read(_SHORT_PAGE, extent)
            try:
                page: list[Row] = _decode_page(text)
            except msgspec.DecodeError:  # a number was damaged; its checksum will tell
                page = []
            are_short = len(page) == count
        if not are_short:
            page = read(_PAGE, extent)
        yield page
        first += rows
        if not page:  # the rows here belong to other workflows
            [(found,)] = read(_NEXT, (workflow_id, first))
            first = last + 1 if found is None else found
            continue
        rows = min(2 * rows, _PAGE_ROWS)
        if not are_short:
            characters = 1 + sum(len(output) for _, output, *_ in page if isinstance(output, str))
            rows = max(1, min(rows, _PAGE_CHARACTERS * len(page) // characters))


def list_checkpoints(read: Read, workflow_id: str) -> list[Checkpoint]:
    """Return all recorded steps of a workflow."""
    return list(map(Checkpoint.of, read(_ROWS, (workflow_id,))))
