"""Content: the parts of a value as plain data, to compare values. It is not stored or turned back into a value.

A field that equals its default is left out, so that a class may get further fields with defaults. An object without
content is represented by its type, with a note that it is not compared.
"""

from __future__ import annotations

import contextvars
import datetime as dt
import decimal
import enum
import math
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec

_PLAIN = frozenset({type(None), bool, int, str})
_NATIVE = frozenset(
    {
        *_PLAIN, bytes, bytearray, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID,
        decimal.Decimal,
    }
)  # fmt: skip
_TEXT = frozenset({str})
_UNCHANGING = _NATIVE - {bytearray}

encode = msgspec.json.Encoder().encode


def cannot_change(args: Iterable[Any], kwargs: dict[str, Any]) -> bool:
    """Return whether all arguments have one text in JSON, and none can be changed in place. It is a quick look."""
    return _UNCHANGING.issuperset(map(type, args)) and (
        not kwargs or _UNCHANGING.issuperset(map(type, kwargs.values()))
    )


def is_json(values: Iterable[Any]) -> bool:
    """Return whether all are values that JSON has, all the way down, or that have one text in it, such as instants."""
    for value in values:
        kind = type(value)
        if kind in _NATIVE:
            continue
        if kind is dict:
            if not (_TEXT.issuperset(map(type, value)) and are_json(value.values())):
                return False
        elif kind is list or kind is tuple:
            if not are_json(value):
                return False
        elif kind is not float or not math.isfinite(value):
            return False
    return True


def are_json(values: Iterable[Any]) -> bool:
    """Do as `is_json`, quicker for values that hold no others."""
    return _NATIVE.issuperset(map(type, values)) or is_json(values)


def content_of(value: Any) -> Any:
    """Return what a value holds, as `encode` takes it. Raises RecursionError, TypeError for keys without an order."""
    kind = type(value)
    if kind in _NATIVE:
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if kind is list or kind is tuple:
        return value if _PLAIN.issuperset(map(type, value)) else [content_of(part) for part in value]
    if kind is dict:
        if _TEXT.issuperset(map(type, value)):
            return {key: content_of(value[key]) for key in sorted(value)}
        return _in_order([[content_of(key), content_of(part)] for key, part in value.items()])
    if isinstance(value, enum.Enum):  # its value is that of another member, once one is put before it
        return value.name or value.value
    fields = fields_of(kind)
    return _content_of_other(value) if fields is None else _content_of_fields(value, fields)


def parts_of(value: Any) -> Iterable[Any]:
    """Return the members or the fields of a value whose content is made of theirs."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if (fields := fields_of(type(value))) is not None:
        return [getattr(value, name) for name, _ in fields if hasattr(value, name)]
    return value if isinstance(value, list | tuple | deque | set | frozenset) else ()


def _content_of_fields(value: Any, fields: tuple[Field, ...]) -> dict[str, Any]:
    parts = {}
    for name, default in fields:
        part = getattr(value, name, REQUIRED)
        if part is not REQUIRED and (default is REQUIRED or not _is_default(part, default)):
            parts[name] = content_of(part)
    return parts


def _content_of_other(value: Any) -> Any:
    """Return the content of a value of one of the rarer classes."""
    kind = type(value)
    if isinstance(value, set | frozenset):
        return (
            sorted(value)
            if len(kinds := set(map(type, value))) == 1 and kinds <= _PLAIN
            else _in_order([content_of(member) for member in value])
        )
    if isinstance(value, list | tuple | deque | range):
        return [content_of(part) for part in value]
    if isinstance(value, dict):
        return content_of(dict(value))
    if isinstance(value, PurePath | complex) or kind.__module__ == "fractions":
        return str(value)
    if (held := _formatted_content(value) if _uses_formats.get() else _content_of_frame(value)) is not None:
        return held
    for base, convert in _BASES:
        if isinstance(value, base):
            return convert(value)
    return f"<{kind.__qualname__}: not compared>"


_uses_formats: contextvars.ContextVar[bool] = contextvars.ContextVar("uses_formats", default=True)


def older_content_of(value: Any) -> Any:
    """Return the content as fingerprints of version 2 have it, which knew arrays and frames, and no formats."""
    token = _uses_formats.set(False)
    try:
        return content_of(value)
    finally:
        _uses_formats.reset(token)


def _formatted_content(value: Any) -> str | None:
    """Return the name of a value's format, a preview and a digest of all bytes; None if it has no format."""
    from durable.values.formats.compare import describe

    found = describe(value)
    return _content_of_frame(value) if found is None else found


