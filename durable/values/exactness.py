"""Whether a value comes back from JSON exactly as it was."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterable
from typing import Any

MAX_LEVELS = 200  # nesting levels; a deeper value could be decoded at one place of a program and not at another


def is_same(value: Any, other: Any, levels: int = MAX_LEVELS) -> bool:
    """Return whether two values are equal and of the same types, all the way down. Raises RecursionError."""
    kind = type(value)
    if kind is not type(other):
        return kind is int and type(other) is float and value == other  # an int where a float was announced
    if kind in _SCALARS:
        return bool(value == other)
    if not levels:
        raise RecursionError(f"nested deeper than {MAX_LEVELS} levels")
    if kind is dict:
        pairs = zip(value, other, strict=False)
        return len(value) == len(other) and all(
            is_same(a, b, levels - 1) and is_same(value[a], other[b], levels - 1) for a, b in pairs
        )
    if isinstance(value, list | tuple):
        pairs = zip(value, other, strict=False)
        return len(value) == len(other) and all(is_same(a, b, levels - 1) for a, b in pairs)
    if isinstance(value, set | frozenset):
        members = {member: member for member in other}
        return len(value) == len(other) and all(m in members and is_same(m, members[m], levels - 1) for m in value)
    if fields := fields_of(kind):
        return not extras_of(value) and all(is_same(getattr(value, f), getattr(other, f), levels - 1) for f in fields)
    if hasattr(value, "fold"):  # a datetime or time: equal is not enough, arithmetic depends on the kind of zone
        return (value, value.fold, type(value.tzinfo)) == (other, other.fold, type(other.tzinfo))
    return bool(value == other)


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def is_typed(annotation: Any) -> bool:
    """Return whether an annotation says more than that there is a value."""
    return annotation not in (inspect.Signature.empty, Any, object)


def name_of_type(annotation: Any) -> str:
    """Return an annotation as people write it."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def fields_of(kind: type) -> Iterable[str]:
    """Return the names of the fields of a dataclass or a Struct; none for another class."""
    fields: Iterable[str] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return fields


def extras_of(value: Any) -> list[str]:
    """Return the attributes that an instance of a dataclass or a Struct has beside its fields and cached properties."""
    kind = type(value)
    fields = fields_of(kind)
    if not fields:
        return []
    return [
        name
        for name in getattr(value, "__dict__", {})
        if name not in fields and not isinstance(getattr(kind, name, None), functools.cached_property)
    ]


def has_nan(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Return whether a value is or holds NaN or an infinity."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if hasattr(value, "is_finite"):  # a Decimal
        return not value.is_finite()
    return levels > 0 and any(has_nan(part, levels - 1) for part in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    return [getattr(value, field, None) for field in fields_of(type(value))]
