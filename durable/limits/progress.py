"""Progress: the reports of the running steps and maps of one run, written now and then by a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from durable.errors import DurableError
from durable.parallel.future import Future
from durable.replay.log import ProgressLog, Said, showing_progress
from durable.replay.run import Run
from durable.replay.step_info import StepInfo

INTERVAL_SECONDS = 0.2  # between two transactions


class _Map(NamedTuple):
    """A map that goes on, and the instant from which it is shown."""

    futures: Sequence[Future[object]]
    due: float


class Progress:
    """The progress of one run. Its thread begins with the first report, and ends when no more come.

    Progress is for people to look at: if it cannot be written, the run goes on without.
    """

    def __init__(self, run: Run, log: ProgressLog) -> None:
        self._run, self._log = run, log
        self._said: dict[tuple[str, str], Said] = {}  # and not written
        self._maps: dict[str, _Map] = {}
        self._counted: dict[str, int] = {}  # the number in the row of each map that has one
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._writing: threading.Lock | None = None  # held by the thread until it has ended
        run.on_close.append(self.close)

    def report(self, step: StepInfo, name: str, value: str, total: float | None) -> None:
        """See `Reporter`."""
        said = Said(step.key, name, value, total, step.attempt, self._run.now())
        with self._lock:
            self._said[step.key, name] = said
            self._begin()

    @contextlib.contextmanager
    def follow(self, futures: Sequence[Future[object]]) -> Iterator[None]:
        """Count how many of the futures of a map have ended, while the block lasts."""
        key = futures[0].key
        with self._lock:
            self._maps[key] = _Map(futures, time.monotonic() + INTERVAL_SECONDS)
            self._begin()
        try:
            yield
        finally:
            with self._lock:
                del self._maps[key]

    def close(self) -> None:
        """Write nothing more: the run has ended."""
        self._stopped.set()
        if self._writing is not None:
            self._writing.acquire()

    def _begin(self) -> None:
        """Have a thread write, if none does. Without one there is no progress to see."""
        if self._writing is None and not self._stopped.is_set():
            with contextlib.suppress(RuntimeError):
                self._writing = self._run.workers.threads.begin("progress", self._write)

    def _write(self) -> None:
        with contextlib.suppress(DurableError):  # the run will meet the same error, and report it
            while self._write_once():
                self._stopped.wait(INTERVAL_SECONDS)
        # after an error `_writing` stays, and no other thread begins

    def _write_once(self) -> bool:
        """Write what is new. Return whether there may be more."""
        with self._lock:
            said = [*self._said.values(), *self._count()]
            ended = [key for key in self._counted if key not in self._maps]
            if self._stopped.is_set() or not (said or ended or self._maps):
                self._writing = None
                return False
            self._said.clear()
            for key in ended:
                del self._counted[key]
        if said or ended:
            self._log.save_progress(said, ended)
        return True

    def _count(self) -> Iterator[Said]:
        """Yield how far each map is, if that is news."""
        now = time.monotonic()
        for key, (futures, due) in self._maps.items():
            count = sum(future.has_ended() for future in futures) if now >= due else None
            if count is not None and self._counted.get(key) != count:
                self._counted[key] = count
                yield Said(key, "", str(count), len(futures), 0, self._run.now())


def follow(run: Run, futures: Sequence[Future[object]]) -> contextlib.AbstractContextManager[None]:
    """Return a block in which the progress of a map is shown."""
    return run.progress.follow(futures) if futures and isinstance(run.progress, Progress) else contextlib.nullcontext()


def show_progress(run: Run) -> None:
    """Have the progress of a run shown, if its log can."""
    if (log := showing_progress(run.log)) is not None:
        run.progress = Progress(run, log)
