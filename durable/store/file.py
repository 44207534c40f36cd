"""File: all that one engine keeps in its SQLite file, with the owners of workflow ids beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from durable.store.database.connection import Connection
from durable.store.log import FileLog
from durable.store.ownership.owner import Owner, find_owner
from durable.store.rows.waits import Waits
from durable.store.rows.workflows import Workflows

if TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.store.reader import Reader
    from durable.store.rows.large import FileValues


class File(Workflows):
    """The workflows, runs, steps, waits and messages of one file. Safe to use from any thread of this process."""

    def __init__(self, path: Path, *, synchronous: str = "full") -> None:
        """Open the file, or make it. Raises StoreError, CorruptionError or SchemaVersionError, nothing changed."""
        super().__init__(Connection(path, synchronous=synchronous))
        self.waits = Waits(self.connection)

    @functools.cached_property
    def reader(self) -> Reader:
        """The stored workflows, through the same connection."""
        from durable.store.reader import Reader

        return Reader(self.path, self.connection)

    def own(self, workflow_id: str) -> Owner:
        """Take the right to run a workflow id. Raises WorkflowBusyError while another process or thread has it."""
        return Owner(self.path, workflow_id)

    def find_owner(self, workflow_id: str) -> int | None:
        """Return the pid of the process that runs a workflow now, or None."""
        return find_owner(self.path, workflow_id)

    def new_log(self, workflow_id: str, epoch: int, arguments: str, now: Callable[[], str]) -> FileLog:
        """Return the log of a run."""
        return FileLog(self.connection, workflow_id, epoch, arguments, now)

    def values_for(self, workflow_id: str, now: Callable[[], str]) -> FileValues:
        """Return the large values of a call or a message that is to be sent to a workflow."""
        from durable.store.rows.large import FileValues

        return FileValues(self.connection, workflow_id, None, now)

    def rewind(self, workflow_id: str, to: str | None, at: str) -> None:
        """Take back what is recorded from a step on, see `archive.py`."""
        from durable.store.archive import rewind

        rewind(self, workflow_id, to, at)

    def restart(self, workflow_id: str, function: str, arguments: str, at: str) -> None:
        """Take back all that is recorded, and note another call, see `archive.py`."""
        from durable.store.archive import restart

        restart(self, workflow_id, function, arguments, at)

    def fork(self, workflow_id: str, new_id: str, at_key: str, at: str) -> None:
        """Copy what was recorded before a step to a new workflow, see `archive.py`."""
        from durable.store.archive import fork

        fork(self, workflow_id, new_id, at_key, at)
