"""Formats of the standard library's values that JSON lacks."""

from __future__ import annotations

import datetime as dt
import pathlib
from collections import Counter, defaultdict, deque
from fractions import Fraction
from importlib import import_module
from types import FunctionType
from typing import Any
from zoneinfo import ZoneInfo

from durable.values.formats.named import find_named, name_of
from durable.values.formats.registry import Dumped, Format, FormatError


class FloatFormat(Format):
    """Stores NaN and the infinities."""

    name = "float/1"

    def dump(self, value: Any) -> Dumped:
        return str(value), ()

    def load(self, head: Any, buffers: Any) -> Any:
        return float(head)


class ComplexFormat(Format):
    """Stores both parts."""

    name = "complex/1"

    def dump(self, value: Any) -> Dumped:
        return [value.real, value.imag], ()

    def load(self, head: Any, buffers: Any) -> Any:
        return complex(*head)


class RangeFormat(Format):
    """Stores a range by its ends and its step."""

    name = "range/1"

    def dump(self, value: Any) -> Dumped:
        return [value.start, value.stop, value.step], ()

    def load(self, head: Any, buffers: Any) -> Any:
        return range(*head)


class SliceFormat(RangeFormat):
    """Stores a slice by its ends and its step."""

    name = "slice/1"

    def load(self, head: Any, buffers: Any) -> Any:
        return slice(*head)


class FractionFormat(Format):
    """Stores a fraction as people write it."""

    name = "fraction/1"

    def dump(self, value: Any) -> Dumped:
        return str(value), ()

    def load(self, head: Any, buffers: Any) -> Any:
        return Fraction(head)


class PathFormat(Format):
    """Stores a path under the name of its class. That of another operating system is refused."""

    name = "path/1"

    def dump(self, value: Any) -> Dumped:
        return {type(value).__name__: str(value)}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        [(kind, text)] = head.items()
        try:
            return getattr(pathlib, kind)(text)
        except (AttributeError, NotImplementedError) as error:  # the latter has the words of pathlib
            raise FormatError(f"which was saved as a {kind} ({error}); read it where it was saved") from None


class PairsFormat(Format):
    """Stores a dict by its keys and values, since JSON lacks some of its keys."""

    name = "dict/1"

    def dump(self, value: Any) -> Dumped:
        return [[key, part] for key, part in value.items()], ()

    def load(self, head: Any, buffers: Any) -> Any:
        return {key: part for key, part in head}  # noqa: C416 - a list is no pair to dict()


class CounterFormat(Format):
    """Stores what is counted, in its order."""

    name = "counter/1"

    def dump(self, value: Any) -> Dumped:
        return dict(value), ()

    def load(self, head: Any, buffers: Any) -> Any:
        return Counter(head)


class DequeFormat(Format):
    """Stores the items and the greatest length."""

    name = "deque/1"

    def dump(self, value: Any) -> Dumped:
        return {"items": list(value), "maxlen": value.maxlen}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return deque(head["items"], head["maxlen"])


class DefaultDictFormat(Format):
    """Stores the items and the name of the factory: a class, or a function of the user's at module level."""

    name = "defaultdict/1"

    def dump(self, value: Any) -> Dumped:
        factory = value.default_factory
        if factory is not None and not isinstance(factory, type | FunctionType):
            raise FormatError("whose factory has no name; make it a class, or a function at module level")
        if factory is not None and find_named(name_of(factory), {}) is not factory:
            raise FormatError(f"whose factory is not {name_of(factory)} any more; run the cell of its user again, too")
        return {"factory": factory, "items": dict(value)}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return defaultdict(head["factory"], head["items"])


class ZoneFormat(Format):
    """Stores a time zone by its key."""

    name = "zone/1"

    def dump(self, value: Any) -> Dumped:
        if value.key is None:
            raise FormatError("which has no key; make it by its name, as ZoneInfo('Europe/Berlin')")
        return value.key, ()

    def load(self, head: Any, buffers: Any) -> Any:
        return ZoneInfo(head)


class DatetimeFormat(Format):
    """Stores a datetime or a time with its fold and its zone, which JSON has as an offset only."""

    name = "datetime/1"

    def dump(self, value: Any) -> Dumped:
        naive = value.replace(tzinfo=None, fold=0).isoformat()
        kind = type(value).__name__
        return {kind: naive, "zone": dump_zone(value.tzinfo), "fold": value.fold}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        kind: Any = dt.datetime if "datetime" in head else dt.time
        value = kind.fromisoformat(head[kind.__name__])
        return value.replace(tzinfo=load_zone(head["zone"]), fold=head["fold"])


def dump_zone(zone: Any, *, with_pytz: bool = False) -> Any:
    """Return a time zone as it is in a head: None, a `ZoneInfo`, or an offset and its name. Raises FormatError.

    A zone of pytz becomes its name, if the caller converts what it loads to that zone, as pandas does; in a datetime of
    Python, such a zone stands for one offset.
    """
    if zone is None or type(zone) is ZoneInfo:
        return zone
    if with_pytz and type(zone).__module__.partition(".")[0] == "pytz" and zone.zone:
        return ["pytz", zone.zone]
    if type(zone) is not dt.timezone:
        raise FormatError(
            f"whose time zone is a {type(zone).__module__}.{type(zone).__name__}, and that is not stored; make it a "
            f"ZoneInfo, or convert the value with .astimezone(datetime.timezone.utc)"
        )
    name = zone.tzname(None)
    return ["UTC"] if zone is dt.UTC else [zone.utcoffset(None), *([] if name == _own_name(zone) else [name])]


def load_zone(zone: Any) -> Any:
    """Return the time zone that is in a head so."""
    if type(zone) is not list:
        return zone
    if zone[0] == "pytz":
        try:
            return import_module("pytz").timezone(zone[1])
        except ImportError as error:
            raise FormatError(f"whose time zone {zone[1]} is one of pytz; install pytz to read it") from error
    return dt.UTC if zone == ["UTC"] else dt.timezone(*zone)


def _own_name(zone: dt.timezone) -> str:
    """Return the name of an offset that has none of its own."""
    return dt.timezone(zone.utcoffset(None)).tzname(None)
