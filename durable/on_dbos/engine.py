"""DBOSEngine: the workflows of one PostgreSQL database, run by DBOS in any number of processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, overload

from dbos import DBOS, DBOSConfig, WorkflowStatus, error

from durable.context import Context
from durable.errors import (
    NotSupportedError,
    ScopeError,
    WorkflowBusyError,
    WorkflowNotFoundError,
)
from durable.observer import Observer, crash_at
from durable.on_dbos import cancel, fork, workflows
from durable.on_dbos.admission import check_importable, check_same, check_workflow_id, start_in_dbos
from durable.on_dbos.executor import Executor
from durable.on_dbos.outside import outside
from durable.on_dbos.process import Process, check_alone, check_url
from durable.on_dbos.reader import Reader
from durable.on_dbos.runs import Runs, find_function
from durable.on_dbos.serializer import JSONSerializer
from durable.on_dbos.slots import Slots
from durable.on_dbos.waiting import Waiting
from durable.parallel.future import Future, wait
from durable.parallel.loop import EventLoop
from durable.recovery.handle import Handle
from durable.recovery.recover import Recovery
from durable.recovery.registry import Registry
from durable.replay.run import Interruptible
from durable.signals import held_back
from durable.store.records import WaitRecord
from durable.values import codec
from durable.waiting.clock import Clock, SystemClock

P = ParamSpec("P")
T = TypeVar("T")

VERSION = "durable"  # of all applications: changed code is found by the replay rule, step by step
_SET_ASIDE = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


class DBOSEngine(Reader):
    """The workflows of one PostgreSQL database. Safe to use from any thread; one to a process.

    It has the methods of `Engine`; `docs/engines.md` lists what differs. Workflow functions must be importable by their
    path, in every process that may run them. `executor_id` is this process's name in the database: what a process left
    unfinished is taken up by the next that opens an engine under the same name and `application_version`. So a name
    belongs to one living process at a time. From `queues` it takes what others have put there, as workers do.
    A recorded function is run if it was passed to this engine or resumed by it, if it is in one of `modules`, or if its
    module is imported and it is annotated `ctx: Context`. `on_missing` is told of a workflow with another one, or with
    one that cannot be imported here, which is then left; without it, there is a warning in the log.

    Raises ValueError for a URL of another database, StoreError where it cannot be reached, ExecutorBusyError where the
    executor id is that of another living process, NotSupportedError where another engine is open in this process.
    """

    def __init__(
        self,
        database_url: str,
        *,
        executor_id: str | None = None,
        application_version: str = VERSION,
        application: str = "durable",
        max_workers: int = 32,
        modules: Sequence[str] = (),
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        log_level: str = "WARNING",
        queues: Sequence[str] = (),
        on_missing: Callable[[str, WorkflowNotFoundError], object] | None = None,
    ) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers: expected at least 1, got {max_workers}")
        super().__init__(DBOS, check_url(database_url))
        check_alone()
        self._registry = Registry(modules)
        self.executor_id = executor_id or socket.gethostname()
        self._clock, self._pid = clock or SystemClock(), os.getpid()
        self._queue = queues[-1] if queues else None  # for what is taken up again; None is served by every process
        self._event_loop = EventLoop()
        self._started: dict[Future[Any], Interruptible] = {}
        if crash_point := os.environ.get("DURABLE_CRASH_AT"):
            observers = (*observers, crash_at.parse(crash_point))
        self._executor = Executor(database_url, self.executor_id, self._name)
        self._runs = Runs(
            Path(self._name),
            self.executor_id,
            registry=self._registry,
            clock=self._clock,
            observers=tuple(observers),
            max_workers=max_workers,
            event_loop=self._event_loop,
            start_child=self._start_child,
        )
        self._runs.on_missing = on_missing or self._runs.on_missing
        config: DBOSConfig = {
            "name": application,
            "system_database_url": database_url,
            "executor_id": self.executor_id,
            "application_version": application_version,
            "serializer": JSONSerializer(),
            "log_level": log_level,
        }
        try:
            self._process = Process(config, self._runs.execute, queues)
        except BaseException:
            self._runs.close()
            self._executor.close()
            raise
        self._runs.keep = self._executor.keep

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
        """`start` with the function and the arguments on record. The function's module is imported, whichever it is.

        Raises WorkflowNotFoundError.
        """
        return self._go_on(workflow_id, find_function, anew=True)

    def recover(self, *, executor_ids: Sequence[str] = ()) -> Recovery:
        """Tell what has been taken up again, and take up what these executors have left; they must be dead.

        What this executor id has left is taken up by DBOS itself, as the engine is opened. One that was begun a hundred
        times without an end has been set aside; `resume` takes it up all the same.
        """
        found = Recovery()
        for status in workflows.list_statuses(status=workflows.STATUSES["running"], load_output=False):
            if status.status == _SET_ASIDE:
                found.set_aside.append(status.workflow_id)
            elif status.status == "PENDING" and status.executor_id in (self.executor_id, *executor_ids):
                self._recover(status, found)
        return found

    def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow and its children, whichever process runs them.

        Who runs it notices within a second; a step in flight ends first. Then the compensations run. One that nobody
        has begun is cancelled at once; one whose process has died, when another takes it up. Raises
        WorkflowNotFoundError, and WorkflowEndedError where it has ended.
        """
        with held_back():
            for each in cancel.cancel(self._status(workflow_id, **workflows.BARE), self._runs, self._clock.now()):
                self._go_on(each, self._find_function)

    # ---- looking, further than a reader can

    def runs(self, workflow_id: str) -> NoReturn:
        """Raises NotSupportedError."""
        raise NotSupportedError(
            f"the lives of workflow {workflow_id!r} are not on record: DBOS counts them, and keeps nothing of each; "
            f"the epoch of each step tells in which run it was saved",
            operation="runs",
        )

    def owner(self, workflow_id: str) -> NoReturn:
        """Raises NotSupportedError."""
        raise NotSupportedError(
            f"workflow {workflow_id!r} may be run on any machine, where a pid tells nothing; DBOS has its executor_id",
            operation="owner",
        )

    # ---- another way

    def rewind(self, workflow_id: str, *, to: str) -> NoReturn:
        """Raises NotSupportedError."""
        raise NotSupportedError(
            f"workflow {workflow_id!r} cannot be rewound to {to!r}: DBOS takes rows back by their numbers, which have "
            f"no order here; fork it at that step instead",
            operation="rewind",
        )

    def fork(self, workflow_id: str, new_id: str, *, at: str) -> None:
        """Make a new workflow of a recorded one: its call, and its outcomes before a step in program order.

        `at` is the key of a step or a branch; `engine.resume(new_id)` goes on from there. Raises WorkflowNotFoundError,
        StepNotFoundError, and WorkflowConflictError where the new id is taken.
        """
        check_workflow_id(new_id)
        with held_back():
            fork.fork(self._status(workflow_id), new_id, at)

    def find_new_wait(self, workflow_id: str, step_key: str) -> WaitRecord | None:
        """What a step that has just begun here waits for, or None. The database is not asked."""
        return self._runs.find_new_wait(workflow_id, step_key)

    def is_active(self, workflow_id: str) -> bool:
        """Whether this process runs it at the moment."""
        return self._runs.is_active(workflow_id)

    # ---- tidying up

    def delete(self, workflow_id: str) -> None:
        """Forget a workflow with all its steps and its children, so that the same id begins anew.

        Raises WorkflowNotFoundError, and WorkflowBusyError where it or a child may be running; then nothing is deleted.
        """
        found = self._status(workflow_id, **workflows.BARE)
        for each in cancel.list_family(found):
            if each.status == "PENDING" and each.workflow_id not in self._runs.left:
                raise WorkflowBusyError(each.workflow_id, None)
        with held_back():
            outside(lambda: DBOS.delete_workflow(workflow_id, delete_children=True))
            self._runs.want(workflow_id)

    # ---- the end

    def close(self) -> None:
        """Wait for the workflows that were started here, then leave the database. May be called twice.

        What this process had taken up without being asked is interrupted: whoever opens the executor id next goes on.
        """
        if os.getpid() != self._pid:  # a fork has none of the threads, and must leave the database alone
            return
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
                self._executor.close()

    def interrupt(self) -> None:
        """Let nothing more begin here, for good: before `stop`, and at once, as a handler of signals may want it."""
        self._runs.interrupt_all()

    def stop(self) -> None:
        """`close` without waiting for the end of anything: the steps in flight end, and nothing more begins."""
        with held_back():
            self._runs.close()
            self._interrupt_started()  # what is left of them is waited for, here and elsewhere
            self.close()

    def __enter__(self) -> DBOSEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self._interrupt_started()
        self.close()

    # ---- within

    def _find_function(self, workflow_id: str, function: str) -> Callable[..., Any]:
        return find_function(workflow_id, function, self._registry)

    def _go_on(
        self, workflow_id: str, find: Callable[[str, str], Callable[..., Any]], *, anew: bool = False
    ) -> Handle[Any]:
        record = self.workflow(workflow_id)
        fn = find(workflow_id, record.function)
        args, kwargs = codec.decode_arguments(fn, record.arguments, f"workflow {workflow_id!r}")
        with held_back():
            return self._start(workflow_id, fn, args, kwargs, outside, anew=anew)

    def _start(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begin: Callable[[Callable[[], Any]], Any],
        *,
        anew: bool = True,
    ) -> Handle[Any]:
        """`begin` calls what starts a workflow in DBOS; `anew` says whether one that has failed is tried anew."""
        check_workflow_id(workflow_id)
        function, subject = check_importable(fn), f"workflow {workflow_id!r}"
        self._registry.add(fn)
        result_codec = codec.codec_of_result(fn, f"{subject}: its result")
        arguments = codec.encode_arguments(fn, args, kwargs, subject)
        found, handle = outside(DBOS.get_workflow_status, workflow_id), None
        plain = workflows.plain_arguments(arguments)
        while found is None and handle is None:
            self._runs.want(workflow_id)
            handle = begin(lambda: start_in_dbos(workflow_id, function, plain))
            if handle is None:  # another was quicker
                found = outside(DBOS.get_workflow_status, workflow_id)
        if found is not None:
            check_same(found, fn, function, arguments)
            self._take_up(found, anew=anew)
        future: Future[Any] = Future(self._event_loop.is_current)
        waiting = Waiting(workflow_id, self._runs, future, result_codec)
        self._started[future] = waiting
        future.on_end(lambda done: self._started.pop(done, None))
        waiting.start(handle)
        return Handle(workflow_id, future, waiting)

    def _take_up(self, found: WorkflowStatus, *, anew: bool) -> None:
        """Have an existing workflow go on, where nobody sees to it and it may."""
        workflow_id = found.workflow_id
        was_left = self._runs.want(workflow_id)
        if found.status == "ERROR":
            if anew and not workflows.read_record_of(found).is_undone():
                _run_again(workflow_id, self._queue)
        elif was_left or fork.is_waiting(found) or found.status == _SET_ASIDE:
            outside(lambda: DBOS.resume_workflow(workflow_id, queue_name=self._queue))

    def _recover(self, status: WorkflowStatus, found: Recovery) -> None:
        workflow_id = status.workflow_id
        try:
            self._find_function(workflow_id, workflows.call_of(status)[0])
            if status.executor_id != self.executor_id:
                outside(DBOS.resume_workflow, workflow_id)
            found.resumed.append(self._go_on(workflow_id, self._find_function))
        except Exception as error:  # a module of the user's may raise anything as it is imported
            found.left[workflow_id] = str(error) or type(error).__name__

    def _start_child(
        self, slots: Slots, workflow_id: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, anew: bool
    ) -> Handle[Any]:
        return self._start(workflow_id, fn, args, kwargs, slots.draw_within, anew=anew)

    def _interrupt_started(self) -> None:
        for each in list(self._started.values()):
            each.interrupt("the engine was interrupted")


def _run_again(workflow_id: str, queue: str | None) -> None:
    """Have DBOS dispatch a failed workflow, with all its rows; another process may have been quicker to ask for it."""
    try:
        outside(lambda: DBOS.rewind_workflow(workflow_id, start_step=workflows.BEHIND_ALL, queue_name=queue))
    except error.DBOSException:
        found = workflows.find_status(workflow_id)
        if found is None or found.status == "ERROR":
            raise
