"""Pool: the hosts of this machine, and the cases that are handed to them."""

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
from durable.testing.case import Case, CaseResult, Job, Surroundings

_BOOT = "import sys; sys.path[:] = {path!r}; from durable.testing.host import serve; serve({fd})"


class MatrixError(DurableError):
    """A case could not be played. It says nothing about the workflow."""


class Pool:
    """Some hosts, started at once and ended with the block. Each plays one case at a time.

    `preload` are shared libraries that stand before the C library in every life, see tests/faults.
    """

    def __init__(self, workers: int | None = None, *, preload: Sequence[Path] = ()) -> None:
        if not hasattr(os, "fork"):
            raise MatrixError("the crash matrix forks processes, which this system cannot; run it on Linux or macOS")
        self._folder = tempfile.TemporaryDirectory(prefix="durable-crash-", ignore_cleanup_errors=True)
        self._count = 0
        self._hosts = [_Host(preload) for _ in range(workers or os.cpu_count() or 1)]

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the hosts. Their databases are gone."""
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
        """The results as they come. After `give_up_at` (of time.monotonic) no further case is begun.

        Raises MatrixError where a case cannot be played at all.
        """
        waiting = list(reversed(cases))
        busy: dict[Connection, _Host] = {}
        for host in self._hosts:
            if waiting:
                self._give(host, waiting.pop(), make_job, busy)
        while busy:
            for pipe in wait(list(busy)):
                host = busy.pop(pipe)  # type: ignore[call-overload]
                result = host.answer()
                if waiting and time.monotonic() < give_up_at:
                    self._give(host, waiting.pop(), make_job, busy)
                yield result

    def _give(
        self, host: _Host, case: Case, make_job: Callable[[Case, str], Job], busy: dict[Connection, _Host]
    ) -> None:
        self._count += 1
        host.pipe.send(make_job(case, str(Path(self._folder.name, str(self._count)))))
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
                start_new_session=True,  # Ctrl+C is for who waits for the matrix
            )

    def answer(self) -> CaseResult:
        """What became of its case."""
        try:
            _, answer = self.pipe.recv()
        except EOFError:
            raise MatrixError(
                f"host process {self._process.pid} ended ({self._process.wait()}); is memory short?"
            ) from None
        if isinstance(answer, str):
            raise MatrixError(f"a case could not be played: {answer}")
        result: CaseResult = answer
        return result

    def end(self) -> None:
        """End it at once, with the life that it has under way and what the steps of its lives have started."""
        self.pipe.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
