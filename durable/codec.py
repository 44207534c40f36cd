"""Values and errors <-> JSON, and fingerprints of arguments.

A value is stored only where decoding gives back an equal value of the same type; the type comes from the annotation of
the function that made it. There is no fallback to `repr` or pickle: what has no exact form is refused by name.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import math
import sys
import traceback
import typing
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from durable.errors import SerializationError, StepError

MAX_TEXT_LENGTH = 500_000_000  # SQLite ends at 1,000,000,000 bytes a row
FINGERPRINT_LENGTH = 120  # longer ones are cut, and a digest stands for the rest

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Codec:
    """Encodes and decodes the values of one annotation."""

    __slots__ = ("_decode", "annotation", "typed")

    def __init__(self, annotation: Any) -> None:
        """Raises TypeError where no value of the annotated type has a JSON form."""
        self.annotation = annotation
        self.typed = annotation not in (inspect.Signature.empty, Any, object)
        self._decode = msgspec.json.Decoder(annotation).decode if self.typed else _decode

    def encode(self, value: Any, subject: object) -> str:
        """The JSON text of a value. `subject` is named in the SerializationError that refuses it."""
        try:
            text = _encode(value).decode()
            exact = len(text) <= MAX_TEXT_LENGTH and _is_same(value, self._decode(text))
        except Exception as error:
            raise self._refusal(value, subject, error) from error
        if not exact:
            raise self._refusal(value, subject, None)
        return text

    def decode(self, text: str, subject: object) -> Any:
        """The value of a stored text. Raises SerializationError where it no longer fits the annotation."""
        try:
            return self._decode(text)
        except msgspec.ValidationError as error:
            name = _name_of_type(self.annotation)
            raise SerializationError(
                f"{subject}: the recorded value does not fit {name} ({error}); give new fields defaults, or use a new "
                f"workflow id",
                subject=str(subject),
                type_name=name,
            ) from error

    def _refusal(self, value: Any, subject: object, error: Exception | None) -> SerializationError:
        kind = type(value)
        article = "an" if kind.__name__[0] in "aeiouAEIOU" else "a"
        what = f"{subject} has {article} {kind.__name__}"
        if not isinstance(error, UnicodeEncodeError) and _has_nan(value):
            why = "that is or holds NaN or an infinity, which JSON does not have; return None or a str for it"
        elif isinstance(error, msgspec.ValidationError):
            why = f"which does not fit its annotation {_name_of_type(self.annotation)} ({error}); mend one of them"
        elif isinstance(error, UnicodeEncodeError):
            why = "with a lone surrogate, which has no UTF-8 form; decode the text with errors='replace'"
        elif isinstance(error, OverflowError | RecursionError):
            why = f"with a part that JSON cannot hold ({error}); make it a str"
        elif isinstance(error, TypeError | ValueError):
            why = f"which has no JSON form ({error}); return plain data instead, a path or an id, say"
        elif error is not None:
            why = f"which cannot be encoded ({type(error).__name__}: {error})"
        elif hasattr(value, "fold"):
            why = "whose time zone or fold is lost in JSON; convert it with .astimezone(datetime.timezone.utc)"
        elif not self.typed:
            why = f"which would come back as something else; annotate the function, as in '-> {_suggestion(value)}'"
        else:
            why = f"which {_name_of_type(self.annotation)} does not give back exactly; annotate it as what it is"
        return SerializationError(f"{what}, {why}", subject=str(subject), type_name=kind.__qualname__)


def _is_same(value: Any, other: Any) -> bool:
    """Whether two values are equal and alike in type, all the way down."""
    kind = type(value)
    if kind is not type(other):
        return kind is int and type(other) is float and value == other  # an int where a float was announced
    if kind is dict:
        return len(value) == len(other) and all(
            _is_same(a, b) and _is_same(value[a], other[b]) for a, b in zip(value, other, strict=True)
        )
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(_is_same, value, other))
    if isinstance(value, set | frozenset):
        members = {member: member for member in other}
        return len(value) == len(other) and all(m in members and _is_same(m, members[m]) for m in value)
    fields = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", None)
    if fields:
        return all(_is_same(getattr(value, field), getattr(other, field)) for field in fields) and not _extras(value)
    if hasattr(value, "fold"):  # a datetime or time: equal is not enough, arithmetic depends on the kind of zone
        return (value, value.fold, type(value.tzinfo)) == (other, other.fold, type(other.tzinfo))
    return bool(value == other)


def _extras(value: Any) -> list[str]:
    """Attributes that were set on an instance of a dataclass beside its fields, cached properties aside."""
    kind = type(value)
    fields = getattr(kind, "__dataclass_fields__", {})
    return [
        name
        for name in getattr(value, "__dict__", {})
        if name not in fields and not isinstance(getattr(kind, name, None), functools.cached_property)
    ]


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if hasattr(value, "is_finite"):  # a Decimal
        return not value.is_finite()
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(_has_nan, value))


def _suggestion(value: Any) -> str:
    """An annotation that would take the value."""
    kind = type(value).__name__
    if isinstance(value, set | frozenset | list) and value:
        members = {type(member).__name__ for member in value}
        return f"{kind}[{' | '.join(sorted(members))}]"
    if type(value) is tuple and value:
        return f"tuple[{', '.join(type(member).__name__ for member in value)}]"
    if type(value) is dict and value:
        keys = {type(key).__name__ for key in value}
        values = {type(member).__name__ for member in value.values()}
        return f"dict[{' | '.join(sorted(keys))}, {' | '.join(sorted(values))}]"
    return kind


def _name_of_type(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


# ---- which codec belongs to a function

_codecs: weakref.WeakKeyDictionary[Any, Codec] = weakref.WeakKeyDictionary()


def codec_of_result(fn: Callable[..., Any], subject: object) -> Codec:
    """The codec of what a function returns; made once a function. Raises SerializationError for a hopeless type."""
    plain = getattr(fn, "__func__", fn)  # a bound method is a new object each time
    try:
        return _codecs[plain]
    except (KeyError, TypeError):
        codec = _codec(_hints(fn, subject).get("return", inspect.Signature.empty), subject)
        with contextlib.suppress(TypeError):  # it cannot be weakly referenced
            _codecs[plain] = codec
        return codec


def _codec(annotation: Any, subject: object) -> Codec:
    try:
        return Codec(annotation)
    except (TypeError, ValueError) as error:
        name = _name_of_type(annotation)
        raise SerializationError(
            f"{subject} is annotated {name}, which has no JSON form ({error}); return plain data, a dataclass, say",
            subject=str(subject),
            type_name=name,
        ) from error


def _hints(fn: Any, subject: object) -> dict[str, Any]:
    """A function's annotations, evaluated."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not hasattr(fn, "__annotations__") and callable(fn):
        fn = type(fn).__call__
    if not getattr(fn, "__annotations__", None):
        return {}
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except NameError as error:
        raise SerializationError(
            f"{subject} has an annotation that cannot be resolved ({error}); define or import the type at module level",
            subject=str(subject),
            type_name=str(error.name),
        ) from error


