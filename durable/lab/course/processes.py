"""Other processes, for a lesson: one that holds at a given moment, sleeps or is killed; and workers."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from durable import Engine, Moment
from durable.limits.payload import dump, load

PATIENCE_SECONDS = 60.0
DURABLE = (sys.executable, "-m", "durable")


class Process:
    """A process with an engine of its own, which holds at one moment of its workflow until it is released."""

    def __init__(self, db: Path, workflow_id: str, workflow: Callable[..., Any], *args: Any, hold_at: str) -> None:
        """Start the process, and return once it holds at `hold_at`, `STEP:MOMENT` as in `run_until_crash`.

        Raises RuntimeError if it ends before that, or takes longer than a minute to get there.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        order = (os.fspath(db), workflow_id, dump(workflow, args, {}), hold_at)
        self._process = context.Process(target=_run, args=(theirs, *order), daemon=True)
        self._process.start()
        atexit.register(self.kill)  # else a sleeping process would outlive us
        theirs.close()
        if (said := self._hear()) != hold_at:
            self.kill()
            raise RuntimeError(f"the process for {workflow_id!r} did not come to {hold_at!r}: {said}")

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process.pid is not None
        return self._process.pid

    def sleep(self) -> None:
        """Send SIGSTOP: from now on the process does nothing at all, and is not dead."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Send SIGCONT: the process continues as if no time had passed."""
        os.kill(self.pid, signal.SIGCONT)

    def finish(self) -> str:
        """Let the process continue to its end. Return in words what it returned or raised."""
        self._pipe.send("go on")
        said = self._hear()
        self._process.join()
        return said

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process is gone. May be called again."""
        atexit.unregister(self.kill)
        self._process.kill()
        self._process.join()

    def _hear(self) -> str:
        try:
            return str(self._pipe.recv()) if self._pipe.poll(PATIENCE_SECONDS) else "it takes too long"
        except EOFError:
            return "it died without a word"


def _run(pipe: Connection, db: str, workflow_id: str, payload: bytes, hold_at: str) -> None:
    """Run the workflow, in the new process."""
    name, _, moment = hold_at.partition(":")

    def hold(now: Moment) -> None:
        if now.name == f"step.{moment}" and name in (now.step_name, now.step_key):
            pipe.send(hold_at)
            pipe.recv()

    workflow, args, *_ = load(payload)
    try:
        with Engine(db, observers=[hold]) as engine:
            said = f"completed: {engine.run(workflow_id, workflow, *args)}"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    pipe.send(said)


class Worker:
    """A `durable worker`, as if started on another machine: on a file, or on the PostgreSQL of a URL."""

    def __init__(self, place: Path | str, *, crash_at: str = "") -> None:
        """Start the worker. `crash_at` is the moment at which it is killed, as in `run_until_crash`."""
        where = ("--engine" if _is_url(place) else "--db", os.fspath(place))
        self._process = subprocess.Popen(
            [*DURABLE, "worker", *where],
            env=os.environ | {"DURABLE_CRASH_AT": crash_at},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_hear_ctrl_c if os.name == "posix" else None,  # noqa: PLW1509 - it takes no lock
        )
        atexit.register(self._process.kill)

    def wait(self) -> int:
        """Wait until the worker has died, a minute at most. Return its exit code, -9 after SIGKILL."""
        self._process.communicate(timeout=PATIENCE_SECONDS)
        return self._process.returncode

    def read_until(self, words: str) -> list[str]:
        """Return the lines that the worker writes, without its greeting, up to the first with these words.

        Raises RuntimeError if it ends before, or takes longer than a minute.
        """
        assert self._process.stdout is not None
        give_up = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        give_up.start()
        lines = []
        for line in self._process.stdout:
            lines.append(line.rstrip())
            if words in line:
                give_up.cancel()
                return lines[1:]
        raise RuntimeError(f"the worker did not write {words!r}: {lines}")

    def stop(self) -> None:
        """Press Ctrl+C, and wait for the end of the worker."""
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=PATIENCE_SECONDS)


def _hear_ctrl_c() -> None:
    """Enable Ctrl+C even if the notebook server was started in the background, and ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def submit(place: str, workflow_id: str, workflow: str, **arguments: Any) -> None:
    """Put a workflow into the queue of a PostgreSQL, by `durable submit`. Raises CalledProcessError if refused."""
    words = ["submit", workflow, workflow_id, "--engine", place, "--input", json.dumps(arguments)]
    subprocess.run([*DURABLE, *words], check=True, capture_output=True)


def _is_url(place: Path | str) -> bool:
    return os.fspath(place).startswith("postgresql:")
