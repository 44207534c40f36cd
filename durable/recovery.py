"""Workflows that nobody runs: left behind by a crash, cancelled meanwhile, or waiting without a thread."""

from __future__ import annotations

import concurrent.futures
import itertools
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durable import failure
from durable.errors import (
    DurableError,
    Suspended,
    WorkflowBusyError,
    WorkflowCancelledError,
    WorkflowEndedError,
    WorkflowNotFoundError,
)
from durable.execution import Execution
from durable.future import Future
from durable.handle import Handle
from durable.owner import Owner
from durable.store import Store

if TYPE_CHECKING:
    from durable.engine import Engine


@dataclass(frozen=True)
class Recovery:
    """What `engine.recover` did: which it resumed, set aside after too many crashes, or left alone, and why."""

    resumed: list[Handle[Any]] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def recover(engine: Engine, max_crashes: int) -> Recovery:
    """See `Engine.recover`."""
    if max_crashes < 1:
        raise ValueError(f"max_crashes: expected at least 1, got {max_crashes}")
    found = Recovery()
    for record in engine.workflows("running"):
        if engine.owner(record.workflow_id) is not None:
            continue
        runs = engine.runs(record.workflow_id)
        if runs and runs[-1].ended == "suspended":
            continue  # it waits, and an engine that suspends wakes it
        crashes = sum(1 for _ in itertools.takewhile(lambda run: run.ended in (None, "crashed"), reversed(runs)))
        if crashes >= max_crashes:
            found.set_aside.append(record.workflow_id)
            continue
        try:
            found.resumed.append(engine.resume(record.workflow_id))
        except WorkflowBusyError:
            continue  # another process was quicker
        except DurableError as error:
            found.left[record.workflow_id] = str(error)
    return found


def cancel(engine: Engine, store: Store, workflow_id: str, at: str) -> None:
    """See `Engine.cancel`."""
    record = engine.workflow(workflow_id)
    if record.status != "running":
        raise WorkflowEndedError(
            f"workflow {workflow_id!r} is {record.status} already; there is nothing to cancel",
            workflow_id=workflow_id,
            status=record.status,
        )
    for each in store.request_cancel(workflow_id, at):
        try:
            _cancel_unowned(engine, store, each, at)
        except WorkflowBusyError:
            continue  # its owner notices
        except WorkflowNotFoundError:
            logging.getLogger("durable").warning(
                "workflow %r is cancelled as soon as its function is there to run its compensations: run, resume or "
                "recover it in a process that can import it",
                each,
            )


def _cancel_unowned(engine: Engine, store: Store, workflow_id: str, at: str) -> None:
    if store.has_registered(workflow_id):
        engine.resume(workflow_id)  # it comes to its next operation, is cancelled there, and compensates
        return
    owner = Owner(engine.path, workflow_id)
    try:
        record = engine.workflow(workflow_id)
        error = failure.encode_error(WorkflowCancelledError(f"workflow {workflow_id!r} was cancelled"))
        store.cancel_workflow(workflow_id, record.epoch, error, record.arguments, at)
    finally:
        owner.release()


class Sleepers:
    """The workflows of an engine that suspends: a bounded number runs, any number waits without a thread."""

    def __init__(self, engine: Engine, store: Store, max_workflows: int) -> None:
        self._engine, self._store = engine, store
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workflows, thread_name_prefix="workflow")
        self._lock = threading.Lock()
        self._asked: dict[str, list[Future[Any]]] = {}  # who asked for a workflow that waits
        self._awake: set[str] = set()
        self._refused: set[str] = set()  # what cannot be resumed here, and is not tried again and again

    def live(self, execution: Execution, future: Future[Any]) -> None:
        """Have a workflow run in the pool; the future is its outcome, after however many suspensions."""
        with self._lock:
            self._asked.setdefault(execution.run.workflow_id, []).append(future)
            self._awake.add(execution.run.workflow_id)
        self._pool.submit(self._live, execution)

    def look(self, due: set[str], has_changed: bool) -> None:
        """Resume the workflows for which something has come, and hand over what other processes have ended."""
        with self._lock:
            asked = [each for each in self._asked if each not in self._awake] if has_changed else []
            ready = (due | set(self._store.list_ended(asked))) - self._awake - self._refused
            self._awake |= ready
        for workflow_id in ready:
            self._pool.submit(self._resume, workflow_id)

    def close(self) -> None:
        """Wait for those that run, and leave the others to whoever opens the file next."""
        self._pool.shutdown()
        for workflow_id, futures in self._asked.items():
            for future in futures:
                future.set_exception(Suspended(f"workflow {workflow_id!r} waits, and its engine was closed"))

    def _resume(self, workflow_id: str) -> None:
        engine = self._engine
        try:
            fn, args, kwargs = engine.recorded_call(workflow_id)
            found = engine._begin(workflow_id, fn, args, kwargs)
        except WorkflowBusyError:
            self._sleep(workflow_id)
        except Exception as error:
            self._refuse(workflow_id, error)
        else:
            self._live(found)

    def _live(self, found: Any) -> None:
        workflow_id = found.workflow_id
        try:
            value = found.result()
        except Suspended:
            self._sleep(workflow_id)
        except BaseException as error:
            if isinstance(error, DurableError) and self._engine.workflow(workflow_id).status == "running":
                self._refuse(workflow_id, error)  # the engine's own: changed code, say
            for future in self._taken(workflow_id):
                future.set_exception(error)
        else:
            for future in self._taken(workflow_id):
                future.set_result(value)

    def _sleep(self, workflow_id: str) -> None:
        with self._lock:
            self._awake.discard(workflow_id)
        self._engine._alarm.ring()

    def _refuse(self, workflow_id: str, error: BaseException) -> None:
        logging.getLogger("durable").warning("workflow %r is due and cannot go on here: %s", workflow_id, error)
        with self._lock:
            self._refused.add(workflow_id)
            self._awake.discard(workflow_id)

    def _taken(self, workflow_id: str) -> list[Future[Any]]:
        """Who asked for it; now it has an outcome."""
        with self._lock:
            self._awake.discard(workflow_id)
            return self._asked.pop(workflow_id, [])
