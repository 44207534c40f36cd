"""Errors for people: a recorded error in one line, and a traceback of the user's own lines without the engine's."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
_EXAMPLES = _PACKAGE / "examples"


def short_traceback(error: BaseException) -> str:
    """Return the error as Python prints it, without the frames of this package and of the machinery under it."""
    found = traceback.TracebackException.from_exception(error)
    _shorten(found)
    return "".join(found.format()).rstrip()


def _shorten(found: traceback.TracebackException | None) -> None:
    if found is None:
        return
    found.stack[:] = [frame for frame in found.stack if not _is_machinery(frame.filename)]
    _shorten(found.__cause__)
    _shorten(found.__context__)
    for member in found.exceptions or ():
        _shorten(member)


def _is_machinery(filename: str) -> bool:
    if filename.startswith("<frozen ") or Path(filename).parts[-3:-1] == ("concurrent", "futures"):
        return True
    path = Path(filename)
    return path.is_relative_to(_PACKAGE) and not path.is_relative_to(_EXAMPLES)


def describe_error(error: str) -> str:
    """Return a recorded error as `ValueError: its message`."""
    record = json.loads(error)
    name = record["type"].rpartition(":")[2]
    return f"{name}: {record['message']}" if record["message"] else name
