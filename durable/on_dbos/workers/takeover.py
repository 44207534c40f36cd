"""Take-over: the workflows of a worker that has died go back into the queue, where any other finds them.

A worker is dead when its lock is free at two looks (see `presence`). It needs no control plane: locks, and what the
client of DBOS offers. DBOS refuses every checkpoint of an execution that was taken over, so a worker that was
mistaken for a dead one cannot save anything either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dbos import DBOSClient, WorkflowStatus

from durable import logs
from durable.on_dbos.recovery.presence import Presence, is_worker, queue_of
from durable.on_dbos.recovery.set_aside import begin_afresh, is_set_aside, note_crash
from durable.store.records import MAX_CRASHES

CONFIRM_SECONDS = 1.0  # between the two looks: who lives and has lost its connection is back by then
IDLE_SECONDS = 5.0  # what DBOS has taken out of a queue begins long before


def children_of(queue: str) -> str:
    """Return the queue of the children that a worker of this queue had begun: one of their own, without a limit.

    Their parents wait for them, and hold the places of the queue meanwhile: in there they would wait for each other.
    """
    return f"{queue}.children"


@dataclass(frozen=True)
class TakenOver:
    """The workflows of one dead worker, and what became of them."""

    executor_id: str
    resumed: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


class TakeOver:
    """Looks for dead workers, again and again. Used by the thread that uses `presence`.

    A workflow that was taken over `max_crashes` times in a row without one new checkpoint is set aside: it stays
    where it is, since it may be what kills the workers; `resume` it to try again.
    """

    def __init__(
        self,
        presence: Presence,
        client: DBOSClient,
        *,
        max_crashes: int = MAX_CRASHES,
        is_active: Callable[[str], bool] = lambda _: True,
        lacking: set[str] | None = None,
    ) -> None:
        """`is_active` tells whether this process runs a workflow that is its own in the database.

        `lacking` are its workflows whose function it does not have. They were not run here, and none has crashed.
        """
        self._presence, self._client, self._max_crashes = presence, client, max_crashes
        self._is_active, self._lacking = is_active, set() if lacking is None else lacking
        self._suspects: dict[str, float] = {}  # executor id -> when its lock was first seen free
        self._idle: dict[str, float] = {}  # a workflow of our own -> when it was first seen not to run

    def look(self) -> Iterator[TakenOver]:
        """One look. Raises psycopg.Error or sqlalchemy's where the database is lost; the next goes on from there."""
        if not self._presence.may_judge():
            self._suspects.clear()
            return
        pending = self._pending()
        self._go_on_with_own([each for each in pending if each.executor_id == self._presence.executor_id])
        candidates = {each.executor_id for each in pending if self._is_candidate(each)}
        free = [each for each in sorted(filter(None, candidates)) if self._presence.is_free(each)]
        now = time.monotonic()
        self._suspects = {each: self._suspects.get(each, now) for each in free}
        dead = [each for each, since in self._suspects.items() if now - since >= CONFIRM_SECONDS]
        for each in dead:
            if (taken := self._take_over(each)) is not None:
                yield taken

    def give_back(self) -> list[str]:
        """Put what this executor has not finished back into the queue, now that nothing runs here; the ids."""
        mine = [each for each in self._pending(self._presence.executor_id) if not is_set_aside(each)]
        for workflow in mine:
            begin_afresh(workflow, self._client)
            self._put_back(workflow)
        return [workflow.workflow_id for workflow in mine]

    def _go_on_with_own(self, mine: list[WorkflowStatus]) -> None:
        """Put back what this process has given up: no other would. It counts as a crash where the database failed."""
        now = time.monotonic()
        left = [each for each in mine if not is_set_aside(each)]
        idle = {each.workflow_id: each for each in left if not self._is_active(each.workflow_id)}
        self._idle = {workflow_id: self._idle.get(workflow_id, now) for workflow_id in idle}
        for workflow_id in [each for each, since in self._idle.items() if now - since >= IDLE_SECONDS]:
            del self._idle[workflow_id]
            if workflow_id in self._lacking:
                self._lacking.discard(workflow_id)
                self._put_back(idle[workflow_id])
            else:
                self._resume(idle[workflow_id])

    def _is_candidate(self, workflow: WorkflowStatus) -> bool:
        is_other = is_worker(workflow.executor_id) and workflow.executor_id != self._presence.executor_id
        return is_other and not is_set_aside(workflow)

    def _take_over(self, executor_id: str) -> TakenOver | None:
        """Under the dead worker's own lock, so that one of the living does it; what it leaves the next look finds."""
        with self._presence.claim(executor_id) as is_mine:
            if not is_mine:
                return None
            taken = TakenOver(executor_id)
            for workflow in filter(self._is_candidate, self._pending(executor_id)):
                is_resumed = self._resume(workflow)
                (taken.resumed if is_resumed else taken.set_aside).append(workflow.workflow_id)
                what = "taken over from" if is_resumed else "set aside: its last runs all ended with"
                logs.warn(f"workflow %r is {what} worker %r, which has died", workflow.workflow_id, executor_id)
            return taken

    def _resume(self, workflow: WorkflowStatus) -> bool:
        """Put it back into its queue, unless it has crashed too often."""
        if note_crash(workflow, self._client, self._max_crashes):
            return False
        self._put_back(workflow)
        return True

    def _put_back(self, workflow: WorkflowStatus) -> None:
        """Into the queue that it came from; a child came from none: its parent's process had begun it."""
        queue = workflow.queue_name or children_of(queue_of(str(workflow.executor_id)))
        self._client.resume_workflow(workflow.workflow_id, queue_name=queue)

    def _pending(self, executor_id: str | None = None) -> list[WorkflowStatus]:
        return self._client.list_workflows(
            status="PENDING", executor_id=executor_id, load_input=False, load_output=False
        )
