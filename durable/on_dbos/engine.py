"""DBOSEngine: the workflows of one PostgreSQL database, run by DBOS in any number of processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from dbos import DBOS, DBOSConfig, SetWorkflowID, WorkflowHandle, WorkflowStatus

from durable import codec
from durable.admission import check_id
from durable.call import name_of_workflow
from durable.clock import Clock, SystemClock
from durable.context import Context
from durable.errors import (
    InvalidNameError,
    ScopeError,
    WorkflowConflictError,
    WorkflowNotFoundError,
)
from durable.future import Future, wait
from durable.handle import Handle
from durable.interrupt import held_back
from durable.observer import Observer, crash_at
from durable.on_dbos import process, workflows
from durable.on_dbos.outside import outside
from durable.on_dbos.process import Process, check_url
from durable.on_dbos.rows import StepRow
from durable.on_dbos.runs import Runs, find_function
from durable.on_dbos.serializer import JSONSerializer
from durable.on_dbos.slots import Slots
from durable.on_dbos.waiting import Waiting
from durable.records import StepRecord, WorkflowRecord, program_order
from durable.run import Interruptible
from durable.workers import EventLoop

P = ParamSpec("P")
T = TypeVar("T")

WATCH_SECONDS = 0.2  # how often it is looked whether something was published
VERSION = "durable"  # of all applications: changed code is found by the replay rule, step by step


class DBOSEngine:
    """The workflows of one PostgreSQL database. Safe to use from any thread; one to a process.

    It has the methods of `Engine`; `docs/engines.md` lists what differs. Workflow functions must be importable by their
    path, in every process that may run them. `executor_id` is this process's name in the database: what a process left
    unfinished is taken up by the next that opens an engine under the same name and `application_version`. So a name
    belongs to one living process at a time.

    Raises ValueError for a URL of another database, NotSupportedError where another engine is open in this process.
    """

    def __init__(
        self,
        database_url: str,
        *,
        executor_id: str | None = None,
        application_version: str = VERSION,
        application: str = "durable",
        max_workers: int = 32,
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        log_level: str = "WARNING",
    ) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers: expected at least 1, got {max_workers}")
        self._name = check_url(database_url)
        self.executor_id = executor_id or socket.gethostname()
        self._clock = clock or SystemClock()
        self._event_loop = EventLoop()
        self._started: dict[Future[Any], Interruptible] = {}
        if crash_point := os.environ.get("DURABLE_CRASH_AT"):
            observers = (*observers, crash_at.parse(crash_point))
        self._runs = Runs(
            Path(self._name),
            clock=self._clock,
            observers=tuple(observers),
            max_workers=max_workers,
            event_loop=self._event_loop,
            start_child=self._start_child,
        )
        config: DBOSConfig = {
            "name": application,
            "system_database_url": database_url,
            "executor_id": self.executor_id,
            "application_version": application_version,
            "serializer": JSONSerializer(),
            "log_level": log_level,
        }
        try:
            self._process = Process(config, self._runs.execute)
        except BaseException:
            self._runs.close()
            raise

    # ---- running

    @overload
    def run(
        self,
        workflow_id: str,
        workflow: Callable[Concatenate[Context, P], Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...
    @overload
    def run(
        self, workflow_id: str, workflow: Callable[Concatenate[Context, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    def run(self, workflow_id: str, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a workflow to its end and return its result, in a thread of DBOS's; or wait for one that runs already.

        A completed workflow returns its recorded result, and the function is not called. A failed one keeps its
        completed steps, and tries the failed step that ended it anew. Raises as `Engine.run` does, but never
        WorkflowBusyError.
        """
        if self._event_loop.is_current():
            raise ScopeError(
                "engine.run() would block the event loop that runs this async workflow; await engine.start(...)"
            )
        return self.start(workflow_id, workflow, *args, **kwargs).result()

    @overload
    def start(
        self,
        workflow_id: str,
        workflow: Callable[Concatenate[Context, P], Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Handle[T]: ...
    @overload
    def start(
        self, workflow_id: str, workflow: Callable[Concatenate[Context, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Handle[T]: ...
    def start(self, workflow_id: str, workflow: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Like `run`, without waiting. What is wrong with the call is raised here at once."""
        with held_back():
            return self._start(workflow_id, workflow, args, kwargs, outside)

    def resume(self, workflow_id: str) -> Handle[Any]:
        """`start` with the function and the arguments on record. Raises WorkflowNotFoundError."""
        record = self.workflow(workflow_id)
        fn = find_function(workflow_id, record.function)
        args, kwargs = codec.decode_arguments(fn, record.arguments, f"workflow {workflow_id!r}")
        return self.start(workflow_id, fn, *args, **kwargs)

    # ---- looking

    def workflows(self, status: str | None = None) -> list[WorkflowRecord]:
        """All workflows, oldest first; or those of a status: running, completed, failed or cancelled."""
        conditions = {} if status is None else {"status": workflows.STATUSES[status]}
        return [workflows.record_of(found) for found in workflows.list_statuses(**conditions)]

    def workflow(self, workflow_id: str) -> WorkflowRecord:
        """One workflow. Raises WorkflowNotFoundError."""
        return workflows.record_of(self._status(workflow_id))

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """The steps of a workflow as they stand, in program order. Raises WorkflowNotFoundError.

        A step that is being made has no row yet: DBOS saves what has ended.
        """
        record, _ = workflows.read_record(workflow_id, workflows.forked_rows(self._status(workflow_id)))
        return sorted(
            (_step_record(workflow_id, row, None) for row in record.steps.values()),
            key=lambda step: program_order(step.step_key),
        )

    # ---- the end

    def close(self) -> None:
        """Wait for the workflows that were started here, then leave the database. May be called twice.

        What this process had taken up without being asked is interrupted: whoever opens the executor id next goes on.
        """
        with held_back():
            try:
                wait(list(self._started))
            except KeyboardInterrupt:
                self._interrupt_started()
                wait(list(self._started))
                raise
            finally:
                self._runs.close()
                self._event_loop.close()
                self._process.close()

    def __enter__(self) -> DBOSEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._interrupt_started()
        self.close()

    # ---- within

    def _start(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begin: Callable[[Callable[[], Any]], Any],
    ) -> Handle[Any]:
        """`begin` calls what starts a workflow in DBOS."""
        check_id(workflow_id)
        function, subject = _check_importable(fn), f"workflow {workflow_id!r}"
        result_codec = codec.codec_of_result(fn, f"{subject}: its result")
        arguments = codec.encode_arguments(fn, args, kwargs, subject)
        found = outside(DBOS.get_workflow_status, workflow_id)
        handle = None
        if found is None:
            plain = workflows.plain_arguments(arguments)
            handle = begin(lambda: _start_in_dbos(workflow_id, function, plain))
        else:
            _check_same(found, fn, function, arguments)
            self._take_up(found)
        future: Future[Any] = Future(self._event_loop.is_current)
        waiting = Waiting(workflow_id, self._runs, future, result_codec)
        self._started[future] = waiting
        future.on_end(lambda done: self._started.pop(done, None))
        waiting.start(handle)
        return Handle(workflow_id, future, waiting)

    def _take_up(self, found: WorkflowStatus) -> None:
        """Have an existing workflow go on, where nobody sees to it and it may."""
        workflow_id = found.workflow_id
        if found.status == "ERROR":
            record, taken = workflows.read_record(workflow_id, workflows.forked_rows(found))
            if not any(row.kind == "compensation" for row in record.steps.values()):
                self._runs.readmit(workflow_id)
                outside(lambda: DBOS.rewind_workflow(workflow_id, start_step=taken + 1))
        elif workflow_id in self._runs.left or found.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
            self._runs.readmit(workflow_id)
            outside(lambda: DBOS.resume_workflow(workflow_id))

    def _start_child(
        self, slots: Slots, workflow_id: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Handle[Any]:
        return self._start(workflow_id, fn, args, kwargs, slots.draw_within)

    def _interrupt_started(self) -> None:
        for each in list(self._started.values()):
            each.interrupt()

    def _status(self, workflow_id: str) -> WorkflowStatus:
        check_id(workflow_id)
        found = workflows.find_status(workflow_id)
        if found is None:
            raise WorkflowNotFoundError(
                f"no workflow {workflow_id!r} in database {self._name!r}", workflow_id=workflow_id
            )
        return found


def _start_in_dbos(workflow_id: str, function: str, arguments: dict[str, Any]) -> WorkflowHandle[Any]:
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(process.workflow, function, arguments)


def _check_importable(fn: Callable[..., Any]) -> str:
    """The path of a function. Raises InvalidNameError where another process could not find it there."""
    function = name_of_workflow(fn)
    try:
        found = find_function("", function)
    except WorkflowNotFoundError as error:
        raise _not_importable(function, str(error.__cause__)) from error.__cause__
    if found is not fn:
        raise _not_importable(function, "something else is there")
    return function


def _not_importable(function: str, why: str) -> InvalidNameError:
    return InvalidNameError(
        f"workflow function {function!r}: expected one that every process can import by this path ({why}); define it "
        f"with def at the top level of a module"
    )


def _check_same(found: WorkflowStatus, fn: Callable[..., Any], function: str, arguments: str) -> None:
    """Raise WorkflowConflictError where the id belongs to another call."""
    workflow_id = found.workflow_id
    if found.name == workflows.WORKFLOW:
        recorded = workflows.call_of(found)
        if recorded[0] == function and workflows.are_same_arguments(fn, recorded[1], arguments, workflow_id):
            return
        what = f"{recorded[0]} with {recorded[1]}"
    else:
        what = f"the DBOS workflow {found.name}"
    called = f"{function} with {arguments}"
    raise WorkflowConflictError(
        f"workflow {workflow_id!r} is {what}, and was now called as {called}; use another workflow id, or delete this "
        f"one",
        workflow_id=workflow_id,
        recorded=what,
        called=called,
    )


def _step_record(workflow_id: str, row: StepRow, superseded_by: int | None) -> StepRecord:
    from datetime import datetime

    return StepRecord(
        workflow_id=workflow_id,
        step_key=row.key,
        status=row.status,
        output=row.output_text,
        name=row.name,
        kind=row.kind,
        position=row.position,
        attempt=row.attempt,
        epoch=row.run,
        fingerprint=row.fingerprint,
        error=row.error_text,
        started_at=datetime.fromisoformat(row.started_at),
        ended_at=None if row.ended_at is None else datetime.fromisoformat(row.ended_at),
        thread=row.thread,
        superseded_by=superseded_by,
    )
