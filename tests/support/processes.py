"""Child processes for the tests: forked from a warmed-up server that never opened SQLite, and killed for real."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.patience import PATIENCE_SECONDS

KILLED = -signal.SIGKILL

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["asyncio", "pytest", "durable", "tests.support.workflows", "tests.support.processes"])


class Raised(NamedTuple):
    """An exception of a child process, as far as it can be told."""

    type_name: str
    text: str
    attributes: dict[str, Any]


class Child:
    """A process that runs `fn(pipe, *args)`, and then tells how that ended. It ends with the test that made it."""

    def __init__(self, fn: Callable[..., Any], *args: object) -> None:
        _start_server()
        self.pipe, theirs = _context.Pipe()
        self._process = _context.Process(target=_main, args=(theirs, fn, args), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def receive(self, timeout_seconds: float = PATIENCE_SECONDS) -> Any:
        """The next thing it sends. Raises EOFError where it died without a word."""
        if not self.pipe.poll(timeout_seconds):
            raise TimeoutError(f"child {self.pid} has said nothing for {timeout_seconds} s")
        return self.pipe.recv()

    def send(self, message: object = None) -> None:
        """Let it go on."""
        self.pipe.send(message)

    def outcome(self) -> Any:
        """What the function returned, or a Raised. Waits for it."""
        try:
            return self.receive()
        finally:
            self.join()

    def join(self) -> int | None:
        """Wait for its end; returns the exit code, -9 after SIGKILL."""
        self._process.join(PATIENCE_SECONDS)
        assert self._process.exitcode is not None, f"child {self.pid} does not end"
        return self._process.exitcode

    def kill(self) -> int | None:
        """SIGKILL, and wait until it is gone."""
        with suppress(ProcessLookupError):  # it has ended by itself
            self.signal(signal.SIGKILL)
        return self.join()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        self.signal(signal.SIGSTOP)
        eventually(lambda: _state(self.pid).startswith("T"))

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return self._process.is_alive()

    def end(self) -> None:
        """Make sure that it is gone."""
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(PATIENCE_SECONDS)


@contextmanager
def child(fn: Callable[..., Any], *args: object) -> Iterator[Child]:
    """A child process that does not outlive the block."""
    started = Child(fn, *args)
    try:
        yield started
    finally:
        started.end()


def call_in_child(fn: Callable[..., Any], *args: object) -> Any:
    """What `fn(pipe, *args)` returns in a child process, or a Raised."""
    with child(fn, *args) as started:
        return started.outcome()


def crash_in_child(fn: Callable[..., Any], *args: object) -> None:
    """Call `fn(pipe, *args)` in a child process, and check that it was killed in it."""
    with child(fn, *args) as crashing:
        assert crashing.join() == KILLED


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something that must come has come."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "it never came"
        time.sleep(0.001)


def is_main_thread_in(function: str) -> bool:
    """Return whether the main thread is in a call of a function of this name."""
    ident = threading.main_thread().ident
    stack = traceback.extract_stack(sys._current_frames()[ident]) if ident else []
    return function in [frame.name for frame in stack]


def _state(pid: int) -> str:
    """`T` while it is stopped."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():  # Linux, where `ps` may not be installed
        return stat.read_text().rpartition(") ")[2]
    found = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _start_server() -> None:
    """The fork server takes its import path from the environment, before Python 3.13 from nowhere else."""
    root = str(Path(__file__).parents[2])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = root if before is None else os.pathsep.join((root, before))
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _main(pipe: Connection, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests were started in the background
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        outcome = fn(pipe, *args)
    except BaseException as error:
        outcome = raised(error)
    with suppress(OSError):  # nobody listens any more
        pipe.send(outcome)


def raised(error: BaseException) -> Raised:
    """An exception as something to send."""
    plain = {name: value for name, value in vars(error).items() if isinstance(value, str | int | None)}
    return Raised(type(error).__name__, str(error), plain)
