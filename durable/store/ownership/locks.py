"""Locks of the operating system, one for each workflow id. A lock ends with its process, and names it.

Beside the database `workflow.db` lies the folder `workflow.db-locks`. On Linux sixteen small files in it serve all ids:
an id is a place in one of them. Elsewhere each id has a file of its own. Making a file takes 0.2 to 0.8 ms on ext4,
several times longer than all else at the start of a run. The files are never deleted: between one process's delete and
another's open, two owners could hold "the" lock.
"""

from __future__ import annotations

import contextlib
import functools
import os
import struct
import sys
from typing import Protocol

if sys.platform == "win32":
    import msvcrt

    def _lock_file(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # past the pid: on Windows a locked byte cannot be read either
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock_file(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


MAX_FILE_NAME = 200

_FILES = 16
_PRIME = 2**45 - 55  # how many ids can be told apart; each has room for the largest pid in a file of 2**63 bytes
_ROOM = 1 << 22  # the largest pid of Linux
_FLOCK = "hhqqi0q"  # struct flock of fcntl.h: type, whence, start, length, pid


class Locks(Protocol):
    """A way to lock a workflow id: which file to open, and how to lock by its descriptor."""

    def file_name(self, workflow_id: str) -> str:
        """Return the path of the file in the folder of the locks."""
        ...

    def lock(self, fd: int, workflow_id: str) -> bool:
        """Take the lock, and leave our pid. False if another has it. Closing the descriptor gives it back.

        Raises OSError where the pid cannot be written.
        """
        ...

    def find_pid(self, fd: int, workflow_id: str) -> int | None:
        """Return the pid of the holder; None if the lock is free, or if its pid cannot be seen yet."""
        ...

    def wipe(self, fd: int) -> None:
        """Take back what `lock` has left."""
        ...


class Ranges:
    """An id is a place in a large, empty file, by its remainder; a lock there is as many bytes long as the pid says.

    So the kernel knows the holder of a lock, and nothing is ever written. The locks are of Linux's "open file
    description" kind: threads keep each other out too, and no close of another descriptor frees them. Two ids with the
    same remainder, one in 35 million million pairs, exclude each other: the second is busy.
    """

    def file_name(self, workflow_id: str) -> str:
        """One of sixteen."""
        return format(_remainder(workflow_id) % _FILES, "x")

    def lock(self, fd: int, workflow_id: str) -> bool:
        """See `Locks`."""
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, _start(workflow_id), os.getpid()))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def find_pid(self, fd: int, workflow_id: str) -> int | None:
        """See `Locks`."""
        wanted = _flock(fcntl.F_WRLCK, _start(workflow_id), 1)
        kind, _, _, length, _ = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted))
        return None if kind == fcntl.F_UNLCK else int(length)

    def wipe(self, fd: int) -> None:
        """Nothing was left."""


class Files:
    """Each id has a file of its own, named by the id in hex, since an id may be any text, or by a digest."""

    def file_name(self, workflow_id: str) -> str:
        """One for each id."""
        name = workflow_id.encode().hex()
        if len(name) <= MAX_FILE_NAME:
            return name
        import hashlib

        return f"sha256-{hashlib.sha256(workflow_id.encode()).hexdigest()}"

    def lock(self, fd: int, workflow_id: str) -> bool:
        """See `Locks`."""
        if not _try_to_lock(fd):
            return False
        _write(fd, str(os.getpid()))
        return True

    def find_pid(self, fd: int, workflow_id: str) -> int | None:
        """Look by locking for an instant; an owner that comes just then tries again. Wipe the pid of a dead one."""
        if _try_to_lock(fd):
            self.wipe(fd)
            return None
        os.lseek(fd, 0, os.SEEK_SET)
        text = os.read(fd, 20)
        return int(text) if text.isdigit() else None

    def wipe(self, fd: int) -> None:
        """See `Locks`. A pid that stays is taken for a dead owner's."""
        with contextlib.suppress(OSError):
            _write(fd, "")


@functools.cache
def of_this_system() -> Locks:
    """Return `Ranges` if the kernel has such locks, else `Files`. Some sandboxes have none."""
    if sys.platform != "linux":
        return Files()
    fd = os.open(__file__, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_RDLCK, 0, 1))
    except OSError:
        return Files()
    finally:
        os.close(fd)
    return Ranges()


def _remainder(workflow_id: str) -> int:
    return int.from_bytes(workflow_id.encode(), "big") % _PRIME


def _start(workflow_id: str) -> int:
    return _remainder(workflow_id) // _FILES * _ROOM


def _flock(kind: int, start: int, length: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)


def _try_to_lock(fd: int) -> bool:
    try:
        _lock_file(fd)
    except OSError:
        return False
    return True


def _write(fd: int, pid: str) -> None:
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, pid.encode())
