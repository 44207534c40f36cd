"""The world outside of a notebook: effects are lines in a file. A life may be killed by what happens."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from IPython.core.interactiveshell import InteractiveShell

from durable.cells.run import CellRun


class Kill(NamedTuple):
    """When a life is killed: `delay` seconds after an effect, the beginning of a save or of a cell, or at a moment.

    `number` says which, from 0 on.
    """

    after: str | None = None
    number: int = 0
    delay: float = 0.0
    crash_at: str | None = None


class World:
    """What one life does to the world."""

    def __init__(self) -> None:
        self.folder, self.kill, self.left = Path(), Kill(), 0
        self.lock = threading.Lock()

    def begin(self, folder: Path, kill: Kill) -> None:
        """Begin a life in a folder."""
        self.folder, self.kill, self.left = folder, kill, kill.number

    def happened(self, what: str) -> None:
        """Count what may kill the life."""
        if self.kill.after == what:
            self.left -= 1
            if self.left == -1:
                kill_in(self.kill.delay)


world = World()


def effect(label: str) -> str:
    """Have an effect; the process may be killed right after it, or a little later."""
    with world.lock:
        with (world.folder / "effects").open("a", encoding="utf-8") as file:
            file.write(f"{label}\n")
        world.happened("effect")
    return label.upper()


def kill_in(seconds: float) -> None:
    """Kill this process after so many seconds, from another thread."""
    if seconds <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()


def begin(shell: InteractiveShell, folder: Path, kill: Kill) -> None:
    """Begin a life in a shell: the same random numbers come in each, and it is killed when it is to be."""
    world.begin(folder, kill)
    if kill.crash_at is not None:
        os.environ["DURABLE_CRASH_AT"] = kill.crash_at
    complete = CellRun._complete

    def save(run: CellRun, content: dict[str, Any]) -> None:
        world.happened("save")
        complete(run, content)

    CellRun._complete = save  # type: ignore[method-assign]
    shell.events.register("pre_run_cell", lambda _: world.happened("cell"))  # type: ignore[no-untyped-call]
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
