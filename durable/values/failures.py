"""Exceptions <-> JSON: what a failed step or workflow raised, so that a replay raises the same.

An exception is made again without its constructor, which may need any arguments: its arguments and attributes are set.
So it has the class that was raised, even if some of its attributes have no JSON form.
"""

from __future__ import annotations

import base64
import contextlib
import os
import traceback
from pathlib import Path
from types import MemberDescriptorType
from typing import Any

import msgspec

from durable.errors import StepError, StoreError
from durable.values.codec import PLAIN
from durable.values.modules import find_attribute, module_of

MAX_LINKED = 1000  # exceptions in one record: the causes of one, the members of a group
MAX_LEVELS = 50  # of those, how many may lie one inside the other
MAX_STAND_IN = 200  # characters of the text that stands for an argument
_HEAP = 1 << 9  # a flag of types: it is not set for a class that C code defines, as OSError


def encode_error(error: BaseException, **extra: Any) -> str:
    """Return an exception as JSON: class, message, arguments, attributes, notes, causes, and its traceback as text.

    An attribute without an exact JSON form is left out, an argument is replaced by its text; a note names them.
    """
    writer = _Writer()
    writer.number_of(error)
    record, *linked = writer.records
    more = {"linked": linked, "traceback": _text("".join(traceback.format_exception(error)))}
    return msgspec.json.encode(record | more | extra).decode()


def decode_error(text: str) -> Exception:
    """Return the recorded exception: of its own class if that is imported, else a StepError that names it."""
    record = msgspec.json.decode(text)
    return _Reader([record, *record.get("linked", ())]).error(0)


def type_name(error: BaseException) -> str:
    """Return an exception's class as `module:qualname`."""
    return f"{module_of(type(error).__module__)}:{type(error).__qualname__}"


class _Writer:
    """Writes an exception and those that it refers to, each once. Others refer to one by its number."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}
        self._levels = 0

    def number_of(self, error: BaseException) -> int:
        """Return the number of an exception, which is written if it is new. Raises ValueError if they are too many."""
        if id(error) not in self._numbers:
            if len(self.records) == MAX_LINKED or self._levels == MAX_LEVELS:
                raise ValueError("too many exceptions in one")
            record: dict[str, Any] = {"type": type_name(error), "message": _message(error)}
            self._numbers[id(error)] = len(self.records)
            self.records.append(record)
            self._levels += 1
            record |= self._parts(error)
            self._levels -= 1
        return self._numbers[id(error)]

    def _parts(self, error: BaseException) -> dict[str, Any]:
        lost: list[str] = []
        state, packed = _state(error), {}
        for name, value in state.items():
            try:
                packed[name] = self._pack(value)
            except Exception:  # it is the user's value, and may do anything here
                if name in vars(error):  # else it is of a class in C, as the object of an AttributeError
                    lost.append(name)
        parts = {"args": self._pack(list(error.args), "args", lost), "state": packed}
        with contextlib.suppress(Exception):
            parts |= self._maker(error, state, lost)
        linked = {"cause": error.__cause__, "context": None if error.__suppress_context__ else error.__context__}
        for name, other in linked.items():
            with contextlib.suppress(ValueError):
                parts |= {name: self.number_of(other)} if isinstance(other, Exception) else {}
        notes = [_text(str(note)) for note in vars(error).get("__notes__", ())]
        if lost:
            notes.append(f"recorded without {', '.join(lost)}, which JSON cannot hold; handle it within the step")
        return parts | {"suppress": error.__suppress_context__, "notes": notes}

    def _maker(self, error: BaseException, state: dict[str, Any], lost: list[str]) -> dict[str, Any]:
        """Return how to make one of a class whose instances only its own code can make, as pydantic's."""
        try:
            _new(type(error), state)
        except TypeError:
            reduced: Any = error.__reduce__()
            name = "" if reduced[0] is type(error) else reduced[0].__name__
            return {"maker": name, "made_of": self._pack(list(reduced[1]), "parts", lost)}
        return {}

    def _pack(self, value: Any, place: str = "", lost: list[str] | None = None) -> Any:
        """Return a value as plain JSON values. A part without an exact form raises; with `lost`, its text is there."""
        kind = type(value)
        try:
            if kind is list or kind is tuple:
                members = [self._pack(member, f"{place}[{number}]", lost) for number, member in enumerate(value)]
                return members if kind is list else {"$tuple": members}
            if kind is dict and not any(str(key).startswith("$") for key in value):
                PLAIN.round_trip(dict.fromkeys(value), "")
                return {key: self._pack(member, f"{place}[{key!r}]", lost) for key, member in value.items()}
            if kind is bytes:
                return {"$bytes": base64.b64encode(value).decode()}
            if isinstance(value, Exception):
                return {"$error": self.number_of(value)}
            if isinstance(value, os.PathLike) and kind.__module__.partition(".")[0] == "pathlib":
                return {"$path": PLAIN.round_trip(os.fspath(value), "")[1]}
            text = PLAIN.round_trip(value, "")[0]
            return msgspec.json.decode(text)  # its formatted parts as they are stored
        except Exception:  # it is the user's value, and may do anything here
            if lost is None:
                raise
            lost.append(place)
            return _stand_in(value)