# ---- a workflow's own arguments


def encode_arguments(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], subject: object) -> str:
    """A workflow's arguments after its context, as one JSON object by parameter name.

    Raises TypeError where they do not fit its parameters, SerializationError where a value has no exact form.
    """
    try:
        bound = inspect.signature(fn).bind(None, *args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{subject}: {error}") from None
    codecs = _codecs_of_parameters(fn, subject)
    _, *given = bound.items()
    raws = {
        name: msgspec.Raw(codecs[name].encode(value, f"{subject}, argument {name!r},").encode())
        for name, value in given
    }
    return msgspec.json.encode(raws, order="deterministic").decode()


def decode_arguments(fn: Callable[..., Any], text: str, subject: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments, without the context, that were recorded."""
    codecs = _codecs_of_parameters(fn, subject)
    raws = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    values = {
        name: codecs[name].decode(bytes(raw).decode(), f"{subject}, argument {name!r},") for name, raw in raws.items()
    }
    signature = inspect.signature(fn)
    context = next(iter(signature.parameters))
    bound = inspect.BoundArguments(signature, OrderedDict({context: None, **values}))
    return bound.args[1:], bound.kwargs


def are_same_arguments(fn: Callable[..., Any], recorded: str, called: str, subject: object) -> bool:
    """Whether two encodings stand for equal arguments: the order of a set differs from process to process."""
    if recorded == called:
        return True
    try:
        one, other = (_encode_for_comparison(decode_arguments(fn, text, subject)) for text in (recorded, called))
    except (SerializationError, KeyError):  # the function's parameters are others by now
        return False
    return one == other


def _codecs_of_parameters(fn: Callable[..., Any], subject: object) -> dict[str, Codec]:
    hints = _hints(fn, subject)
    codecs = {}
    for parameter in list(inspect.signature(fn).parameters.values())[1:]:
        annotation = hints.get(parameter.name, parameter.empty)
        if parameter.kind is parameter.VAR_POSITIONAL:
            annotation = tuple.__class_getitem__((Any if annotation is parameter.empty else annotation, ...))
        elif parameter.kind is parameter.VAR_KEYWORD and annotation is not parameter.empty:
            annotation = dict.__class_getitem__((str, annotation))
        codecs[parameter.name] = _codec(annotation, subject)
    return codecs


# ---- fingerprints and checksums


def _opaque(_: Any) -> str:
    return "<no JSON form>"  # so that it compares equal to any other such value


_encode_for_comparison = msgspec.json.Encoder(enc_hook=_opaque, order="deterministic").encode


def fingerprint(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Arguments as text to compare, and to show: JSON, past 120 characters its beginning and a digest of it all.

    What has no JSON form counts as equal to anything else that has none; None where nothing can be compared.
    """
    if not args and not kwargs:
        return "[]"
    try:
        data = _encode_for_comparison(args)
        if kwargs:
            data += _encode_for_comparison(kwargs)
    except (TypeError, ValueError, OverflowError, RecursionError):  # a lone surrogate is a ValueError
        return None
    text = data.decode()
    if len(text) <= FINGERPRINT_LENGTH:
        return text
    return f"{text[: FINGERPRINT_LENGTH - 20]}... #{hashlib.blake2b(data, digest_size=8).hexdigest()}"


def checksum(*values: str | None) -> int:
    """A CRC-32 over stored texts, which finds every flipped bit and every flipped digit."""
    return zlib.crc32("\0".join("" if value is None else value for value in values).encode())


# ---- errors


def encode_error(error: Exception, **extra: Any) -> str:
    """An exception as JSON: its class, message, arguments where they are plain values, notes, and its traceback."""
    record: dict[str, Any] = {"type": type_name(error), "message": _message(error), "arguments": None}
    try:
        reduced: Any = error.__reduce__()
        cls, arguments, *_ = reduced
        if cls is type(error):
            record["arguments"] = msgspec.Raw(_PLAIN.encode(list(arguments), "").encode())
    except Exception:  # it is the user's class, and may do anything here
        record["arguments"] = None
    if _rebuild(error, record) is None:
        record["arguments"] = None
    record["notes"] = [_text(str(note)) for note in getattr(error, "__notes__", ())]
    record["traceback"] = _text("".join(traceback.format_exception(error)))
    return _encode(record | extra).decode()


def decode_error(text: str) -> Exception:
    """The recorded exception: of its own class where that is imported and can be rebuilt, else a StepError."""
    record = _decode(text)
    error = _rebuild(None, record) or StepError(record["type"], record["message"])
    for note in record["notes"]:
        error.add_note(note)
    return error


def _rebuild(original: Exception | None, record: dict[str, Any]) -> Exception | None:
    """The exception again, if it comes out with the same class, message and attributes."""
    module, _, qualname = record["type"].partition(":")
    arguments = record["arguments"]
    if isinstance(arguments, msgspec.Raw):
        arguments = _decode(bytes(arguments))
    try:
        cls: Any = functools.reduce(getattr, qualname.split("."), sys.modules[module])
        error = cls(*arguments)
        same = type(error) is cls and isinstance(error, Exception) and _message(error) == record["message"]
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


_PLAIN = Codec(Any)
