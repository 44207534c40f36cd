"""A look at the variables of a notebook: what they hold, and what they share, as plain data to compare."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import pandas as pd

LARGE = 1 << 16  # from here on a digest is compared


def next_numbers() -> list[float]:
    """Return what the generators that all code shares give next."""
    return [random.random(), float(np.random.rand())]  # noqa: NPY002


def look(variables: dict[str, Any]) -> dict[str, Any]:
    """Return what the variables of a notebook hold, and what they share, as plain data."""
    seen: dict[int, int] = {}
    kept: list[Any] = []
    hidden = ("In", "Out", "exit", "quit", "get_ipython", "open")
    return {
        name: _look(value, seen, kept)
        for name, value in sorted(variables.items())
        if not name.startswith("_") and name not in hidden and not hasattr(value, "__spec__")
    }


def _look(value: Any, seen: dict[int, int], kept: list[Any]) -> Any:
    kind = type(value)
    if kind in (int, str, bool, type(None)):
        return value
    if kind is float:
        return repr(value)
    if isinstance(value, type) or callable(value) or kind.__module__.startswith("matplotlib"):
        return f"<{getattr(value, '__qualname__', kind.__qualname__)}>"
    if id(value) in seen:
        return f"<same as {seen[id(value)]}>"
    seen[id(value)] = len(seen)
    kept.append(value)
    return [f"{len(seen) - 1}: {kind.__qualname__}", *_inside(value, seen, kept)]


def _inside(value: Any, seen: dict[int, int], kept: list[Any]) -> list[Any]:
    if isinstance(value, np.ndarray):
        data = value.tobytes()
        return [str(value.dtype), value.shape, data.hex() if len(data) < LARGE else hashlib.sha256(data).hexdigest()]
    if isinstance(value, pd.DataFrame | pd.Series):
        hashes = pd.util.hash_pandas_object(value, index=True).to_numpy().tobytes().hex()
        types = str(value.dtypes) if isinstance(value, pd.DataFrame) else str(value.dtype)
        return [types, hashes if len(hashes) < LARGE else hashlib.sha256(hashes.encode()).hexdigest()]
    if isinstance(value, np.random.Generator):
        return [str(value.bit_generator.state)]
    if isinstance(value, np.random.RandomState):
        return [str(value.get_state())]
    if isinstance(value, random.Random):
        return [str(value.getstate())]
    if isinstance(value, dict):
        return [[_look(key, seen, kept), _look(part, seen, kept)] for key, part in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return [_look(part, seen, kept) for part in value]
    if hasattr(value, "__dict__"):
        return [[name, _look(part, seen, kept)] for name, part in sorted(vars(value).items())]
    return [repr(value).partition(" at 0x")[0]]
