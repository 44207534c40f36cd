"""Why a value or a type cannot be stored, in words: where in the value, of which type, and what to do instead."""

from __future__ import annotations

import enum
import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import zip_longest
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple, Union

import msgspec
from msgspec.inspect import CustomType, Field, Type, type_info

from durable.errors import SerializationError
from durable.values.exactness import FormatError, Packed, extras_of, fields_of, is_same, is_typed, name_of_type

MAX_PLACES = 20  # levels that a message names; a deeper part is named by the one that holds it


class Role(NamedTuple):
    """How a caller hands a value over, and how the caller says of which type it is."""

    verb: str
    announce: str


RESULT = Role("return", "annotate the function, as in '-> {}'")
ARGUMENT = Role("pass", "annotate the parameter, as in ': {}'")
VALUE = Role("give", "say what it is, as in type={}")

Part = tuple[str, Any, Any]
"""Where it is in the value, what it is, and what it would come back as."""
NOTHING: Any = object()


def refusal(
    value: Any, decoded: Any, annotation: Any, subject: object, error: Exception | None, role: Role, packed: Packed
) -> SerializationError:
    """Return why a value cannot be stored: encoding or decoding raised `error`, or it comes back as `decoded`.

    `packed` knows its parts that were stored in a format.
    """
    if inspect.iscoroutine(value):
        value.close()  # else Python warns that it was never awaited
    place, part, back = _find_part(value, NOTHING if error else decoded, error, packed)
    kind = type(part)
    where = f" at {place}" if place else ""
    why = _why(value, part, back, annotation, error, role)
    return SerializationError(
        f"{subject} has {_a(kind)}{where}, {why}", subject=str(subject), type_name=kind.__qualname__
    )


def _why(value: Any, part: Any, back: Any, annotation: Any, error: Exception | None, role: Role) -> str:
    """Return the reason and the remedy. `part` is the part of the value that is to blame."""
    name = name_of_type(annotation)
    if isinstance(error, OverflowError | RecursionError):
        return f"with a part that JSON cannot hold ({error}); make it a str"
    if isinstance(error, UnicodeEncodeError):
        return "with a lone surrogate, which has no UTF-8 form; decode the text with errors='replace'"
    if isinstance(error, FormatError):
        return str(error)
    if isinstance(error, msgspec.ValidationError) and _find_hopeless(annotation) is not None:
        return f"which has no exact JSON form; {remedy(type(part), role)}, and annotate that{otherwise(type(part))}"
    if isinstance(error, msgspec.ValidationError):
        return f"which does not fit its annotation {name} ({error}); change one of them"
    if error is not None and type(part) is int:
        return f"which JSON cannot hold; {role.verb} it as a str"
    if isinstance(error, TypeError | ValueError):
        return f"which has no JSON form; {remedy(type(part), role)}{otherwise(type(part))}"
    if error is not None:
        return f"which cannot be encoded ({type(error).__name__}: {error})"
    if is_typed(annotation) and (extras := extras_of(part)):
        return f"whose attribute {extras[0]!r} is none of its fields and would be lost; make it a field"
    if type(back) is not type(part) and _path_of(type(back)) == _path_of(type(part)):
        return (
            "whose class was defined again after the function that is annotated with it; run the cell of the "
            "function again, too"
        )
    found, text = _announce(value)
    advice = role.announce.format(text) if _fits(value, found) else remedy(type(part), role)
    if type(back) is type(part) and not isinstance(part, dict | list | tuple | set | frozenset):
        return f"which would come back as {back!r}; have its class keep it as it is"
    comes_back = "something else" if type(back) is type(part) else _a(type(back))
    under = f" under its annotation {name}" if is_typed(annotation) else ""
    return f"which would come back as {comes_back}{under}; {advice}"


