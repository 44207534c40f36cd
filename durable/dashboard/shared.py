"""The workflows of PostgreSQL for the dashboard. DBOS keeps no list of messages and no runs, so these are empty."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

from dbos import WorkflowStatus

from durable.errors import WorkflowNotFoundError
from durable.on_dbos.store import workflows
from durable.on_dbos.store.connection import check_url
from durable.on_dbos.workers.look import Look
from durable.on_dbos.workers.queue import opening
from durable.store.records import MessageRecord, RunRecord, Selection, WorkflowRecord

MOST = 1000  # the functions of so many workflows are offered, the latest


class SharedSource(Look):
    """Looks through a client of its own, until it is closed. Each look is a new one."""

    path = None

    def __init__(self, url: str) -> None:
        """Raises ValueError for a URL that is not of PostgreSQL."""
        name, self._stack = check_url(url), ExitStack()
        super().__init__(self._stack.enter_context(opening(url)), url, name)

    def count(self, wanted: Selection) -> dict[str, int]:
        """Return how many workflows of a selection there are by status."""
        if (wanted.function, wanted.since, wanted.until) != (None, None, None):
            return Counter(each.status for each in self.select(wanted))
        conditions = self._conditions(wanted) or {}
        return Counter(workflows.status_of(found) for found in super()._list(**conditions, **workflows.BARE))

    def list_functions(self) -> list[str]:
        """Return the functions of the latest workflows, in alphabetical order."""
        return sorted({each.function for each in self.select(Selection(descending=True, limit=MOST))})

    def children(self, workflow_id: str) -> list[WorkflowRecord]:
        """Return the workflows that a workflow has called."""
        return [workflows.record_of(found) for found in self._list(parent_workflow_id=workflow_id)]

    def messages(self, _: str) -> list[MessageRecord]:
        """Return none."""
        return []

    def runs(self, _: str) -> list[RunRecord]:
        """Return none."""
        return []

    def not_found(self, workflow_id: str) -> WorkflowNotFoundError:
        """Return the error that there is no such workflow."""
        message = f"no workflow {workflow_id!r} in database {self.name!r}"
        return WorkflowNotFoundError(message, workflow_id=workflow_id)

    def close(self) -> None:
        """Close the client. May be called twice."""
        self._stack.close()

    def _list(self, **conditions: Any) -> list[WorkflowStatus]:
        self.__dict__.pop("_living", None)
        found = workflows.list_statuses(self._asked, **conditions)
        self._seen |= {each.workflow_id: each for each in found}
        return found
