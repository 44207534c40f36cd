"""The -wal while large values are saved: no commit copies it into the database, and little of it waits for a flush.

SQLite copies the -wal into the database within the commit that makes it longer than 1000 pages. Each part of a large
value is as long, and a step of another thread would wait for the copying, too. So here a second connection copies,
while the first goes on. And a second thread flushes the parts, so that the commit of the row finds most of them on the
disk. Any process may do both at any time, so the reasons in `large.py` why no value is lost do not depend on it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from durable.errors import NoThreadError, StoreError
from durable.parallel.threads import start_thread

if TYPE_CHECKING:
    from durable.store.database.connection import Connection

LONGEST = 64 << 20  # bytes of parts that are not copied; then the thread that saves the value waits
SHORTEST = 4 << 20  # what the file keeps afterwards
FLUSHED_AT_ONCE = 4 << 20
_ROUNDS = 10  # how often to copy while other threads save
_flush = getattr(os, "fdatasync", None)  # the other systems have no such call for a file that is read


class Wal:
    """The -wal of one connection. Safe to use from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._path = f"{connection.path}-wal"
        self._not_copied = self._not_flushed = 0  # bytes of parts
        self._left_to_us = 0  # the number of the opened connection that does not copy by itself
        self._copying = threading.Lock()
        self._flusher: threading.Thread | None = None
        self._state = threading.Lock()
        self._is_settling = self._is_to_settle = self._is_closed = False

    def grow(self, size: int) -> None:
        """Note that a part is to be written, by one thread at a time. It may wait until earlier ones are copied."""
        if self._left_to_us != self._connection.opened:
            self._connection.use(self._take)
        if self._not_copied >= LONGEST:
            self._copy(lambda _: None)
        self._not_copied += size
        self._not_flushed += size
        if self._not_flushed >= FLUSHED_AT_ONCE and not (self._flusher and self._flusher.is_alive()):
            self._not_flushed, self._flusher = 0, _start(self._flush)

    def settle(self) -> None:
        """Have another thread copy all that there is, and leave the rest to SQLite again. To be called after `grow`."""
        with self._state:
            self._is_to_settle = self._left_to_us != 0
            if self._is_to_settle and not self._is_settling:
                self._is_settling = _start(self._settle) is not None

    def close(self) -> None:
        """Wait for the other threads. To be called before the connection is closed, which copies what is left."""
        with self._copying:
            self._is_closed = True
        if self._flusher is not None:
            self._flusher.join()

    # ---- in other threads

    def _settle(self) -> None:
        while True:
            with self._state:
                if not self._is_to_settle:
                    self._is_settling = False
                    return
                self._is_to_settle = False
            self._copy(self._give_back)

    def _flush(self) -> None:
        if _flush is None or not self._connection.is_flushing:
            return
        with suppress(OSError):  # the commit of the row raises it
            file = os.open(self._path, os.O_RDONLY)
            try:
                _flush(file)
            finally:
                os.close(file)

    def _copy(self, act: Callable[[sqlite3.Connection], object]) -> None:
        """Copy all that there is, then act on the first connection. A commit raises what fails here."""
        with self._copying, suppress(sqlite3.Error, StoreError):
            if self._is_closed:
                return
            self._not_copied = 0
            with self._connection.open_beside() as db:
                for _ in range(_ROUNDS):
                    if _copy_once(db) <= self._connection.pages_between_checkpoints:
                        break

            def finish(db: sqlite3.Connection) -> None:
                _copy_once(db)  # the commits since then; the next one begins the -wal anew
                act(db)

            self._connection.use(finish)

    # ---- with the lock of the connection held

    def _take(self, db: sqlite3.Connection) -> None:
        (page_bytes,) = db.execute("pragma page_size").fetchone()
        db.execute(f"pragma wal_autocheckpoint = {2 * LONGEST // page_bytes}")
        db.execute("pragma journal_size_limit = -1")
        self._left_to_us = self._connection.opened

    def _give_back(self, db: sqlite3.Connection) -> None:
        self._left_to_us = 0
        db.execute(f"pragma wal_autocheckpoint = {self._connection.pages_between_checkpoints}")
        db.execute(f"pragma journal_size_limit = {SHORTEST}")


def _copy_once(db: sqlite3.Connection) -> int:
    """Copy the pages that no reader needs in their old place. Return how many are left."""
    _, pages, copied = db.execute("pragma wal_checkpoint(passive)").fetchone()
    return int(pages - copied)


def _start(act: Callable[[], None]) -> threading.Thread | None:
    try:
        return start_thread("durable-wal", act)
    except NoThreadError:  # closing the file copies what is left
        return None
