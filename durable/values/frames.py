"""Frames: the content of arrays and frames in fingerprints of version 2, and of those that have no exact form."""

from __future__ import annotations

import hashlib
from typing import Any

from durable.values.content import content_of, encode

_SCALARS = ("Timestamp", "Timedelta", "Period", "Interval", "NaTType", "NAType")


def content_of_frame(value: Any) -> str | None:
    """Return type, shape and a digest of an array, a frame, a series, an index or a scalar; else None."""
    kind, name = type(value), type(value).__name__
    home = kind.__module__.partition(".")[0]
    if home == "numpy" and hasattr(value, "dtype"):
        if hasattr(value, "item") and not value.shape and name != "ndarray":
            return f"<{value.dtype} {value!s}>"
        held = _array(value) if name == "ndarray" else None
    elif name in ("DataFrame", "Series") or (hasattr(value, "names") and hasattr(value, "dtype")):
        held = _frame(value)
    elif name in _SCALARS:
        return repr(value)
    else:
        held = None
    if held is None:
        return None
    shape = "x".join(map(str, value.shape))
    return f"<{name} {shape} #{hashlib.blake2b(encode(held), digest_size=8).hexdigest()}>"


def _array(array: Any) -> list[Any]:
    has_objects = array.dtype.hasobject
    data = content_of(array.tolist()) if has_objects else hashlib.blake2b(array.tobytes()).hexdigest()
    return [repr(array.dtype), list(array.shape), data]


def _frame(value: Any) -> list[Any]:
    """Return the content of a frame, a series or an index: values, types, names and what is noted on it."""
    noted = content_of(getattr(value, "attrs", {}))
    if hasattr(value, "columns"):
        columns = [_column(value.iloc[:, place]) for place in range(value.shape[1])]
        return [_frame(value.columns), _frame(value.index), columns, noted]
    if hasattr(value, "index"):
        return [content_of(value.name), _frame(value.index), _column(value), noted]
    return [type(value).__name__, str(getattr(value, "freq", None)), content_of(list(value.names)), _column(value)]


def _column(column: Any) -> list[Any]:
    dtype = column.dtype
    if hasattr(dtype, "hasobject"):  # a type of numpy's
        return _array(column.to_numpy())
    if hasattr(dtype, "categories"):
        codes = column.array.codes.tolist()
        return [_frame(dtype.categories), bool(dtype.ordered), codes]
    return [str(dtype), content_of(column.astype(object).tolist())]