class _Reader:
    """Makes the exceptions of one record."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self._records = records
        self._errors: dict[int, Exception] = {}

    def error(self, number: int) -> Exception:
        """Return an exception, which is made if it is a new one."""
        if number not in self._errors:
            record = self._records[number]
            try:
                cls = find_class(record["type"])
                if "args" in record:
                    self._make(cls, number, record)
                else:
                    self._errors[number] = _of_older_version(cls, record)
            except Exception:  # it is the user's class, and may do anything here
                self._errors[number] = StepError(record["type"], record["message"])
            self._link(self._errors[number], record)
        return self._errors[number]

    def _make(self, cls: type[Exception], number: int, record: dict[str, Any]) -> None:
        error = self._begin(cls, number, record)
        if not _says(error, record["message"]):  # its text depends on an attribute that is not on record
            with contextlib.suppress(Exception):  # a class that allows no class below it says something else then
                self._begin(_saying(cls, record["message"]), number, record)

    def _begin(self, cls: type[Exception], number: int, record: dict[str, Any]) -> Exception:
        state = record["state"]
        if issubclass(cls, BaseExceptionGroup):  # its members must be there before it is
            state = state | {"exceptions": self._unpack(state["exceptions"])}
        try:
            error = _new(cls, state)
        except TypeError:
            error = self._new_by_its_own_code(cls, record)
        self._errors[number] = error  # before its parts: one of them may refer to it
        error.args = tuple(self._unpack(record["args"]))
        members = _members(cls)
        for name, value in record["state"].items():
            if name not in members:
                vars(error)[name] = self._unpack(value)
            else:
                with contextlib.suppress(AttributeError, TypeError):  # it is read-only
                    members[name].__set__(error, self._unpack(value))
        return error

    def _new_by_its_own_code(self, cls: type[Exception], record: dict[str, Any]) -> Exception:
        make: Any = getattr(cls, record["maker"]) if record["maker"] else cls
        if make is not cls and make.__self__ is not cls:
            raise TypeError(f"{record['maker']!r} does not make a {cls.__qualname__}")
        error: Exception = make(*self._unpack(record["made_of"]))
        if type(error) is not cls:
            raise TypeError(f"{record['maker']!r} does not make a {cls.__qualname__}")
        return error

    def _link(self, error: Exception, record: dict[str, Any]) -> None:
        if record["notes"]:
            error.__notes__ = record["notes"]
        if "cause" in record:
            error.__cause__ = self.error(record["cause"])
        if "context" in record:
            error.__context__ = self.error(record["context"])
        error.__suppress_context__ = record.get("suppress", False)

    def _unpack(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._unpack(member) for member in value]
        if not isinstance(value, dict):
            return value
        match list(value.items()):
            case [("$tuple", members)]:
                return tuple(self._unpack(members))
            case [("$bytes", text)]:
                return base64.b64decode(text)
            case [("$path", text)]:
                return Path(text)
            case [("$error", number)]:
                return self.error(number)
            case [("$value", _), ("format", _), *_]:
                return PLAIN.decode(msgspec.json.encode(value).decode(), "its error")
            case items:
                return {key: self._unpack(member) for key, member in items}


def find_class(name: str) -> type[Exception]:
    """Return an exception class by its `type_name`. Only modules that are imported are asked for it.

    Raises LookupError, AttributeError or TypeError if an imported module has no such exception class.
    """
    module, _, qualname = name.partition(":")
    outer, *inner = qualname.split(".")
    found = find_attribute(module, outer)
    for part in inner:
        found = vars(found)[part]
    if not (isinstance(found, type) and issubclass(found, Exception)):  # a file that was received may name anything
        raise TypeError(f"{name!r} is no exception class")
    return found


def _new(cls: Any, state: dict[str, Any]) -> Exception:
    """Return an instance with nothing in it. Raises TypeError if only the code of the class can make one."""
    base = next(each for each in cls.__mro__ if not each.__flags__ & _HEAP)
    args = (state["message"], state["exceptions"]) if issubclass(cls, BaseExceptionGroup) else ()
    error: Exception = base.__new__(cls, *args)
    return error


def _members(cls: type) -> dict[str, MemberDescriptorType]:
    """Return what an instance keeps beside its `__dict__`: its slots, and the attributes of classes in C."""
    bases = [base for base in cls.__mro__ if base is not BaseException]
    return {
        name: member
        for base in reversed(bases)
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType)
    }


def _state(error: BaseException) -> dict[str, Any]:
    state = {name: value for name, value in vars(error).items() if name != "__notes__"}
    for name, member in _members(type(error)).items():
        with contextlib.suppress(AttributeError):  # it was not set
            if (value := member.__get__(error)) is not None:
                state[name] = value
    return state


def _saying(cls: Any, message: str) -> Any:
    """Return a class below this one, of the same name, whose instances have this text."""
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__slots__": ()}
    return type(cls)(cls.__name__, (cls,), body | {"__str__": lambda _: message})


def _says(error: Exception, message: str) -> bool:
    try:
        return _text(str(error)) == message
    except Exception:  # its attributes are missing, say
        return False


def _of_older_version(cls: type[Exception], record: dict[str, Any]) -> Exception:
    """Return an exception that was recorded with the arguments of its constructor, or the attributes of ours.

    Raises if it differs from the recorded one.
    """
    if "engine" in record:
        ours = _new(cls, {})
        ours.args = (record["message"],)
        vars(ours).update(record["engine"])
        if isinstance(ours, StoreError):
            ours.path = Path(ours.path)
        return ours
    error = cls(*record["arguments"])
    vars(error).update(record.get("attributes", {}))
    if type(error) is not cls or not _says(error, record["message"]):
        raise ValueError("it differs from the recorded one")
    return error


def _message(error: BaseException) -> str:
    try:
        return _text(str(error))
    except Exception as inner:
        return f"<its __str__ raised {type(inner).__name__}>"


def _stand_in(value: Any) -> str:
    try:
        return _text(repr(value))[:MAX_STAND_IN]
    except Exception:
        return f"<{type(value).__name__}>"


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()
