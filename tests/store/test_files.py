"""Files: who may read a database and its locks, which files are refused, and what comes of a -wal that is deleted."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine
from durable.errors import StoreError
from durable.store.ownership.owner import Owner, lock_path
from tests.support.processes import call_in_child, child
from tests.support.workflows import act, errand

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights of users and deleted files are of Unix")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def rights(*paths: Path) -> list[str]:
    return [f"{stat.S_IMODE(path.stat().st_mode):o}" for path in paths]


def files_of(database: Path) -> list[Path]:
    """The database, what SQLite keeps beside it, and the lock of a workflow."""
    beside = [database.with_name(database.name + suffix) for suffix in ("-wal", "-shm")]
    return [database, *beside, lock_path(database, "emp_001")]


# ---- who may read them


@pytest.mark.parametrize(("mask", "expected"), [(0o022, "600"), (0o000, "600"), (0o277, "400")])
def test_new_files_are_their_owners_alone_also_if_the_umask_says_more(tmp_path: Path, mask: int, expected: str) -> None:
    if expected == "400" and os.getuid() != 0:
        pytest.skip("its owner could not write it")
    database = tmp_path / "workflow.db"
    with umask(mask), Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")
        found = rights(*files_of(database)[:3])

    assert found == [expected] * 3


def test_locks_and_their_folder_are_their_owners_alone(tmp_path: Path) -> None:
    database = tmp_path / "workflow.db"
    with umask(0), Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")

    lock = lock_path(database, "emp_001")
    assert rights(lock, lock.parent) == ["600", "700"]


@pytest.mark.parametrize(("shared", "lock", "folder"), [("660", "660", "770"), ("640", "600", "700")])
def test_locks_are_open_to_those_who_may_write_the_database_and_not_to_readers(
    tmp_path: Path, shared: str, lock: str, folder: str
) -> None:
    database = tmp_path / "workflow.db"
    Engine(database).close()
    database.chmod(int(shared, 8))
    with umask(0), Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")

    path = lock_path(database, "emp_001")
    assert rights(path, path.parent) == [lock, folder]


def test_a_lock_of_an_earlier_version_is_closed_to_readers_as_it_is_used(tmp_path: Path) -> None:
    database = tmp_path / "workflow.db"
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")
        lock_path(database, "emp_001").chmod(0o644)
        engine.delete("emp_001")
        engine.run("emp_001", errand, "a", "b", "c")

    assert rights(lock_path(database, "emp_001")) == ["600"]


HOLD = """
import fcntl, os, sys
os.setgid(65534); os.setuid(65534)
try:
    os.open(sys.argv[1], os.O_RDONLY)
except PermissionError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can be another user")
def test_another_user_cannot_open_a_lock_and_a_lock_of_another_user_is_refused_by_name(tmp_path: Path) -> None:
    database = tmp_path / "workflow.db"
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")
        lock = lock_path(database, "emp_001")
        said = subprocess.run([sys.executable, "-c", HOLD, str(lock)], capture_output=True, text=True, check=True)
        os.chown(lock, 65534, 65534)
        with pytest.raises(StoreError, match=f"{lock.name}' belongs to user 65534") as refused:
            engine.run("emp_001", errand, "a", "b", "d")
        lock.unlink()  # as the message advises

        assert said.stdout == "refused\n"
        assert refused.value.path == database
        Owner(database, "emp_001").release()


# ---- which are refused


def test_a_hard_link_is_refused_by_both_names_until_one_is_deleted(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")
    link = database.with_name("link.db")
    os.link(database, link)
    for path in (link, database):
        with pytest.raises(StoreError, match="2 names") as refused:
            Engine(path)
        assert refused.value.path == path
    assert not link.with_name("link.db-wal").exists()

    link.unlink()
    with Engine(database) as engine:
        assert engine.run("emp_001", errand, "a", "b", "c") == ["A", "B", "C"]


def test_a_symbolic_link_is_the_same_database(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a", "b", "c")
    link = database.with_name("link.db")
    link.symlink_to(database)
    with Engine(link) as engine:
        assert [each.workflow_id for each in engine.workflows()] == ["emp_001"]


# ---- what is deleted while it is in use


def run_and_wait(pipe: Connection, database: Path) -> Any:
    def hold() -> None:
        pipe.send("in the step")
        pipe.recv()

    def workflow(ctx: Context) -> None:
        ctx.step(act, "before")
        ctx.step(hold)
        ctx.step(act, "after")

    with Engine(database) as engine:
        engine.run("emp_001", workflow)


def run_to_the_end(_: Connection, database: Path) -> Any:
    with Engine(database) as engine:
        return engine.run("emp_002", errand, "a", "b", "c")


@pytest.mark.parametrize("gone", [["-wal"], ["-shm"], ["-wal", "-shm"]], ids="".join)
def test_a_wal_that_is_deleted_ends_the_run_and_takes_nothing_from_other_processes(
    database: Path, gone: list[str]
) -> None:
    Engine(database).close()
    with child(run_and_wait, database) as process:
        process.receive()
        for suffix in gone:
            database.with_name(database.name + suffix).unlink()
        if "-shm" in gone:  # else SQLite itself keeps the other process waiting
            call_in_child(run_to_the_end, database)
        process.send()
        raised = process.outcome()

    assert raised.type_name == "StoreError"
    assert "its -wal or its -shm was deleted or replaced while it was in use" in raised.text
    if gone == ["-wal", "-shm"]:
        with Engine(database) as engine:
            assert engine.workflow("emp_002").status == "completed"
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_other_files_that_come_and_go_in_the_folder_do_not_disturb_a_run(database: Path) -> None:
    def clutter(number: int) -> int:
        other = database.with_name(f"other {number}")
        other.write_text("")
        other.unlink()
        return number

    def workflow(ctx: Context) -> list[int]:
        return [ctx.step(clutter, number) for number in range(5)]

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == [0, 1, 2, 3, 4]
