"""Restoring: the formatted parts of JSON data become values again. See `durable.values.formats.pack` for their form."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from durable.values.formats.heads import NATIVE, are_equal, dump, encode, is_marker
from durable.values.formats.hints import Found
from durable.values.formats.named import find_named
from durable.values.formats.registry import Buffer, Format, FormatError, format_named, format_of, versions_of

decode = msgspec.json.Decoder().decode


class Restorer:
    """Restores one value, with the formats and the classes that its annotation holds."""

    def __init__(
        self,
        found: Found,
        read: Callable[[str], tuple[bytes, list[memoryview]]] | None = None,
        buffers: Sequence[Buffer] | None = None,
    ) -> None:
        """`read` reads large values. `buffers` are those of a value whose head is to be restored."""
        self._found, self._read, self._buffers = found, read, buffers
        self._used: set[int] = set()  # the numbers of the buffers that belong to parts of the head

    def restore(self, data: Any) -> Any:
        """Return the data with values in the places of formatted parts. Raises FormatError."""
        if type(data) is list:
            return [self.restore(part) for part in data]
        if type(data) is not dict:
            return data
        if not is_marker(data):
            return {key: self.restore(part) for key, part in data.items()}
        name, held = data["format"], data["$value"]
        if name == "name/1":
            return find_named(held, self._found.classes)
        if name in NATIVE:
            return NATIVE[name](held, self.restore)
        format = self._found.formats.get(name) or self._format_of_class(data) or format_named(name)
        if format is None:
            raise FormatError(_unknown(name))
        if self._buffers is not None:
            numbers = data.get("buffers", ())
            self._used.update(numbers)
            return _read(format, self.restore(held), [self._buffers[number] for number in numbers])
        return self._load(data, format)

    def _format_of_class(self, data: dict[str, Any]) -> Format | None:
        """Return the format that a class says, if only that names it."""
        kind = find_named(data["class"], self._found.classes) if "class" in data else None
        found = format_of(kind) if isinstance(kind, type) else None
        return found if found is not None and found.name == data["format"] else None

    def _load(self, data: dict[str, Any], format: Format) -> Any:
        buffers: list[Buffer]
        if "bytes" not in data:
            head = data["$value"]
            buffers = [bytearray(base64.b64decode(each)) for each in data.get("buffers", ())]
        elif self._read is None:
            raise FormatError(f"which is a large value of format {format.name!r}, and nothing is given to read it from")
        else:
            text, views = self._read(data["$value"])
            head, buffers = decode(text), [*views]
        inner = Restorer(self._found, buffers=buffers)
        whole = inner.restore(head)
        value = _read(format, whole, [each for number, each in enumerate(buffers) if number not in inner._used])
        versions = data.get("versions", {})
        if versions != versions_of({*versions}):
            again, others = dump(value, format, set())
            if encode(again) != encode(head) or not are_equal(buffers, others):
                told = ", ".join(f"{library} {version}" for library, version in versions.items())
                raise FormatError(
                    f"which was saved under {told}, and is another value now; read it under those versions"
                )
        return value


def _read(format: Format, head: Any, buffers: list[Buffer]) -> Any:
    try:
        return format.load(head, buffers)
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # a library is missing, say, or is of a version without this
        raise FormatError(f"which its format {format.name!r} cannot read ({type(error).__name__}: {error})") from error


def _unknown(name: str) -> str:
    if name == "pickle/1":
        return "which was saved by pickle; annotate it Annotated[..., durable.formats.Pickled] to have it read"
    return f"which was saved in the format {name!r}, and none is registered by that name; register it, or import it"
