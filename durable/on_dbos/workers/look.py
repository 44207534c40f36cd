"""Look: the workflows that workers share, with the worker and the state of each. It runs nothing."""

from __future__ import annotations

from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

from dbos import DBOSClient, WorkflowStatus

from durable.on_dbos.recovery.executor import list_living
from durable.on_dbos.recovery.fork import is_waiting
from durable.on_dbos.recovery.set_aside import is_set_aside
from durable.on_dbos.store import check, large
from durable.on_dbos.store.connection import connect
from durable.on_dbos.store.progress import asking
from durable.on_dbos.store.reader import Reader
from durable.store.records import WorkflowRecord
from durable.values.large import Freed


class Look(Reader):
    """One look, through a client that runs nothing. It answers for the workflows that it has listed or found."""

    def __init__(self, client: DBOSClient, url: str, name: str) -> None:
        """`name` is that of the database."""
        super().__init__(client, name)
        self._url, self.ask = url, asking(url)
        self._seen: dict[str, WorkflowStatus] = {}
        self.get_value = self._get_value

    def owner(self, workflow_id: str) -> str | None:
        """Return the living worker that runs a workflow, or None."""
        found = self._seen[workflow_id]
        return found.executor_id if found.status == "PENDING" and found.executor_id in self._living else None

    def state(self, record: WorkflowRecord) -> str:
        """Return the status, or `queued`, `forked`, `running` (a living worker), `crashed` or `set aside`."""
        found = self._seen[record.workflow_id]
        if record.status != "running":
            return record.status
        if is_set_aside(found):
            return "set aside"
        if found.status != "PENDING":
            return "forked" if is_waiting(found) else "queued"
        return "running" if found.executor_id in self._living else "crashed"

    def gc(self) -> Freed:
        """Drop the large values that no row names any more. Return how many, and their bytes.

        Raises psycopg.Error if the database is away.
        """
        connect(self._url).close()  # the tables would wait for it
        with closing(large.Tables(self._url, Path(self.name))) as tables:
            return large.collect(tables, self._asked)

    def check_integrity(self) -> list[str]:
        """Return the faults of the large values; an empty list if there are none."""
        with closing(large.Tables(self._url, Path(self.name))) as tables:
            return [*check.check_values(tables, self._asked)]

    def list_unused_values(self) -> list[tuple[str, int]]:
        """Return the large values that `gc` would drop, each with its bytes."""
        with closing(large.Tables(self._url, Path(self.name))) as tables:
            return check.list_unused(tables, self._asked)

    def list_pickled(self) -> list[tuple[str, str]]:
        """Return the rows with a value that was saved by pickle: the workflow, and the step key or what it is of it."""
        return [*check.list_pickled(self)]

    def _get_value(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        with closing(large.Tables(self._url, Path(self.name))) as tables:
            return large.SharedValues(tables, "").get(sha256, subject)

    @cached_property
    def _living(self) -> set[str]:
        begun = [found.executor_id for found in self._seen.values() if found.status == "PENDING"]
        return list_living(self._url, list(filter(None, {*begun})))

    def _list(self, **conditions: Any) -> list[WorkflowStatus]:
        found = super()._list(**conditions)
        self._seen = {each.workflow_id: each for each in found} | self._seen
        return found
