"""The rig: runs an engine that a reader has written, kills it at each of its own instants, and runs it again.

The crash matrix of `durable.testing` watches the moments of our engine. A reader's engine has none, so the instants
here are those of every engine: before and after each effect, each SQL statement and each commit.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

Run = Callable[..., Any]
"""`run(path, workflow_id, workflow)`, as notebook 06 has it."""
LIFE_SECONDS = 15.0  # after which a run is taken for endless
MOST_INSTANTS = 5000  # of one run; one with more is taken for endless too
LATE_SECONDS = 0.08
PRINTED = 2000  # characters kept of what the reader's code prints in one run


class Life(NamedTuple):
    """One process: how it ended (completed, failed, killed, endless), its result or error, and its effects.

    `line` is where in the reader's code it failed, was killed or did not end, as in `line 4 of save`.
    """

    ended: str
    said: str
    effects: list[str]
    line: str = ""
    printed: str = ""


class Story(NamedTuple):
    """The runs of a workflow, and the instant at which the first was killed; empty if it was not."""

    workflow: str
    killed_at: str
    lives: list[Life]

    @property
    def effects(self) -> list[str]:
        """Return the effects of all runs."""
        return [what for life in self.lives for what in life.effects]


def play(
    run: Run, workflows: Sequence[str], on_kill: Callable[[int, int], object] = lambda _done, _total: None
) -> Generator[Story, None, None]:
    """Yield the stories of these workflows: all undisturbed and run again; then each killed at each instant.

    `workflows` are functions of `durable.lab.lessons.samples`. `on_kill` gets the number of kills so far and of all.
    The kills begin only if the stories without them are all asked for. Raises RuntimeError if no process can be
    started.
    """
    import cloudpickle  # type: ignore[import-untyped, import-not-found, unused-ignore]

    path = [os.path.abspath(entry or ".") for entry in sys.path]  # noqa: PTH100 - "" is the current folder
    code = f"import sys; sys.path[:] = {path!r}; from durable.lab.course.rig import serve; serve()"
    with tempfile.TemporaryFile() as order, tempfile.TemporaryFile() as said:
        order.write(cloudpickle.dumps((run, list(workflows), LIFE_SECONDS)))
        order.seek(0)
        server = subprocess.Popen([sys.executable, "-c", code], stdin=order, stdout=subprocess.PIPE, stderr=said)
        try:
            yield from _read_stories(server, on_kill)
            if server.wait():
                said.seek(0)
                raise RuntimeError(said.read().decode(errors="replace").strip().rpartition("\n")[2])
        finally:
            server.kill()  # a mistake was found: what is left need not be played
            server.wait()
            assert server.stdout is not None
            server.stdout.close()


def _read_stories(server: subprocess.Popen[bytes], on_kill: Callable[[int, int], object]) -> Iterator[Story]:
    done = 0
    assert server.stdout is not None
    for line in server.stdout:
        (name, at, lives), total = json.loads(line)
        if at:
            done += 1
            on_kill(done, total)
        yield Story(name, at, [Life(*life) for life in lives])


# ---- in the process that forks the lives: it has one thread, and never opens SQLite itself


def serve() -> None:
    """Play the order on stdin, and write each story to stdout as it is played, with the number of all kills."""
    run, workflows, life_seconds = pickle.loads(sys.stdin.buffer.read())
    with os.fdopen(os.dup(1), "w", buffering=1) as out:
        os.dup2(2, 1)  # the output of the reader's code is not for us
        instants = {}
        for name in workflows:
            story, instants[name] = _play_undisturbed(run, name, life_seconds)
            print(json.dumps((story, 0)), file=out)
        total = sum(map(len, instants.values()))
        for name in workflows:
            for number, label in enumerate(instants[name], 1):
                print(json.dumps((_play_killed(run, name, number, label, life_seconds), total)), file=out)


def _play_undisturbed(run: Run, name: str, life_seconds: float) -> tuple[Story, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        first, instants = _live(run, name, Path(folder), 0, life_seconds)
        again, _ = _live(run, name, Path(folder), 0, life_seconds, is_late=True)
    return Story(name, "", [first, again]), instants


def _play_killed(run: Run, name: str, number: int, label: str, life_seconds: float) -> Story:
    with tempfile.TemporaryDirectory() as folder:
        killed, _ = _live(run, name, Path(folder), number, life_seconds)
        resumed, _ = _live(run, name, Path(folder), 0, life_seconds, is_late=True)
    return Story(name, label, [killed, resumed])


def _live(
    run: Run, name: str, folder: Path, kill_at: int, life_seconds: float, *, is_late: bool = False
) -> tuple[Life, list[str]]:
    """Play one run in a forked process. With `is_late`, the parallel work that is begun first starts last."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _be_born(run, name, folder, kill_at, theirs, life_seconds, is_late=is_late)
    os.close(theirs)
    give_up = threading.Timer(2 * life_seconds, os.kill, (pid, signal.SIGKILL))  # it did not even hear the alarm
    give_up.start()
    with os.fdopen(ours, "rb") as pipe:
        lines = [json.loads(line) for line in pipe.read().splitlines()]
    os.waitpid(pid, 0)
    give_up.cancel()
    give_up.join()
    otherwise = ("killed" if any("dies" in line for line in lines) else "endless", "", "")
    ended, said, where = next((line["end"] for line in lines if "end" in line), otherwise)
    where = where or next((line["dies"] for line in lines if "dies" in line), "")
    effects = [line["effect"] for line in lines if "effect" in line]
    printed = "".join(line["print"] for line in lines if "print" in line)[:PRINTED]
    return Life(ended, said, effects, where, printed), [line["at"] for line in lines if "at" in line]


