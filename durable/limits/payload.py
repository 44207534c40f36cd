"""Payload: a function and its arguments as bytes for another process.

Functions and classes of a module go by name. Those of a notebook, of the script that runs, or within a function go by
value, which needs the extra package cloudpickle.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from durable.errors import DurableError


class PayloadError(DurableError):
    """A function or its arguments cannot be given to another process. Nothing of it has run."""


class Payload(NamedTuple):
    """The work of a child process. `names` are the types and functions around a function that goes by value."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    setup: Callable[[], object] | None
    names: dict[str, Any]


def dump(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    setup: Callable[[], object] | None = None,
) -> bytes:
    """Return the bytes. Raises PayloadError."""
    payload = Payload(fn, args, kwargs, setup, {})
    if _is_by_name(fn) and (setup is None or _is_by_name(setup)):
        try:
            return _without_main(pickle.dumps(payload))
        except Exception:  # an argument of a class of the notebook's, say
            pass
    return _dump_by_value(payload)


def load(data: bytes) -> Payload:
    """Return the function again. Its annotations find the names that they mention, as they did where it was defined."""
    payload: Payload = pickle.loads(data)
    main = sys.modules["__main__"].__dict__
    for name, value in payload.names.items():
        main.setdefault(name, value)
        _globals_of(payload.fn, main).setdefault(name, value)
    return payload


def _is_by_name(fn: Any) -> bool:
    fn = _within(fn)
    module, qualname = getattr(fn, "__module__", "__main__"), getattr(fn, "__qualname__", "<locals>")
    return module != "__main__" and "<" not in qualname


def _within(fn: Any) -> Any:
    """Return the function within a partial."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _globals_of(fn: Any, default: dict[str, Any]) -> dict[str, Any]:
    plain = _within(fn)
    found: dict[str, Any] = getattr(getattr(plain, "__func__", plain), "__globals__", default)
    return found


def _without_main(data: bytes) -> bytes:
    if b"__main__" in data:
        raise PayloadError("it mentions what was defined in the main module")
    return data


def _dump_by_value(payload: Payload) -> bytes:
    name = getattr(_within(payload.fn), "__qualname__", repr(payload.fn))
    try:
        import cloudpickle  # type: ignore[import-untyped, import-not-found, unused-ignore] # noqa: F401
    except ImportError:
        raise PayloadError(
            f"{name!r} or an argument of it was not defined at the top level of a module, and only the package "
            f"cloudpickle can give it to another process; install it (pip install cloudpickle), or move it into a "
            f"module"
        ) from None
    found = {
        key: value
        for key, value in _globals_of(payload.fn, {}).items()
        if isinstance(value, type | FunctionType | ModuleType) and not key.startswith("_") and _can_go(value)
    }
    try:
        return by_value(payload._replace(names=found))
    except Exception as error:
        raise PayloadError(
            f"{name!r} cannot be given to another process ({type(error).__name__}: {error}); let it and its arguments "
            f"hold plain data only, and open files, locks and connections within its steps"
        ) from error


def by_value(value: object) -> bytes:
    """Anything as bytes, with the code of what no module holds. Raises ImportError without the package cloudpickle."""
    import cloudpickle  # type: ignore[import-untyped, import-not-found, unused-ignore]

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type) and "__msgspec_cache__" in vars(obj):
                with contextlib.suppress(AttributeError):  # another thread was quicker
                    del obj.__msgspec_cache__  # type: ignore[attr-defined] # cannot be pickled; msgspec makes it again
            return super().reducer_override(obj)

    file = io.BytesIO()
    Pickler(file).dump(value)
    return file.getvalue()


def _can_go(value: object) -> bool:
    """Return whether something around the function, which it may not even use, can be given along."""
    try:
        by_value(value)
    except Exception:
        return False
    return True
