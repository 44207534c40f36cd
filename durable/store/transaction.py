"""Transaction: the engine's connection as the function of `ctx.transaction` sees it, guarded."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from durable.errors import TransactionError
from durable.signals import held_back, let_through
from durable.store.database.schema import list_own_tables

_OURS = "the transaction is the engine's: return, and it is committed, raise, and all is undone"
_SHARED = "the connection is the engine's, and what concerns all of it would outlive the step"
_REFUSED = {
    sqlite3.SQLITE_TRANSACTION: _OURS,
    sqlite3.SQLITE_SAVEPOINT: _OURS,
    sqlite3.SQLITE_PRAGMA: _SHARED,
    sqlite3.SQLITE_ATTACH: _SHARED,
    sqlite3.SQLITE_DETACH: _SHARED,
    sqlite3.SQLITE_CREATE_TEMP_TABLE: _SHARED,  # it would hide ours of the same name
    sqlite3.SQLITE_CREATE_TEMP_VIEW: _SHARED,
    sqlite3.SQLITE_CREATE_TEMP_INDEX: _SHARED,
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: _SHARED,
}
_TABLE_IS_SECOND = {
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_TRIGGER,
}


class Transaction:
    """The connection, as the function of `ctx.transaction` sees it: the tables in the file that are not the engine's.

    Other statements (commit, attach, pragma, the engine's tables) raise TransactionError. It ends with the function.
    """

    def __init__(self, db: sqlite3.Connection, subject: str) -> None:
        self._db, self._subject = db, subject
        self._own_tables = list_own_tables()
        self._cursors: list[_Cursor] = []
        self._refusal: str | None = None
        self._has_ended = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As of `sqlite3.Connection`."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """As of `sqlite3.Connection`."""
        return self.cursor().executemany(sql, parameters)

    def cursor(self) -> sqlite3.Cursor:
        """As of `sqlite3.Connection`. It is closed as the function ends: fetch before."""
        self._check()
        cursor = _Cursor(self._db, self)
        self._cursors.append(cursor)
        return cursor

    def _check(self) -> None:
        if self._has_ended:
            self._refusal = "it has ended; use it within the function alone"
        elif not self._db.in_transaction:  # the next statement would be committed at once
            self._refusal = "SQLite has rolled it back, as 'or rollback' asks, or since the disk is full"
        else:
            return
        raise self._refused()

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """Answer SQLite, which asks before each action of a statement."""
        table = second if action in _TABLE_IS_SECOND else first
        reason = _REFUSED.get(action)
        if (table or "").lower() in self._own_tables:
            reason = f"the table {table!r} is the engine's; keep yours beside it, and read its through the engine"
        if reason is None or (action, first) == (sqlite3.SQLITE_PRAGMA, "data_version"):  # full-text search asks for it
            return sqlite3.SQLITE_OK
        self._refusal = reason
        return sqlite3.SQLITE_DENY

    def _refused(self) -> TransactionError:
        return TransactionError(f"{self._subject}, in its transaction: {self._refusal}")


@contextmanager
def guarded(db: sqlite3.Connection, subject: str) -> Iterator[Transaction]:
    """A block in which a connection is guarded. Raises TransactionError as it ends, if the transaction has ended."""
    transaction = Transaction(db, subject)
    db.set_authorizer(transaction._authorize)  # SQLite has it see prepared statements again, too
    try:
        yield transaction
        transaction._check()
    finally:
        transaction._has_ended = True
        for cursor in transaction._cursors:
            cursor.close()  # one that is not read to its end would hold the file as it is now
        db.set_authorizer(None)


class _Cursor(sqlite3.Cursor):
    """A cursor of a transaction."""

    def __init__(self, db: sqlite3.Connection, transaction: Transaction) -> None:
        super().__init__(db)
        self._transaction = transaction

    def execute(self, sql: str, parameters: Any = (), /) -> _Cursor:
        self._guard(super().execute, sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> _Cursor:
        self._guard(super().executemany, sql, _let_through_each(parameters))
        return self

    def executescript(self, sql: str, /) -> _Cursor:
        self._transaction._refusal = "executescript would commit it; execute one statement at a time"
        raise self._transaction._refused()

    def _guard(self, method: Callable[..., object], *args: Any) -> None:
        transaction = self._transaction
        transaction._check()
        transaction._refusal = None
        try:
            with held_back():  # Ctrl+C in `_authorize` would be swallowed, and the statement refused
                method(*args)
        except sqlite3.DatabaseError as error:
            if transaction._refusal is None:
                raise
            raise transaction._refused() from error


def _let_through_each(rows: Iterable[Any]) -> Iterator[Any]:
    """Yield the rows, with Ctrl+C let through while the user's code makes them."""
    remaining, end = iter(rows), object()
    while (row := let_through(next, remaining, end)) is not end:
        yield row