def _be_born(run: Run, name: str, folder: Path, kill_at: int, pipe: int, life_seconds: float, *, is_late: bool) -> None:
    from durable.lab.lessons import samples

    instants = _Instants(kill_at, pipe)
    samples.WORLD.append(instants.effect)
    sqlite3.connect = instants.connect
    _shuffle_threads(is_late=is_late)
    signal.signal(signal.SIGALRM, lambda _, frame: instants.give_up(frame))
    signal.setitimer(signal.ITIMER_REAL, life_seconds)
    try:
        with contextlib.redirect_stdout(_Printed(instants)):
            result = samples.run(name, lambda *args: run(str(folder / "engine.db"), *args))
        instants.tell(end=("completed", repr(result), ""))
    except Exception as error:
        instants.tell(end=("failed", f"{type(error).__name__}: {error}", _line_of(error)))
    os._exit(0)


def _line_of(error: BaseException) -> str:
    """Return the innermost line of the reader's code that an error has come through."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return _tell_line(reversed(frames))


def _line_from(frame: FrameType | None) -> str:
    """Return the innermost line of the reader's code at which a thread is."""
    frames = []
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return _tell_line(frames)


def _tell_line(frames: Iterable[tuple[FrameType, int]]) -> str:
    for frame, line in frames:
        code = frame.f_code
        if not code.co_filename.startswith(_OTHERS):
            return f"line {line} of {code.co_name}"
    return ""


_LAB = str(Path(__file__).parents[1])
_OTHERS = (_LAB, "<", *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")))


class _Printed(io.TextIOBase):
    """A stdout that tells at once what the code of the reader prints, since the process may be killed."""

    def __init__(self, instants: _Instants) -> None:
        self._instants = instants

    def write(self, text: str) -> int:
        self._instants.tell(print=text)
        return len(text)


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
                self.tell(dies=_line_from(sys._getframe()))
                os.kill(os.getpid(), signal.SIGKILL)
            if self._count == MOST_INSTANTS:
                self.give_up(sys._getframe())

    def give_up(self, frame: FrameType | None) -> None:
        """End a run that does not end by itself."""
        self.tell(end=("endless", "", _line_from(frame)))
        os._exit(0)

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
