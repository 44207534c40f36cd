"""The registry: which format stores the values of a class. Libraries are known by name here, and never imported."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias, runtime_checkable

from durable.values.exactness import FormatError

__all__ = [
    "Buffer",
    "Dumped",
    "Format",
    "FormatError",
    "as_format",
    "find_format",
    "format_named",
    "format_of",
    "is_brought",
    "is_registered",
    "libraries_of",
    "register",
    "versions_of",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

Dumped: TypeAlias = tuple[Any, Sequence[Buffer]]  # a head and buffers

ENTRY_POINTS = "durable.formats"  # from other packages: the name is that of a class, the object a format


@runtime_checkable
class Format(Protocol):
    """Defines how the values of one type are stored. Two values are equal if they have the same head and buffers."""

    name: str
    """Its name and version, as in `frame/1`. A format whose stored form changes gets another version."""

    def dump(self, value: Any) -> Dumped:
        """Return a value as a head and buffers.

        The head is JSON data. It may hold tuples, sets, dates and values of other formats. Raises FormatError.
        """
        ...

    def load(self, head: Any, buffers: Sequence[Buffer]) -> Any:
        """Return the value. The buffers are its own, and it may keep and change them."""
        ...

    def preview(self, value: Any) -> str:
        """Return a few words that stand beside the buffers."""
        return type(value).__name__


_registered: dict[str, Format] = {}  # by the qualified name of the class
_named: dict[str, Format] = {}  # by the name of the format
_found: weakref.WeakKeyDictionary[type, Format | None] = weakref.WeakKeyDictionary()
_others: dict[str, Any] = {}  # the entry points that are not loaded yet
_are_others_known = False
_brought: set[str] = set()  # the names of the formats from entry points

_HERE = __name__.rpartition(".")[0]
_BUILT_IN = {  # where the format of a class is; a module with it imports the library
    "builtins.complex": "standard:ComplexFormat",
    "builtins.range": "standard:RangeFormat",
    "builtins.slice": "standard:SliceFormat",
    "collections.Counter": "standard:CounterFormat",
    "collections.defaultdict": "standard:DefaultDictFormat",
    "collections.deque": "standard:DequeFormat",
    "fractions.Fraction": "standard:FractionFormat",
    "pathlib.PurePath": "standard:PathFormat",
    "zoneinfo.ZoneInfo": "standard:ZoneFormat",
    "numpy.generic": "libraries.arrays:ScalarFormat",
    "numpy.ndarray": "libraries.arrays:ArrayFormat",
    "pandas.DataFrame": "libraries.frames:FrameFormat",
    "pandas.Series": "libraries.frames:SeriesFormat",
    "pandas.Index": "libraries.frames:IndexFormat",
    "pandas.api.extensions.ExtensionArray": "libraries.frames:ExtensionFormat",
    "pandas.core.arrays.base.ExtensionArray": "libraries.frames:ExtensionFormat",
    "pandas.Timestamp": "libraries.moments:TimestampFormat",
    "pandas.Timedelta": "libraries.moments:TimedeltaFormat",
    "pandas.Period": "libraries.moments:PeriodFormat",
    "pandas.Interval": "libraries.moments:IntervalFormat",
    "pandas.api.typing.NaTType": "libraries.moments:MissingFormat",
    "pandas._libs.tslibs.nattype.NaTType": "libraries.moments:MissingFormat",
    "pandas.api.typing.NAType": "libraries.moments:MissingFormat",
    "pandas._libs.missing.NAType": "libraries.moments:MissingFormat",
    "pydantic.main.BaseModel": "libraries.models:ModelFormat",
}
_BUILT_IN_NAMES = {  # where the format of a name is
    "array/1": "libraries.arrays:ArrayFormat",
    "cells/1": "libraries.arrays:CellsFormat",
    "complex/1": "standard:ComplexFormat",
    "counter/1": "standard:CounterFormat",
    "datetime/1": "standard:DatetimeFormat",
    "defaultdict/1": "standard:DefaultDictFormat",
    "deque/1": "standard:DequeFormat",
    "dict/1": "standard:PairsFormat",
    "extension/1": "libraries.frames:ExtensionFormat",
    "fields/1": "objects:FieldsFormat",
    "float/1": "standard:FloatFormat",
    "fraction/1": "standard:FractionFormat",
    "frame/1": "libraries.frames:FrameFormat",
    "index/1": "libraries.frames:IndexFormat",
    "interval/1": "libraries.moments:IntervalFormat",
    "member/1": "objects:MemberFormat",
    "missing/1": "libraries.moments:MissingFormat",
    "model/1": "libraries.models:ModelFormat",
    "path/1": "standard:PathFormat",
    "period/1": "libraries.moments:PeriodFormat",
    "range/1": "standard:RangeFormat",
    "scalar/1": "libraries.arrays:ScalarFormat",
    "series/1": "libraries.frames:SeriesFormat",
    "slice/1": "standard:SliceFormat",
    "timedelta/1": "libraries.moments:TimedeltaFormat",
    "timestamp/1": "libraries.moments:TimestampFormat",
    "zone/1": "standard:ZoneFormat",
}
_instances: dict[str, Format] = {}


def register(type_or_name: type | str, format: Format) -> None:
    """Store the values of a class, and of its subclasses, in a format.

    The class may be given by its qualified name, as in `"torch.Tensor"`, so that its library need not be imported.
    Call this when a module is imported, before the first value of the class is saved or read.
    Raises TypeError for what is no format, ValueError for a format whose name has no version.
    """
    _check(format)
    name = type_or_name if isinstance(type_or_name, str) else f"{type_or_name.__module__}.{type_or_name.__qualname__}"
    _registered[name] = _named[format.name] = format
    _found.clear()


def _check(format: Any) -> None:
    if isinstance(format, type) or not isinstance(format, Format):
        raise TypeError(f"expected a format with name, dump, load and preview, got {format!r}")
    kind, _, version = format.name.partition("/")
    if not kind or not version.isdecimal():
        raise ValueError(f"format {format.name!r}: expected a name with a version, as in 'frame/1'")


def as_format(asked: Any) -> Format | None:
    """Return the format that an annotation or a class asks for: a format, or its class; None for anything else."""
    if isinstance(asked, type):
        if not all(hasattr(asked, each) for each in ("name", "dump", "load", "preview")):
            return None
        asked = asked()
    return asked if isinstance(asked, Format) else None


def format_of(kind: type) -> Format | None:
    """Return the format of a class: what it says itself, or what is registered for it or a base of it."""
    try:
        return _found[kind]
    except KeyError:
        own = kind.__dict__.get("__durable_format__") or getattr(kind, "__durable_format__", None)
        found = _find(kind) if own is None else as_format(own)
        if own is not None:
            _check(own if found is None else found)
        _found[kind] = found
        return found


def _find(kind: type) -> Format | None:
    for base in kind.__mro__:
        for name in _names_of(base):
            if name in _registered:
                return _registered[name]
            if name in _BUILT_IN:
                return _built_in(_BUILT_IN[name])
    return None


def _names_of(kind: type) -> list[str]:
    """Return the qualified names of a class: of where it is defined, and of the package that gives it out."""
    package = kind.__module__.partition(".")[0]
    names = [f"{kind.__module__}.{kind.__qualname__}"]
    if package != kind.__module__ and getattr(sys.modules.get(package), kind.__name__, None) is kind:
        names.append(f"{package}.{kind.__name__}")
    return names


def find_format(kind: type) -> Format | None:
    """Do as `format_of`; if there is none, look for one that another package has for the class."""
    found = format_of(kind)
    if found is not None:
        return found
    if kind.__module__.partition(".")[0] in sys.stdlib_module_names:
        return None
    _know_others()
    for name in (name for base in kind.__mro__ for name in _names_of(base)):
        if name in _others:
            return _load_other(name)
    return None


def _know_others() -> None:
    """Find the entry points, once. It takes a tenth of a second where many packages are installed."""
    global _are_others_known  # noqa: PLW0603
    if not _are_others_known:
        from importlib.metadata import entry_points

        _others.update((each.name, each) for each in entry_points(group=ENTRY_POINTS))
        _are_others_known = True


def is_registered(format: Format) -> bool:
    """Return whether a format is found by its own name."""
    return format.name in _named or format.name in _BUILT_IN_NAMES


def is_brought(format: Format) -> bool:
    """Return whether a format came by an entry point, and so may be found later than a value of its class."""
    return format.name in _brought


def format_named(name: str) -> Format | None:
    """Return a format by its own name; None for one that is not known, as `pickle/1`, which only code may ask for."""
    if name in _named:
        return _named[name]
    if name in _BUILT_IN_NAMES:
        return _built_in(_BUILT_IN_NAMES[name])
    _know_others()
    for other in list(_others):
        if as_format(_others[other].load()) is not None and (format := _load_other(other)).name == name:
            return format
    return None


def _load_other(name: str) -> Format:
    found = as_format(_others.pop(name).load())
    _check(found)
    assert found is not None
    register(name, found)
    _brought.add(found.name)
    return found


def _built_in(place: str) -> Format:
    if place not in _instances:
        module, _, name = place.partition(":")
        _instances[place] = getattr(import_module(f"{_HERE}.{module}"), name)()
    return _instances[place]


def libraries_of(format: Format, value: Any) -> Iterable[str]:
    """Return the libraries that the head and buffers may depend on: `format.libraries`, or what it returns."""
    libraries: Any = getattr(format, "libraries", ())
    found: Iterable[str] = libraries(value) if callable(libraries) else libraries
    return found


def versions_of(libraries: set[str]) -> dict[str, str]:
    """Return the versions of imported libraries, by name."""
    return {name: str(getattr(sys.modules.get(name), "__version__", "")) for name in sorted(libraries)}
