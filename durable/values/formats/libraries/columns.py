"""Columns: the values of a series, a frame's column or an index, by their type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from durable.values.formats.libraries.arrays import Cells
from durable.values.formats.libraries.moments import dump_span
from durable.values.formats.registry import FormatError
from durable.values.formats.standard import dump_zone, load_zone


def dump_column(column: Any) -> Any:
    """Return the values of a series, an index or an array of pandas as the part of a head. Raises FormatError."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind not in "mM":
        data = column.to_numpy()
        return {"objects": data.tolist()} if dtype.kind == "O" else data.view(Cells)
    array = getattr(column, "array", column)
    if type(dtype) is pd.StringDtype:
        missing = array.isna()
        cells = [None if is_missing else text for text, is_missing in zip(array, missing, strict=True)]
        return {"strings": cells, "storage": dtype.storage, "na": getattr(dtype, "na_value", pd.NA)}
    if type(dtype) is pd.CategoricalDtype:
        return {"categories": dtype.categories, "ordered": dtype.ordered, "codes": np.asarray(array.codes).view(Cells)}
    if type(dtype) is pd.PeriodDtype:
        return {"periods": array.asi8.view(Cells), "freq": dump_span(dtype.freq)}
    if type(dtype) is pd.IntervalDtype:
        return {"left": array.left, "right": array.right, "closed": array.closed}
    if isinstance(dtype, np.dtype) or type(dtype) is pd.DatetimeTZDtype:
        return dump_dates(array)
    if hasattr(array, "_mask") and type(dtype).__module__.partition(".")[0] == "pandas":
        return {"nullable": dtype.name, "data": array._data.view(Cells), "mask": array._mask.view(Cells)}
    raise FormatError(_refused(dtype))


def _refused(dtype: Any) -> str:
    if type(dtype) is pd.SparseDtype:
        return f"with values of type {dtype}, which is not stored; make them dense with .sparse.to_dense()"
    if type(dtype).__name__ == "ArrowDtype":
        advice = "convert them with .convert_dtypes(dtype_backend='numpy_nullable')"
        return f"with values of type {dtype}, which is not stored; {advice}"
    return f"with values of type {dtype}, which is not stored; convert them with .astype(...)"


def load_column(data: Any) -> Any:
    """Return the values, as numpy or pandas has them."""
    if isinstance(data, np.ndarray):
        return data
    if "objects" in data:
        cells = np.empty(len(data["objects"]), dtype=object)
        for place, cell in enumerate(data["objects"]):  # a list within would become a row, if they were set at once
            cells[place] = cell
        return cells
    if "strings" in data:
        return pd.array(data["strings"], dtype=_string_dtype(data["storage"], data["na"]))
    if "categories" in data:
        return pd.Categorical.from_codes(
            data["codes"], dtype=pd.CategoricalDtype(data["categories"], data["ordered"]), validate=False
        )
    if "periods" in data:
        return pd.arrays.PeriodArray(data["periods"], dtype=pd.PeriodDtype(data["freq"]))
    if "left" in data:
        return pd.arrays.IntervalArray.from_arrays(data["left"], data["right"], data["closed"])
    if "nullable" in data:
        kind: Any = pd.api.types.pandas_dtype(data["nullable"]).construct_array_type()
        return kind(data["data"], data["mask"])
    return load_dates(data)


def _string_dtype(storage: str, missing: Any) -> Any:
    if missing is pd.NA:
        return pd.StringDtype(storage)
    return pd.StringDtype(storage, na_value=missing)


def dump_dates(array: Any) -> dict[str, Any]:
    """Return an array of timestamps or durations as the part of a head."""
    head = {"dates" if array.dtype.kind == "M" else "durations": array.asi8.view(Cells), "unit": array.unit}
    return head | ({"zone": dump_zone(array.tz, with_pytz=True)} if array.dtype.kind == "M" else {})


def load_dates(data: dict[str, Any]) -> Any:
    """Return such an array."""
    if "durations" in data:
        return pd.TimedeltaIndex(data["durations"].view(f"m8[{data['unit']}]"), copy=False).array
    moments = pd.DatetimeIndex(data["dates"].view(f"M8[{data['unit']}]"), copy=False)
    zone = load_zone(data["zone"])
    return (moments if zone is None else moments.tz_localize("UTC").tz_convert(zone)).array


def as_column(values: Any, index: Any) -> Any:
    """Return values as a series that keeps their type."""
    return pd.Series(values, index=index, dtype=values.dtype, copy=False)
