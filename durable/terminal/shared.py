"""The workflows that workers share, as the terminal shows them: the state, the worker and the next command of each."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dbos import DBOSClient, WorkflowStatus

from durable.on_dbos.executor import list_living
from durable.on_dbos.fork import is_waiting
from durable.on_dbos.presence import queue_of
from durable.on_dbos.reader import Reader
from durable.on_dbos.set_aside import is_set_aside
from durable.on_dbos.takeover import children_of
from durable.store.records import WorkflowRecord
from durable.terminal.usage import printable

if TYPE_CHECKING:
    from durable.terminal.fleet import Place


class Shared(Reader):
    """One look, through a client that runs nothing. It answers for the workflows that it has listed or found."""

    def __init__(self, client: DBOSClient, place: Place) -> None:
        super().__init__(client, place.database)
        self._place = place
        self._seen: dict[str, WorkflowStatus] = {}

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

    def count_runs(self, _: list[str]) -> None:
        """Return None: DBOS keeps no count that outlives a take-over."""
        return

    def command(self, *words: str) -> str:
        """Return a command of this program on this database."""
        return self._place.command(*words)

    def describe(self, record: WorkflowRecord) -> str:
        """Describe the state in words."""
        owner = self.owner(record.workflow_id)
        return self.state(record) if owner is None else f"running on worker {printable(owner)}"

    def tell_last_end(self, _: WorkflowRecord) -> None:
        """Return None: DBOS does not keep why a run ended."""
        return

    def advise(self, record: WorkflowRecord) -> str | None:
        """Say how to continue, or return None."""
        found = self._seen[record.workflow_id]
        queue = (found.queue_name or queue_of(found.executor_id or "")).removesuffix(children_of(""))
        place = replace(self._place, queue=queue)
        words = {"queued": "A worker of its queue starts or continues it", "crashed": "Another worker continues it"}
        state = self.state(record)
        if state in words:
            return f"{words[state]}: {place.command('worker')}"
        if state in ("failed", "set aside") and record.parent_id is None:
            arguments = ("--input", record.arguments) if record.arguments != "{}" else ()
            return f"To go on: {place.command('submit', record.function, record.workflow_id, *arguments)}"
        return None

    @cached_property
    def _living(self) -> set[str]:
        begun = [found.executor_id for found in self._seen.values() if found.status == "PENDING"]
        return list_living(self._place.url, list(filter(None, {*begun})))

    def _list(self, **conditions: Any) -> list[WorkflowStatus]:
        found = super()._list(**conditions)
        self._seen = {each.workflow_id: each for each in found} | self._seen
        return found
