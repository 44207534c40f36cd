"""Durable cells that are wrong on purpose, each in one way. A forked life becomes one before it runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from durable.cells.notebook import Notebook
from durable.cells.output import Recorder
from durable.cells.run import CellRun
from durable.cells.variables import generators
from durable.cells.variables.unpack import Unpacker


def running_taken_for_recorded() -> None:
    """Take the pass that a crash has left running for one on record."""
    right: Any = CellRun._restore_latest

    def wrong(self: CellRun, place: Any) -> Any:
        found = right(self, place)
        steps = self.engine.steps(self.cell.name)
        return found + 1 if type(found) is int and steps[-1].attempt > 1 else found

    CellRun._restore_latest = wrong  # type: ignore[method-assign]


def alias_restored_as_a_copy() -> None:
    """Give each variable an object of its own."""
    right: Any = Unpacker._make

    def wrong(self: Unpacker, node: Any, number: int | None = None) -> Any:
        made = right(self, node, number)
        return copy.deepcopy(made) if type(node) is dict and node.get("$") in ("ref", "outside") else made

    Unpacker._make = wrong  # type: ignore[method-assign]


def output_recorded_twice() -> None:
    """Record what is shown again as new output."""

    def wrong(self: Recorder, call: Callable[[], object]) -> None:
        call()

    Recorder._within = wrong  # type: ignore[method-assign]


def random_state_not_restored() -> None:
    """Leave the generators as they are in the new kernel."""
    generators.restore = lambda found: None


def input_not_compared() -> None:
    """Take what is on record, whatever the cell reads now."""
    Notebook.find_changes = lambda self, cell, record: []  # type: ignore[method-assign]


EVERY = [
    running_taken_for_recorded,
    alias_restored_as_a_copy,
    output_recorded_twice,
    random_state_not_restored,
    input_not_compared,
]
