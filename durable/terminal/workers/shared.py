"""The workflows that workers share, as the terminal shows them: the state, the worker and the next command of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dbos import DBOSClient

from durable.on_dbos.recovery.presence import queue_of
from durable.on_dbos.workers.look import Look
from durable.on_dbos.workers.takeover import children_of
from durable.store.records import WorkflowRecord
from durable.terminal.output.usage import printable

if TYPE_CHECKING:
    from durable.terminal.workers.fleet import Place


class Shared(Look):
    """One look, with what to do next."""

    def __init__(self, client: DBOSClient, place: Place) -> None:
        super().__init__(client, place.url, place.database)
        self._place = place

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
