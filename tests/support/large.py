"""A step whose result is a large value, written against the public names of `durable.replay`, as a format would be."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from durable import Context
from durable.replay import Operation
from durable.values import codec

KB, MB = 1 << 10, 1 << 20


class Bytes:
    """Encodes a list of bytes as a large value, whatever its size."""

    places = None
    refused = ""

    def round_trip(self, value: Sequence[Any], step: Any, put: Any) -> tuple[str, Any]:
        """Store it, and return the text of its row and what a replay would see."""
        sha256 = put(b'{"format":"bytes/1"}', value)
        size = sum(memoryview(each).nbytes for each in value)
        shown = {"$value": sha256, "format": "bytes/1", "bytes": size, "preview": f"{len(value)} buffers"}
        text = msgspec.json.encode(shown).decode()
        return text, [bytes(buffer) for buffer in value]

    def decode(self, text: str, subject: object, read: Any) -> list[bytes]:
        """Read the value that a row names."""
        _, buffers = read(msgspec.json.decode(text)["$value"], subject)
        return [bytes(buffer) for buffer in buffers]


def keep(ctx: Context, name: str, make: Callable[[], Sequence[Any]]) -> list[bytes]:
    """Perform a step whose result is stored as a large value."""
    call = Operation("step", name, codec.PLAIN)
    call.codec = Bytes()  # type: ignore[assignment]
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


def crate_beside_copying(ctx: Context, megabytes: float) -> int:
    """The same, with the -wal flushed and copied after each part."""
    from durable.store.database import wal

    wal.LONGEST = wal.FLUSHED_AT_ONCE = MB
    return crate(ctx, megabytes)


def row_of(count: int, start: float) -> np.ndarray:
    """Return a large array."""
    return np.arange(start, start + count)


def leg(ctx: Context, load: np.ndarray) -> np.ndarray:
    """A child workflow with a large argument and a large result."""
    return ctx.step(row_of, len(load), 1.0)


def cargo(ctx: Context, load: np.ndarray) -> np.ndarray:
    """Send large values every way that a value can take."""
    made = ctx.step(row_of, len(load), 0.5)
    beside = ctx.submit(row_of, len(load), 2.0)
    ctx.publish("made", made)
    sent = ctx.wait_event("more", type=np.ndarray)
    carried = ctx.child(leg, load).result()
    return ctx.step(np.stack, [load, made, beside.result(), sent, carried])


def number(value: int) -> int:
    """Return it."""
    return value


def result_of(megabytes: float = 2.5) -> int:
    """Return what `crate` returns."""
    return 2 * int(megabytes * MB) + 2000 * 700
