"""Comparing: the content of a value with a format, as text for the fingerprint of a call."""

from __future__ import annotations

import hashlib
from typing import Any

from durable.values.exactness import FormatError
from durable.values.formats.heads import dump, encode
from durable.values.formats.registry import format_of, is_brought

MAX_SHOWN = 60  # characters of a preview


def describe(value: Any) -> str | None:
    """Return `<frame/1: 2 rows x 3 columns ... #DIGEST>`; None for a value without a format, or without an exact form.

    The digest is of all bytes. Formats from entry points are left out: a replay might come here before they are loaded.
    """
    format = format_of(type(value))
    if format is None or is_brought(format):
        return None
    try:
        head, buffers = dump(value, format, set())
        text = encode(head)
    except (FormatError, UnicodeEncodeError, RecursionError):
        return None
    found = hashlib.blake2b(text, digest_size=8)
    for each in buffers:
        found.update(each)
    shown = format.preview(value) if buffers else text.decode()
    return f"<{format.name}: {shown[:MAX_SHOWN]} #{found.hexdigest()}>"
