"""Values <-> JSON.

A value is stored only if decoding gives back an equal value of the same type; the type comes from the annotation of
the function that made it. There is no fallback to `repr` or pickle: what has no exact form is refused by name.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import types
import typing
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Container
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import msgspec

from durable.errors import DurableError, SerializationError
from durable.values.content import content_of, encode
from durable.values.exactness import FormatError, is_same, is_typed, name_of_type
from durable.values.fingerprint import fingerprint, innermost  # noqa: F401 - operations from outside look for the first here
from durable.values.lost import FieldLost, check_loss, may_lose, without_loss
from durable.values.places import find_shift, places_of
from durable.values.refusals import ARGUMENT, RESULT, VALUE, Role, refusal, why_never

if typing.TYPE_CHECKING:
    from durable.values.large import Put, Read

if sys.version_info >= (3, 14):
    import annotationlib  # as `inspect` does

MAX_TEXT_LENGTH = 500_000_000  # SQLite ends at 1,000,000,000 bytes a row

MARK = '{"$value":'  # begins a formatted part, see `durable.values.formats.pack`
PICKLE_MARK = '"format":"pickle/'  # is in a text with a value that was saved by pickle
_REGISTRY = "durable.values.formats.registry"

PLACES = "$types"  # stands beside the arguments, see `durable.values.places`

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


Evaluated: TypeAlias = tuple[tuple[str, Any], ...]


class Codec:
    """Encodes and decodes the values of one annotation."""

    __slots__ = (
        "_asks", "_decode", "_found", "_is_closed", "_is_own", "_role", "_type", "annotation", "decode_text",
        "evaluated", "places", "refused",
    )  # fmt: skip

    def __init__(self, annotation: Any, role: Role = RESULT, *, is_own: bool = False) -> None:
        """Raises TypeError if no value of the annotated type has a JSON form. `role` is for messages.

        If the values are the code's own, a recorded field that their class no longer has is refused.
        """
        self.annotation, self._role = annotation, role
        self.evaluated: Evaluated = ()  # names within an annotation that is text, and their meaning
        self.places = places_of(annotation)
        self.refused: str | None = None  # why no value can ever be stored; empty if some can; None is not known yet
        self._found: Any = None  # the formats and classes that the annotation holds, once they are needed
        self._is_closed = _is_closed(annotation)
        # whether it asks for a format, even where JSON would do; None is not known yet
        self._asks = None if is_typed(annotation) and not self._is_closed else False
        self._is_own = is_own and may_lose(annotation)
        self._type, decode = _decoder(annotation)
        # decodes a text; raises msgspec's own error if it does not fit
        self._decode: Callable[[str], Any] = decode if self._is_closed else self._either(decode)
        self.decode_text = self._either(without_loss(decode)) if self._is_own else self._decode

    def round_trip(self, value: Any, subject: object, put: Put | None = None) -> tuple[str, Any]:
        """Return the JSON text of a value, and the value that it decodes to.

        Raises SerializationError, which names the `subject`, unless that is an equal value of the same type.
        A part that is too large for a row is stored apart by `put`, if that is given.
        """
        if self._asks is None:
            self._asks = _REGISTRY in sys.modules and bool(self._find().covered)
        decoded, error = None, None
        if not self._asks:
            try:
                text = _encode(value).decode()
                decoded = self._decode(text)
                if len(text) <= MAX_TEXT_LENGTH and is_same(value, decoded):
                    return text, decoded
            except Exception as caught:
                error = caught
        return self._round_trip_formatted(value, subject, put, decoded, error)

    def _round_trip_formatted(
        self, value: Any, subject: object, put: Put | None, decoded: Any, error: Exception | None
    ) -> tuple[str, Any]:
        """Do as `round_trip` for a value that JSON alone does not give back: `decoded` or `error` came of it."""
        from durable.values.formats.pack import Packer

        packer = Packer(put)
        try:
            packed = packer.pack(value, self.annotation if is_typed(self.annotation) else Any)
            if packed is not value or self._asks:
                decoded, error = None, None
                text = _encode(packed).decode()
                decoded = self._restore(text, packer.read)
                if len(text) <= MAX_TEXT_LENGTH and is_same(value, decoded, packed=packer):
                    return text, decoded
        except DurableError:  # the store raised it
            raise
        except Exception as caught:
            error = caught
        raise refusal(value, decoded, self.annotation, subject, error, self._role, packer) from error

    def fits(self, value: Any) -> bool:
        """Return whether a value comes back exactly."""
        from durable.values.formats.pack import Packer

        packer = Packer()
        try:
            text = _encode(packer.pack(value, self.annotation)).decode()
            return is_same(value, self._restore(text), packed=packer)
        except Exception:  # code of its class runs here, and may raise anything
            return False

    def find_refusal(self, subject: object) -> SerializationError | None:
        """Return the error to raise if no value of the annotated type can ever be stored."""
        if self.refused is None:
            self.refused = why_never(self.annotation, self._role)
        if not self.refused:
            return None
        return SerializationError(
            f"{subject} {self.refused}", subject=str(subject), type_name=name_of_type(self.annotation)
        )

    def encode(self, value: Any, subject: object, put: Put | None = None) -> str:
        """Return the JSON text of a value alone."""
        return self.round_trip(value, subject, put)[0]

    def decode(self, text: str, subject: object, read: Read | None = None) -> Any:
        """Return the value of a stored text. Raises SerializationError if it no longer fits the annotation.

        `read` gives the content of the large values that the text names, or raises CorruptionError.
        """
        try:
            if MARK not in text:
                return self.decode_text(text)
            if self._is_closed:
                with contextlib.suppress(msgspec.ValidationError):  # then it has formatted parts
                    return self._decode(text)
            return self._restore(text, read and functools.partial(read, subject=subject))
        except (msgspec.ValidationError, FormatError) as error:
            name = name_of_type(self.annotation)
            remedy = "bring the field back" if isinstance(error, FieldLost) else "give new fields defaults"
            told = f"does not fit {name} ({error}); {remedy}, or use a new workflow id"
            raise SerializationError(
                f"{subject}: the recorded value {f'is one {error}' if isinstance(error, FormatError) else told}",
                subject=str(subject),
                type_name=name,
            ) from error

    def _either(self, decode: Callable[[str], Any]) -> Callable[[str], Any]:
        """Return a function that decodes a plain text with `decode`, and a text with formatted parts in another way."""
        return lambda text: self._restore(text) if MARK in text else decode(text)

    def _restore(self, text: str, read: Callable[[str], Any] | None = None) -> Any:
        """Return the value of a text with formatted parts."""
        from durable.values.formats.restore import Restorer

        data = Restorer(self._find(), read).restore(_decode(text))
        if not is_typed(self._type):
            return data
        value = msgspec.convert(data, self._type, str_keys=True)
        if self._is_own:
            check_loss(data, value)
        return value

    def _find(self) -> Any:
        if self._found is None:
            from durable.values.formats.hints import find

            self._found = find(self.annotation)
        return self._found


def _decoder(annotation: Any) -> tuple[Any, Callable[[str], Any]]:
    """Return the type that msgspec decodes, and its decoder. Raises TypeError."""
    if not is_typed(annotation):
        return annotation, _decode
    try:
        return annotation, msgspec.json.Decoder(annotation).decode
    except TypeError:
        from durable.values.formats.hints import loosen  # a union of classes with formats, say

        loosened = loosen(annotation)
        if loosened == annotation:
            raise
        return loosened, msgspec.json.Decoder(loosened).decode


_LARGE = frozenset({"numpy", _REGISTRY})
_SCALARS = (bool, int, float, str, bytes, type(None), None, ...)
_CONTAINERS = (list, dict, tuple, set, frozenset, typing.Union, types.UnionType)


def _is_closed(annotation: Any) -> bool:
    """Return whether no formatted part could be mistaken for a plain value of the type."""
    if annotation in _SCALARS:
        return True
    return typing.get_origin(annotation) in _CONTAINERS and all(map(_is_closed, typing.get_args(annotation)))


PLAIN = Codec(Any)
"""Of values that are what JSON says."""


# ---- which codec belongs to a function

_codecs: weakref.WeakKeyDictionary[Any, Codec] = weakref.WeakKeyDictionary()


def codec_of_result(fn: Callable[..., Any], subject: object) -> Codec:
    """Return the codec of a function's result, made once. Raises SerializationError for a hopeless type."""
    plain = getattr(fn, "__func__", fn)  # a bound method is a new object each time
    try:
        found: Codec | None = _codecs[plain]
    except (KeyError, TypeError):
        found = None
    if found is None or not is_current(fn, found.evaluated):
        annotation = hints_of(fn, subject, {"return"}).get("return", inspect.Signature.empty)
        found = codec = codec_of(annotation, subject, is_own=True)
        codec.evaluated = evaluated(fn, {"return"})
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            codec.refused = "would come from a generator function, which only begins; return a list of its items"
        with contextlib.suppress(TypeError):  # it cannot be weakly referenced
            _codecs[plain] = codec
    return found


