"""The progress bar of a matrix, in a terminal or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def be_silent(done: int, total: int) -> None:
    """Show nothing: the output is neither a terminal nor a notebook."""


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], object]]:
    """Yield the function that shows how many cases are done. The bar vanishes at the end."""
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield be_silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("crashing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
