"""Host: a warmed-up process that forks the runs of a case, one after the other.

It imports the modules that a run needs, never opens SQLite itself, and has one thread, so a fork is safe and quick.
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
from durable.testing.matrix.case import ENDED, CaseResult, Fault, Job, Life, Remains
from durable.testing.matrix.life import live, read_trace, record_path, run_as_second_owner
from durable.testing.matrix.power import cut_power, read_files

SECOND_OWNER = 1000  # its number among the runs, in the trace
RESUMES = 3  # a case that makes progress needs no more than that


def serve(fd: int) -> None:
    """Answer one job after the other, see `_Host.play`, until the pipe ends. An error is answered with its text."""
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
                gc.freeze()  # so that garbage collection in a run does not copy existing objects
            answer: Any = _Host(job, loaded[job.payload]).play()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        pipe.send(answer)


class _Host:
    """Plays the runs of a case."""

    def __init__(self, job: Job, payload: payloads.Payload) -> None:
        self._job, self._payload = job, payload
        self._folder = Path(job.folder)

    def play(self) -> CaseResult | Job:
        """Play a run for each fault, then as many without as it takes; return the job if another run is to follow.

        Each run finds the files that the one before it left. After the last one the folder is removed.
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
        from durable.testing.matrix.remains import look_at

        found: Remains | None = self._ask(lambda pipe: pipe.send(("before", look_at(self._folder / "case.db"))))
        return found

    def _ask(self, fn: Callable[[Connection], object]) -> Any:
        """Return the answer of a forked child; None if it dies or takes too long."""
        ours, pid = _fork(fn)
        try:
            return ours.recv()[1] if ours.poll(self._job.life_seconds) else None
        except EOFError:
            return None
        finally:
            _end(pid)
            ours.close()

    def _live(self, fault: Fault | None, number: int) -> tuple[Remains, Life]:
        """Play one run. After a power cut, leave the files as the disk may then hold them."""
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
                    kill_at = None  # it may have died just now, and its last words can still be read
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
    """Fork a child that runs `fn(pipe)` and ends without any clean-up."""
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
    """Wait for a child that has sent its last word, and return its wait status."""
    give_up_at = time.monotonic() + 1.0
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > give_up_at:
            _kill(pid)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.0002)
