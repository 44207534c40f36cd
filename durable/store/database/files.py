"""Files: a database, and the -wal and -shm that SQLite keeps beside it: how they are made, and whether they stay."""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import TYPE_CHECKING

from durable.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = ("", "-wal", "-shm")
_SETTLED_NS = 50_000_000  # more than the clocks of file systems are coarse
_making = threading.Lock()


class Files:
    """The files of one connection. SQLite goes on writing into a file that is deleted or replaced while it is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._paths = [os.fspath(path) + suffix for suffix in _SUFFIXES]
        self._folder = os.fspath(path.parent)
        self._identities: list[tuple[int, int] | None] = []  # once they were opened
        self._seen: tuple[int, int, int] | None = None  # the folder, when they were last found to be the same

    def prepare(self, *, make: bool) -> None:
        """Make the database, if it is missing and to be made. Raises StoreError for one that must not be opened.

        Only its owner may read a new one; SQLite would let every user. It gives -wal and -shm the same rights.
        """
        if self._identities and not self._is_same_database():
            raise self._replaced()  # before SQLite would make a new, empty one
        if make:
            _make(self._paths[0])
        try:
            found = os.stat(self._paths[0])
        except OSError:  # SQLite says why
            return
        if found.st_nlink > 1 and stat.S_ISREG(found.st_mode):
            raise StoreError(
                f"database {str(self.path)!r}: the file has {found.st_nlink} names (hard links), and beside each there "
                f"would be other locks and another -wal; delete the other names, or open a copy",
                path=self.path,
            )

    def note(self) -> None:
        """Remember which files were opened."""
        self._identities, self._seen = _identify(self._paths), None

    def check(self) -> None:
        """Raise StoreError if one of them was deleted or replaced.

        Only the folder is checked, until a name in it has changed: one check takes 1 us, or 1 % of a step.
        """
        try:
            found = os.stat(self._folder)
        except OSError:
            raise self._replaced() from None
        folder = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if folder != self._seen:
            if not self.are_same():
                raise self._replaced()
            if time.time_ns() - found.st_mtime_ns > _SETTLED_NS:  # else another change may leave the same time
                self._seen = folder

    def are_same(self) -> bool:
        """Return whether all of them are still those that were opened."""
        return _identify(self._paths) == self._identities

    def _is_same_database(self) -> bool:
        return _identify(self._paths[:1]) == self._identities[:1]

    def _replaced(self) -> StoreError:
        if self._is_same_database():
            what = "its -wal or its -shm was deleted or replaced while it was in use; what was saved last may be lost"
            remedy = "end the processes that use it, and open a new Engine"
        else:
            what = "the file was deleted or replaced while it was in use"
            remedy = "put it back and open a new Engine, or begin with a new file"
        return StoreError(f"database {str(self.path)!r}: {what}; {remedy}", path=self.path)


def _identify(paths: list[str]) -> list[tuple[int, int] | None]:
    """Return what tells each file from others in its place, None if it is missing."""
    identities: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            identities.append(None)
        else:
            identities.append((found.st_dev, found.st_ino))
    return identities


def _make(path: str) -> None:
    with _making:  # closing a file ends the locks that SQLite has on it in this process: none has opened it by then
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:  # it is there, or SQLite says why
            return
