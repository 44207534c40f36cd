"""Heads: data in which each part says of which type it is, since no annotation does.

A part with a format is an object with the numbers of its buffers. Tuples, sets, dates and the like have formats here.
Elsewhere they need none, since an annotation tells them.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import uuid
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, TypeAlias

import msgspec

from durable.values.content import fields_of
from durable.values.exactness import MAX_LEVELS
from durable.values.formats.named import name_of
from durable.values.formats.registry import (
    Buffer,
    Format,
    FormatError,
    find_format,
    format_named,
    format_of,
    is_registered,
    libraries_of,
)

encode = msgspec.json.Encoder().encode

PLAIN = frozenset({type(None), bool, int, str})
_AS_TEXT = {
    bytes: "bytes/1", bytearray: "bytearray/1", dt.date: "date/1", dt.timedelta: "duration/1", uuid.UUID: "uuid/1",
    decimal.Decimal: "decimal/1",
}  # fmt: skip
_MEMBERS: dict[type, str] = {tuple: "tuple/1", set: "set/1", frozenset: "frozenset/1"}
_MIN_INT, _MAX_INT = -(2**63), 2**64


def marker(value: Any, format: str) -> dict[str, Any]:
    """Return the object that stands for a formatted part."""
    return {"$value": value, "format": format}


def marker_of(value: Any, held: Any, format: Format) -> dict[str, Any]:
    """Return the same for a value. It names the class if that alone says the format, so that it is found again."""
    found, kind = marker(held, format.name), type(value)
    return found | {"class": name_of(kind)} if format_of(kind) is format and not is_registered(format) else found


def is_marker(data: dict[Any, Any]) -> bool:
    """Return whether JSON data stands for a formatted part."""
    if len(data) < 2 or next(iter(data)) != "$value":  # noqa: PLR2004
        return False
    format = data.get("format")
    return type(format) is str and "/" in format and list(data)[1] == "format"


def dump(value: Any, format: Format, libraries: set[str]) -> tuple[Any, list[Buffer]]:
    """Return the head of a value as JSON data, and all buffers: its own, then those of the parts of its head.

    The libraries that the bytes may depend on are added to the set.
    """
    buffers: list[Buffer] = []
    return _dump(value, format, buffers, libraries, MAX_LEVELS)["$value"], buffers


def _dump(value: Any, format: Format, buffers: list[Buffer], libraries: set[str], levels: int) -> dict[str, Any]:
    libraries.update(libraries_of(format, value))
    head, own = format.dump(value)
    numbers = [*range(len(buffers), len(buffers) + len(own))]
    buffers.extend(map(_as_bytes, own))
    packed = marker_of(value, _pack(head, buffers, libraries, levels), format)
    return packed | {"buffers": numbers} if numbers else packed


def _as_bytes(buffer: Buffer) -> Buffer:
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else b""  # a view with a zero in its shape cannot be cast


def _pack(value: Any, buffers: list[Buffer], libraries: set[str], levels: int) -> Any:
    kind = type(value)
    if kind is int:
        return value if _MIN_INT <= value < _MAX_INT else marker(hex(value), "int/1")
    if kind in PLAIN or (kind is float and math.isfinite(value)):
        return value
    if not levels:
        raise RecursionError(f"nested deeper than {MAX_LEVELS} levels")

    def inner(part: Any) -> Any:
        return _pack(part, buffers, libraries, levels - 1)

    if kind is list:
        return [inner(part) for part in value]
    if kind in _MEMBERS:
        members = [inner(part) for part in value]
        return marker(members if kind is tuple else sorted(members, key=encode), _MEMBERS[kind])
    if kind is dict and all(type(key) is str for key in value) and not is_marker(value):
        return {key: inner(part) for key, part in value.items()}
    if kind in _AS_TEXT:
        return marker(str(value) if kind is decimal.Decimal else msgspec.to_builtins(value), _AS_TEXT[kind])
    if isinstance(value, type | FunctionType):
        return marker(name_of(value), "name/1")
    return _dump(value, format_in_head(kind), buffers, libraries, levels - 1)


def format_in_head(kind: type) -> Format:
    """Return the format of a class whose instance has no form in JSON of its own. Raises FormatError."""
    name = _FORMATS.get(kind)
    format = find_format(kind) if name is None else format_named(name)
    if format is None and issubclass(kind, enum.Enum):
        format = format_named("member/1")
    elif format is None and fields_of(kind) is not None:
        format = format_named("fields/1")
    if format is None:
        raise FormatError(f"which holds a {kind.__name__}, and that has no exact form; make it plain data")
    return format


_FORMATS = {float: "float/1", dict: "dict/1", dt.datetime: "datetime/1", dt.time: "datetime/1"}

Restore: TypeAlias = Callable[[Any], Any]
Native: TypeAlias = Callable[[Any, Restore], Any]


def _text_to(kind: type) -> Native:
    return lambda held, _: msgspec.convert(held, kind)


def _members_to(kind: type) -> Native:
    return lambda held, restore: kind([restore(part) for part in held])


NATIVE: dict[str, Native] = {
    **{name: _text_to(kind) for kind, name in _AS_TEXT.items()},
    **{name: _members_to(kind) for kind, name in _MEMBERS.items()},
    "int/1": lambda held, _: int(held, 16),
}
"""How to make the values again that have formats of their own only here."""


def are_equal(buffers: Sequence[Buffer], others: Sequence[Buffer], chunk: int = 1 << 20) -> bool:
    """Return whether all bytes are equal, without a copy of them all."""
    if len(buffers) != len(others):
        return False
    for first, second in zip(buffers, others, strict=True):
        one, other = memoryview(first), memoryview(second)
        if one.nbytes != other.nbytes:
            return False
        if any(bytes(one[at : at + chunk]) != bytes(other[at : at + chunk]) for at in range(0, one.nbytes, chunk)):
            return False
    return True
