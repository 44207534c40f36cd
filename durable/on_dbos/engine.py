"""DBOSEngine: the workflows of one PostgreSQL database, run by DBOS in any number of processes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import timedelta

from durable.engine import Engine, check_limits, check_retention, with_crash_point
from durable.errors import WorkflowNotFoundError
from durable.observer import Observer
from durable.on_dbos.backend import VERSION, DBOSBackend
from durable.recovery.registry import Registry
from durable.store.records import WaitRecord
from durable.waiting.clock import Clock, SystemClock


class DBOSEngine(Engine):
    """The workflows of one PostgreSQL database. Safe to use from any thread; one to a process.

    It is an `Engine`; `docs/engines.md` lists what differs. Workflow functions must be importable by their path, in
    every process that may run them. `executor_id` is this process's name in the database: the next process that opens
    an engine under the same name and `application_version` goes on with what this one leaves unfinished. So a name
    belongs to one living process at a time. From `queues` it takes what others have put there, as workers do.
    `max_workflows` bounds how many run at once here, children among them. One that only waits does not count.
    A recorded function is run if it was passed to this engine or resumed by it, if it is in one of `modules`, or if its
    module is imported and it is annotated `ctx: Context`. A workflow with another function, or with one that cannot be
    imported here, is left, and `on_missing` is called with it; without that, there is a warning in the log.

    Raises ValueError for a URL of another database, StoreError if it cannot be reached, ExecutorBusyError if the
    executor id is that of another living process, NotSupportedError if another engine is open in this process.
    """

    _backend: DBOSBackend

    def __init__(
        self,
        database_url: str,
        *,
        executor_id: str | None = None,
        application_version: str = VERSION,
        application: str = "durable",
        max_workers: int = 32,
        max_workflows: int | None = None,
        modules: Sequence[str] = (),
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        log_level: str = "WARNING",
        queues: Sequence[str] = (),
        on_missing: Callable[[str, WorkflowNotFoundError], object] | None = None,
        retention: timedelta | str | None = None,
    ) -> None:
        check_retention(retention)
        clock = clock or SystemClock()
        check_limits(max_workers=max_workers, max_workflows=1 if max_workflows is None else max_workflows)
        observers = with_crash_point(observers)
        self.executor_id = executor_id or socket.gethostname()
        backend = DBOSBackend(
            database_url,
            self.executor_id,
            application_version=application_version,
            application=application,
            registry=Registry(modules),
            clock=clock,
            observers=observers,
            max_workers=max_workers,
            max_workflows=max_workflows,
            log_level=log_level,
            queues=queues,
            on_missing=on_missing,
        )
        self._use(backend, clock, retention)

    def find_new_wait(self, workflow_id: str, step_key: str) -> WaitRecord | None:
        """Return what a step that has just begun here waits for, or None. The database is not asked."""
        return self._backend.runs.find_new_wait(workflow_id, step_key)

    def is_active(self, workflow_id: str) -> bool:
        """Return whether this process runs it at the moment."""
        return self._backend.runs.is_active(workflow_id)

    def interrupt(self) -> None:
        """Let nothing more begin here from now on: before `stop`, and at once, as a handler of signals may want it."""
        self._backend.runs.interrupt_all()