def codec_of(annotation: Any, subject: object, role: Role = RESULT, *, is_own: bool = False) -> Codec:
    """Return the codec of an annotation, see `Codec`. Raises SerializationError for a hopeless type."""
    try:
        return Codec(annotation, role, is_own=is_own)
    except (TypeError, ValueError) as error:
        name = name_of_type(annotation)
        raise SerializationError(
            f"{subject} is annotated {name}, which has no JSON form ({error}); {role.verb} plain data instead",
            subject=str(subject),
            type_name=name,
        ) from error


def codec_of_value(value: Any, annotation: Any, subject: object) -> Codec:
    """Return the codec of a value that no function made: of the annotation, or of its own class if that is None."""
    return codec_of(type(value) if annotation is None else annotation, subject, VALUE)


def hints_of(fn: Any, subject: object, names: Container[str]) -> dict[str, Any]:
    """Return a function's annotations of these names, evaluated. The others may mention names that are unknown here."""
    fn = innermost(fn)
    if not (inspect.isroutine(fn) or isinstance(fn, type) or hasattr(fn, "__wrapped__")):
        fn = type(fn).__call__
    wanted = {name: hint for name, hint in _annotations(fn).items() if name in names}
    if not wanted:
        return {}
    parameters = getattr(fn, "__type_params__", ())
    alone = SimpleNamespace(__annotations__=wanted, __wrapped__=fn, __type_params__=parameters)
    try:
        return typing.get_type_hints(alone, include_extras=True)
    except NameError as error:
        raise SerializationError(
            f"{subject} has an annotation that cannot be resolved ({error}); define or import the type at module level",
            subject=str(subject),
            type_name=str(error.name),
        ) from error


