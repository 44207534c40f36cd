"""The limit on restarts of a kernel that dies, and how long a crash has to wait so that Jupyter restarts it again.

Jupyter's server counts the deaths of a kernel, and counts from 0 again once one has lived for 10 s (it looks every
3 s). With the default limit of 5 the 6th death in a row is final. A kernel cannot ask its server for the limit:
`durable lab` passes its own in an environment variable, elsewhere the default is assumed. The count is kept in a
small file, for the next kernel of the same notebook.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_VARIABLE = "DURABLE_RESTART_LIMIT"
DEFAULT_LIMIT = 5  # KernelRestarter.restart_limit
STABLE_SECONDS = 10.0 + 3.0  # KernelRestarter.stable_start_time, and until the next look (time_to_dead)

_imported_at = time.monotonic()  # a little later than the process began, which is on the safe side


class Restarts:
    """The deaths in a row of this kernel and those before it. A process that is no kernel is not restarted."""

    def __init__(
        self,
        kernel: str | None,
        *,
        limit: int = DEFAULT_LIMIT,
        folder: Path | None = None,
        age_seconds: Callable[[], float] = lambda: time.monotonic() - _imported_at,
    ) -> None:
        self._limit, self._age_seconds = limit, age_seconds
        place = folder or Path(tempfile.gettempdir())
        self._file = place / f"durable-crashes-{kernel}.txt" if kernel else None

    @classmethod
    def of_this_kernel(cls) -> Restarts:
        """Return the count of this kernel, with the limit from the environment."""
        try:
            limit = int(os.environ.get(LIMIT_VARIABLE, DEFAULT_LIMIT))
        except ValueError:
            limit = DEFAULT_LIMIT
        return cls(_name_kernel(), limit=limit)

    def seconds_to_wait(self) -> float:
        """Return how many seconds a crash has to wait, so that the kernel is started again after it."""
        if self._file is None or self._count() < self._limit:
            return 0.0
        return max(0.0, STABLE_SECONDS - self._age_seconds())

    def note_crash(self) -> None:
        """Count one more death: the process is about to die."""
        if self._file is None:
            return
        is_first = self._age_seconds() >= STABLE_SECONDS
        with contextlib.suppress(OSError):  # the crash comes even if the file cannot be written
            self._file.write_text(str(1 if is_first else self._count() + 1))

    def _count(self) -> int:
        try:
            return int(self._file.read_text()) if self._file is not None else 0
        except (OSError, ValueError):
            return 0


def _name_kernel() -> str | None:
    """Return the name that a kernel keeps when it is started again: its connection file."""
    try:
        from ipykernel.connect import get_connection_file

        return Path(get_connection_file()).stem
    except (ImportError, RuntimeError):
        return None
