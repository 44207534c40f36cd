"""Owner: one process on this machine runs a workflow id. It holds a lock that ends with the process: `locks.py`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from durable.errors import StoreError, WorkflowBusyError
from durable.store.ownership import locks

if TYPE_CHECKING:
    from pathlib import Path

_PRIVATE = 0o600
_held: set[int] = set()


class Owner:
    """The right to run one workflow id, held from creation to `release` or to the end of the process."""

    __slots__ = ("_fd", "_locks")

    def __init__(self, database: Path, workflow_id: str) -> None:
        """Take the lock at once, or raise WorkflowBusyError with the pid of the process that holds it."""
        self._locks = locks.of_this_system()
        path = lock_path(database, workflow_id)
        pid: int | None = None
        for _ in range(100):  # an owner leaves its pid just after it has locked: wait for it, up to 0.1 s
            self._fd = _open(path, database)
            try:
                if self._locks.lock(self._fd, workflow_id):
                    _held.add(self._fd)
                    return
                before, pid = pid, self._locks.find_pid(self._fd, workflow_id)
            except OSError as error:  # a full disk, and then the first save would fail too
                os.close(self._fd)
                raise _unwritable(database, error) from error
            os.close(self._fd)
            if pid is not None and pid == before and _is_alive(pid):  # seen twice: no passing look, see find_owner
                raise WorkflowBusyError(workflow_id, pid)
            time.sleep(0.001)
        raise WorkflowBusyError(workflow_id, pid)

    def release(self) -> None:
        """Release the id, so that it can be owned again. May be called twice."""
        if self._fd in _held:
            _held.discard(self._fd)
            self._locks.wipe(self._fd)
            os.close(self._fd)


def find_owner(database: Path, workflow_id: str) -> int | None:
    """Return the pid of the process that runs the workflow now, or None."""
    try:
        fd = os.open(lock_path(database, workflow_id), os.O_RDWR)
    except OSError:
        return None
    try:
        return locks.of_this_system().find_pid(fd, workflow_id)
    finally:
        os.close(fd)


def lock_path(database: Path, workflow_id: str) -> Path:
    """Return the path of the file in which a workflow id is locked, with others or alone."""
    return database.with_name(f"{database.name}-locks") / locks.of_this_system().file_name(workflow_id)


def _open(path: Path, database: Path) -> int:
    """Open the file of a lock. Only users who may write the database may open it: a reader could hold the lock too."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        rights, owner = _find_rights(database)
        try:
            fd = os.open(path, flags, rights)
        except FileNotFoundError:
            path.parent.mkdir(rights | (rights & 0o444) >> 2, exist_ok=True)
            fd = os.open(path, flags, rights)
        lock = os.fstat(fd)
        if lock.st_mode & 0o666 != rights and sys.platform != "win32":  # made by an earlier version, or under a umask
            with contextlib.suppress(PermissionError):
                os.fchmod(fd, rights)
    except OSError as error:
        raise _unwritable(database, error) from error
    if rights == _PRIVATE and sys.platform != "win32" and lock.st_uid not in (os.geteuid(), owner):
        os.close(fd)
        raise StoreError(
            f"database {str(database)!r}: the lock file {str(path)!r} belongs to user {lock.st_uid}, who may not write "
            f"the database; delete it while no workflow runs",
            path=database,
        )
    return fd


def _find_rights(database: Path) -> tuple[int, int | None]:
    """Return the rights for its locks, which follow from those of the database, and the owner of the database."""
    try:
        found = os.stat(database)
    except FileNotFoundError:  # the first write raises it
        return _PRIVATE, None
    writers = found.st_mode & 0o022
    return _PRIVATE | writers | writers << 1, found.st_uid


def _unwritable(database: Path, error: OSError) -> StoreError:
    return StoreError(
        f"database {str(database)!r}: cannot lock a workflow ({error.strerror}); the folder of the database must be "
        f"writable, and have room",
        path=database,
    )


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # signal 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _close_in_child() -> None:
    """Close the descriptors of the locks in a forked child: they would stay locked after the parent's death."""
    for fd in _held:
        os.close(fd)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
