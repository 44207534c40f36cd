"""Durable cells: an ordinary notebook that survives its kernel.

    %load_ext durable
    %durable file analysis.durable.db

    %%durable train
    losses = []
    for epoch in durable.each(range(100)):
        losses.append(step(epoch))

A cell is a workflow. It is done once it has ended: run again, in this kernel or the next, it brings back its variables,
its output and the state of the generators of random numbers. `notebook.py` decides whether a cell runs, `run.py` is one
life of it, `graph.py` stores its variables. It stands on the public face of the engine, which does not know it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from durable.cells.errors import CellError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from durable.cells.run import CellRun

__all__ = ["CellError", "each", "input", "load", "map"]

T = TypeVar("T")
R = TypeVar("R")
P = TypeVar("P", bound="str | os.PathLike[str]")

_running: list[CellRun] = []  # the cell that runs in this kernel


def each(items: Iterable[T], every_seconds: float = 1.0) -> Iterator[T]:
    """Yield the items; after a crash, those whose passes are not on record.

    In a durable cell, the variables are saved between passes: at most once in `every_seconds`, for at most 5 % of the
    time, and after each pass if that is 0. A loop around another `each` is saved as often as the 5 % allow. The end of
    a loop is always saved. A crash repeats what was not saved. Elsewhere it yields the items.
    """
    if not _running:
        yield from items
    else:
        yield from _running[-1].loops.each(items, every_seconds)


def map(  # noqa: A001 - it is to be called durable.map
    fn: Callable[[T], R], items: Iterable[T], max_concurrent: int = 8, per_second: float | None = None
) -> list[R]:
    """Call a function with each item, several at once, and return the results in order. Each is saved as it comes.

    For calls that leave nothing behind in variables, such as requests. `per_second` bounds how many begin. Raises the
    first error in the order of the items, once all have ended; those that failed are called again when the cell is.
    Elsewhere than in a durable cell it calls one after the other.
    """
    if not _running:
        return [fn(item) for item in items]
    from durable.cells.mapping import map_in_cell

    return map_in_cell(_running[-1], fn, list(items), max_concurrent, per_second)


def input(path: P) -> P:  # noqa: A001 - it is to be called durable.input
    """Return the path, and have the cell run again once the content of the file has changed."""
    if _running:
        _running[-1].add_file(str(path))
    return path


def load(shell: InteractiveShell) -> None:
    """Add the magics `%durable` and `%%durable` to a shell, see `%durable?`."""
    from durable.cells.magics import DurableMagics

    shell.register_magics(DurableMagics(shell))


def running() -> list[Any]:
    """Return the stack of cells that run in this kernel; there is one at most."""
    return _running
