"""Locks: whichever way the system has, an id is one process's at a time, and free the instant that one dies."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Engine, WorkflowBusyError
from durable.store.ownership import locks
from durable.store.ownership.owner import Owner, find_owner, lock_path
from tests.support import workflows
from tests.support.processes import KILLED, child, eventually

KINDS = [locks.Files] if sys.platform != "linux" else [locks.Ranges, locks.Files]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """Each way to lock that this system has, and has this process use."""
    monkeypatch.setattr(locks, "of_this_system", request.param)
    return request.param


def hold(pipe: Connection, database: Path, kind: type[Any], workflow_id: str, forks: bool = False) -> None:
    """Own an id until told to give it back; where asked, fork a child that lives on."""
    locks.of_this_system = kind
    owner = Owner(database, workflow_id)
    grandchild = os.fork() if forks else None
    if grandchild == 0:
        while True:
            signal.pause()
    pipe.send(grandchild)
    pipe.recv()
    owner.release()


@pytest.mark.skipif(sys.platform != "linux", reason="what this is about is Linux's")
def test_on_linux_no_id_has_a_file_of_its_own(database: Path) -> None:
    assert isinstance(locks.of_this_system(), locks.Ranges)

    owners = [Owner(database, f"emp_{number}") for number in range(100)]
    for owner in owners:
        owner.release()

    files = list(lock_path(database, "emp_1").parent.iterdir())
    assert len(files) <= 16
    assert sum(file.stat().st_size for file in files) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="what this is about is Linux's")
def test_a_kernel_without_such_locks_gets_a_file_for_each_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    assert isinstance(locks.of_this_system.__wrapped__(), locks.Ranges)
    monkeypatch.setattr("fcntl.fcntl", refuse)

    assert isinstance(locks.of_this_system.__wrapped__(), locks.Files)


def test_another_process_is_refused_told_the_pid_and_let_in_afterwards(database: Path, kind: type[Any]) -> None:
    with child(hold, database, kind, "emp_001") as owner:
        owner.receive()
        with pytest.raises(WorkflowBusyError) as busy:
            Owner(database, "emp_001")

        assert busy.value.pid == owner.pid
        assert find_owner(database, "emp_001") == owner.pid
        Owner(database, "emp_002").release()
        owner.send()
        assert owner.outcome() is None
    Owner(database, "emp_001").release()
    assert find_owner(database, "emp_001") is None


def test_another_thread_is_refused_and_let_in_afterwards(database: Path, kind: type[Any]) -> None:
    owner = Owner(database, "emp_001")
    with pytest.raises(WorkflowBusyError) as busy:
        Owner(database, "emp_001")

    assert busy.value.pid == find_owner(database, "emp_001") == os.getpid()
    owner.release()
    owner.release()
    Owner(database, "emp_001").release()


def test_a_killed_process_owns_nothing(database: Path, kind: type[Any]) -> None:
    with child(hold, database, kind, "emp_001") as owner:
        owner.receive()
        assert owner.kill() == KILLED

        assert find_owner(database, "emp_001") is None
        Owner(database, "emp_001").release()


def test_a_forked_child_does_not_keep_the_lock_of_its_killed_parent(database: Path, kind: type[Any]) -> None:
    with child(hold, database, kind, "emp_001", True) as owner:
        grandchild = owner.receive()
        try:
            assert find_owner(database, "emp_001") == owner.pid  # also after the child has closed its copy
            assert owner.kill() == KILLED
            eventually(lambda: find_owner(database, "emp_001") is None)

            os.kill(grandchild, 0)  # it is still there
            Owner(database, "emp_001").release()
        finally:
            os.kill(grandchild, signal.SIGKILL)


def test_an_open_and_close_of_the_file_in_the_same_process_frees_nothing(database: Path, kind: type[Any]) -> None:
    owner = Owner(database, "emp_001")
    lock_path(database, "emp_001").read_bytes()

    with child(hold, database, kind, "emp_001") as other:
        assert other.outcome().type_name == "WorkflowBusyError"
    owner.release()


def test_looking_for_the_owner_locks_no_process_out(database: Path, kind: type[Any]) -> None:
    # Thread 1 looks who owns the id, again and again; some ways have to lock for an instant to find out.
    # Thread 2 runs workflows on it: none may be told that it is busy, also where the lock file still holds the pid of
    # an owner that was killed, and the operating system has given that pid to somebody else since.
    done, watched = threading.Event(), ["emp"]
    with Engine(database) as engine, Engine(database) as looking:

        def look() -> None:
            while not done.is_set():
                looking.owner(watched[-1])

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            for number in range(100):
                workflow_id = f"emp_{number}"
                lock_path(database, workflow_id).parent.mkdir(exist_ok=True)
                lock_path(database, workflow_id).write_text(str(os.getppid()))
                watched.append(workflow_id)
                engine.run(workflow_id, workflows.errand, "a")
        finally:
            done.set()
            watcher.join()


def test_similar_ids_are_different_locks(database: Path, kind: type[Any]) -> None:
    ids = ["emp_1", "emp_2", "emp_11", "EMP_1", "emp_1 ", "\U0001f984", "..", "emp/1", "e" * 255, "e" * 254]
    owners = [Owner(database, workflow_id) for workflow_id in ids]

    assert [find_owner(database, workflow_id) for workflow_id in ids] == [os.getpid()] * len(ids)
    assert {str(lock_path(database, workflow_id).parent) for workflow_id in ids} == {f"{database}-locks"}
    for owner in owners:
        owner.release()
    assert [find_owner(database, workflow_id) for workflow_id in ids] == [None] * len(ids)


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each id has a file of its own")
def test_a_million_ids_have_a_million_places(database: Path) -> None:
    way = locks.Ranges()
    ids = [f"{kind}{number}" for kind in ("emp_", "order/2026-11-", "") for number in range(333_334)]

    places = {(way.file_name(workflow_id), locks._start(workflow_id)) for workflow_id in ids}

    assert len(places) == len(ids)
    assert max(start for _, start in places) + 2**22 <= 2**63