def _content_of_frame(value: Any) -> str | None:
    if type(value).__module__.partition(".")[0] not in ("numpy", "pandas"):
        return None
    from durable.values.frames import content_of_frame

    return content_of_frame(value)


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__), (int, int.__int__), (float, lambda value: content_of(float.__float__(value))),
    (bytes, bytes), (memoryview, bytes),
)  # fmt: skip


def _in_order(parts: list[Any]) -> list[Any]:
    return sorted(parts, key=encode)


# ---- fields and their defaults


REQUIRED: Any = object()  # stands for the default of a field that has none
_NONE_GIVEN = ("_MISSING_TYPE", "_Nothing", "PydanticUndefinedType", type(msgspec.NODEFAULT).__name__)


class Factory(NamedTuple):
    """Makes the default of a field."""

    make: Callable[[], Any]


Field = tuple[str, Any]
"""A name, and a default, a `Factory` or `REQUIRED`."""

_fields: weakref.WeakKeyDictionary[type, tuple[Field, ...] | None] = weakref.WeakKeyDictionary()


def fields_of(kind: type) -> tuple[Field, ...] | None:
    """Return the fields of a dataclass, a Struct, an attrs class, a pydantic model or a NamedTuple, else None."""
    try:
        return _fields[kind]
    except KeyError:
        listed = _list_fields(kind)
        found = _fields[kind] = None if listed is None else tuple(listed)
        return found


def _list_fields(kind: Any) -> list[Field] | None:
    if (names := getattr(kind, "__struct_fields__", None)) is not None:
        defaults = kind.__struct_defaults__
        required = [msgspec.NODEFAULT] * (len(names) - len(defaults))
        return [(name, _default(each)) for name, each in zip(names, [*required, *defaults], strict=True)]
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses  # here, since it would make `import durable` slower

        return [(each.name, _default(each.default, each.default_factory)) for each in dataclasses.fields(kind)]
    if (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        return [(each.name, _default(each.default)) for each in attributes]
    if hasattr(kind, "__pydantic_validator__"):
        return [(name, _default(each.default, each.default_factory)) for name, each in kind.model_fields.items()]
    if issubclass(kind, tuple) and (names := getattr(kind, "_fields", None)) is not None:
        return [(name, kind._field_defaults.get(name, REQUIRED)) for name in names]
    return None


def _default(default: Any, factory: Any = None) -> Any:
    """Return the default of a field, in one form for all kinds of classes. It imports none of their packages."""
    if factory is not None and type(factory).__name__ not in _NONE_GIVEN:
        return Factory(factory)
    name = type(default).__name__
    if name == "Factory":  # attrs has one, which may need the object, and msgspec
        return REQUIRED if getattr(default, "takes_self", False) else Factory(default.factory)
    return REQUIRED if name in _NONE_GIVEN else default


def _is_default(part: Any, default: Any) -> bool:
    """Return whether a part of a value equals a default.

    A factory is called for a container only: it may count, or draw a number.
    """
    if type(part) in _NATIVE or type(part) is float:
        return type(part) is type(default) and bool(part == default)
    if isinstance(default, Factory):
        try:
            default = default.make()
        except Exception:  # it is the user's, and may do anything here; a model's may take an argument
            return False
    return part is default or (type(part) is type(default) and encode(content_of(part)) == encode(content_of(default)))
