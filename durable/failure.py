"""Exceptions <-> JSON: what a failed step or workflow raised, so that a replay raises the same."""

from __future__ import annotations

import functools
import sys
import traceback
from typing import Any

import msgspec

from durable.codec import PLAIN
from durable.errors import StepError


def encode_error(error: Exception, **extra: Any) -> str:
    """An exception as JSON: its class, message, arguments where they are plain values, notes, and its traceback."""
    record: dict[str, Any] = {"type": type_name(error), "message": _message(error), "arguments": None}
    try:
        reduced: Any = error.__reduce__()
        cls, arguments, *_ = reduced
        if cls is type(error):
            record["arguments"] = msgspec.Raw(PLAIN.encode(list(arguments), "").encode())
    except Exception:  # it is the user's class, and may do anything here
        record["arguments"] = None
    if _rebuild(error, record) is None:
        record["arguments"] = None
    record["notes"] = [_text(str(note)) for note in getattr(error, "__notes__", ())]
    record["traceback"] = _text("".join(traceback.format_exception(error)))
    return msgspec.json.encode(record | extra).decode()


def decode_error(text: str) -> Exception:
    """The recorded exception: of its own class where that is imported and can be rebuilt, else a StepError."""
    record = msgspec.json.decode(text)
    error = _rebuild(None, record) or StepError(record["type"], record["message"])
    for note in record["notes"]:
        error.add_note(note)
    return error


def _rebuild(original: Exception | None, record: dict[str, Any]) -> Exception | None:
    """The exception again, if it comes out with the same class, message and attributes."""
    module, _, qualname = record["type"].partition(":")
    arguments = record["arguments"]
    if isinstance(arguments, msgspec.Raw):
        arguments = msgspec.json.decode(bytes(arguments))
    try:
        cls: Any = functools.reduce(getattr, qualname.split("."), sys.modules[module])
        error = cls(*arguments)
        same = type(error) is cls and isinstance(error, Exception) and _text(str(error)) == record["message"]
        if original is not None:
            same = same and type(original) is cls and _attributes(original) == _attributes(error)
    except Exception:  # it is the user's class, and may do anything here
        return None
    return error if same else None


def _attributes(error: Exception) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name != "__notes__"}


def type_name(error: BaseException) -> str:
    """An exception's class as `module:qualname`."""
    return f"{type(error).__module__}:{type(error).__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return _text(str(error))
    except Exception as inner:
        return f"<its __str__ raised {type(inner).__name__}>"


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()
