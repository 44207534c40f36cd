"""Hints: what an annotation says about the format of a value and of its parts."""

from __future__ import annotations

import types
import typing
import weakref
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from durable.values.content import fields_of
from durable.values.exactness import is_typed
from durable.values.formats.named import name_of
from durable.values.formats.registry import Format, as_format, format_of

_PLAIN = (bool, int, float, str, bytes, type(None), None, Any, object, ...)
_UNIONS = (Union, types.UnionType)


class Found(NamedTuple):
    """The formats and classes within an annotation, by their names, and the classes that have a format."""

    formats: dict[str, Format]
    classes: dict[str, type]
    covered: set[Any]


def find(annotation: Any) -> Found:
    """Return the formats and classes within an annotation, the fields of its classes included."""
    found = Found({}, {}, set())
    if is_typed(annotation):
        _visit(annotation, found)
    return found


def _visit(hint: Any, found: Found) -> None:
    hint = _named(hint)
    if hint in _PLAIN:
        return
    if get_origin(hint) is Annotated and (format := _asked(hint)) is not None:
        found.formats[format.name] = format
        found.covered.add(_class_of(hint.__origin__))
        return
    for part in get_args(hint):
        if not isinstance(part, str | int):  # these are in a Literal
            _visit(part, found)
    kind = _class_of(hint)
    if not isinstance(kind, type) or (name := name_of(kind)) in found.classes:
        return
    found.classes[name] = kind
    own = format_of(kind)
    if own is not None:
        found.formats.setdefault(own.name, own)
        found.covered.add(kind)
    for part in _hints_of(kind).values():
        _visit(part, found)


def resolve(hint: Any, value: Any) -> tuple[Any, Format | None]:
    """Return what a hint says about a value: the member of a union that fits it, and the format that it asks for."""
    hint = _named(hint)
    if get_origin(hint) in _UNIONS:
        hint = next((part for part in get_args(hint) if _fits(part, value)), Any)
    if get_origin(hint) is Annotated:
        asked = _asked(hint)
        return (hint, asked) if asked is not None else resolve(hint.__origin__, value)
    return hint, None


def of_items(hint: Any, number: int) -> list[Any]:
    """Return the hints of a number of items of a list, a tuple or a set."""
    args = get_args(hint)
    if get_origin(hint) is tuple and not (len(args) == 2 and args[1] is ...):  # noqa: PLR2004
        return [*args] if len(args) == number else [Any] * number
    return [args[0] if args else Any] * number


def of_keys(hint: Any) -> Any:
    """Return the hint of the keys of a dict."""
    args = get_args(hint)
    return args[0] if len(args) == 2 else Any  # noqa: PLR2004


def of_values(hint: Any, names: typing.Iterable[Any]) -> list[Any]:
    """Return the hints of the values of a dict with these keys."""
    args = get_args(hint)
    if len(args) == 2:  # noqa: PLR2004
        return [args[1] for _ in names]
    fields = _hints_of(hint) if hasattr(hint, "__total__") else {}
    return [fields.get(name, Any) for name in names]


def of_fields(kind: type) -> dict[str, Any]:
    """Return the hints of the fields of a class."""
    return _hints_of(kind)


def loosen(annotation: Any) -> Any:
    """Return an annotation in which unions that msgspec cannot tell apart, and formats that are asked for, are Any."""
    annotation = _named(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Any if _asked(annotation) is not None else loosen(annotation.__origin__)
    if origin in _UNIONS:
        kinds = [_class_of(part) for part in args]
        return Any if any(isinstance(kind, type) and format_of(kind) is not None for kind in kinds) else annotation
    if origin in (list, set, frozenset, tuple, dict) and args:
        return origin[tuple(part if part is ... else loosen(part) for part in args)]
    return annotation


def _asked(hint: Any) -> Format | None:
    return next((format for each in hint.__metadata__ if (format := as_format(each)) is not None), None)


def _named(hint: Any) -> Any:
    """Return the type behind a name."""
    while True:
        if isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _class_of(hint: Any) -> Any:
    hint = _named(hint)
    if get_origin(hint) is Annotated:
        return _class_of(hint.__origin__)
    return get_origin(hint) or hint


def _fits(hint: Any, value: Any) -> bool:
    kind = _class_of(hint)
    if kind in _UNIONS:
        return any(_fits(part, value) for part in get_args(hint))
    return isinstance(kind, type) and (isinstance(value, kind) or narrowed(value, kind) is not None)


def narrowed(value: Any, hint: Any) -> bool | int | float | None:
    """Return the Python number that a numpy scalar becomes under an annotation; None if it becomes none."""
    if hint not in (bool, int, float) or type(value).__module__ != "numpy" or not hasattr(value, "item"):
        return None
    number: Any = value.item() if getattr(value, "shape", None) == () and hasattr(value, "nbytes") else None
    if type(value).__name__ == "ndarray":
        return None
    return number if type(number) is hint or (hint is float and type(number) is int) else None


_hints: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()


def _hints_of(kind: Any) -> dict[str, Any]:
    """Return the annotations of a class with fields; none if they cannot be evaluated."""
    kind = get_origin(kind) or kind
    try:
        return _hints[kind]
    except KeyError:
        found: dict[str, Any] = {}
        if fields_of(kind) is not None or hasattr(kind, "__total__"):
            try:
                found = get_type_hints(kind, include_extras=True)
            except Exception:  # a name that only a type checker imports; msgspec says so if it needs it
                found = {}
        _hints[kind] = found
        return found
