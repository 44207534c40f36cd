"""A step whose result is a large value, written against the public names of `durable.replay`, as a format would be."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from durable import Context
from durable.replay import Operation
from durable.values import codec

KB, MB = 1 << 10, 1 << 20


class Bytes:
    """Encodes a list of bytes as a large value, whatever its size."""

    places = None
    refused = ""

    def __init__(self, run: Any) -> None:
        self._run = run

    def round_trip(self, value: Sequence[Any], step: Any) -> tuple[str, Any]:
        """Store it, and return the text of its row and what a replay would see."""
        sha256 = self._run.values_of(step).put(b'{"format":"bytes/1"}', value)
        size = sum(memoryview(each).nbytes for each in value)
        shown = {"$value": sha256, "format": "bytes/1", "bytes": size, "preview": f"{len(value)} buffers"}
        text = msgspec.json.encode(shown).decode()
        return text, self.decode(text, step)

    def decode(self, text: str, subject: object) -> list[bytes]:
        """Read the value that a row names."""
        _, buffers = self._run.log.values.get(json.loads(text)["$value"], subject)
        return [bytes(buffer) for buffer in buffers]


def keep(ctx: Context, name: str, make: Callable[[], Sequence[Any]]) -> list[bytes]:
    """Perform a step whose result is stored as a large value."""
    call = Operation("step", name, codec.PLAIN)
    call.codec = Bytes(ctx.frame.run)  # type: ignore[assignment]
    value: list[bytes] = ctx.frame.perform(ctx.frame.reach(call), make)
    return value


def noise(size: int, seed: object = 0) -> bytes:
    """Return bytes that are the same each time."""
    return random.Random(f"{seed}").randbytes(size)


def crate(ctx: Context, megabytes: float = 2.5) -> int:
    """A small step, a large one, one with the same content, and one of many small buffers."""
    start = ctx.step(number, 7)
    load = keep(ctx, "load", lambda: [noise(int(megabytes * MB), start)])
    again = keep(ctx, "again", lambda: load)
    scraps = keep(ctx, "scraps", lambda: [noise(700, part) for part in range(2000)])
    return ctx.step(number, len(load[0]) + len(again[0]) + sum(map(len, scraps)))


def number(value: int) -> int:
    """Return it."""
    return value


def result_of(megabytes: float = 2.5) -> int:
    """Return what `crate` returns."""
    return 2 * int(megabytes * MB) + 2000 * 700