def evaluated(fn: Any, names: Container[str]) -> Evaluated:
    """Return the names within the annotations of a function that are text, each with what it means now."""
    meant = inspect.unwrap(innermost(fn))
    space = getattr(meant, "__globals__", {})
    texts = [hint for name, hint in _annotations(meant).items() if name in names and isinstance(hint, str)]
    words = [word for text in texts for word in re.findall(r"[^\W\d]\w*", text)]
    return tuple((word, space[word]) for word in words if word in space)


def is_current(fn: Any, evaluated: Evaluated) -> bool:
    """Return whether annotations still mean the same: the cell of a class may have been run again."""
    if not evaluated:
        return True
    space = getattr(inspect.unwrap(innermost(fn)), "__globals__", {})
    return all(space.get(name) is meant for name, meant in evaluated)


if sys.version_info >= (3, 14):  # where an annotation is evaluated when it is asked for, and may not be known

    def _annotations(fn: Any) -> dict[str, Any]:
        return annotationlib.get_annotations(fn, format=annotationlib.Format.FORWARDREF)

    def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
        """Its parameters, whether or not their annotations can be evaluated."""
        return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
else:

    def _annotations(fn: Any) -> dict[str, Any]:
        return getattr(fn, "__annotations__", {})

    def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
        """Its parameters."""
        return inspect.signature(fn)


# ---- a workflow's own arguments


