"""Another process, for a lesson: it runs a workflow, holds where it is told to, and can be put to sleep or killed."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from durable import Engine, Moment
from durable.observer import Observer
from durable.payload import dump, load

PATIENCE_SECONDS = 60.0


class Process:
    """A process of its own with an engine of its own, which holds at one moment of its workflow until it may go on."""

    def __init__(
        self,
        db: Path | str,
        workflow_id: str,
        workflow: Callable[..., Any],
        *args: Any,
        hold_at: str,
        machine: str = "",
    ) -> None:
        """Returns once it stands at `hold_at`, `STEP:MOMENT` as in `run_until_crash`.

        `db` is a file, or the URL of a PostgreSQL; there `machine` is its executor id. Raises RuntimeError where it
        ends before that, or takes longer than a minute to get there.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        order = (os.fspath(db), machine, workflow_id, dump(workflow, args, {}), hold_at)
        self._process = context.Process(target=_run, args=(theirs, *order), daemon=True)
        self._process.start()
        atexit.register(self.kill)  # else one that sleeps would outlive us
        theirs.close()
        if (said := self._hear()) != hold_at:
            self.kill()
            raise RuntimeError(f"the process for {workflow_id!r} did not come to {hold_at!r}: {said}")

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process.pid is not None
        return self._process.pid

    def sleep(self) -> None:
        """SIGSTOP: from now on it does nothing at all, and is not dead."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT: it goes on as if no time had passed, and does not know that any has."""
        os.kill(self.pid, signal.SIGCONT)

    def finish(self) -> str:
        """Let it go on from where it was held, to its end. How it ended, in words: what it returned, or raised."""
        self._pipe.send("go on")
        said = self._hear()
        self._process.join()
        return said

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. May be called again."""
        atexit.unregister(self.kill)
        self._process.kill()
        self._process.join()

    def _hear(self) -> str:
        try:
            return str(self._pipe.recv()) if self._pipe.poll(PATIENCE_SECONDS) else "it takes too long"
        except EOFError:
            return "it died without a word"


def _run(pipe: Connection, db: str, machine: str, workflow_id: str, payload: bytes, hold_at: str) -> None:
    """In the new process."""
    name, _, moment = hold_at.partition(":")

    def hold(now: Moment) -> None:
        if now.name == f"step.{moment}" and name in (now.step_name, now.step_key):
            pipe.send(hold_at)
            pipe.recv()

    workflow, args, *_ = load(payload)
    try:
        with _open(db, machine, hold) as engine:
            said = f"completed: {engine.run(workflow_id, workflow, *args)}"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    pipe.send(said)


def _open(db: str, machine: str, hold: Observer) -> Any:
    if not db.startswith("postgresql:"):
        return Engine(db, observers=[hold])
    from durable.on_dbos import DBOSEngine  # an extra of its own

    return DBOSEngine(db, executor_id=machine, observers=[hold])
