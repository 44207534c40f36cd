"""Large values: content that is too large for the row that names it, by the SHA-256 of what it is.

Knows no database. `durable.store.large` and `durable.on_dbos.large` keep such values, in parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Buffer

PART_BYTES = 1 << 20  # a stored part has no more, and the other threads of an engine wait for one part at most


class Freed(NamedTuple):
    """The large values that were dropped, and how many bytes they had."""

    values: int
    bytes: int


def nothing() -> None:
    """Do nothing, between two parts."""


class LargeValues(Protocol):
    """The large values that a run saves and reads. Safe to use from any thread."""

    def put(self, head: bytes, buffers: Sequence[Buffer], on_part: Callable[[], object] = nothing) -> str:
        """Store a value, unless its content is stored already, and return its hash: 64 hexadecimal digits.

        `head` is JSON text, the buffers are contiguous. `on_part` is called after each part. The value survives the
        death of the process, and a power cut once a row that names it is saved. Nothing removes it before the run
        ends; from then on, it stays while a row names it (`Outcome.values`). Raises StoreError.
        """
        ...

    def get(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """Return the head and the buffers of a stored value, each buffer in memory of its own, which may be changed.

        `subject` names the value in messages. Raises CorruptionError if it is missing or was changed.
        """
        ...


def as_views(buffers: Sequence[Buffer]) -> list[memoryview]:
    """Return the buffers as bytes, without a copy. Raises BufferError for one that is not contiguous."""
    return [_as_view(memoryview(buffer)) for buffer in buffers]


def _as_view(view: memoryview) -> memoryview:
    if not view.c_contiguous:
        raise BufferError("a buffer of a large value is not contiguous; pass a contiguous copy")
    return view.cast("B") if view.nbytes else memoryview(b"")  # no view with a zero in its shape can be cast


def split(views: Sequence[memoryview]) -> Iterator[memoryview | bytes]:
    """Yield the buffers in parts, one after the other. A whole part of one buffer is no copy."""
    small: list[memoryview] = []
    room = PART_BYTES
    for view in views:
        at = 0
        while at < len(view):
            piece = view[at : at + room]
            at += len(piece)
            if len(piece) == PART_BYTES:
                yield piece
                continue
            small.append(piece)
            room -= len(piece)
            if not room:
                yield b"".join(small)
                small, room = [], PART_BYTES
    if small:
        yield b"".join(small)


class Content:
    """A value as it is read, part after part, and whether it is what its hash says."""

    def __init__(self, sha256: str, head: bytes, sizes: list[int], parts: int, *, keep: bool = True) -> None:
        """`keep` is whether the buffers are wanted, or the parts and the check alone."""
        self.sha256, self.head, self.sizes, self.parts = sha256, head, sizes, parts
        self.buffers = [memoryview(bytearray(size)) for size in sizes] if keep else []
        self._hash = new_hash(head, sizes)
        self._number = self._at = 0

    def add(self, part: bytes) -> None:
        """Add the next part."""
        self._hash.update(part)
        taken, view = 0, memoryview(part)
        while taken < len(part) and self._number < len(self.buffers):
            buffer = self.buffers[self._number]
            piece = view[taken : taken + len(buffer) - self._at]
            buffer[self._at : self._at + len(piece)] = piece
            taken, self._at = taken + len(piece), self._at + len(piece)
            if self._at == len(buffer):
                self._number, self._at = self._number + 1, 0

    def is_intact(self) -> bool:
        """Return whether all parts together are the value of its hash."""
        return bool(self._hash.hexdigest() == self.sha256)


def new_hash(head: bytes, sizes: Sequence[int]) -> Any:
    """Return the hash of a value up to its buffers. The lengths are part of it, so no byte can change its place."""
    found = hashlib.sha256(msgspec.json.encode([len(head), *sizes]))
    found.update(head)
    return found


def digest(head: bytes, views: Sequence[memoryview]) -> str:
    """Return the hash of a value."""
    found = new_hash(head, [len(view) for view in views])
    for view in views:
        found.update(view)
    return str(found.hexdigest())


def decode_sizes(text: Any, stored: int) -> list[int] | None:
    """Return the lengths of the buffers as they are on record; None unless the stored bytes are as many."""
    try:
        sizes = msgspec.json.decode(text, type=list[int])
    except (msgspec.DecodeError, TypeError):
        return None
    return sizes if all(size >= 0 for size in sizes) and sum(sizes) == stored else None
