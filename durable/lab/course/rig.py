"""The rig: runs an engine that a reader has written, kills it at each of its own instants, and runs it again.

The crash matrix of `durable.testing` watches the moments of our engine. A reader's engine has none, so the instants
here are those of every engine: before and after each effect, each SQL statement and each commit.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Run = Callable[..., Any]
"""`run(path, workflow_id, workflow)`, as notebook 06 has it."""
LIFE_SECONDS = 20.0
LATE_SECONDS = 0.08


class Life(NamedTuple):
    """One process: how it ended (completed, failed, killed), its result or error, and its effects."""

    ended: str
    said: str
    effects: list[str]


class Story(NamedTuple):
    """The runs of a workflow, and the instant at which the first was killed; empty if it was not."""

    workflow: str
    killed_at: str
    lives: list[Life]

    @property
    def effects(self) -> list[str]:
        """Return the effects of all runs."""
        return [what for life in self.lives for what in life.effects]


def play(run: Run, workflows: Sequence[str]) -> list[Story]:
    """Yield all stories of these workflows: undisturbed and run again; then killed at each instant, and run again.

    `workflows` are functions of `durable.lab.course.samples`. Raises RuntimeError if no process can be started.
    """
    import cloudpickle  # type: ignore[import-untyped, import-not-found, unused-ignore]

    path = [os.path.abspath(entry or ".") for entry in sys.path]  # noqa: PTH100 - "" is the current folder
    order = cloudpickle.dumps((run, list(workflows)))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:] = {path!r}; from durable.lab.course.rig import serve; serve()",
        ],
        input=order,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    stories = json.loads(done.stdout)
    return [Story(name, at, [Life(*life) for life in lives]) for name, at, lives in stories]


# ---- in the process that forks the lives: it has one thread, and never opens SQLite itself


def serve() -> None:
    """Play the order on stdin, and write the stories to stdout."""
    run, workflows = pickle.loads(sys.stdin.buffer.read())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of the reader's code is not for us
    json.dump([story for name in workflows for story in _play(run, name)], out)
    out.close()


def _play(run: Run, name: str) -> list[Story]:
    with tempfile.TemporaryDirectory() as folder:
        first, instants = _live(run, name, Path(folder), 0)
        again, _ = _live(run, name, Path(folder), 0, is_late=True)
    stories = [Story(name, "", [first, again])]
    if first.ended == "completed":
        for number, label in enumerate(instants, 1):
            with tempfile.TemporaryDirectory() as folder:
                killed, _ = _live(run, name, Path(folder), number)
                resumed, _ = _live(run, name, Path(folder), 0, is_late=True)
            stories.append(Story(name, label, [killed, resumed]))
    return stories


def _live(run: Run, name: str, folder: Path, kill_at: int, *, is_late: bool = False) -> tuple[Life, list[str]]:
    """Play one run in a forked process. With `is_late`, the parallel work that is begun first starts last."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _be_born(run, name, folder, kill_at, theirs, is_late=is_late)
    os.close(theirs)
    give_up = threading.Timer(LIFE_SECONDS, os.kill, (pid, signal.SIGKILL))
    give_up.start()
    with os.fdopen(ours, "rb") as pipe:
        lines = [json.loads(line) for line in pipe.read().splitlines()]
    os.waitpid(pid, 0)
    give_up.cancel()
    give_up.join()
    ended, said = next((line["end"] for line in lines if "end" in line), ("killed", ""))
    effects = [line["effect"] for line in lines if "effect" in line]
    return Life(ended, said, effects), [line["at"] for line in lines if "at" in line]


def _be_born(run: Run, name: str, folder: Path, kill_at: int, pipe: int, *, is_late: bool) -> None:
    from durable.lab.course import samples

    instants = _Instants(kill_at, pipe)
    samples.WORLD.append(instants.effect)
    sqlite3.connect = instants.connect
    _shuffle_threads(is_late=is_late)
    try:
        result = samples.run(name, lambda *args: run(str(folder / "engine.db"), *args))
        instants.tell(end=("completed", repr(result)))
    except Exception as error:
        instants.tell(end=("failed", f"{type(error).__name__}: {error}"))
    os._exit(0)


class _Instants:
    """Counts the instants of its process, and kills it at one of them."""

    def __init__(self, kill_at: int, pipe: int) -> None:
        self._kill_at, self._pipe, self._count = kill_at, pipe, 0
        self._lock = threading.RLock()
        self._connect = sqlite3.connect

    def tell(self, **what: object) -> None:
        """Write one line in one call: it has left the process when this returns."""
        os.write(self._pipe, (json.dumps(what) + "\n").encode())

    def reach(self, label: str) -> None:
        """Count an instant; it may be the last."""
        with self._lock:
            self._count += 1
            self.tell(at=label)
            if self._count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, what: str) -> None:
        """Change the world."""
        self.reach(f"just before {what!r} happened")
        self.tell(effect=what)
        self.reach(f"just after {what!r} had happened")

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Replace sqlite3.connect: return a class of connections whose statements are instants."""
        return self._connect(*args, **kwargs | {"factory": _watched(self)})


def _watched(instants: _Instants) -> type[sqlite3.Connection]:
    def around(act: Callable[..., Any], what: str, *args: Any) -> Any:
        instants.reach(f"just before {what}")
        result = act(*args)
        instants.reach(f"just after {what}")
        return result

    def shorten(sql: str) -> str:
        return f"the statement '{' '.join(sql.split()[:3])} ...'"

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Any:
            return around(super().execute, shorten(sql), sql, *args)

    class Watched(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, *args: Any) -> Any:
            return self.cursor().execute(sql, *args)

        def commit(self) -> None:
            around(super().commit, "a commit")

        def __exit__(self, *args: object) -> Any:
            return around(super().__exit__, "a commit", *args)

    return Watched


def _shuffle_threads(*, is_late: bool) -> None:
    """Delay the first of two pieces of parallel work in every other run, so that the second one begins first."""
    submit, start = concurrent.futures.ThreadPoolExecutor.submit, threading.Thread.start
    began: list[Callable[..., Any]] = []

    def in_turn(work: Callable[..., Any]) -> Callable[..., Any]:
        began.append(work)
        is_slow = is_late == bool(len(began) % 2)

        def wait_then_work(*args: Any, **kwargs: Any) -> Any:
            time.sleep(LATE_SECONDS if is_slow else 0)
            return work(*args, **kwargs)

        return wait_then_work

    def submit_late(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, in_turn(fn), *args, **kwargs)

    def start_late(self: Any) -> None:
        if (
            getattr(getattr(self, "_target", None), "__module__", "") != "concurrent.futures.thread"
        ):  # the pool's own thread
            self.run = in_turn(self.run)
        start(self)

    concurrent.futures.ThreadPoolExecutor.submit = submit_late  # type: ignore[method-assign]
    threading.Thread.start = start_late  # type: ignore[method-assign]
