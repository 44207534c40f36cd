"""How a workflow has ended, as it goes through DBOS to its callers, in this process or another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from durable import errors
from durable.values import failures as failure

_HERE = f"{errors.__name__}:"


def encode_ending(error: BaseException, steps: list[str] | None = None) -> str:
    """The record of an error. Those of the engine keep their attributes, whatever their constructors ask for."""
    plain = error if isinstance(error, Exception) else Exception(str(error))
    if not isinstance(error, errors.DurableError):
        return failure.encode_error(plain, steps=steps or [])
    attributes = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(error).items()
        if not name.startswith("_") and isinstance(value, str | int | Path | None)
    }
    return failure.encode_error(plain, steps=steps or [], engine=attributes)


def decode_ending(text: str) -> Exception:
    """The error again."""
    record = msgspec.json.decode(text)
    module, _, name = record["type"].rpartition(":")
    cls = getattr(errors, name, None) if f"{module}:" == _HERE else None
    if not (isinstance(cls, type) and issubclass(cls, errors.DurableError)) or "engine" not in record:
        return failure.decode_error(text)
    error: Any = cls.__new__(cls, record["message"])
    Exception.__init__(error, record["message"])
    vars(error).update(record["engine"])
    if isinstance(error, errors.StoreError):
        error.path = Path(error.path)
    for note in record["notes"]:
        error.add_note(note)
    found: Exception = error
    return found