def encode_arguments(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    subject: object,
    put: Put | None = None,
) -> str:
    """Return a workflow's arguments after its context, as one JSON object by parameter name.

    Raises TypeError where they do not fit its parameters, SerializationError where a value has no exact form.
    """
    parameters = _parameters_of(fn, subject)
    try:
        bound = parameters.signature.bind(None, *args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{subject}: {error}") from None
    _, *given = bound.items()
    raws = {
        name: msgspec.Raw(parameters.codecs[name].encode(value, f"{subject}, argument {name!r},", put).encode())
        for name, value in given
    }
    if places := [parameters.codecs[name].places for name, _ in given if parameters.codecs[name].places]:
        raws[PLACES] = msgspec.Raw(f"{{{','.join(each[1:-1] for each in places)}}}".encode())
    return msgspec.json.encode(raws, order="deterministic").decode()


def decode_arguments(
    fn: Callable[..., Any], text: str, subject: object, read: Read | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments, without the context, that were recorded."""
    signature, codecs, _ = _parameters_of(fn, subject)
    raws = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    recorded = bytes(raws.pop(PLACES, b"")).decode()
    if shift := next((found for name in raws if (found := find_shift(recorded, codecs[name].places))), None):
        raise SerializationError(
            f"{subject}: its arguments mean something else now: {shift}; bring the old order back, or use a new "
            f"workflow id",
            subject=str(subject),
            type_name=shift.partition(" ")[0],
        )
    values = {
        name: codecs[name].decode(bytes(raw).decode(), f"{subject}, argument {name!r},", read)
        for name, raw in raws.items()
    }
    context = next(iter(signature.parameters))
    bound = inspect.BoundArguments(signature, OrderedDict({context: None, **values}))
    return bound.args[1:], bound.kwargs


def are_same_arguments(
    fn: Callable[..., Any], recorded: str, called: str, subject: object, read: Read | None = None
) -> bool:
    """Return whether two encodings stand for equal arguments.

    The order of a set differs from process to process, and a field that is missing stands for its default.
    """
    if recorded == called:
        return True
    try:
        one, other = (encode(content_of(decode_arguments(fn, text, subject, read))) for text in (recorded, called))
    except (SerializationError, KeyError):  # the function's parameters are others by now
        return False
    return one == other


class _Parameters(NamedTuple):
    """The parameters of a workflow function, and their codecs."""

    signature: inspect.Signature
    codecs: dict[str, Codec]
    evaluated: Evaluated


_parameters: weakref.WeakKeyDictionary[Any, _Parameters] = weakref.WeakKeyDictionary()


def _parameters_of(fn: Callable[..., Any], subject: object) -> _Parameters:
    """Made once a function, since evaluating its annotations takes as long as several steps."""
    try:
        found: _Parameters | None = _parameters[fn]
    except (KeyError, TypeError):
        found = None
    if found is None or not is_current(fn, found.evaluated):
        signature = _with_context(signature_of(fn))
        names = [*signature.parameters][1:]
        found = _Parameters(signature, _codecs_of_parameters(fn, signature, subject), evaluated(fn, names))
        with contextlib.suppress(TypeError):  # it cannot be weakly referenced
            _parameters[fn] = found
    return found


def _with_context(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature in which the context has its own parameter, even if it is the first of `*args`."""
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        own = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_ONLY)
        return signature.replace(parameters=[own, *parameters])
    return signature


def _codecs_of_parameters(fn: Callable[..., Any], signature: inspect.Signature, subject: object) -> dict[str, Codec]:
    parameters = list(signature.parameters.values())[1:]
    hints = hints_of(fn, subject, {parameter.name for parameter in parameters})
    codecs = {}
    for parameter in parameters:
        annotation = hints.get(parameter.name, parameter.empty)
        if parameter.kind is parameter.VAR_POSITIONAL:
            annotation = tuple.__class_getitem__((Any if annotation is parameter.empty else annotation, ...))
        elif parameter.kind is parameter.VAR_KEYWORD and annotation is not parameter.empty:
            annotation = dict.__class_getitem__((str, annotation))
        codecs[parameter.name] = codec_of(annotation, subject, ARGUMENT, is_own=True)
    return codecs


def may_be_large(value: Any) -> bool:
    """Return whether a value may have a part that is stored apart from its row: not if it is plain.

    Such values come from libraries that are imported by then.
    """
    return type(value) not in _SCALARS and not _LARGE.isdisjoint(sys.modules)


def names_in(text: str) -> tuple[str, ...]:
    """Return the hashes of the large values that a stored text names."""
    if MARK not in text:
        return ()
    from durable.values import large

    return large.names_in(text)


# ---- checksums


def checksum(*values: str | None) -> int:
    """Return a CRC-32 over stored texts, which finds every flipped bit and every flipped digit."""
    texts: Any = [value or "" for value in values] if None in values else values
    return zlib.crc32("\0".join(texts).encode())
