"""The connection: one SQLite file, opened once and shared by all threads, and its transactions.

Threads that want to save at the same time are served by one transaction (group commit): each queues its write, one of
them takes the lock and commits all that is queued. A thread alone pays for no hand-over.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from durable.errors import CorruptionError, ScopeError, StoreError
from durable.signals import held_back, is_waiting
from durable.store.database import schema
from durable.store.database.files import Files
from durable.store.database.wal import Wal

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
Change: TypeAlias = "tuple[str, tuple[Any, ...]] | Callable[[sqlite3.Connection], T]"

OLDEST_SQLITE = (3, 33)  # with "update ... from"
BUSY_SECONDS = 60.0  # how long to wait for another process's transaction
_PAGE_BYTES = 1024  # of a new file: a step changes three pages, and each is written whole
_FEW_PAGES = 1000  # fewer free pages are no reason to rewrite a file
_SQLITES_PAGES = 1000  # between two checkpoints
_PAGES_BETWEEN_CHECKPOINTS = 4000  # of that size, as many bytes as is usual

_REMEDIES = {
    sqlite3.SQLITE_NOTADB: "give the path of a SQLite database, or of a file that does not exist yet",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy",
    sqlite3.SQLITE_CANTOPEN: "the path must name a file in a folder that exists and is writable",
    sqlite3.SQLITE_READONLY: "make the file, its folder, and the -wal and -shm files beside it writable",
    sqlite3.SQLITE_FULL: "make room on the disk and run the workflow again",
    sqlite3.SQLITE_IOERR: "the disk reported an error; see to it and run the workflow again",
    sqlite3.SQLITE_BUSY: f"another process has held its transaction for {BUSY_SECONDS:.0f} s; end that process",
}


class _Write:
    """A queued change and its result."""

    __slots__ = ("_asleep", "change", "done", "durable", "error", "result")

    def __init__(self, change: Change[Any], durable: bool) -> None:
        self.change = change
        self.durable = durable
        self.done = False
        self.error: Exception | None = None
        self.result: Any = None
        self._asleep = threading.Lock()

    def fall_asleep(self) -> None:
        """Make `wait` block. To be called before the write is in the queue."""
        self._asleep.acquire()

    def wait(self) -> None:
        """Wait until it is done, or until its thread is to commit the next batch."""
        self._asleep.acquire()

    def wake(self) -> None:
        """End the wait."""
        self._asleep.release()


class Connection:
    """One database file. Safe to use from any thread of the process that opened it, and from no other process."""

    def __init__(self, path: Path, *, synchronous: str = "full", read_only: bool = False) -> None:
        """Open the file, or make it. Raises StoreError, CorruptionError or SchemaVersionError, nothing changed."""
        self.path = path
        self._files = Files(path)
        self._synchronous, self._quick_level = synchronous, "off" if synchronous == "off" else "normal"
        self.is_flushing = synchronous != "off"
        # at "normal", it is the checkpoint that waits for the disk
        self.pages_between_checkpoints = _SQLITES_PAGES if synchronous == "full" else _PAGES_BETWEEN_CHECKPOINTS
        self._read_only = read_only
        self._pid = os.getpid()
        self._lock = threading.Lock()  # held while the connection is used
        self.one_part = threading.Lock()  # held while a part of a large value waits or is written
        self.wal = Wal(self)
        self._queue: deque[_Write] = deque()
        self._queue_lock = threading.Lock()
        self._is_committing = False  # whether a thread commits what is queued
        self._level = ""
        self.opened = 0  # how often
        self._db: sqlite3.Connection | None = None
        self._execute: Callable[..., sqlite3.Cursor]  # on one cursor for all writes: making one takes 0.3 us
        self._closed = False
        self._alone: int | None = None  # the thread that is in `write_alone`
        with self._lock:
            self._get()

    def close(self) -> None:
        """Close the file. May be called twice."""
        if os.getpid() == self._pid:
            with held_back():
                self.wal.close()
                with self._lock:
                    self._closed = True
                    self._abandon()

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of one query. Raises StoreError."""
        return self.use(lambda db: patiently(lambda: db.execute(sql, parameters).fetchall()))

    def use(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Do something that is no transaction, while other threads wait. Raises StoreError."""
        self._check_process()
        with self._lock:
            try:
                return act(self._get())
            except BaseException as error:
                self._abandon()
                if isinstance(error, sqlite3.Error | InterruptedError):
                    raise self._explain(error) from error
                raise

    @contextlib.contextmanager
    def open_beside(self) -> Iterator[sqlite3.Connection]:
        """Open the file once more, for what other threads need not wait for. Raises StoreError or sqlite3.Error."""
        self._files.check()
        db = self._connect()
        try:
            db.execute(f"pragma synchronous = {self._quick_level}")
            yield db
        finally:
            self._shut(db)

    @overload
    def write(self, change: tuple[str, tuple[Any, ...]], *, durable: bool = True) -> int: ...
    @overload
    def write(self, change: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T: ...
    def write(self, change: Any, *, durable: bool = True) -> Any:
        """Commit a change, together with those that other threads have queued.

        The change is one statement with its parameters, and then the number of rows that it touched is returned; or a
        function, and then what it returned. A durable one is on the disk when this returns, at `synchronous="full"`.
        To be called with signals held back. Raises StoreError: what then became of the change is known only once the
        file is opened again.
        """
        if os.getpid() != self._pid or self._alone is not None:
            self._check_process()
        if not self._is_committing and self._lock.acquire(blocking=False):  # alone: no hand-over
            try:
                return self._commit([change], durable)[0]
            except InterruptedError as error:
                raise self._explain(error) from error
            finally:
                self._lock.release()
        write = _Write(change, durable)
        with self._queue_lock:
            if must_wait := self._is_committing:
                write.fall_asleep()
                self._queue.append(write)
            self._is_committing = True
        if must_wait:
            write.wait()
        if not write.done:
            self._commit_queue(write)
        if write.error is not None:
            raise write.error
        return write.result

    def _commit_queue(self, own: _Write) -> None:
        """Commit this write and all that is queued, wake their threads, and let the next in the queue do the same."""
        batch = [own]
        try:
            with self._lock:
                with self._queue_lock:
                    batch += self._queue
                    self._queue.clear()
                self._commit_batch(batch)
        finally:
            for write in batch[1:]:
                write.wake()
            with self._queue_lock:
                self._is_committing = bool(self._queue)
                if self._queue:
                    self._queue.popleft().wake()  # not done: it commits the next batch

    def _commit_batch(self, batch: list[_Write]) -> None:
        try:
            results = self._commit([write.change for write in batch], any(write.durable for write in batch))
        except InterruptedError as error:  # only this thread was: the others' writes stay queued
            batch[0].error, batch[0].done = self._explain(error), True
            with self._queue_lock:
                self._queue.extendleft(reversed(batch[1:]))
            del batch[1:]
        except BaseException as error:
            for write in batch:  # each is raised in a thread of its own, and may be noted on there
                write.error, write.done = self._explain(error), True
                write.error.__cause__ = error.__cause__
            if not isinstance(error, Exception):
                raise
        else:
            for write, result in zip(batch, results, strict=True):
                write.result, write.done = result, True

    def _commit(self, changes: list[Change[Any]], durable: bool) -> list[Any]:
        """Make one transaction. Raises InterruptedError if it has not begun, StoreError if it has not succeeded.

        That ends the connection: what a failed COMMIT did is unknown.
        """
        try:
            db = self._db or self._get()
            if self._level != (self._synchronous if durable else self._quick_level):
                self._set_synchronous(db, durable)
            if durable:
                self._files.check()
            if len(changes) == 1 and isinstance(changes[0], tuple):
                # a statement alone is a transaction, and takes the lock at once
                results = [patiently(self._execute, *changes[0]).rowcount]
            else:
                begin(db)
                results = [apply(change, db) for change in changes]
                db.execute("commit")  # a crash before it: none of the batch has happened; after it: all of it has
        except InterruptedError:
            raise
        except BaseException as error:
            self._abandon()
            if not isinstance(error, Exception):
                raise
            explained = self._explain(error)
            raise explained from explained.__cause__
        return results

    def write_alone(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Commit a change in a transaction of its own. It is called in this thread, and may call the user's code.

        An error of it undoes it and is raised. All other threads wait meanwhile; this one may use the connection
        only as the change is given it. Otherwise as `write`.
        """
        self._check_process()
        with self._lock:
            try:
                self._alone = threading.get_ident()
                db = self._get()
                self._set_synchronous(db, durable=True)
                begin(db)
                result = change(db)
                self._files.check()
                db.execute("commit")  # a crash before it: nothing has happened; after it: all of it has
            except BaseException as error:
                self._abandon()
                if isinstance(error, sqlite3.Error | InterruptedError):
                    raise self._explain(error) from error
                raise
            finally:
                self._alone = None
            return result

    def transaction(self) -> sqlite3.Connection | None:
        """Return the connection as the change of `write_alone` has it, if this thread is in one."""
        return self._db if self._alone is not None and self._alone == threading.get_ident() else None

    def vacuum(self) -> None:
        """Write the file anew without its free pages, if they are more than half of it. Other writers wait."""

        def vacuum(db: sqlite3.Connection) -> None:
            (free,), (pages,) = (db.execute(f"pragma {name}").fetchone() for name in ("freelist_count", "page_count"))
            if 2 * free > pages and free > _FEW_PAGES:
                patiently(lambda: db.execute("vacuum"))
                patiently(lambda: db.execute("pragma wal_checkpoint(truncate)").fetchall())

        with held_back():
            self.use(vacuum)

    def _set_synchronous(self, db: sqlite3.Connection, durable: bool) -> None:
        level = self._synchronous if durable else self._quick_level
        if level != self._level:
            db.execute(f"pragma synchronous = {level}")
            self._level = level

    # ---- opening and closing

    def _get(self) -> sqlite3.Connection:
        """Return the open connection, or after a failure a new one to the same file. Called with the lock held."""
        if self._closed:
            raise StoreError(f"database {str(self.path)!r}: the engine is closed; open a new Engine", path=self.path)
        if self._db is None:
            self._level = ""
            try:
                self._db = self._open()
                self._execute = self._db.cursor().execute
            except (sqlite3.Error, OSError) as error:
                raise self._explain(error) from error
        return self._db

    def _check_process(self) -> None:
        if os.getpid() != self._pid:  # a fork has copies of locks that no thread of it releases, and SQLite forbids it
            raise StoreError(
                f"database {str(self.path)!r}: this engine was opened in process {self._pid} and cannot be used in its "
                f"fork {os.getpid()}; open an Engine in the child",
                path=self.path,
            )
        if self._alone is not None and self._alone == threading.get_ident():
            raise ScopeError(
                f"database {str(self.path)!r}: the engine was used within ctx.transaction, where it would wait for "
                f"itself; use the connection that the function is given, and the engine before or after"
            )

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreError(
                f"this Python comes with SQLite {sqlite3.sqlite_version}, expected "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or later; use a newer Python",
                path=self.path,
            )
        self._files.prepare(make=not self._read_only)
        db = self._connect()
        try:
            version = patiently(lambda: schema.check(db, self.path))
            if self._read_only and version < schema.VERSION:
                old = (
                    f"has schema version {version}; open it with an Engine once, which brings it up to {schema.VERSION}"
                )
                why = old if version else "holds no workflows yet; run one first"
                raise StoreError(f"database {str(self.path)!r} {why}", path=self.path)
            if not self._read_only:
                db.execute(f"pragma page_size = {_PAGE_BYTES}")
                if not db.execute("pragma page_count").fetchone()[0]:
                    # one page is written here, into an empty file: a crash leaves all of it or nothing
                    db.execute("pragma journal_mode = memory")
                patiently(lambda: db.execute("pragma journal_mode = wal"))
                if self.pages_between_checkpoints != _SQLITES_PAGES:
                    db.execute(f"pragma wal_autocheckpoint = {self.pages_between_checkpoints}")
                if version < schema.VERSION:
                    begin(db)
                    schema.create_tables(db, self.path)
                    db.execute("commit")
        except BaseException:
            db.close()
            raise
        self._files.note()
        self.opened += 1
        return db

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            f"{self.path.as_uri()}?mode={'ro' if self._read_only else 'rwc'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=0.1,  # see patiently
        )
        if sys.platform == "darwin" and not self._read_only:  # there, fsync alone does not reach the disk
            db.execute("pragma fullfsync = 1")
            db.execute("pragma checkpoint_fullfsync = 1")
        return db

    def _abandon(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            self._shut(db)

    def _shut(self, db: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            if not self._files.are_same():
                db.interrupt()  # else it would copy a deleted -wal over the pages of other processes
            db.close()  # rolls back

    def _explain(self, error: BaseException) -> Exception:
        """Return a StoreError that says what happened and what to do."""
        if isinstance(error, StoreError):
            return type(error)(str(error), path=self.path)
        text, cls = str(error) or type(error).__name__, StoreError
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if text.startswith("Could not decode to UTF-8"):  # Python's own, without a code
            primary = sqlite3.SQLITE_CORRUPT
        if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            cls = CorruptionError
        remedy = _REMEDIES.get(primary or -1, "remove the cause and run the workflow again")
        explained = cls(f"database {str(self.path)!r}: {text}; {remedy}", path=self.path)
        explained.__cause__ = error
        return explained


def apply(change: Change[Any], db: sqlite3.Connection) -> Any:
    """Make a change within a transaction. Return how many rows a statement touched, or what a function returned."""
    if isinstance(change, tuple):
        return db.execute(*change).rowcount
    return change(db)


def begin(db: sqlite3.Connection) -> None:
    """Begin a transaction that may write."""
    patiently(lambda: db.execute("begin immediate"))


def patiently(attempt: Callable[..., T], *args: Any) -> T:
    """Wait for other processes in short turns. Raises InterruptedError if Ctrl+C comes between two of them.

    After BUSY_SECONDS, SQLite's own error. (The switch to WAL would ignore a timeout of SQLite's.)
    """
    give_up_at: float | None = None
    while True:
        try:
            return attempt(*args)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if is_waiting():
                raise InterruptedError("interrupted while another process held the database") from error
            give_up_at = give_up_at or time.monotonic() + BUSY_SECONDS
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.001)
