"""Large values: content that is too large for its row. The row names it by the SHA-256 of the content.

Such values are kept in parts, by `durable.store.rows.large` and `durable.on_dbos.store.large`. This knows no database.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from durable.errors import CorruptionError
from durable.signals import is_waiting, let_through

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer

T = TypeVar("T")

PART_BYTES = 1 << 20  # a stored part has no more, and the other threads of an engine wait for one part at most
MAX_NAMED = 5  # rows in a message
_FEW_PARTS = 3  # take less time than a thread
_HUGE_BYTES = 4 << 20


class Freed(NamedTuple):
    """The large values that were dropped, and how many bytes they had."""

    values: int
    bytes: int


class Put(Protocol):
    """Stores the head and the buffers of a value apart from its row, see `LargeValues.put`. Returns the hash."""

    def __call__(self, head: bytes, buffers: Sequence[Buffer], /) -> str: ...  # noqa: D102


class Read(Protocol):
    """Reads a stored value, see `LargeValues.get`."""

    def __call__(self, sha256: str, /, subject: object = None) -> tuple[bytes, list[memoryview]]: ...  # noqa: D102


def names_in(text: str) -> tuple[str, ...]:
    """Return the hashes of the large values that a stored text names, each once."""
    return tuple(dict.fromkeys(_names_in(msgspec.json.decode(text))))


def _names_in(data: Any) -> Iterator[str]:
    if isinstance(data, dict) and "$value" in data and "bytes" in data:
        yield str(data["$value"])
    elif isinstance(data, dict | list):
        for part in data.values() if isinstance(data, dict) else data:
            yield from _names_in(part)


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


def _also(act: Callable[[T], object], items: Iterable[T]) -> Iterator[T]:
    """Yield the items, and act on each before it."""
    for item in items:
        act(item)
        yield item


def _beside(act: Callable[[T], object], items: Iterable[T]) -> Iterator[T]:
    """Yield the items, and have another thread act on each, in order. It has ended when this ends."""
    waiting: queue.Queue[T | None] = queue.Queue(2)
    errors: list[BaseException] = []

    def work() -> None:
        for item in iter(waiting.get, None):
            try:
                if not errors:
                    act(item)
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=work, name="durable-value", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter ends
        yield from _also(act, items)
        return
    try:
        for item in items:
            waiting.put(item)
            yield item
    finally:
        waiting.put(None)
        thread.join()
    if errors:
        raise errors[0]


class Content:
    """A value as it is read, part after part, and whether its content matches its hash."""

    def __init__(self, sha256: str, head: bytes, sizes: list[int], parts: int, *, keep: bool = True) -> None:
        """`keep` is whether the buffers are wanted, or the parts and the check alone."""
        self.sha256, self.head, self.sizes, self.parts = sha256, head, sizes, parts
        self.buffers = [memoryview(_memory(size)) for size in sizes] if keep else []
        self._hash = _new_hash(head, sizes)
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


def _memory(size: int) -> Any:
    """Return memory of so many bytes, all zero.

    A large one is in pages of 2 MiB where the system has them: the first touch of so many small ones takes as long as
    reading them from a file.
    """
    import mmap  # here, since it would make `import durable` slower

    if size < _HUGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return bytearray(size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel may be built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class InParts(ABC):
    """Large values that are kept in parts: what is the same for each database. See `LargeValues`."""

    path: Path  # names the database in messages
    remedy = "rewind to the step that made it, which saves it anew"

    def put(self, head: bytes, buffers: Sequence[Buffer], on_part: Callable[[], object] = nothing) -> str:
        """See `LargeValues`. Raises FencedError if a newer run has taken the workflow over."""
        views = as_views(buffers)
        sha256 = digest(head, views)
        self._claim(sha256)  # from here on, nothing drops what is there of it; and what is not there is written
        try:
            count = self._write_parts(sha256, views, on_part)
            self._write_value(sha256, head.decode(), msgspec.json.encode(list(map(len, views))).decode(), count)
        finally:
            self._settle(sum(map(len, views)))
        return sha256

    def _write_parts(self, sha256: str, views: Sequence[memoryview], on_part: Callable[[], object]) -> int:
        is_new = not self._has_parts(sha256)
        count = 0
        for number, part in enumerate(split(views)):
            if is_new or not self._is_same(sha256, number, part):  # so that a damaged part is replaced
                self._write_part(sha256, number, part)
            on_part()  # a crash here leaves parts that no row names, for gc
            if is_waiting():
                let_through(nothing)
            count = number + 1
        return count

    def get(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """See `LargeValues`."""
        content = self.find(sha256, subject, keep=True)
        deque(self.read_parts(content, subject), maxlen=0)
        return content.head, content.buffers

    def find(self, sha256: str, subject: object = None, *, keep: bool = False) -> Content:
        """Return a value without its parts. Raises CorruptionError if it is missing or of another size."""
        found = self._read_value(sha256)
        sizes = None if found is None else _decode_sizes(*found[2:])
        if found is None or sizes is None:
            raise self.damaged(sha256, subject)
        return Content(sha256, found[0], sizes, found[1], keep=keep)

    def read_parts(self, content: Content, subject: object = None) -> Iterator[bytes]:
        """Add each part to the content, and yield it. Raises CorruptionError, at the latest after the last part."""

        def parts() -> Iterator[bytes]:
            for number in range(content.parts):
                part = self._read_part(content.sha256, number)
                if not isinstance(part, bytes):
                    raise self.damaged(content.sha256, subject)
                yield part

        yield from _beside(content.add, parts()) if content.parts > _FEW_PARTS else _also(content.add, parts())
        if not content.is_intact():
            raise self.damaged(content.sha256, subject)

    def list_damaged(self, values: Iterable[str]) -> Iterator[str]:
        """Yield those of the values that are missing or were changed."""
        for sha256 in values:
            try:
                deque(self.read_parts(self.find(sha256)), maxlen=0)
            except CorruptionError:
                yield sha256

    def damaged(self, sha256: str, subject: object = None) -> CorruptionError:
        """Return the error that a value is missing or was changed."""
        what = f"{subject}: its large value {sha256[:12]}..." if subject else f"large value {sha256}"
        return CorruptionError(
            f"{what} is missing or does not match its hash; restore the database {str(self.path)!r} from a copy, or "
            f"{self.remedy}",
            path=self.path,
        )

    @abstractmethod
    def _claim(self, sha256: str) -> None:
        """Keep a value from being dropped from now on. Raises FencedError."""

    @abstractmethod
    def _has_parts(self, sha256: str) -> bool: ...

    @abstractmethod
    def _is_same(self, sha256: str, number: int, part: memoryview | bytes) -> bool: ...

    @abstractmethod
    def _write_part(self, sha256: str, number: int, part: memoryview | bytes) -> None: ...

    @abstractmethod
    def _write_value(self, sha256: str, head: str, sizes: str, parts: int) -> None: ...

    def _settle(self, size: int) -> None:  # noqa: B027 - a server needs none
        """End the writing of a value of so many bytes, however it has ended."""

    @abstractmethod
    def _read_value(self, sha256: str) -> tuple[bytes, int, bytes, int] | None:
        """Return the head, the number of parts, the sizes, and how many bytes are stored."""

    @abstractmethod
    def _read_part(self, sha256: str, number: int) -> Any: ...


def describe_damage(sha256: str, named_by: Sequence[str]) -> str:
    """Return that a value is missing or was changed, with some of the rows that name it."""
    where = f", named by {', '.join(named_by[:MAX_NAMED])}," if named_by else ""
    return f"large value {sha256[:12]}...{where} is missing or does not match its hash"


def digest(head: bytes, views: Sequence[memoryview]) -> str:
    """Return the hash of a value. The lengths are part of it, so no byte can change its place."""
    found = _new_hash(head, list(map(len, views)))
    for view in views:
        found.update(view)
    return str(found.hexdigest())


def _new_hash(head: bytes, sizes: Sequence[int]) -> Any:
    found = hashlib.sha256(msgspec.json.encode([len(head), *sizes]))
    found.update(head)
    return found


def _decode_sizes(text: bytes, stored: int) -> list[int] | None:
    """Return the lengths of the buffers as they are on record; None unless the stored bytes are as many."""
    try:
        sizes = msgspec.json.decode(text, type=list[int])
    except (msgspec.DecodeError, TypeError):
        return None
    return sizes if all(size >= 0 for size in sizes) and sum(sizes) == stored else None
