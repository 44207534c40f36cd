"""Power cuts: the possible contents of a disk after one, from the record that tests/faults/power_cut.c has made.

Flushed data is there. Unflushed data is lost, or any part of it is there, the last write torn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTOR = 512  # a disk writes these whole
_LUCK = 0.5  # the chance that an unflushed write has arrived all the same
_FILES = ("", "-wal")  # the files of a database; the third, -shm, is never meant to outlast a process


class _Call(NamedTuple):
    kind: str  # w(rite), t(runcate) or f(lush)
    at: int
    data: bytes
    name: str


def read_files(database: Path) -> dict[str, bytes]:
    """Return the contents of the disk before a run. No process may have the files open."""
    paths = [database.with_name(database.name + suffix) for suffix in _FILES]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def cut_power(database: Path, before: dict[str, bytes], record: Path, kept: int) -> None:
    """Give the files possible contents after the recorded calls. `kept` 0: nothing unflushed; else a seed."""
    chance = random.Random(kept)
    disk = {name: bytearray(data) for name, data in before.items()}
    waiting: dict[str, list[_Call]] = {}
    for call in _read(record):
        if call.kind == "f":
            for earlier in waiting.pop(call.name, []):
                _apply(disk.setdefault(call.name, bytearray()), earlier)
        else:
            waiting.setdefault(call.name, []).append(call)
    for name, calls in waiting.items():
        lucky = [call for call in calls if kept and chance.random() < _LUCK]
        if lucky and lucky[-1].kind == "w":
            lucky[-1] = _tear(lucky[-1], chance)
        for call in lucky:
            _apply(disk.setdefault(name, bytearray()), call)
    for suffix in (*_FILES, "-shm"):
        path = database.with_name(database.name + suffix)
        path.unlink(missing_ok=True)
        if suffix in _FILES and path.name in disk:
            path.write_bytes(disk[path.name])


def _tear(call: _Call, chance: random.Random) -> _Call:
    """Return a write of which only the first sectors have arrived."""
    return call._replace(data=call.data[: chance.randrange(0, len(call.data) + 1, SECTOR)])


def _apply(content: bytearray, call: _Call) -> None:
    if call.kind == "t":
        del content[call.at :]
        content.extend(bytes(call.at - len(content)))
        return
    content.extend(bytes(max(0, call.at - len(content))))
    content[call.at : call.at + len(call.data)] = call.data


def _read(record: Path) -> Iterator[_Call]:
    """Yield the calls in order. The death of the process can have cut the last one short."""
    data, at = record.read_bytes(), 0
    while (end := data.find(b"\n", at)) >= 0:
        kind, offset, size, path = data[at:end].decode().split(" ", 3)
        at = end + 1 + (int(size) if kind == "w" else 0)
        if at > len(data):
            return
        yield _Call(kind, int(offset), data[end + 1 : at], Path(path).name)