def _path_of(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiouAEIOU' else 'a'} {kind.__name__}"


def remedy(kind: type, role: Role = RESULT) -> str:
    """Return what to do with an instance of a class that has no exact JSON form."""
    return f"{role.verb} {_instead(kind)}" if not _is_awaitable(kind) else _awaiting(kind, role)


def _is_awaitable(kind: type) -> bool:
    return hasattr(kind, "__await__") or (hasattr(kind, "result") and hasattr(kind, "done"))


def _awaiting(kind: type, role: Role) -> str:
    if hasattr(kind, "result"):
        return f"{role.verb} its .result(), or await it first"
    if role is RESULT:
        return "await it within the function, or have a function that is 'async def' itself"
    return f"await it, and {role.verb} what that gives"


def _instead(kind: type) -> str:
    return next((form for has, form in _FORMS if has(kind)), _PLAIN_DATA)


def otherwise(kind: type) -> str:
    """Return what else to do with an instance of a class of the user's or of a library; empty for another class."""
    is_theirs = kind.__module__.partition(".")[0] not in sys.stdlib_module_names or kind.__module__ == "__main__"
    if not is_theirs or "<locals>" in kind.__qualname__ or _is_awaitable(kind) or _instead(kind) != _PLAIN_DATA:
        return ""
    return (
        f"; or annotate it Annotated[{kind.__name__}, durable.formats.Pickled] to have it pickled, or store it in a "
        f"format of your own, see durable.formats.register"
    )


def _of(*kinds: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, kinds)


def _is(*kinds: type) -> Callable[[type], bool]:
    return lambda kind: kind in kinds


def _with(*names: str) -> Callable[[type], bool]:
    return lambda kind: all(hasattr(kind, name) for name in names)


_PLAIN_DATA = "plain data instead: an id, a dict, a dataclass"
_FORMS: list[tuple[Callable[[type], bool], str]] = [
    (_is(dict), "a dict whose keys are all of type str"),
    (_is(set, frozenset), "a list of its members"),
    (_is(bytes), "its .hex()"),
    (_of(enum.Enum), "its .name"),
    (_with("__next__"), "a list of its items"),
    (_with("__anext__"), "a list of its items"),
    (_of(os.PathLike), "str(path)"),
    (_with("model_dump"), "its .model_dump(mode='json')"),
    (_with("to_dict", "columns"), "its .to_dict('records')"),
    (_with("tolist"), "its .tolist()"),
    (_of(type, FunctionType, MethodType, BuiltinFunctionType), "its name"),
    (_of(BaseException), "its text, str(error)"),
    (_of(str), "it as a plain str(...)"),
    (_of(int), "it as a plain int(...)"),
    (_of(float), "it as a plain float(...)"),
    (_of(bytes), "it as plain bytes(...)"),
    (_of(Mapping), "it as a plain dict(...)"),
    (_of(AbstractSet), "it as a plain set(...)"),
    (_of(Collection), "it as a plain list(...)"),
]


# ---- types


def why_never(annotation: Any, role: Role = RESULT) -> str:
    """Return why values of a type can never be stored, and what to do instead; empty if some can, or to our knowledge.

    A field that has a default may stay at it, whatever its type.
    """
    kind, name = _find_hopeless(annotation), name_of_type(annotation)
    if kind is None:
        return ""
    what = "which" if kind is annotation else f"and {_a(kind)}"
    return f"is annotated {name}, {what} has no JSON form; {remedy(kind, role)}, and annotate that{otherwise(kind)}"


def _find_hopeless(annotation: Any) -> type | None:
    """Return a class within a type none of whose instances can be stored, or None."""
    if not is_typed(annotation) or annotation in _PLAIN:
        return None
    try:
        found = [*_hopeless_in(type_info(annotation), [])]
    except Exception:  # it has no type that can be looked at; its values will tell
        return None
    if not found:
        return None
    from durable.values.formats.hints import find
    from durable.values.formats.registry import find_format

    covered = find(annotation).covered  # by a format that the annotation asks for
    return next((kind for kind in found if kind not in covered and find_format(kind) is None), None)


_PLAIN = (None, type(None), bool, int, float, str, bytes)
_OF_JSON = (type(None), bool, int, float, str, list, dict)  # the classes of what comes out of JSON


def _hopeless_in(info: Any, seen: list[type]) -> Iterator[type]:
    if isinstance(info, CustomType):
        if not any(issubclass(kind, info.cls) for kind in _OF_JSON):
            yield info.cls
        return
    if (cls := getattr(info, "cls", None)) is not None:  # a class with fields may hold itself
        if cls in seen:
            return
        seen.append(cls)
    parts = [getattr(info, name) for name in info.__struct_fields__]
    for part in [each for found in parts for each in (found if isinstance(found, tuple) else (found,))]:
        if isinstance(part, Field) and part.required:
            yield from _hopeless_in(part.type, seen)
        elif isinstance(part, Type):
            yield from _hopeless_in(part, seen)


# ---- the part to blame


def _find_part(value: Any, back: Any, error: Exception | None, packed: Packed) -> Part:
    """Return the innermost part that has no JSON form, or that comes back as something else."""
    place, part = "", value
    if isinstance(error, RecursionError):
        return place, part, back
    if isinstance(error, msgspec.ValidationError):  # which names the place
        return place, part, back
    is_bad = functools.partial(_differs, packed) if error is None else _has_no_form
    for _ in range(MAX_PLACES):
        if back is not NOTHING and type(back) is not type(part):
            break
        inner = next((each for each in _parts(part, back) if is_bad(*each[1:])), None)
        if inner is None:
            break
        place, part, back = place + inner[0], *inner[1:]
    return place, part, back


def _differs(packed: Packed, part: Any, back: Any) -> bool:
    return back is not NOTHING and not is_same(part, back, packed=packed)


def _has_no_form(part: Any, _: Any) -> bool:
    from durable.values.formats.pack import Packer

    try:
        msgspec.json.encode(Packer().pack(part))
    except Exception:
        return True
    return False


def _parts(value: Any, back: Any) -> Iterator[Part]:
    """Yield the parts of a value with their places, each beside what it comes back as."""
    backs: Iterable[Any] = ()
    if isinstance(value, dict):
        backs = back.values() if isinstance(back, dict) and list(back) == list(value) else ()
        named = [(f"[{key!r}]", member) for key, member in value.items()]
    elif isinstance(value, set | frozenset):
        named = [("{...}", member) for member in value]
    elif isinstance(value, list | tuple):
        fields = getattr(value, "_fields", None)
        named = [(f".{fields[number]}" if fields else f"[{number}]", member) for number, member in enumerate(value)]
        backs = back if isinstance(back, list | tuple) else ()
    else:
        names = [name for name in fields_of(type(value)) if hasattr(value, name)]
        named = [(f".{name}", getattr(value, name)) for name in names]
        backs = [back.get(n, NOTHING) if isinstance(back, dict) else getattr(back, n, NOTHING) for n in names]
    for (place, part), other in zip_longest(named, backs, fillvalue=NOTHING):
        if part is not NOTHING:
            yield place, part, other


# ---- the type that would do


def _announce(value: Any) -> tuple[Any, str]:
    """Return the type of a value, its members included, and how it is written."""
    kind = type(value)
    if kind in (list, set, frozenset) and value:
        members, text = _union(value)
        return kind[members], f"{kind.__name__}[{text}]"
    if kind is tuple and value:
        each = [_announce(member) for member in value]
        return tuple[tuple(found for found, _ in each)], f"tuple[{', '.join(text for _, text in each)}]"  # type: ignore[misc]
    if kind is dict and value:
        (keys, text_of_keys), (members, text) = _union(value), _union(value.values())
        return dict[keys, members], f"dict[{text_of_keys}, {text}]"  # type: ignore[valid-type]
    return kind, "None" if value is None else kind.__name__


def _union(values: Iterable[Any]) -> tuple[Any, str]:
    found = {text: kind for kind, text in map(_announce, values)}
    texts = sorted(found)
    return Union[tuple(found[text] for text in texts)], " | ".join(texts)  # noqa: UP007 - of types known only now


def _fits(value: Any, annotation: Any) -> bool:
    from durable.values.codec import Codec

    try:
        return Codec(annotation).fits(value)
    except (TypeError, ValueError):  # there are no values of this type
        return False
