"""Places: the classes within a type whose stored values mean something by a number or a place alone.

They are enums of ints, named tuples, and Structs that are stored as arrays. A new member or field before others changes
the meaning of stored values. So today's members and fields are recorded beside such a value, and compared when it is
read.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.inspect import type_info

from durable.values.content import fields_of
from durable.values.lost import may_lose


def places_of(annotation: Any) -> str:
    """Return members and fields of each such class within a type, as JSON; empty if there is none."""
    if not may_lose(annotation):
        return ""
    try:
        found = dict(_list_places(type_info(annotation), set()))
    except Exception:  # its type cannot be inspected, so no value of it can be stored
        return ""
    return msgspec.json.encode(found, order="deterministic").decode() if found else ""


def find_shift(recorded: str, now: str) -> str | None:
    """Return in words which values have changed their meaning since they were recorded; None if none has."""
    was, means = _decode(recorded), _decode(now)
    for name, before in was.items():
        after = means.get(name)
        if isinstance(before, list) and isinstance(after, list) and after[: len(before)] != before:
            return f"{name} was recorded with the fields {', '.join(before)}, and now has {', '.join(after)}"
        if isinstance(before, dict) and isinstance(after, dict):
            named = {value: member for member, value in after.items()}
            for member, value in before.items():
                other = named.get(value, member)
                if other != member and (member in after or other in before):
                    return f"{value} was recorded as {name}.{member}, and is now {name}.{other}"
    return None


def _decode(text: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(text) if text else {}
    return found


def _list_places(info: Any, seen: set[type]) -> Iterator[tuple[str, Any]]:
    """Yield the places of a class, as `msgspec.inspect` tells of it, and of all within it."""
    kind = getattr(info, "cls", None)
    if isinstance(kind, type):  # a class with fields may hold itself
        if kind in seen:
            return
        seen.add(kind)
        if issubclass(kind, enum.Enum):
            members = {member.name: member.value for member in kind}
            is_ours = kind.__module__.partition(".")[0] not in sys.stdlib_module_names
            if is_ours and all(isinstance(value, int) for value in members.values()):
                yield kind.__qualname__, members
        elif issubclass(kind, tuple) or getattr(info, "array_like", False):
            yield kind.__qualname__, [name for name, _ in fields_of(kind) or ()]
    for part in info.__struct_fields__:
        inner = getattr(info, part)
        for each in inner if isinstance(inner, tuple) else (inner,):
            if isinstance(each, msgspec.Struct):
                yield from _list_places(each, seen)
