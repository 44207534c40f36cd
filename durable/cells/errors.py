"""Errors of durable cells."""

from __future__ import annotations

from collections.abc import Sequence

from durable.errors import DurableError


class CellError(DurableError):
    """A durable cell cannot run, or cannot keep what it made. `names` are the variables that it is about."""

    def __init__(self, message: str, *, cell: str = "", names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.cell, self.names = cell, list(names)
