"""Isolate: a step's function in a process of its own, which can be killed, and whose end does not end ours.

The process is a fresh interpreter that gets its work through a pipe. It is not one of `multiprocessing`'s: those
run the main script again, down to the line that runs the workflow. It leads a process group of its own: Ctrl+C reaches
it only through us, and what it has started is killed with it.
"""

from __future__ import annotations

import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import msgspec

from durable.errors import RunStopped, StepDiedError, StepTimeoutError
from durable.limits import payload as payloads
from durable.parallel.future import next_turn
from durable.parallel.workers import Workers
from durable.replay.call import Call
from durable.replay.step_info import StepInfo, current, current_step
from durable.signals import held_back, let_through
from durable.values.failures import decode_error, encode_error

# leaves no name in the child's main module, where those of a notebook are to be found
_BOOT = (
    "__import__('sys').path[:] = {path!r}; "
    "__import__('durable.limits.isolation').limits.isolation.serve({fd}, {parent})"
)
_LOOK_SECONDS = 1.0
_EXIT_SECONDS = 5.0  # for its exit handlers, once the outcome is here


class _Outcome(NamedTuple):
    """A function's return value; or its error as it is recorded, and the traceback."""

    value: Any = None
    error: str | None = None
    trace: str = ""


class _Said(NamedTuple):
    """Progress of the function, see `Reporter`."""

    name: str
    value: str
    total: float | None


class _Sender:
    """Reports progress through the pipe of this process."""

    def __init__(self, pipe: Any) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def report(self, _: StepInfo, name: str, value: str, total: float | None) -> None:
        """See `Reporter`."""
        with self._lock:
            self._pipe.send_bytes(pickle.dumps(_Said(name, value, total)))


class _ChildTraceback(Exception):  # noqa: N818 - it is shown as the cause of an error, and never caught
    """The place in the other process at which an error was raised."""


def isolated(call: Call, workers: Workers, seconds: float | None) -> Callable[..., Any]:
    """Return the call's function in a child process. Raises PayloadError where it cannot be given to one."""
    payload = payloads.dump(call.fn, call.args, call.kwargs)

    def run(*_args: Any, **_kwargs: Any) -> Any:  # they are in the payload
        with held_back():
            child = _Child(current_step(), payload)
            try:
                with workers.stopping(child):
                    outcome = let_through(child.outcome, seconds)
                child.wait()
            finally:
                child.end()
            if outcome.error is not None:
                error = decode_error(outcome.error)
                raise error from error.__cause__ or _ChildTraceback(f"\n{outcome.trace}")
            return outcome.value

    return run


class _Child:
    """The process, for the thread that waits for it."""

    def __init__(self, step: StepInfo, payload: bytes) -> None:
        self._step, self._payload = step, payload
        self._is_stopped = False
        self._pipe, theirs = Pipe()
        path = [os.path.abspath(entry or ".") for entry in sys.path]  # noqa: PTH100 - "" is the current folder
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT.format(path=path, fd=theirs.fileno(), parent=os.getpid())],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **_inheriting(theirs.fileno()),
            )

    def outcome(self, seconds: float | None) -> _Outcome:
        """Return the outcome of the function. Raises StepTimeoutError, StepDiedError, and RunStopped after `stop`."""
        give_up_at = None if seconds is None else time.monotonic() + seconds
        try:
            self._pipe.send((self._step, self._payload))
            while True:
                if not _comes(self._pipe, give_up_at):
                    raise StepTimeoutError(
                        f"{self._step} did not end within {seconds} s, and its process was killed; give it more time"
                    )
                message: _Outcome | _Said = pickle.loads(self._pipe.recv_bytes())
                if isinstance(message, _Outcome):
                    return message
                if self._step.reporter is not None:
                    self._step.reporter.report(self._step, *message)
        except (EOFError, ConnectionError):
            raise self._death() from None

    def stop(self) -> None:
        """Kill it, since its run was interrupted."""
        self._is_stopped = True
        self._kill()

    def wait(self) -> None:
        """Give it the time to end by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_SECONDS)

    def end(self) -> None:
        """Make sure that it is gone, and what it has started."""
        if self._process.poll() is None:
            self._kill()
            self._process.wait()
        self._pipe.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # it has just ended by itself
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _death(self) -> BaseException:
        """Return the error: it has ended without an outcome."""
        code = self._process.wait()
        if self._is_stopped:
            return RunStopped(f"workflow {self._step.workflow_id!r}: its run was interrupted, and {self._step} killed")
        what = f"was killed by {_name_of_signal(-code)}" if code < 0 else f"ended with exit code {code}"
        return StepDiedError(
            f"{self._step}: its process {what} and left no result; its effect may have happened; see what it printed",
            code,
        )


def _comes(pipe: Connection, give_up_at: float | None) -> bool:
    """Wait for a word or the end of the other side; in turns, see `durable.future.wait`."""
    while not wait([pipe], next_turn(give_up_at)):
        if give_up_at is not None and time.monotonic() >= give_up_at:
            return False
    return True


def _inheriting(fd: int) -> dict[str, Any]:
    if sys.platform == "win32":
        os.set_handle_inheritable(fd, True)
        return {"startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [fd]})}
    else:  # noqa: RET505 - so that mypy sees one platform at a time
        return {"pass_fds": [fd]}


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# ---- the child


def serve(fd: int, parent: int) -> None:
    """Call what comes through the pipe, and answer with its outcome. The process then ends, with its exit handlers."""
    if sys.platform == "win32":
        pipe: Any = connection.PipeConnection(fd)
    else:
        pipe = Connection(fd)
        os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=pipe.close)  # processes that the step leaves behind do not keep its end open
    step, data = pipe.recv()
    threading.Thread(target=_end_with, args=(parent, pipe), name="parent", daemon=True).start()
    answer = _call(msgspec.structs.replace(step, reporter=_Sender(pipe)), data)
    sys.stdout.flush()
    sys.stderr.flush()
    pipe.send_bytes(answer)


def _end_with(parent: int, pipe: Connection) -> None:
    """End this process once its parent is dead: the pipe ends, unless a fork of the parent lives on."""
    while not wait([pipe], _LOOK_SECONDS) and os.getppid() == parent:
        pass
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _call(step: StepInfo, data: bytes) -> bytes:
    current.set((lambda: step,))
    try:
        payload = payloads.load(data)
        value = payload.fn(*payload.args, **payload.kwargs)
        if inspect.iscoroutine(value):
            import asyncio

            value = asyncio.run(value)
        return _dump(_Outcome(value))
    except Exception as error:
        return _dump(_Outcome(error=encode_error(error), trace="".join(traceback.format_exception(error))))


def _dump(outcome: _Outcome) -> bytes:
    """By name where that is possible; the classes of a notebook are in this main module too."""
    try:
        return pickle.dumps(outcome)
    except Exception:
        return payloads.by_value(outcome)
