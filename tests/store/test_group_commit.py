"""Group commit: threads that want to save at the same time are served by one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from durable.errors import StoreError
from durable.store.database.connection import Connection
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually

INSERT = "insert into numbers values (?)"
THREADS = 8


@pytest.fixture
def connection(database: Path) -> Iterator[Connection]:
    made = Connection(database)
    made.write(("create table numbers (number unique)", ()))
    yield made
    made.close()


@contextmanager
def held(connection: Connection) -> Iterator[None]:
    """Somebody else's transaction is being committed meanwhile."""
    entered, leave = threading.Event(), threading.Event()

    def stay(_: sqlite3.Connection) -> None:
        entered.set()
        assert leave.wait(PATIENCE_SECONDS)

    thread = threading.Thread(target=connection.write, args=(stay,))
    thread.start()
    assert entered.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        leave.set()
        thread.join()


def write_together(connection: Connection, changes: list[Any], expected: Any = StoreError) -> list[Any]:
    """What each is given, or what it raises, where all of them have come while another was committed."""

    def outcome(write: Callable[[], Any]) -> Any:
        try:
            return write()
        except expected as error:
            return error

    with ThreadPoolExecutor(len(changes)) as pool:
        with held(connection):
            futures = [pool.submit(outcome, lambda change=change: connection.write(change)) for change in changes]
            eventually(lambda: len(connection._queue) == len(changes) - 1)  # one of them will see to the others
        wait(futures, PATIENCE_SECONDS)
    return [future.result() for future in futures]


def numbers(connection: Connection) -> list[int]:
    return [row[0] for row in connection.read("select number from numbers order by 1")]


def test_what_has_come_together_is_one_transaction_and_each_has_its_own_result(connection: Connection) -> None:
    commits: list[str] = []
    assert connection._db is not None
    connection._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "commit" else None)

    results = write_together(connection, [lambda db, n=n: db.execute(INSERT, (n,)) and n for n in range(THREADS)])

    assert results == list(range(THREADS)) == numbers(connection)
    assert len(commits) == 2  # that of the one before, and theirs


def test_a_transaction_that_fails_fails_for_all_in_it_each_with_an_error_of_its_own(connection: Connection) -> None:
    errors = write_together(connection, [(INSERT, (min(n, 6),)) for n in range(THREADS)])  # the last two are the same

    assert {type(error) for error in errors} == {StoreError}
    assert len({id(error) for error in errors}) == THREADS
    assert {str(error.__cause__) for error in errors} == {"UNIQUE constraint failed: numbers.number"}
    assert numbers(connection) == []


class Stop(BaseException):
    """What the handler of a signal raises, say."""


def test_what_is_no_exception_undoes_the_transaction_and_is_an_error_of_each_other_writer(
    connection: Connection,
) -> None:
    def stop(_: sqlite3.Connection) -> None:
        raise Stop

    changes = [(INSERT, (n,)) for n in range(THREADS - 1)]

    results = write_together(connection, [*changes, stop], expected=(StoreError, Stop))

    assert sorted(type(result).__name__ for result in results) == ["Stop", *["StoreError"] * (THREADS - 1)]
    assert numbers(connection) == []
    with closing(sqlite3.connect(connection.path, timeout=0, isolation_level=None)) as other:
        other.execute("begin immediate")  # fails where a transaction is open


def test_what_is_no_exception_leaves_no_transaction_of_a_writer_alone(connection: Connection) -> None:
    def stop(db: sqlite3.Connection) -> None:
        db.execute(INSERT, (1,))
        raise Stop

    with pytest.raises(Stop):
        connection.write(stop)
    with closing(sqlite3.connect(connection.path, timeout=0, isolation_level=None)) as other:
        other.execute("begin immediate")
        other.execute("rollback")

    assert connection.write((INSERT, (2,))) == 1
    assert numbers(connection) == [2]


def test_after_a_failure_the_next_are_saved(connection: Connection) -> None:
    write_together(connection, [(INSERT, (1,)), (INSERT, (1,))])

    assert write_together(connection, [(INSERT, (n,)) for n in range(THREADS)]) == [1] * THREADS
    assert numbers(connection) == list(range(THREADS))
