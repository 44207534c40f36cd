"""Worker: a process that runs what is in a queue, and goes on with what workers that have died have left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta

import psycopg
from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from durable.errors import WorkflowNotFoundError
from durable.on_dbos.engine import DBOSEngine
from durable.on_dbos.recovery.presence import Presence, new_executor_id
from durable.on_dbos.workers import queue as queues
from durable.on_dbos.workers.takeover import TakenOver, TakeOver, children_of
from durable.replay.moments import Observer
from durable.store.records import MAX_CRASHES

POLL_SECONDS = 0.2  # how often a worker with room for more looks into the queue
LOST = (psycopg.Error, SQLAlchemyError)  # what is raised while the database does not answer


class Worker:
    """Runs workflows from the moment it is made, in threads of its own, until `close`. To be used by one thread.

    At most `concurrency` workflows run at once, children among them. It takes as many from the queue, those that wait
    among them. DBOS keeps that number with the queue: the worker that started last decides for all of them. Raises one
    of LOST where the database does not answer. A workflow whose function cannot be imported here, or is not to be run
    by its name alone (see `DBOSEngine`), goes back into the queue, and `on_missing` is called.
    """

    def __init__(
        self,
        database_url: str,
        *,
        queue: str = queues.DEFAULT,
        concurrency: int = 32,
        max_crashes: int = MAX_CRASHES,
        modules: Sequence[str] = (),
        observers: Sequence[Observer] = (),
        on_missing: Callable[[str, WorkflowNotFoundError], object] = lambda *_: None,
        retention: timedelta | str | None = None,
    ) -> None:
        self.executor_id = new_executor_id(queue)
        self.queue = queue
        self._open, lacking = ExitStack(), set[str]()

        def leave(workflow_id: str, error: WorkflowNotFoundError) -> None:
            lacking.add(workflow_id)
            on_missing(workflow_id, error)

        try:
            presence = self._presence = Presence(database_url, self.executor_id)
            self._open.callback(presence.close)
            presence.keep()
            self.engine = DBOSEngine(
                database_url,
                executor_id=self.executor_id,
                modules=modules,
                observers=observers,
                max_workflows=concurrency,
                log_level="CRITICAL",  # that the database is lost is said by `look`
                queues=[queue, children_of(queue)],
                on_missing=leave,
                retention=retention,
            )
            self._open.callback(self.engine.close)
            self._client = self._open.enter_context(queues.opening(database_url))
            self._take_over = TakeOver(
                presence,
                self._client,
                max_crashes=max_crashes,
                is_active=self.engine.is_active,
                lacking=lacking,
            )
            for name, room in ((queue, concurrency), (children_of(queue), None)):
                DBOS.register_queue(
                    name, worker_concurrency=room, polling_interval_sec=POLL_SECONDS, on_conflict="always_update"
                )
        except BaseException:
            self._open.close()
            raise

    def look(self) -> Iterator[TakenOver]:
        """Be known as alive, and see who is dead. To be called a few times a second. Raises one of LOST."""
        self._presence.keep()
        yield from self._take_over.look()

    def close(self) -> list[str]:
        """Take nothing new, let the steps in flight end, and give back the workflows that are unfinished: their ids.

        If the database is lost, they are taken over later, as those of a dead worker.
        """
        try:
            self.engine.stop(timeout_seconds=None)  # a workflow that is given back must not run here any more
            return self._take_over.give_back()
        except LOST:
            return []
        finally:
            self._open.close()
