"""Threads of workflows, branches and steps: as many as run at once, used again, gone when nothing more is to do."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine
from durable.parallel import threads as parallel_threads
from durable.parallel.threads import Pool, Threads
from durable.testing.inside import file_of
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads()
    yield made
    made.close()


def idents_of(threads: Threads, count: int) -> list[int]:
    """In which threads so many pieces of work are done, one after the other."""
    idents: list[int] = []
    for number in range(count):
        threads.begin("work", lambda: idents.append(threading.get_ident()))
        eventually(lambda number=number: len(idents) > number and threads._idle == 1)
    return idents


def test_a_thread_that_has_come_free_is_used_again(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_threads, "IDLE_SECONDS", 10 * PATIENCE_SECONDS)

    assert len(set(idents_of(threads, 5))) == 1


def test_work_that_is_begun_together_is_done_together(threads: Threads) -> None:
    meeting = threading.Barrier(21)
    for _ in range(20):
        threads.begin("work", lambda: meeting.wait(PATIENCE_SECONDS))

    meeting.wait(PATIENCE_SECONDS)


def test_a_pool_closed_while_it_begins_a_thread_takes_that_back_too(threads: Threads) -> None:
    done, closers, served_by = threading.Event(), [], []

    class QuickThreads(Threads):
        def begin(self, name: str, fn: Callable[[], object]) -> threading.Lock:
            ended = threads.begin(name, fn)
            assert done.wait(PATIENCE_SECONDS)  # its work is done before the pool knows of the thread
            closers.append(threading.Thread(target=pool.close))
            closers[0].start()
            eventually(lambda: not closers[0].is_alive() or pool._lock.locked())
            return ended

    pool = Pool(QuickThreads(), "worker", 1)
    pool.put([lambda: (served_by.append(threading.current_thread()), done.set())])
    closers[0].join(PATIENCE_SECONDS)

    eventually(lambda: served_by[0].name == "idle" or not served_by[0].is_alive())


def test_begin_returns_a_lock_held_until_the_work_ends(threads: Threads) -> None:
    leave = threading.Event()
    ended = threads.begin("work", lambda: leave.wait(PATIENCE_SECONDS))
    assert ended.locked()

    leave.set()
    assert ended.acquire(timeout=PATIENCE_SECONDS)


def test_one_that_has_nothing_to_do_ends(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_threads, "IDLE_SECONDS", 0.001)
    began: list[threading.Thread] = []
    threads.begin("work", lambda: began.append(threading.current_thread()))

    eventually(lambda: began and not began[0].is_alive())
    assert threads._idle == 0


class Door:
    """A lock that tells when somebody waits for it."""

    def __init__(self) -> None:
        self.lock, self.knocked = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            self.knocked.set()
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


class Shelf(queue.SimpleQueue[Any]):
    """A queue at which nobody's patience ends before it is told to."""

    def __init__(self) -> None:
        self.is_late = threading.Event()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        assert self.is_late.wait(PATIENCE_SECONDS)
        return super().get(block, timeout)


def test_work_that_comes_just_as_a_thread_gives_up_is_done(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_threads, "IDLE_SECONDS", 0.001)
    threads._lock, threads._work = door, shelf = Door(), Shelf()  # type: ignore[assignment]
    ended = threading.Lock()
    ended.acquire()
    done: list[str] = []
    threads.begin("work", lambda: done.append("first"))
    eventually(lambda: threads._idle == 1)
    with door:
        shelf.is_late.set()
        assert door.knocked.wait(PATIENCE_SECONDS)  # it has waited in vain, and is about to end
        threads._idle -= 1  # as `begin` does, which has found the door open
        threads._work.put(("work", lambda: done.append("second"), ended))

    eventually(lambda: done == ["first", "second"])


def test_a_workflow_sees_no_context_of_the_one_before_it_in_its_thread(database: Path) -> None:
    variable = contextvars.ContextVar("variable", default="fresh")

    def workflow(_: Context) -> list[str]:
        seen = [variable.get(), threading.current_thread().name]
        variable.set("used")
        return seen

    with Engine(database) as engine:
        results = [engine.start(f"emp_{number}", workflow).result() for number in range(3)]

    assert results == [["fresh", f"workflow emp_{number}"] for number in range(3)]


def test_a_closed_engine_leaves_no_thread(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_threads, "IDLE_SECONDS", 10 * PATIENCE_SECONDS)
    before = set(threading.enumerate())
    with Engine(database) as engine:
        for handle in [engine.start(f"emp_{number}", quick) for number in range(5)]:
            handle.result()

    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_thread_that_comes_free_after_the_end_is_let_go(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_threads, "IDLE_SECONDS", 10 * PATIENCE_SECONDS)
    leave = threading.Event()
    began: list[threading.Thread] = []
    threads.begin("work", lambda: began.append(threading.current_thread()) or leave.wait(PATIENCE_SECONDS))
    threads.close()
    leave.set()

    eventually(lambda: began and not began[0].is_alive())


def in_a_worker(ctx: Context) -> int:
    return ctx.submit(threading.get_ident).result()


def in_a_branch(ctx: Context) -> int:
    return ctx.branch("side", lambda _: threading.get_ident()).result()


def quick(_: Context) -> int:
    return 1


@pytest.mark.parametrize(("workflow", "threads"), [(in_a_worker, 2), (in_a_branch, 1)])  # a worker has a foreman
def test_one_run_after_another_goes_parallel_in_the_same_threads(
    database: Path, monkeypatch: pytest.MonkeyPatch, workflow: Callable[[Context], int], threads: int
) -> None:
    monkeypatch.setattr(parallel_threads, "IDLE_SECONDS", 10 * PATIENCE_SECONDS)
    idents = set()
    with Engine(database, max_workers=1) as engine:  # else a second worker may begin on a busy machine
        for number in range(5):
            idents.add(engine.run(f"emp_{number}", workflow))
            eventually(lambda: file_of(engine).threads._idle == threads)

    assert len(idents) <= threads
