"""Whether a value comes back from JSON exactly as it was, and if not, why, in words."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterable
from typing import Any

import msgspec

from durable.errors import SerializationError

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
    if fields := _fields(kind):
        return not _extras(value) and all(is_same(getattr(value, f), getattr(other, f), levels - 1) for f in fields)
    if hasattr(value, "fold"):  # a datetime or time: equal is not enough, arithmetic depends on the kind of zone
        return (value, value.fold, type(value.tzinfo)) == (other, other.fold, type(other.tzinfo))
    return bool(value == other)


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def refusal(value: Any, annotation: Any, subject: object, error: Exception | None) -> SerializationError:
    """Why a value cannot be stored: `error` is what encoding it raised, None where it came back as something else."""
    kind = type(value)
    article = "an" if kind.__name__[0] in "aeiouAEIOU" else "a"
    why = _why(value, annotation, error)
    return SerializationError(
        f"{subject} has {article} {kind.__name__}, {why}", subject=str(subject), type_name=kind.__qualname__
    )


def _why(value: Any, annotation: Any, error: Exception | None) -> str:
    """Return the reason and the remedy."""
    typed, name = is_typed(annotation), name_of_type(annotation)
    if isinstance(error, OverflowError | RecursionError):
        return f"with a part that JSON cannot hold ({error}); make it a str"
    if isinstance(error, UnicodeEncodeError):
        return "with a lone surrogate, which has no UTF-8 form; decode the text with errors='replace'"
    if _has_nan(value):
        return "that is or holds NaN or an infinity, which JSON does not have; return None or a str for it"
    if isinstance(error, msgspec.ValidationError):
        return f"which does not fit its annotation {name} ({error}); mend one of them"
    if isinstance(error, TypeError | ValueError):
        return f"which has no JSON form ({error}); return plain data instead, a path or an id, say"
    if error is not None:
        return f"which cannot be encoded ({type(error).__name__}: {error})"
    if not typed:
        return f"which would come back as something else; annotate the function, as in '-> {_suggestion(value)}'"
    if hasattr(value, "fold"):
        return "whose time zone or fold is lost in JSON; convert it with .astimezone(datetime.timezone.utc)"
    if extras := _extras(value):
        return f"whose attribute {extras[0]!r} is none of its fields and would be lost; make it a field"
    return f"which {name} does not give back exactly; annotate it as what it is"


def is_typed(annotation: Any) -> bool:
    """Return whether an annotation says more than that there is a value."""
    return annotation not in (inspect.Signature.empty, Any, object)


def name_of_type(annotation: Any) -> str:
    """Return an annotation as people write it."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _fields(kind: type) -> Iterable[str]:
    fields: Iterable[str] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return fields


def _extras(value: Any) -> list[str]:
    """Attributes that were set on an instance of a dataclass or a Struct beside its fields, cached properties aside."""
    kind = type(value)
    fields = _fields(kind)
    if not fields:
        return []
    return [
        name
        for name in getattr(value, "__dict__", {})
        if name not in fields and not isinstance(getattr(kind, name, None), functools.cached_property)
    ]


def _has_nan(value: Any, levels: int = MAX_LEVELS) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if hasattr(value, "is_finite"):  # a Decimal
        return not value.is_finite()
    return levels > 0 and any(_has_nan(part, levels - 1) for part in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    return [getattr(value, field, None) for field in _fields(type(value))]


def _suggestion(value: Any) -> str:
    """Return an annotation that would take the value."""
    kind = type(value).__name__
    if isinstance(value, set | frozenset | list) and value:
        members = {type(member).__name__ for member in value}
        return f"{kind}[{' | '.join(sorted(members))}]"
    if type(value) is tuple and value:
        return f"tuple[{', '.join(type(member).__name__ for member in value)}]"
    if type(value) is dict and value:
        keys = {type(key).__name__ for key in value}
        values = {type(member).__name__ for member in value.values()}
        return f"dict[{' | '.join(sorted(keys))}, {' | '.join(sorted(values))}]"
    return kind
