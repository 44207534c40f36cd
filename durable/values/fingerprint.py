"""Fingerprint: the arguments of a call as text, to compare and to show.

There are three versions. The second tells what values hold (`durable.values.content`), and what a partial or a method
is bound to. The third tells the content of values with a format by that format. A text begins with the number of the
first version that has it, as in `2:`. Most texts are the same in all versions, and begin with no number.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import msgspec

from durable.values.content import are_json, content_of, encode, fields_of, is_json, older_content_of

MAX_LENGTH = 120  # longer ones are cut, and a digest stands for the rest
SECOND, THIRD = "2:", "3:"
FORMATTED = re.compile(rb'"<[\w.-]+/\d+: ')  # see `durable.values.formats.compare`
RESULT = "\n-> "  # stands before the places of the result, see `durable.values.places`

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def fingerprint(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the arguments as JSON; past 120 characters, its beginning and a digest of all of it.

    A value without content counts as equal to any other of its type. None if nothing can be compared.
    """
    try:
        if are_json(args) and (not kwargs or is_json((kwargs,))):
            return first_version(args, kwargs)
        data = _content(args, kwargs, content_of)
        text = _shortened(data)
    except Exception:  # a lone surrogate is a ValueError; and the user's classes may do anything here
        return None
    if FORMATTED.search(data):
        return THIRD + text
    return text if text == first_version(args, kwargs) else SECOND + text


def second_version(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the fingerprint in the second version, without its mark."""
    try:
        return _shortened(_content(args, kwargs, older_content_of))
    except Exception:  # as above
        return None


def _content(args: tuple[Any, ...], kwargs: dict[str, Any], content: Callable[[Any], Any]) -> bytes:
    return encode(content(args)) + (encode(content(kwargs)) if kwargs else b"")


def unmarked(fingerprint: str) -> str:
    """Return a fingerprint without the number of its version."""
    return fingerprint.removeprefix(THIRD).removeprefix(SECOND)


def first_version(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the fingerprint in the first version."""
    try:
        data = _encode_first(args)
        if kwargs:
            data += _encode_first(kwargs)
        text = data.decode()
        return text if len(text) <= MAX_LENGTH else _shortened(data)  # as that does, without a call
    except Exception:  # as above
        return None


def fingerprint_of_call(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return the fingerprint of a call with what the function is bound to: that of the same call spelled out.

    A partial is bound to arguments, a method to its object. An object that is called as a function is part of the call
    if it has fields.
    """
    if type(fn) is FunctionType:
        return fingerprint(args, kwargs)
    (args, kwargs), fn = partial_arguments(fn, args, kwargs), innermost(fn)
    if isinstance(fn, MethodType):
        if not isinstance(fn.__self__, type):
            args = fn.__self__, *args
    elif not isinstance(fn, type) and fields_of(type(fn)) is not None:
        args = fn, *args
    return fingerprint(args, kwargs)


def innermost(fn: Any) -> Any:
    """Return the function within a partial."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def partial_arguments(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments of a call together with those of a partial."""
    while isinstance(fn, functools.partial):
        args, kwargs, fn = (*fn.args, *args), {**fn.keywords, **kwargs}, fn.func
    return args, kwargs


def is_same_call(recorded: str | None, called: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a recorded fingerprint, of either version, is that of a call."""
    if recorded is None or called is None or unmarked(recorded) == unmarked(called):
        return True
    if recorded.startswith(THIRD):
        return False
    if recorded.startswith(SECOND):
        return called.startswith(THIRD) and unmarked(recorded) == second_version(args, kwargs)
    first = first_version(args, kwargs)
    return first is None or recorded == first


def may_hold_others(fingerprint: str | None) -> bool:
    """Return whether the arguments may hold a value that has no content."""
    return fingerprint is None or fingerprint.startswith((SECOND, THIRD))


def describe(fingerprint: str | None) -> str:
    """Return a fingerprint as people write a call's arguments."""
    if fingerprint is None:
        return "(...)"
    fingerprint, _, places = fingerprint.partition(RESULT)
    if places:
        return f"{describe(fingerprint or None)} -> {places}"
    positional, brace, keyword = unmarked(fingerprint).partition("]{")
    inside = positional.removeprefix("[")
    if not brace:
        return f"({inside.removesuffix(']')})"
    return f"({inside}{', ' if inside else ''}**{{{keyword})"


def _opaque(_: Any) -> str:
    return "<no JSON form>"  # so that it compares equal to any other such value


_encode_first = msgspec.json.Encoder(enc_hook=_opaque, order="deterministic").encode


def _shortened(data: bytes) -> str:
    text = data.decode()
    if len(text) <= MAX_LENGTH:
        return text
    import hashlib

    return f"{text[: MAX_LENGTH - 20]}... #{hashlib.blake2b(data, digest_size=8).hexdigest()}"
