"""Exceptions <-> JSON: what a failed step or workflow raised, so that a replay raises the same."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import Any

import msgspec

from durable.errors import StepError
from durable.values.codec import PLAIN


def encode_error(error: Exception, **extra: Any) -> str:
    """Return an exception as JSON: class, message, arguments if they are plain values, notes, and traceback."""
    plain: dict[str, Any] = {"type": type_name(error), "message": _message(error), "arguments": None}
    record = plain
    with contextlib.suppress(Exception):  # it is the user's class, and may do anything here
        reduced: Any = error.__reduce__()
        cls, arguments, *_ = reduced
        if cls is type(error):
            full = plain | {"arguments": _encode(list(arguments))}
            if _rebuild(error, full) is None:  # some, as those of sqlite3, get attributes later
                full["attributes"] = _encode(_attributes(error))
            if _rebuild(error, full) is not None:
                record = full
    record["notes"] = [_text(str(note)) for note in getattr(error, "__notes__", ())]
    record["traceback"] = _text("".join(traceback.format_exception(error)))
    return msgspec.json.encode(record | extra).decode()


def decode_error(text: str) -> Exception:
    """Return the recorded exception: of its own class if that is imported and can be rebuilt, else a StepError."""
    record = msgspec.json.decode(text)
    error = _rebuild(None, record) or StepError(record["type"], record["message"])
    if record["notes"]:
        error.__notes__ = record["notes"]  # those of its own constructor are among them
    return error


def _rebuild(original: Exception | None, record: dict[str, Any]) -> Exception | None:
    """Return the exception again, if it comes out with the same class, message and attributes."""
    arguments, attributes = _decode(record["arguments"]), _decode(record.get("attributes", {}))
    try:
        cls = _find_class(record["type"])
        error = cls(*arguments)
        vars(error).update(attributes)
        same = type(error) is cls and _text(str(error)) == record["message"]
        if original is not None:
            same = same and type(original) is cls and _attributes(original) == _attributes(error)
    except Exception:  # it is the user's class, and may do anything here
        return None
    return error if same else None


def _find_class(name: str) -> type[Exception]:
    """Return an exception class by its `type_name`. Only modules that are imported are asked for it.

    Raises LookupError, AttributeError or TypeError if an imported module has no such exception class.
    """
    module, _, qualname = name.partition(":")
    outer, *inner = qualname.split(".")
    found: Any = getattr(sys.modules[module], outer)
    for part in inner:
        found = vars(found)[part]
    if not (isinstance(found, type) and issubclass(found, Exception)):  # a file that was received may name anything
        raise TypeError(f"{name!r} is no exception class")
    return found


def _encode(value: Any) -> msgspec.Raw:
    return msgspec.Raw(PLAIN.encode(value, "").encode())


def _decode(value: Any) -> Any:
    return msgspec.json.decode(bytes(value)) if isinstance(value, msgspec.Raw) else value


def _attributes(error: Exception) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name != "__notes__"}


def type_name(error: BaseException) -> str:
    """Return an exception's class as `module:qualname`."""
    return f"{type(error).__module__}:{type(error).__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return _text(str(error))
    except Exception as inner:
        return f"<its __str__ raised {type(inner).__name__}>"


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()
