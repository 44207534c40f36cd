"""Values: stored ones in words, for a list; and one that is asked for, as text or as a table.

A list reads no large value, since its row describes it. A value saved by pickle is never read here.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, overload

from durable.dashboard.source import Source
from durable.errors import DurableError
from durable.values.codec import MARK
from durable.values.formats.heads import is_marker
from durable.values.formats.hints import Found
from durable.values.formats.registry import Dumped, Format, FormatError
from durable.values.formats.restore import Restorer
from durable.values.large import Read

MAX_PREVIEW, MAX_CELL, MAX_TEXT = 200, 40, 10_000  # characters
ROWS, COLUMNS = 5, 6  # so many at either end of a table
MAX_PARTS = 20
LOOK_BYTES = 64 << 20
PICKLED = (
    "saved by pickle, and not read to be shown: that would run the code that it names; "
    "lab.value reads it if you pass type=Annotated[..., durable.formats.Pickled]"
)


class Table(NamedTuple):
    """The ends of a frame or an array, as text. The first column is the index; a row of dots stands for the rest."""

    columns: list[str]
    types: list[str]
    rows: list[list[str]]


class Part(NamedTuple):
    """A formatted part of a value: its place, as in `$.train`, its words, and a table or a text."""

    place: str
    words: str
    table: Table | None
    text: str


# ---- in words


@overload
def tell(text: str, *, indent: int | None = None) -> str: ...
@overload
def tell(text: str | None, *, indent: int | None = None) -> str | None: ...
def tell(text: str | None, *, indent: int | None = None) -> str | None:
    """Return stored JSON text with its formatted parts described: `frame/1, 160 bytes: 3 rows x 2 columns: ...`.

    Text without such parts is returned as it is, unless it is to be indented.
    """
    if text is None or (MARK not in text and indent is None):
        return text
    data = json.loads(text)
    told = tell_parts(data)
    return told if isinstance(told, str) and told is not data else _write(told, indent)


def tell_parts(data: Any) -> Any:
    """Return plain JSON values with the formatted parts in words, without brackets if it is one part as a whole."""
    return _tell(data) if isinstance(data, dict) and is_marker(data) else _tell_within(data)


def _tell_within(data: Any) -> Any:
    if isinstance(data, list):
        return [_tell_within(part) for part in data]
    if not isinstance(data, dict):
        return data
    return f"<{_tell(data)}>" if is_marker(data) else {key: _tell_within(part) for key, part in data.items()}


def _tell(part: dict[str, Any]) -> str:
    size = _size_of(part)
    what = part["preview"] if "preview" in part else tell_parts(part["$value"])
    text = what if isinstance(what, str) else _write(what)
    cut = text if len(text) <= MAX_PREVIEW else f"{text[: MAX_PREVIEW - 3]}..."
    return f"{part['format']}{f', {size:,} bytes' if size else ''}: {cut}"


def _size_of(part: dict[str, Any]) -> int:
    """Return the bytes of head and buffers; 0 for a part that is plain data."""
    if "preview" not in part:
        return 0
    buffers = sum(len(each) // 4 * 3 - each.count("=", -2) for each in part.get("buffers", ()))  # base64
    return int(part.get("bytes") or len(_write(part["$value"]).encode()) + buffers)


def _write(data: Any, indent: int | None = None) -> str:
    return json.dumps(data, ensure_ascii=False, indent=indent, separators=(",", ": " if indent else ":"))


# ---- on demand


@functools.lru_cache(maxsize=1)
def show_parts(reader: Source, text: str | None) -> list[dict[str, Any]]:
    """Return what `look` does, as plain JSON values for a page, which asks again and again. The last one is kept.

    A damaged value is a part that says so, and one of more than 64 MiB is not read, since that would hold up the page.
    """
    try:
        parts = look(text or "", reader.get_value, LOOK_BYTES)
    except DurableError as error:
        parts = [Part("$", "", None, str(error))]
    return [part._asdict() | {"table": part.table and part.table._asdict()} for part in parts]


def look(text: str, read: Read | None, most_bytes: int | None = None) -> list[Part]:
    """Return the formatted parts of a stored value, each read and shown, the first twenty.

    `read` reads large values; those of more bytes than `most_bytes` are left out. A part that cannot be shown says why.
    Raises CorruptionError for a large value that is missing or was changed.
    """
    if MARK not in text:
        return []
    parts = list(_find_parts(json.loads(text), "$"))[:MAX_PARTS]
    return [_look_at(place, part, read, most_bytes) for place, part in parts]


def _find_parts(data: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(data, dict) and is_marker(data):
        yield place, data
    elif isinstance(data, dict):
        for key, part in data.items():
            yield from _find_parts(part, f"{place}.{key}")
    elif isinstance(data, list):
        for number, part in enumerate(data):
            yield from _find_parts(part, f"{place}[{number}]")


class _Unread(Format):
    """Takes the place of the format that would read pickle, even if that is registered."""

    name = "pickle/1"

    def dump(self, value: Any) -> Dumped:
        raise NotImplementedError

    def load(self, head: Any, buffers: Sequence[Any]) -> Any:  # noqa: ARG002 - as all formats
        raise FormatError(PICKLED)


def _look_at(place: str, part: dict[str, Any], read: Read | None, most_bytes: int | None) -> Part:
    words, table = _tell(part), None
    try:
        if part["format"].startswith("pickle/"):
            raise FormatError(PICKLED)
        if most_bytes is not None and part.get("bytes", 0) > most_bytes:
            raise FormatError(f"of more than {most_bytes:,} bytes, and not read here; lab.value reads it")
        value = Restorer(Found({"pickle/1": _Unread()}, {}, set()), read).restore(part)
        table = _table_of(value)
        text = "" if table else repr(value)[:MAX_TEXT]
    except DurableError:
        raise
    except Exception as error:  # a format or a class may be of other people, and a library may be missing
        why = str(error) if isinstance(error, FormatError) else f"which cannot be read here: {error}"
        text = f"not shown: a value {why}"
    return Part(place, words, table, text)


def _table_of(value: Any) -> Table | None:
    """Return the table of a frame, a series, or an array of one or two dimensions; None for anything else."""
    numpy: Any = sys.modules.get("numpy")
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        value = value.to_frame(value.name)
    if pandas is not None and isinstance(value, pandas.DataFrame):
        index = value.index
        named = ", ".join(_text(name) for name in index.names if name is not None)
        return _draw((named, _text(index.dtype)), index, value.columns, list(value.dtypes), value.iat.__getitem__)
    if numpy is not None and isinstance(value, numpy.ndarray) and value.ndim in (1, 2):
        array = value if value.ndim == 2 else value[:, None]  # noqa: PLR2004 - two dimensions
        rows, columns = map(range, array.shape)
        return _draw(("", ""), rows, columns, [array.dtype] * len(columns), array.__getitem__)
    return None


def _draw(
    corner: tuple[str, str],
    index: Sequence[Any],
    columns: Sequence[Any],
    types: Sequence[Any],
    cell: Callable[[tuple[int, int]], Any],
) -> Table:
    """Return the ends of what has these labels, types and cells. `corner` is the name and the type of the index."""
    across = _ends(len(columns), COLUMNS)

    def line(first: str, parts: Callable[[int], Any]) -> list[str]:
        return [first, *("..." if place is None else _text(parts(place)) for place in across)]

    def row(number: int) -> list[str]:
        return line(_text(index[number]), lambda place: cell((number, place)))

    dots = ["..."] * (len(across) + 1)
    rows = [dots if number is None else row(number) for number in _ends(len(index), ROWS)]
    return Table(line(corner[0], columns.__getitem__), line(corner[1], types.__getitem__), rows)


def _ends(count: int, most: int) -> list[int | None]:
    """Return the first and the last places, and None between them for the rest."""
    if count <= 2 * most:
        return list(range(count))
    return [*range(most), None, *range(count - most, count)]


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 3]}..."
