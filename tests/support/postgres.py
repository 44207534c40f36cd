"""A real PostgreSQL for the tests: one server for each process that runs tests, a database of its own for each test."""

from __future__ import annotations

import itertools
import os
import signal

import psutil

from durable.lab.postgres import Postgres
from tests.support.patience import PATIENCE_SECONDS

_numbers = itertools.count(1)


class Server(Postgres):
    """A server that can also be killed."""

    def kill(self) -> None:
        """SIGKILL all of its processes at once, as a power cut would. `start` brings it back."""
        main = psutil.Process(self.pid)
        main.suspend()  # else it would start new ones for those that are killed
        family = [*main.children(recursive=True), main]
        for process in family:
            os.kill(process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)  # type: ignore[union-attr]
        psutil.wait_procs(family, PATIENCE_SECONDS)

    def new_database(self) -> str:
        """The URL of a fresh empty database."""
        return self.create_database(f"test_{next(_numbers)}")
