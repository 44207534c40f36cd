"""Whether a value comes back from JSON exactly as it was."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any, Protocol

MAX_LEVELS = 200  # nesting levels; a deeper value could be decoded at one place of a program and not at another


class FormatError(ValueError):
    """A value has no exact form. The text goes on after "... has a DataFrame, ", and says what to do."""


class Packed(Protocol):
    """Knows the parts of a value that are stored in a format, and compares those."""

    def has_packed(self, value: Any) -> bool:
        """Return whether a part of the value is stored in a format."""
        ...

    def is_same(self, value: Any, other: Any) -> bool:
        """Return whether such a part is equal to what it comes back as."""
        ...


def is_same(value: Any, other: Any, levels: int = MAX_LEVELS, packed: Packed | None = None) -> bool:
    """Return whether two values are equal and of the same types, all the way down. Raises RecursionError."""
    kind = type(value)
    if packed is not None and packed.has_packed(value):
        return packed.is_same(value, other)
    if kind is not type(other):
        return kind is int and type(other) is float and value == other  # an int where a float was announced
    if kind in _SCALARS:
        return bool(value == other) or (value != value and other != other)  # noqa: PLR0124 - NaN
    if not levels:
        raise RecursionError(f"nested deeper than {MAX_LEVELS} levels")
    if kind is dict:
        pairs = zip(value, other, strict=False)
        return len(value) == len(other) and all(
            is_same(a, b, levels - 1, packed) and is_same(value[a], other[b], levels - 1, packed) for a, b in pairs
        )
    if isinstance(value, list | tuple):
        pairs = zip(value, other, strict=False)
        return len(value) == len(other) and all(is_same(a, b, levels - 1, packed) for a, b in pairs)
    if isinstance(value, set | frozenset):
        members = {member: member for member in other}
        return len(value) == len(other) and all(  # NaN is found in no set
            any(is_same(m, each, levels - 1, packed) for each in ([members[m]] if m in members else other))
            for m in value
        )
    if fields := fields_of(kind):
        return not extras_of(value) and all(
            is_same(getattr(value, f), getattr(other, f), levels - 1, packed) for f in fields
        )
    if hasattr(value, "fold"):  # a datetime or time: equal is not enough, arithmetic depends on the kind of zone
        zone, back = value.tzinfo, other.tzinfo
        return (value, value.fold, type(zone), str(zone)) == (other, other.fold, type(back), str(back))
    if hasattr(value, "as_tuple"):  # a Decimal, which may be NaN
        return bool(value.as_tuple() == other.as_tuple())
    return bool(value == other)


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def is_typed(annotation: Any) -> bool:
    """Return whether an annotation restricts the type: it is not missing, Any or object."""
    return annotation not in (inspect.Signature.empty, Any, object)


def name_of_type(annotation: Any) -> str:
    """Return an annotation as people write it."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def fields_of(kind: type) -> Iterable[str]:
    """Return the names of the fields of a dataclass, a Struct or an attrs class; none for another class."""
    fields: Iterable[str] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return fields or [each.name for each in getattr(kind, "__attrs_attrs__", ())]


def extras_of(value: Any) -> list[str]:
    """Return the attributes that an object with fields has beside its fields and cached properties."""
    kind = type(value)
    fields = fields_of(kind)
    if not fields:
        return []
    return [
        name
        for name in getattr(value, "__dict__", {})
        if name not in fields and not isinstance(getattr(kind, name, None), functools.cached_property)
    ]
