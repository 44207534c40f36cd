"""Pool: the hosts of this machine, which play the cases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

from durable.errors import DurableError
from durable.testing.matrix.case import Case, CaseResult, Job, Surroundings

_BOOT = "import sys; sys.path[:] = {path!r}; from durable.testing.matrix.host import serve; serve({fd})"


class MatrixError(DurableError):
    """A case could not be played. It says nothing about the workflow."""


class Pool:
    """Some hosts, started at once and ended with the block. Each plays one run at a time, `workers` of them at once.

    After a crash, another host plays the next run. State of a process, such as the order of sets or a random number of
    a module, differs there, as it does in a program that is started again.

    `preload` are shared libraries that are loaded before the C library in every run, see tests/faults.
    """

    def __init__(self, workers: int | None = None, *, preload: Sequence[Path] = ()) -> None:
        if not hasattr(os, "fork"):
            raise MatrixError("the crash matrix forks processes, which this system cannot; run it on Linux or macOS")
        self._folder = tempfile.TemporaryDirectory(prefix="durable-crash-", ignore_cleanup_errors=True)
        self._count = 0
        self._workers = workers or os.cpu_count() or 1
        self._hosts = [_Host(preload) for _ in range(max(2, self._workers))]

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the hosts and remove their databases."""
        for host in self._hosts:
            host.end()
        self._folder.cleanup()

    def play(
        self,
        cases: Sequence[Case],
        make_job: Callable[[Case, str], Job],
        *,
        give_up_at: float = float("inf"),
    ) -> Iterator[CaseResult]:
        """Yield the results as they come. After `give_up_at` (of time.monotonic) no new case is started.

        Raises MatrixError if a case cannot be played at all.
        """
        new = [self._make(case, make_job) for case in reversed(cases)]
        begun: list[tuple[Job, _Host]] = []
        busy: dict[Connection, _Host] = {}
        self._give(new, begun, busy)
        while busy:
            for pipe in wait(list(busy)):
                host = busy.pop(pipe)  # type: ignore[call-overload]
                answer = host.answer()
                if isinstance(answer, Job):
                    begun.append((answer, host))
                if time.monotonic() >= give_up_at:
                    new.clear()
                self._give(new, begun, busy)
                if isinstance(answer, CaseResult):
                    yield answer

    def _make(self, case: Case, make_job: Callable[[Case, str], Job]) -> Job:
        self._count += 1
        return make_job(case, str(Path(self._folder.name, str(self._count))))

    def _give(self, new: list[Job], begun: list[tuple[Job, _Host]], busy: dict[Connection, _Host]) -> None:
        """Let idle hosts continue a case that another host began, or else begin the next one."""
        for host in self._hosts:
            if host.pipe in busy or len(busy) == self._workers:
                continue
            found = next((each for each in begun if each[1] is not host), None)
            if found is not None:
                begun.remove(found)
            if found is not None or new:
                host.pipe.send(found[0] if found is not None else new.pop())
                busy[host.pipe] = host


class _Host:
    """A host as its pool sees it."""

    def __init__(self, preload: Sequence[Path]) -> None:
        self.pipe, theirs = Pipe()
        here = Surroundings.here()
        environment = here.environment | ({"LD_PRELOAD": ":".join(map(str, preload))} if preload else {})
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT.format(path=here.path, fd=theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # the steps of a thousand lives would fill the screen
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl+C is for the process that waits for the matrix
            )

    def answer(self) -> CaseResult | Job:
        """Return the result of the case, or the job that continues it."""
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise MatrixError(
                f"host process {self._process.pid} ended ({self._process.wait()}); is memory short?"
            ) from None
        if isinstance(answer, str):
            raise MatrixError(f"a case could not be played: {answer}")
        result: CaseResult | Job = answer
        return result

    def end(self) -> None:
        """End the host at once, with the run in progress and the processes that its steps have started."""
        self.pipe.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
