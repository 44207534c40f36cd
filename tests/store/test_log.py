"""The write-ahead log is grown once to its usual length, since a flush is quicker then; and nothing is lost by it."""

from __future__ import annotations

import errno
import sqlite3
import sys
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from durable import Context, Engine
from durable.store.connection import _FLUSHES_BEFORE_GROWTH, _WAL_BYTES
from tests.support.processes import KILLED, child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there the log is grown")

MANY = 2 * _FLUSHES_BEFORE_GROWTH


def number(i: int) -> int:
    return i


def count(ctx: Context, steps: int) -> list[int]:
    return [ctx.step(number, i) for i in range(steps)]


def length_of_log(database: Path) -> int:
    return database.with_name(f"{database.name}-wal").stat().st_size


def run_and_stay(pipe: Connection, database: Path, steps: int) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", count, steps)
        pipe.send(length_of_log(database))
        pipe.recv()


@pytest.mark.parametrize(("synchronous", "steps"), [("full", 3), ("normal", MANY)])
def test_a_log_that_is_seldom_flushed_grows_by_itself(database: Path, synchronous: str, steps: int) -> None:
    with Engine(database, synchronous=synchronous) as engine:
        engine.run("emp_001", count, steps)

        assert length_of_log(database) < _WAL_BYTES / 2


def test_what_was_saved_in_a_log_that_has_been_grown_survives_sigkill(database: Path) -> None:
    with child(run_and_stay, database, MANY) as process:
        assert process.receive() == _WAL_BYTES
        assert process.kill() == KILLED

    with closing(sqlite3.connect(database)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("select count(*) from steps where status = 'completed'").fetchone() == (MANY,)
    with Engine(database) as engine:
        assert engine.run("emp_001", count, MANY) == list(range(MANY))


def test_a_log_that_is_longer_already_is_left_as_it_is(database: Path) -> None:
    with child(run_and_stay, database, MANY) as first, Engine(database) as engine:
        assert first.receive() == _WAL_BYTES
        engine.run("emp_002", count, MANY)

        assert length_of_log(database) == _WAL_BYTES
        first.send()
        assert first.outcome() is None
    with Engine(database) as engine:
        assert engine.run("emp_001", count, MANY) == engine.run("emp_002", count, MANY) == list(range(MANY))


def test_a_log_that_cannot_be_grown_is_no_failure(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        refused.append(OSError(errno.ENOSPC, "No space left on device"))
        raise refused[0]

    refused: list[OSError] = []
    monkeypatch.setattr("os.fsync", refuse)
    with Engine(database) as engine:
        assert engine.run("emp_001", count, MANY) == list(range(MANY))

    assert len(refused) == 1


def test_a_writer_in_the_way_is_not_waited_for(database: Path) -> None:
    with Engine(database) as engine, closing(sqlite3.connect(database, isolation_level=None)) as other:
        connection = engine._store.connection
        engine.run("emp_001", count, 1)
        other.execute("begin immediate")
        connection._grow_wal(connection._db)
        other.execute("rollback")

        assert length_of_log(database) < _WAL_BYTES
        assert engine.run("emp_002", count, MANY) == list(range(MANY))
        assert length_of_log(database) == _WAL_BYTES
