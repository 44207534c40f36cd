"""The progress bar of a matrix, where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def be_silent(done: int, total: int) -> None:
    """Where nobody watches."""


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], object]]:
    """What to tell of the cases that are done. In a terminal or a notebook it is shown, and gone at the end."""
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield be_silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("crashing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
