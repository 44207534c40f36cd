"""Export: all that is recorded of a workflow, as one line of JSON that is written as it is read.

    {"format": 1, "workflow": {...}, "runs": [...], "steps": [...], "attempts": [...],
     "waits": [...], "messages": [...], "values": [...]}

`values` has the large values that the rows name: `head` and `sizes` as in `schema.sql`, and `parts`, which are the
bytes of the buffers in base64, one text for each part.

Each row is an object under its table's name, with the columns of `schema.sql`, without checksums. The columns that
hold JSON (`arguments`, `output`, `error`, `value`) are JSON here too, to the letter. Steps are in the order of
their keys as text; the numbers in the keys, or `position`, give program order.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from durable.errors import CorruptionError, StoreError
from durable.store.database.connection import Connection
from durable.store.rows.large import FileValues
from durable.values.codec import checksum

FORMAT = 1
# the tables with more than one row a workflow, and what numbers its rows: a page of them goes on after the last
TABLES = {
    "runs": ("epoch",),
    "steps": ("step_key",),
    "attempts": ("step_key", "attempt"),
    "waits": ("step_key",),
    "messages": ("id",),
}
_JSON = ("arguments", "output", "error", "value")


def _checksum_of_step(row: dict[str, Any]) -> int | None:
    if row["status"] == "running":
        return None
    return checksum(row["step_key"], row["status"], row["output"], row["error"])


_CHECKED: dict[str, Callable[[dict[str, Any]], int | None]] = {
    "workflows": lambda row: checksum(row["arguments"], row["output"], row["error"]),
    "steps": _checksum_of_step,
    "attempts": _checksum_of_step,
    "messages": lambda row: checksum(row["event"], row["value"]),
}
_PAGE = 200
_encode = msgspec.json.Encoder(order="deterministic").encode


def list_ids(connection: Connection, status: str | None = None) -> Iterator[str]:
    """Yield the ids of all workflows, or of those of a status, in the order in which they were made."""
    last = -1
    sql = "select rowid, id from workflows where rowid > ? and status = coalesce(?, status) order by rowid limit ?"
    while rows := connection.read(sql, (last, status, _PAGE)):
        last = rows[-1][0]
        yield from (row[1] for row in rows)


def export(connection: Connection, workflow_id: str) -> Iterator[str]:
    """Yield one workflow as it stands at one instant, in pieces that make one line; nothing if there is none.

    The connection is used for nothing else meanwhile. Raises CorruptionError for a row that does not match its
    checksum.
    """
    connection.read("begin")  # writes of other processes from here on are not seen
    try:
        row = next(_rows(connection, "workflows", "id", workflow_id, ("id",)), None)
        if row is not None:
            yield f'{{"format":{FORMAT},"workflow":{row}'
            for table, order in TABLES.items():
                rows = _rows(connection, table, "workflow_id", workflow_id, order)
                yield f',"{table}":[{next(rows, "")}'
                yield from (f",{row}" for row in rows)
                yield "]"
            yield from _values(connection, workflow_id)
            yield "}\n"
    finally:
        with contextlib.suppress(StoreError):  # if a read has failed, there is no transaction any more
            connection.read("rollback")


def _rows(connection: Connection, table: str, owner: str, workflow_id: str, order: tuple[str, ...]) -> Iterator[str]:
    names = [row[1] for row in connection.read(f"pragma table_info({table})")]
    place, marks = ", ".join(order), ", ".join("?" * len(order))
    sql = f"select * from {table} where {owner} = ?"
    further = f"{sql} and ({place}) > ({marks})"
    rows = connection.read(f"{sql} order by {place} limit {_PAGE}", (workflow_id,))
    while rows:
        last = dict(zip(names, rows[-1], strict=True))
        yield from (_as_json(connection, table, dict(zip(names, row, strict=True))) for row in rows)
        after = tuple(last[name] for name in order)
        rows = connection.read(f"{further} order by {place} limit {_PAGE}", (workflow_id, *after))


def _values(connection: Connection, workflow_id: str) -> Iterator[str]:
    used = "select distinct sha256 from value_uses where workflow_id = ? and used_by not like 'run %' order by sha256"
    subject, values = f"workflow {workflow_id!r}", FileValues(connection)
    yield ',"values":['
    for place, (sha256,) in enumerate(connection.read(used, (workflow_id,))):
        content = values.find(sha256, subject)
        head, sizes = content.head.decode(), _encode(content.sizes).decode()
        yield f'{"," if place else ""}{{"sha256":"{sha256}","head":{head},"sizes":{sizes},"parts":['
        for number, part in enumerate(values.read_parts(content, subject)):
            yield f'{"," if number else ""}"{b64encode(part).decode()}"'
        yield "]}"
    yield "]"


def _as_json(connection: Connection, table: str, row: dict[str, Any]) -> str:
    stored = row.pop("checksum", None)
    check = _CHECKED.get(table)
    if check is not None and check(row) != stored:
        what = row.get("step_key") or row.get("event") or "its arguments or outcome"
        raise CorruptionError(
            f"workflow {row.get('workflow_id', row.get('id'))!r}: {what!r} in {table!r} does not match its checksum; "
            f"restore the database {str(connection.path)!r} from a copy, or delete this workflow",
            path=connection.path,
        )
    for name in _JSON:
        if row.get(name) is not None:
            row[name] = msgspec.Raw(row[name].encode())
    return _encode(row).decode()
