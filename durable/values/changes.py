"""Changes: which argument a function has changed in place, told from its fingerprints before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.values.codec import signature_of
from durable.values.content import cannot_change, encode
from durable.values.fingerprint import Arguments, innermost, unmarked

Key = int | str
"""The place of an argument, or its name."""


def describe_change(
    fn: Callable[..., Any] | None, passed: Arguments, before: str | None, after: str | None, own: int = 0
) -> str | None:
    """Return what was changed in words; None if nothing was. The function has `own` parameters before the first."""
    if before == after:
        return None
    was, now = _contents(before), _contents(after)
    if was and was.keys() == now.keys():
        key = next(key for key in was if was[key] != now[key])
        one, other = (encode(contents[key]).decode() for contents in (was, now))
        return f"its argument {_name_of(fn, key, own)} was changed in place while it ran, from {one} to {other}"
    args, kwargs = passed
    given: list[tuple[Key, Any]] = [*enumerate(args), *kwargs.items()]
    able = [key for key, value in given if not cannot_change((value,), {})]
    names = " or ".join(_name_of(fn, key, own) for key in able)
    return f"its argument {names} was changed in place while it ran"


def _contents(fingerprint: str | None) -> dict[Key, Any]:
    """Return the arguments that a fingerprint tells; none if it was cut."""
    import json  # here, since it would make `import durable` slower

    text = unmarked(fingerprint or "")
    try:
        positional, end = json.JSONDecoder().raw_decode(text)
        return dict(enumerate(positional)) | (json.loads(text[end:]) if text[end:] else {})
    except ValueError:
        return {}


def _name_of(fn: Callable[..., Any] | None, key: Key, own: int) -> str:
    """Return the name of a parameter; its number if it has none."""
    if isinstance(key, str):
        return repr(key)
    try:
        parameter = list(signature_of(innermost(fn)).parameters.values())[key + own]
    except (TypeError, ValueError, IndexError):  # a built-in function may have no signature
        return str(key + 1)
    return str(key + 1) if parameter.kind is parameter.VAR_POSITIONAL else repr(parameter.name)
