"""Graph: what a variable holds, part by part, and which parts several variables share."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import sys
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

from durable.cells.notebook_code import is_of_notebook
from durable.values.content import fields_of

PLAIN = frozenset({type(None), bool, int, str, float})
NATIVE = (dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, enum.Enum)  # a datetime is a date
ORDERED: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}
PAIRS: dict[type, str] = {dict: "dict", OrderedDict: "OrderedDict", Counter: "Counter", defaultdict: "defaultdict"}

Place = tuple[Any, ...]
"""The name of a variable, and the steps to a part of it."""

NAMED = (int, str)  # the kinds of steps that a tree can name
WITHIN = object()  # the step to what the format of a value stores as a part of it: it cannot be named


def is_plain(values: Any) -> bool:
    """Return whether all of these are values that JSON has, and none is a NaN or an infinity."""
    kinds = set(map(type, values))
    if not kinds <= PLAIN:
        return False
    return float not in kinds or all(map(math.isfinite, (value for value in values if type(value) is float)))


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a container, an instance of a class of the notebook or a frame holds, each with its step."""
    kind = type(value)
    if kind is list or kind in ORDERED:
        if not PLAIN.issuperset(map(type, value)):
            yield from enumerate(value)
    elif kind in PAIRS:
        yield from value.items()
    elif is_instance(value):
        yield from state_of(value).items()
    else:
        yield from ((WITHIN, part) for part in parts_within(value) if is_holder(part))


def parts_within(value: Any) -> Iterator[Any]:
    """Yield what the cells of a frame or a series hold, and its attributes."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series):
        columns = [value] if value.ndim == 1 else [value.iloc[:, number] for number in range(value.shape[1])]
        yield from (cell for column in columns if column.dtype == object for cell in column.array)
        yield from value.attrs.values()


def is_holder(value: Any) -> bool:
    """Return whether a part of a frame can be changed in place: `is_mutable` holds for a path, too."""
    kind = type(value)
    return kind in (list, set, deque, bytearray) or kind in PAIRS or kind.__name__ == "ndarray" or is_instance(value)


def is_instance(value: Any) -> bool:
    """Return whether a value is an instance whose attributes are all that it is."""
    kind = type(value)
    if isinstance(value, type | types.ModuleType | types.FunctionType | BaseException | enum.Enum):
        return False
    if isinstance(value, tuple):
        return hasattr(kind, "_fields")
    return (is_of_notebook(kind) or fields_of(kind) is not None) and not any(
        getattr(kind, name, None) is not getattr(object, name, None)
        for name in ("__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")
    )


def state_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an instance, those in slots included."""
    state = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                state[name] = getattr(value, name)
    return state


def is_mutable(value: Any) -> bool:
    """Return whether a value can be changed in place, so that it matters who else holds it."""
    kind = type(value)
    return not (kind in PLAIN or kind in (bytes, tuple, frozenset, complex, range) or isinstance(value, NATIVE))


def reach(value: Any, found: dict[int, Any] | None = None) -> dict[int, Any]:
    """Return all that a value holds and that can be changed in place, itself included, by identity."""
    found = {} if found is None else found
    stack = [value]
    while stack:
        one = stack.pop()
        if type(one) in PLAIN or id(one) in found:
            continue
        found[id(one)] = one
        root = root_of(one)
        found[id(root)] = root
        stack += [part for _, part in parts_of(one)]
    return {key: one for key, one in found.items() if is_mutable(one)}


def root_of(value: Any) -> Any:
    """Return the array whose memory an array is a view of; any other value itself."""
    base = getattr(value, "base", None) if type(value).__module__ == "numpy" else None
    while base is not None and type(base).__module__ == "numpy":
        value, base = base, base.base
    return value


def places_in(variables: dict[str, Any]) -> dict[int, Place]:
    """Return the place of each part of these variables that can be changed in place, by identity."""
    places: dict[int, Place] = {}
    stack: list[tuple[Place, Any]] = [((name,), value) for name, value in variables.items()]
    while stack:
        place, value = stack.pop()
        if type(value) in PLAIN or id(value) in places or (not is_mutable(value) and not isinstance(value, tuple)):
            continue
        places[id(value)] = place
        stack += [
            ((*place, step), part) for step, part in parts_of(value) if type(step) in (int, str) or step is WITHIN
        ]
    return places


# ---- names of classes and functions


def name_of(kind: Any) -> str:
    """Return the module and the name of a class or a function."""
    return f"{kind.__module__}:{kind.__qualname__}"


def find(name: str) -> Any:
    """Return the class or the function of a name. A file imports nothing: raises ImportError for another module."""
    module, _, path = name.partition(":")
    if module not in sys.modules:
        raise ImportError(f"module {module!r} is not imported here")
    found: Any = sys.modules[module]
    for part in path.split("."):
        found = getattr(found, part)
    return found


def reference_to(value: Any) -> str | None:
    """Return the name under which a module has a class or a function."""
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        name = name_of(value)
        try:
            return name if find(name) is value else None
        except (AttributeError, ImportError):
            return None
    return None
