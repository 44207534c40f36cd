"""Payload: a workflow and its arguments as bytes for another process.

What a module holds goes by name. What was defined in a notebook, in the script that runs, or within a function goes by
value, for which the extra package cloudpickle is needed.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from durable.errors import DurableError


class PayloadError(DurableError):
    """The workflow or its arguments cannot be given to another process. Nothing has run."""


class Payload(NamedTuple):
    """What a child process needs. `names` are the types and functions around a workflow that goes by value."""

    workflow: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    setup: Callable[[], object] | None
    names: dict[str, Any]


def dump(
    workflow: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    setup: Callable[[], object] | None = None,
) -> bytes:
    """The bytes. Raises PayloadError."""
    payload = Payload(workflow, args, kwargs, setup, {})
    if _is_by_name(workflow) and (setup is None or _is_by_name(setup)):
        try:
            return _without_main(pickle.dumps(payload))
        except Exception:  # an argument of a class of the notebook's, say
            pass
    return _dump_by_value(payload)


def load(data: bytes) -> Payload:
    """The workflow again. Its annotations find the names that they mention, as they did where it was defined."""
    payload: Payload = pickle.loads(data)
    main = sys.modules["__main__"].__dict__
    for name, value in payload.names.items():
        main.setdefault(name, value)
        getattr(payload.workflow, "__globals__", main).setdefault(name, value)
    return payload


def _is_by_name(fn: Any) -> bool:
    module, qualname = getattr(fn, "__module__", "__main__"), getattr(fn, "__qualname__", "<locals>")
    return module != "__main__" and "<" not in qualname


def _without_main(data: bytes) -> bytes:
    if b"__main__" in data:
        raise PayloadError("it mentions what was defined in the main module")
    return data


def _dump_by_value(payload: Payload) -> bytes:
    name = getattr(payload.workflow, "__qualname__", repr(payload.workflow))
    try:
        import cloudpickle  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise PayloadError(
            f"workflow {name!r} was not defined at the top level of a module, and only the package cloudpickle can "
            f"give it to another process; install it (pip install cloudpickle), or move the workflow into a module"
        ) from None
    found = {
        key: value
        for key, value in getattr(payload.workflow, "__globals__", {}).items()
        if isinstance(value, type | FunctionType | ModuleType) and not key.startswith("_") and _can_go(value)
    }
    try:
        data: bytes = cloudpickle.dumps(payload._replace(names=found))
    except Exception as error:
        raise PayloadError(
            f"workflow {name!r} cannot be given to another process ({type(error).__name__}: {error}); let it and its "
            f"arguments hold plain data only, and open files, locks and connections within its steps"
        ) from error
    return data


def _can_go(value: object) -> bool:
    """Whether something around the workflow, which it may not even use, can be given along."""
    import cloudpickle  # type: ignore[import-untyped, import-not-found, unused-ignore]

    try:
        cloudpickle.dumps(value)
    except Exception:
        return False
    return True
