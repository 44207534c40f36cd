"""Formats of pandas' frames, series and indexes. Each is taken apart into axes and columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from durable.values.formats.libraries.arrays import Cells
from durable.values.formats.libraries.columns import as_column, dump_column, dump_dates, load_column, load_dates
from durable.values.formats.libraries.moments import dump_freq
from durable.values.formats.registry import Dumped, Format, FormatError

MAX_NAMED = 6  # columns that a preview names


class FrameFormat(Format):
    """Stores axes, columns, `attrs` and flags of a frame."""

    name = "frame/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        _refuse_subclass(value, pd.DataFrame)
        columns = [dump_column(value.iloc[:, place]) for place in range(value.shape[1])]
        return {"columns": value.columns, "index": value.index, "data": columns, **_noted(value)}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        index = head["index"]
        columns = {place: as_column(load_column(data), index) for place, data in enumerate(head["data"])}
        frame = pd.DataFrame(columns, index=index, copy=False)
        frame.columns = head["columns"]
        return _note(frame, head)

    def preview(self, value: Any) -> str:
        """Return the shape, and the first columns with their types."""
        pairs = zip(value.columns[:MAX_NAMED], value.dtypes[:MAX_NAMED], strict=True)
        named = ", ".join(f"{name} {dtype}" for name, dtype in pairs)
        more = ", ..." if value.shape[1] > MAX_NAMED else ""
        return f"{value.shape[0]} rows x {value.shape[1]} columns: {named}{more}"


class SeriesFormat(Format):
    """Stores index, name, values, `attrs` and flags of a series."""

    name = "series/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        _refuse_subclass(value, pd.Series)
        return {"name": value.name, "index": value.index, "data": dump_column(value), **_noted(value)}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        series = as_column(load_column(head["data"]), head["index"])
        series.name = head["name"]
        return _note(series, head)

    def preview(self, value: Any) -> str:
        """Return the length, the name and the type."""
        return f"{len(value)} rows: {value.name} {value.dtype}"


class IndexFormat(Format):
    """Stores an index of any kind with its names and its frequency."""

    name = "index/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        kind = type(value).__name__
        if kind not in _PARTS or type(value) is not getattr(pd, kind):
            raise FormatError(f"an index that is a {kind}, and that is not stored; make it a plain pandas.Index")
        return {"kind": kind, "names": list(value.names), **_PARTS[kind][0](value)}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        index = _PARTS[head["kind"]][1](head)
        index.names = head["names"]
        return index

    def preview(self, value: Any) -> str:
        """Return the length and the type."""
        return f"{type(value).__name__} of {len(value)}: {value.dtype}"


class ExtensionFormat(Format):
    """Stores an array of pandas, as a series has it."""

    name = "extension/1"
    libraries = ("pandas",)

    def dump(self, value: Any) -> Dumped:
        return dump_column(value), ()

    def load(self, head: Any, buffers: Any) -> Any:
        return load_column(head)

    def preview(self, value: Any) -> str:
        """Return the length and the type."""
        return f"array of {len(value)}: {value.dtype}"


def _refuse_subclass(value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise FormatError(f"which is more than a {kind.__name__}; make it a plain one with pandas.{kind.__name__}(...)")


def _noted(value: Any) -> dict[str, Any]:
    head: dict[str, Any] = {"attrs": dict(value.attrs)} if value.attrs else {}
    return head if value.flags.allows_duplicate_labels else head | {"allows_duplicate_labels": False}


def _note(value: Any, head: dict[str, Any]) -> Any:
    value.attrs = head.get("attrs", {})
    if not head.get("allows_duplicate_labels", True):
        value.flags.allows_duplicate_labels = False
    return value


# ---- indexes


def _dump_range(index: Any) -> dict[str, Any]:
    return {"range": [index.start, index.stop, index.step]}


def _load_range(head: dict[str, Any]) -> Any:
    return pd.RangeIndex(*head["range"])


def _dump_levels(index: Any) -> dict[str, Any]:
    head = {} if index.sortorder is None else {"sortorder": index.sortorder}
    return head | {"levels": list(index.levels), "codes": [np.asarray(codes).view(Cells) for codes in index.codes]}


def _load_levels(head: dict[str, Any]) -> Any:
    return pd.MultiIndex(head["levels"], head["codes"], head.get("sortorder"), head["names"], verify_integrity=False)


def _dump_moments(index: Any) -> dict[str, Any]:
    return {"data": dump_dates(index.array), "freq": dump_freq(index.freq)}


def _load_moments(head: dict[str, Any]) -> Any:
    kind = getattr(pd, head["kind"])
    return kind(load_dates(head["data"]), freq=head["freq"])


def _dump_values(index: Any) -> dict[str, Any]:
    return {"data": dump_column(index)}


def _load_values(head: dict[str, Any]) -> Any:
    data = load_column(head["data"])
    if head["kind"] == "Index":
        return pd.Index(data, dtype=data.dtype, copy=False)
    return getattr(pd, head["kind"])(data)


_PARTS: dict[str, tuple[Callable[[Any], dict[str, Any]], Callable[[dict[str, Any]], Any]]] = {
    "RangeIndex": (_dump_range, _load_range),
    "MultiIndex": (_dump_levels, _load_levels),
    "DatetimeIndex": (_dump_moments, _load_moments),
    "TimedeltaIndex": (_dump_moments, _load_moments),
    **dict.fromkeys(("Index", "PeriodIndex", "IntervalIndex", "CategoricalIndex"), (_dump_values, _load_values)),
}
