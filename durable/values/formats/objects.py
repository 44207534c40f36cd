"""Formats of enums and of objects with fields, within heads: there no annotation tells their class."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Any

from durable.values.content import REQUIRED, Factory, fields_of
from durable.values.exactness import extras_of
from durable.values.formats.named import name_of
from durable.values.formats.registry import Dumped, Format, FormatError

Known = dict[str, Callable[[], Any] | None]
"""The fields of a class: each with what makes its default, or None if it has none."""


class MemberFormat(Format):
    """Stores the member of an enum by its name; a combination of flags by its number."""

    name = "member/1"

    def dump(self, value: Any) -> Dumped:
        kind = type(value)
        if value.name in kind.__members__:
            return {"class": kind, "name": value.name}, ()
        return {"class": kind, "flags": value.value}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        kind = head["class"]
        if not issubclass(kind, enum.Enum):
            raise FormatError(f"which was saved as a member of {name_of(kind)}, and that is no enum; bring it back")
        if "flags" in head:
            return kind(head["flags"])
        if head["name"] not in kind.__members__:
            raise FormatError(f"whose enum has no {head['name']!r} any more; bring it back, or use a new workflow id")
        return kind[head["name"]]


class FieldsFormat(Format):
    """Stores the fields of a dataclass, a NamedTuple, an attrs class or a Struct with its class.

    Only the constructor of a Struct is called again.
    """

    name = "fields/1"

    def dump(self, value: Any) -> Dumped:
        if extras := extras_of(value):
            raise FormatError(f"whose attribute {extras[0]!r} is none of its fields and would be lost; make it a field")
        kind = type(value)
        fields = {name: getattr(value, name) for name, _ in fields_of(kind) or () if hasattr(value, name)}
        return {"class": kind, "fields": fields}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        kind = head["class"]
        if (listed := fields_of(kind)) is None:
            raise FormatError(f"which was saved by its fields, and {name_of(kind)} has none; bring them back")
        known: Known = {name: _maker_of(default) for name, default in listed}
        fields = complete(kind, head["fields"], known)
        if issubclass(kind, tuple):
            return tuple.__new__(kind, [fields[name] for name in known])
        if hasattr(kind, "__struct_fields__"):
            return kind(**fields)
        made = object.__new__(kind)
        for name, part in fields.items():
            object.__setattr__(made, name, part)
        return made


def complete(kind: type, fields: dict[str, Any], known: Known) -> dict[str, Any]:
    """Return the recorded fields of a class with the defaults of new ones. Raises FormatError."""
    if lost := [name for name in fields if name not in known and not hasattr(kind, name)]:
        raise FormatError(f"whose class has no field {lost[0]!r} any more; bring it back, or use a new workflow id")
    news = {}
    for name, make in known.items():
        if name not in fields:
            if make is None:
                raise FormatError(f"whose class has a new field {name!r}; give it a default, or use a new workflow id")
            news[name] = make()
    return fields | news


def _maker_of(default: Any) -> Callable[[], Any] | None:
    if default is REQUIRED:
        return None
    return default.make if isinstance(default, Factory) else partial(_itself, default)


def _itself(default: Any) -> Any:
    return default
