"""Packing: values <-> JSON data in which each formatted part is an object that says so.

Within the text of a value, a formatted part is one of

    {"$value": HEAD, "format": "array/1", "buffers": [BASE64, ...], "preview": "..."}
    {"$value": SHA256, "format": "frame/1", "bytes": 13400112, "preview": "..."}

The second is a large value, which is in a store of its own. Without buffers, `buffers` is left out. Then `preview` is
there only if the format has one of its own: a frame of texts has no buffers, and its head says little to a reader.
`versions` holds those of the libraries that the bytes may depend on. A part of a head has the numbers of its buffers.
`class` names the class if that alone says which format it has.
A dict that looks like one of these is stored as its pairs.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import msgspec

from durable.values.content import fields_of
from durable.values.exactness import MAX_LEVELS, is_same
from durable.values.formats import hints
from durable.values.formats.heads import PLAIN, are_equal, dump, encode, format_in_head, is_marker, marker_of
from durable.values.formats.registry import Buffer, Format, find_format, versions_of

if TYPE_CHECKING:
    from durable.values.large import Put

MAX_INLINE = 64 * 1024  # bytes of head and buffers that stand in the row


class Packer:
    """Packs one value, and remembers the format of each part of it."""

    def __init__(self, put: Put | None = None) -> None:
        self.formats: dict[int, Format] = {}  # by the id of the part
        self._narrowed: set[int] = set()  # the ids of the scalars that became Python numbers
        self._put = put
        self._stored: dict[str, tuple[bytes, list[Buffer]]] = {}  # each value that was put, by its hash

    def pack(self, value: Any, hint: Any = Any, levels: int = MAX_LEVELS) -> Any:
        """Return JSON data, or what msgspec makes of it; the value itself if it has no formatted part."""
        kind = type(value)
        if hint is not Any:
            hint, asked = hints.resolve(hint, value)
            if asked is not None:
                return self._part(value, asked)
        if kind in PLAIN:
            return value
        if kind is float:
            return value if math.isfinite(value) else self._part(value, format_in_head(float))
        if not levels:
            raise RecursionError(f"nested deeper than {MAX_LEVELS} levels")
        if kind is list or kind is tuple or kind is set or kind is frozenset:
            return self._members(value, hint, levels - 1)
        if kind is dict:
            return self._dict(value, hint, levels - 1)
        if kind is dt.datetime or kind is dt.time:
            return value if _is_plain_time(value) else self._part(value, format_in_head(kind))
        number = hints.narrowed(value, hint)
        if number is not None:
            self._narrowed.add(id(value))
            return self.pack(number)
        format = find_format(kind)
        if format is not None:
            return self._part(value, format)
        return self._fields(value, levels - 1)

    def _members(self, value: Any, hint: Any, levels: int) -> Any:
        each = list(value)
        packed = [self.pack(*pair, levels) for pair in zip(each, hints.of_items(hint, len(each)), strict=True)]
        return value if all(map(_is, packed, each)) else packed

    def _dict(self, value: dict[Any, Any], hint: Any, levels: int) -> Any:
        keys = [self._key(key, hint) for key in value]
        if is_marker(value) or any(map(_needs_pair, keys)):
            return self._part(value, format_in_head(dict))
        each = list(value.values())
        packed = [self.pack(*pair, levels) for pair in zip(each, hints.of_values(hint, value), strict=True)]
        is_as_before = all(map(_is, packed, each)) and all(map(_is, keys, value))
        return value if is_as_before else dict(zip(keys, packed, strict=True))

    def _key(self, key: Any, hint: Any) -> Any:
        number = hints.narrowed(key, hints.of_keys(hint))
        if number is None:
            return key
        self._narrowed.add(id(key))
        return number

    def _fields(self, value: Any, levels: int) -> Any:
        """Return an object with fields, or a copy of it that holds the packed ones; msgspec encodes either."""
        kind = type(value)
        names = [name for name, _ in fields_of(kind) or () if hasattr(value, name)]
        known = hints.of_fields(kind) if names else {}
        packed = {}
        for name in names:
            part = getattr(value, name)
            if (data := self.pack(part, known.get(name, Any), levels)) is not part:
                packed[name] = data
        if not packed:
            return value
        if isinstance(value, tuple):
            return tuple.__new__(kind, [packed.get(name, getattr(value, name)) for name in names])
        other = copy.copy(value) if isinstance(value, msgspec.Struct) else object.__new__(kind)
        put: Any = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
        for name in names:
            put(other, name, packed.get(name, getattr(value, name)))
        return other

    def _part(self, value: Any, format: Format) -> dict[str, Any]:
        self.formats[id(value)] = format
        libraries: set[str] = set()
        head, buffers = dump(value, format, libraries)
        packed = marker_of(value, head, format)
        text = b"" if self._put is None else encode(head)
        size = len(text) + sum(memoryview(each).nbytes for each in buffers)
        if self._put is not None and size > MAX_INLINE:
            sha256 = self._put(text, buffers)
            self._stored[sha256] = text, buffers
            packed["$value"], packed["bytes"] = sha256, size
        elif buffers:
            packed["buffers"] = [base64.b64encode(each).decode() for each in buffers]
        if libraries:
            packed["versions"] = versions_of(libraries)
        if buffers or "bytes" in packed or (libraries and type(format).preview is not Format.preview):
            packed["preview"] = format.preview(value)
        return packed

    def read(self, sha256: str) -> tuple[bytes, list[memoryview]]:
        """Return what was put into the store under a hash, without reading it from there."""
        head, buffers = self._stored[sha256]
        return head, [memoryview(bytearray(each)) for each in buffers]

    def has_packed(self, value: Any) -> bool:
        """Return whether a part was packed in a format."""
        return id(value) in self.formats or id(value) in self._narrowed

    def is_same(self, value: Any, other: Any) -> bool:
        """Return whether a packed part is equal to what it comes back as: if their heads and buffers are."""
        if id(value) in self._narrowed and type(other) in (bool, int, float):
            return is_same(value.item(), other)
        format = self.formats.get(id(value))
        if format is None or type(value) is not type(other):
            return False
        (head, buffers), (other_head, others) = dump(value, format, set()), dump(other, format, set())
        return encode(head) == encode(other_head) and are_equal(buffers, others)


def _is(one: Any, other: Any) -> bool:
    return one is other


_NO_KEYS = frozenset({bool, type(None), tuple, frozenset})  # which JSON refuses, whatever the annotation says


def _needs_pair(key: Any) -> bool:
    kind = type(key)
    if kind is float:
        return not math.isfinite(key)
    return kind in _NO_KEYS or (kind not in PLAIN and fields_of(kind) is None and find_format(kind) is not None)


def _is_plain_time(value: Any) -> bool:
    """Return whether JSON has this datetime or time with its zone."""
    try:
        back = msgspec.json.decode(encode(value), type=type(value))
    except ValueError:
        return False
    zone, other = value.tzinfo, back.tzinfo
    return (value, value.fold, type(zone), str(zone)) == (back, back.fold, type(other), str(other))
