"""Lost: recorded fields that a class no longer has. Without this check, decoding drops them silently."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from durable.values.content import fields_of
from durable.values.exactness import is_typed

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_WITHOUT_FIELDS = (bool, int, float, str, bytes, type(None), None, ...)
_CONTAINERS = (list, dict, tuple, set, frozenset, typing.Union, types.UnionType, typing.Annotated)


class FieldLost(msgspec.ValidationError):
    """The class no longer has a recorded field."""


def may_lose(annotation: Any) -> bool:
    """Return whether a value of this type may hold fields."""
    if not is_typed(annotation) or annotation in _WITHOUT_FIELDS:
        return False
    if typing.get_origin(annotation) in _CONTAINERS:
        return any(map(may_lose, typing.get_args(annotation)))
    return annotation not in _CONTAINERS


def without_loss(decode: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function that decodes likewise, and raises FieldLost for a recorded field that the class does not have.

    A value that is encoded to the same text has lost nothing. That is the usual case, and a fast check.
    """

    def decode_all(text: str) -> Any:
        value = decode(text)
        if _encode(value).decode() != text:
            check_loss(_decode(text), value)
        return value

    return decode_all


def check_loss(plain: Any, value: Any) -> None:
    """Raise FieldLost if a value lacks something of the plain value that it was decoded from."""
    if lost := next(_list_lost(plain, value, "$"), None):
        raise FieldLost(lost)


def _list_lost(plain: Any, value: Any, place: str) -> Iterator[str]:
    """Yield, in words, the fields of a plain value that the value decoded from it lacks."""
    if isinstance(value, set | frozenset):  # in any order, so each has to be found in one of them
        for part in plain:
            found = [next(_list_lost(part, member, f"{place}[...]"), None) for member in value]
            yield from [each for each in found[:1] if each is not None and None not in found]
    elif isinstance(plain, list) and isinstance(value, list | tuple):
        for number, (part, member) in enumerate(zip(plain, value, strict=False)):
            yield from _list_lost(part, member, f"{place}[{number}]")
    elif isinstance(plain, dict) and isinstance(value, dict):
        if len(plain) > len(value):  # a TypedDict
            yield from (f"the field {key!r} at {place} is not part of it any more" for key in plain if key not in value)
        for (key, part), member in zip(plain.items(), value.values(), strict=False):
            yield from _list_lost(part, member, f"{place}.{key}")
    elif isinstance(plain, dict) and (names := _stored_names(type(value))) is not None:
        for key, part in plain.items():
            if key not in names:
                yield f"{type(value).__qualname__} has no field {key!r} any more, at {place}"
            elif names[key] is not None:
                yield from _list_lost(part, getattr(value, names[key], None), f"{place}.{key}")


def _stored_names(kind: Any) -> dict[str, Any] | None:
    """Return the names of a class's fields as they are stored, each with that of the attribute."""
    fields = fields_of(kind)
    if fields is None:
        return None
    names = [name for name, _ in fields]
    stored = dict(zip(getattr(kind, "__struct_encode_fields__", names), names, strict=True))
    config = getattr(kind, "__struct_config__", None)
    return stored if config is None or config.tag is None else {config.tag_field: None} | stored
