"""The value that a running step publishes as its progress: plain JSON, and short."""

from __future__ import annotations

from typing import Any

import msgspec

from durable.errors import SerializationError

MAX_BYTES = 10_000  # the JSON text of a value


def encode_progress(value: Any, subject: str) -> str:
    """Return the JSON text of a value. A scalar of numpy becomes its number. `subject` names the step in messages.

    Raises SerializationError for a value that has no plain JSON form, or takes more than 10 kB.
    """
    try:
        text = msgspec.json.encode(value, enc_hook=_as_number)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unfit(value, subject, f"it has no JSON form ({error})") from error
    if len(text) > MAX_BYTES:
        raise _unfit(value, subject, f"it takes {len(text):,} bytes, of {MAX_BYTES:,}")
    return text.decode()


def _as_number(value: Any) -> Any:
    """Return the number of a scalar of numpy, say."""
    if type(value).__module__ == "builtins" or not callable(getattr(value, "item", None)):
        raise TypeError(f"it is a {type(value).__name__}")
    return value.item()


def _unfit(value: Any, subject: str, why: str) -> SerializationError:
    return SerializationError(
        f"{subject}: its progress cannot be published: {why}; publish a number or a short text",
        subject=subject,
        type_name=type(value).__name__,
    )
