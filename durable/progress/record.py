"""The record: one line of a text file for each check that passed. Kernels append to it, the page reads it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

FILE, SHIPPED = "DURABLE_PROGRESS", "DURABLE_COURSE"
"""Set by `durable lab`: the file of the progress, and the folder of the course as it was installed."""

DONE, FORGOTTEN = "done", "forgotten"
RECALL = "recall"  # the task of each notebook that is no exercise
_LINE = re.compile(rf"(\S+) ({DONE}|{FORGOTTEN}) (\S+)")


def remember(task: str) -> None:
    """Note that a task is done: "04.q2", or "04.recall". Without a file in the environment nothing is kept."""
    path = os.environ.get(FILE)
    if path and task not in read(Path(path)):
        with contextlib.suppress(OSError):  # a check never raises
            _append(Path(path), DONE, task)


def read(path: Path) -> dict[str, str]:
    """Return the tasks that are done, each with its instant. A line that is no line of ours is left out."""
    done: dict[str, str] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for instant, what, name in _LINE.findall(text):
        if what == DONE:
            done.setdefault(name, instant)
        else:
            done = {task: when for task, when in done.items() if not task.startswith(f"{name}.")}
    return done


def begin_anew(path: Path, shipped: Path, notebook: str) -> str:
    """Forget the tasks of a notebook, put a fresh copy in its place, and return the name of the reader's copy."""
    mine = path.parent / f"{notebook}.ipynb"
    kept = next(
        other for number in range(1, 1000) if not (other := mine.with_stem(f"{notebook}_before_{number}")).exists()
    )
    if mine.exists():
        mine.rename(kept)
    shutil.copyfile(shipped / mine.name, mine)
    _append(path, FORGOTTEN, notebook[:2])
    return kept.name


def _append(path: Path, what: str, name: str) -> None:
    """Append one line with one write, so that the lines of several kernels do not mix."""
    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {what} {name}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
