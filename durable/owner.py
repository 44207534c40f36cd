"""One owner per workflow id on this machine: an operating-system lock that dies with its process.

Beside the database `workflow.db` lies the folder `workflow.db-locks`, with one small file per workflow id that was ever
run. The files are never deleted: between one process's delete and another's open, two owners could hold "the" lock.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from durable.errors import StoreError, WorkflowBusyError

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # past the pid: on Windows a locked byte cannot be read either
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


MAX_FILE_NAME = 200

_held: set[int] = set()


class Owner:
    """The right to run one workflow id, held from creation to `release` or to the end of the process."""

    __slots__ = ("_fd",)

    def __init__(self, database: Path, workflow_id: str) -> None:
        """Raises WorkflowBusyError with the owner's pid, at once, while another process or thread holds it."""
        path = lock_path(database, workflow_id)
        pid: int | None = None
        for _ in range(100):  # an owner writes its pid just after it has locked: wait for it, up to 0.1 s
            self._fd = _open(path, database)
            if _try_lock(self._fd):
                self._sign(database)
                return
            before, pid = pid, _read_pid(self._fd)
            os.close(self._fd)
            if pid is not None and pid == before and _is_alive(pid):  # seen twice: no passing look, see find_owner
                raise WorkflowBusyError(workflow_id, pid)
            time.sleep(0.001)
        raise WorkflowBusyError(workflow_id, pid)

    def _sign(self, database: Path) -> None:
        """Leave the pid for those who find it locked. On a full disk this fails, and so would the first save."""
        try:
            _write_pid(self._fd, str(os.getpid()))
        except OSError as error:
            os.close(self._fd)
            raise _unwritable(database, error) from error
        _held.add(self._fd)

    def release(self) -> None:
        """Let the next owner in. May be called twice."""
        if self._fd in _held:
            _held.discard(self._fd)
            with contextlib.suppress(OSError):  # a pid that stays is taken for a dead owner's
                _write_pid(self._fd, "")
            os.close(self._fd)


def find_owner(database: Path, workflow_id: str) -> int | None:
    """The pid of the process that runs the workflow now, or None.

    It looks by locking for an instant; an owner that comes just then tries again. The pid of a dead one is wiped.
    """
    try:
        fd = os.open(lock_path(database, workflow_id), os.O_RDWR)
    except OSError:
        return None
    try:
        if not _try_lock(fd):
            return _read_pid(fd)
        with contextlib.suppress(OSError):
            _write_pid(fd, "")
        return None
    finally:
        os.close(fd)


def lock_path(database: Path, workflow_id: str) -> Path:
    """The lock file of a workflow id. Its name is the id in hex, since an id may be any text, or a digest."""
    name = workflow_id.encode().hex()
    if len(name) > MAX_FILE_NAME:
        import hashlib

        name = f"sha256-{hashlib.sha256(workflow_id.encode()).hexdigest()}"
    return database.with_name(f"{database.name}-locks") / name


def _open(path: Path, database: Path) -> int:
    try:
        path.parent.mkdir(exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise _unwritable(database, error) from error


def _unwritable(database: Path, error: OSError) -> StoreError:
    return StoreError(
        f"database {str(database)!r}: cannot lock a workflow ({error.strerror}); the folder of the database must be "
        f"writable, and have room",
        path=database,
    )


def _try_lock(fd: int) -> bool:
    try:
        _lock(fd)
    except OSError:
        return False
    return True


def _write_pid(fd: int, pid: str) -> None:
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, pid.encode())


def _read_pid(fd: int) -> int | None:
    os.lseek(fd, 0, os.SEEK_SET)
    text = os.read(fd, 20)
    return int(text) if text.isdigit() else None


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
    """A forked child holds copies of the locks' descriptors, which would keep them locked after the parent's death."""
    for fd in _held:
        os.close(fd)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
