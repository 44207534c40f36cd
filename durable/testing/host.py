"""Host: a warmed-up process that forks lives, one after the other.

It imports what a life needs and never opens SQLite itself, and it has one thread: so a fork of it is safe and quick.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from durable.limits import payload as payloads
from durable.testing.case import ENDED, CaseResult, Fault, Job, Life, Remains
from durable.testing.life import live, read_trace, record_path, run_as_second_owner
from durable.testing.power import cut_power, read_files

SECOND_OWNER = 1000  # its number among the lives, in the trace
RESUMES = 3  # more than that nobody needs who makes progress


def serve(fd: int) -> None:
    """Answer one job after the other, see `_Host.play`, or with the words of what went wrong, until the pipe ends."""
    import asyncio  # noqa: F401 - imported once here, not in each life
    import sqlite3  # noqa: F401

    pipe, loaded = Connection(fd), dict[bytes, payloads.Payload]()
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            job.surroundings.enter()
            if job.payload not in loaded:
                loaded.clear()
                loaded[job.payload] = payloads.load(job.payload)
                gc.freeze()  # what is there already need not be copied when a life collects its garbage
            answer: Any = _Host(job, loaded[job.payload]).play()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        pipe.send(answer)


class _Host:
    """Plays one life of a case."""

    def __init__(self, job: Job, payload: payloads.Payload) -> None:
        self._job, self._payload = job, payload
        self._folder = Path(job.folder)

    def play(self) -> CaseResult | Job:
        """A life for each fault, then as many in peace as it takes; the job again where another life is to follow.

        What each left is what the next one finds. After the last one the folder is gone.
        """
        faults: list[Fault | None] = [*self._job.case.faults, *[None] * RESUMES]
        lives = list(self._job.lives)
        self._folder.mkdir(parents=True, exist_ok=True)
        fault = faults[len(lives)]
        before, life = self._live(fault, len(lives) + 1)
        if lives:
            lives[-1] = replace(lives[-1], remains=before)
        is_in_peace = fault is None and life.ended != "killed"
        is_over = is_in_peace or (life.ended in ENDED and not life.was_hit) or life.ended == "hung"
        if not is_over and len(lives) + 1 < len(faults):
            return replace(self._job, lives=(*lives, life))
        lives.append(replace(life, remains=self._look() or Remains(damage=("the database could not be read",))))
        trace = read_trace(self._folder / "case.trace")
        shutil.rmtree(self._folder, ignore_errors=True)
        return CaseResult(self._job.case, tuple(lives), trace)

    def _look(self) -> Remains | None:
        from durable.testing.remains import look_at

        found: Remains | None = self._ask(lambda pipe: pipe.send(("before", look_at(self._folder / "case.db"))))
        return found

    def _ask(self, fn: Callable[[Connection], object]) -> Any:
        """Something that a forked child has to say; None if it dies, or takes too long."""
        ours, pid = _fork(fn)
        try:
            return ours.recv()[1] if ours.poll(self._job.life_seconds) else None
        except EOFError:
            return None
        finally:
            _end(pid)
            ours.close()

    def _live(self, fault: Fault | None, number: int) -> tuple[Remains, Life]:
        """One life; after a power cut the files are what the disk may then hold."""
        if fault is None or fault.kind != "power cut":
            return self._live_in_child(fault, number)
        database = self._folder / "case.db"
        files = read_files(database)
        before, life = self._live_in_child(fault, number)
        if life.ended == "killed":
            cut_power(database, files, record_path(database), fault.kept)
        return before, life

    def _live_in_child(self, fault: Fault | None, number: int) -> tuple[Remains, Life]:
        ours, pid = _fork(lambda pipe: live(pipe, self._job, self._payload, fault, number))
        give_up_at = time.monotonic() + self._job.life_seconds
        kill_at: float | None = None
        before, said = Remains(), dict[str, Any]()
        try:
            while True:
                until = give_up_at if kill_at is None else min(give_up_at, kill_at)
                if not ours.poll(max(0.0, until - time.monotonic())):
                    _kill(pid)
                    if kill_at is None:
                        said = {"ended": "hung"}
                        break
                    kill_at = None  # what it has said before it died is still to be read; it may have ended just now
                    continue
                what, message = ours.recv()
                if what == "before":
                    before = message
                elif what == "begin" and fault is not None and fault.seconds is not None:
                    kill_at = time.monotonic() + fault.seconds
                elif what == "second":
                    ours.send(self._ask(lambda pipe: run_as_second_owner(pipe, self._job, self._payload, SECOND_OWNER)))
                elif what == "end":
                    said = message
                    break
        except (EOFError, ConnectionResetError):
            pass
        status = _end(pid)
        ours.close()
        if not said:
            said = {"ended": "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "died"}
        return before, Life(fault=fault, remains=Remains(), **said)


def _fork(fn: Callable[[Connection], object]) -> tuple[Connection, int]:
    """A child that runs `fn(pipe)` and ends without any clean-up."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    code = 1
    try:
        ours.close()
        fn(theirs)
        code = 0
    finally:
        os._exit(code)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _end(pid: int) -> int:
    """Wait for a child that has said its last word; its wait status."""
    give_up_at = time.monotonic() + 1.0
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > give_up_at:
            _kill(pid)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.0002)
