"""Engine: opens one database file, and runs, resumes and lists the workflows in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args, overload

from durable import codec
from durable.call import find_workflow_function, name_of_workflow
from durable.clock import Clock, SystemClock, as_text
from durable.context import Context
from durable.errors import (
    InvalidNameError,
    ScopeError,
    StoreError,
    WorkflowConflictError,
    WorkflowNotFoundError,
)
from durable.execution import Execution
from durable.future import Future, wait
from durable.handle import Handle
from durable.interrupt import held_back
from durable.observer import Observer, crash_at
from durable.owner import Owner, find_owner
from durable.records import RunRecord, StepRecord, WorkflowRecord
from durable.run import Run
from durable.scope import is_plain_text
from durable.store import Store
from durable.workers import EventLoop, Workers

P = ParamSpec("P")
T = TypeVar("T")
Synchronous = Literal["full", "normal", "off"]

MAX_ID_LENGTH = 255


class Engine:
    """The workflows of one SQLite file. Safe to use from any thread; a forked child opens an engine of its own.

    `synchronous` is "full" (a returned step survives a power cut), "normal" (it survives the death of the process) or
    "off". `max_workers` bounds the parallel steps of one workflow. Observers are told of every moment, see `Moment`.
    The environment variable DURABLE_CRASH_AT=STEP[:MOMENT] makes the process kill itself there.

    Raises StoreError where the file cannot be opened or is none of ours; then nothing was changed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "workflow.db",
        *,
        synchronous: Synchronous = "full",
        max_workers: int = 32,
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
    ) -> None:
        if synchronous not in get_args(Synchronous):
            raise ValueError(f"synchronous: expected 'full', 'normal' or 'off', got {synchronous!r}")
        if max_workers < 1:
            raise ValueError(f"max_workers: expected at least 1, got {max_workers}")
        self._max_workers = max_workers
        self._observers = tuple(observers)
        if crash_point := os.environ.get("DURABLE_CRASH_AT"):
            self._observers += (crash_at.parse(crash_point),)
        self._clock = clock or SystemClock()
        self._event_loop = EventLoop()
        self._started: dict[Future[Any], Run] = {}
        self._store = Store(_check_path(path), synchronous=synchronous)

    @property
    def path(self) -> Path:
        """The database file, absolute."""
        return self._store.path

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
        """Run a workflow to its end in this thread and return its result; or resume it where it was left.

        A completed workflow returns its recorded result, and the function is not called. A failed one keeps its
        completed steps, and tries the failed step that ended it anew.

        Raises what the workflow raised; WorkflowBusyError while another process or thread runs it; the errors of
        `Context`; and WorkflowConflictError where the id belongs to another function or other arguments.
        """
        if self._event_loop.is_current():
            raise ScopeError(
                "engine.run() would block the event loop that runs this async workflow; await engine.start(...)"
            )
        with held_back():
            found = self._begin(workflow_id, workflow, args, kwargs)
            return found.result()

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
        """Like `run`, in a thread of its own. What `run` raises before it calls the function is raised here at once."""
        handle = None
        try:
            with held_back():
                handle = self._start(self._begin(workflow_id, workflow, args, kwargs))
        except KeyboardInterrupt:  # it came while we started: then nobody would hold the handle
            if handle is not None:
                handle.end()
            raise
        return handle

    def resume(self, workflow_id: str) -> Handle[Any]:
        """`start` with the function and the arguments on record.

        Raises WorkflowNotFoundError where there is no such workflow, or its function cannot be imported here.
        """
        record = self.workflow(workflow_id)
        try:
            fn = find_workflow_function(record.function)
        except (ImportError, AttributeError) as error:
            raise WorkflowNotFoundError(
                f"workflow {workflow_id!r}: its function {record.function!r} cannot be imported here ({error}); run it "
                f"with engine.run({workflow_id!r}, function)",
                workflow_id=workflow_id,
            ) from error
        args, kwargs = codec.decode_arguments(fn, record.arguments, f"workflow {workflow_id!r}")
        return self.start(workflow_id, fn, *args, **kwargs)

    # ---- looking

    def workflows(self, status: str | None = None) -> list[WorkflowRecord]:
        """All workflows, oldest first; or those of a status: running, completed, failed or cancelled.

        `running` is also the status of one that a dead process left behind, see `owner`.
        """
        return self._store.list_workflows(status)

    def find_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """One workflow, or None."""
        _check_id(workflow_id)
        return self._store.find_workflow(workflow_id)

    def workflow(self, workflow_id: str) -> WorkflowRecord:
        """One workflow. Raises WorkflowNotFoundError."""
        record = self.find_workflow(workflow_id)
        if record is None:
            raise self._not_found(workflow_id)
        return record

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """The steps of a workflow as they stand, in program order. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._store.list_steps(workflow_id)

    def attempts(self, workflow_id: str) -> list[StepRecord]:
        """The tries that a later one superseded. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._store.list_attempts(workflow_id)

    def runs(self, workflow_id: str) -> list[RunRecord]:
        """The lives of a workflow, oldest first. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._store.list_runs(workflow_id)

    def owner(self, workflow_id: str) -> int | None:
        """The pid of the process that runs a workflow now, or None: then a `running` row of it is a zombie step."""
        _check_id(workflow_id)
        return find_owner(self.path, workflow_id)

    # ---- tidying up

    def delete(self, workflow_id: str) -> None:
        """Forget a workflow and all its steps. Raises WorkflowNotFoundError, and WorkflowBusyError while it runs."""
        _check_id(workflow_id)
        if not self._store.has_workflow(workflow_id):
            raise self._not_found(workflow_id)
        with held_back():
            owner = Owner(self.path, workflow_id)
            try:
                self._store.delete_workflow(workflow_id)
            finally:
                owner.release()

    def close(self) -> None:
        """Wait for the workflows that were started, then close the file. May be called twice."""
        with held_back():
            wait(list(self._started))
            self._event_loop.close()
            self._store.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):  # Ctrl+C: the started workflows end with their step
            for run in list(self._started.values()):
                run.interrupt()
        self.close()

    # ---- within

    def _begin(
        self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Execution | _Completed:
        """Own the workflow id and record a new run; or find it completed. Nothing of the workflow has been called."""
        _check_id(workflow_id)
        function = name_of_workflow(fn)
        subject = f"workflow {workflow_id!r}"
        result_codec = codec.codec_of_result(fn, f"{subject}: its result")
        arguments = codec.encode_arguments(fn, args, kwargs, subject)
        record = self._find_same(workflow_id, fn, arguments)
        if record is not None and record.status == "completed":
            return _Completed(record, result_codec)
        owner = Owner(self.path, workflow_id)
        try:
            record = self._find_same(workflow_id, fn, arguments)  # now that nobody else can change it
            if record is not None and record.status == "completed":
                owner.release()
                return _Completed(record, result_codec)
            arguments = record.arguments if record is not None else arguments
            now = as_text(self._clock.now())
            epoch = self._store.begin_run(workflow_id, function, arguments, os.getpid(), _host(), now)
            run = Run(
                workflow_id,
                epoch,
                store=self._store,
                owner=owner,
                clock=self._clock,
                observers=self._observers,
                workers=Workers(self._max_workers, self._event_loop),
            )
        except BaseException:
            owner.release()
            raise
        return Execution(run, fn, arguments, result_codec)

    def _find_same(self, workflow_id: str, fn: Callable[..., Any], arguments: str) -> WorkflowRecord | None:
        """The workflow on record, if there is one. Raises WorkflowConflictError where it is another call."""
        record, function = self._store.find_workflow(workflow_id), name_of_workflow(fn)
        if record is None or (
            record.function == function
            and codec.are_same_arguments(fn, record.arguments, arguments, f"workflow {workflow_id!r}")
        ):
            return record
        recorded, called = f"{record.function} with {record.arguments}", f"{function} with {arguments}"
        raise WorkflowConflictError(
            f"workflow {workflow_id!r} is {recorded}, and was now called as {called}; use another workflow id, or "
            f"delete this one",
            workflow_id=workflow_id,
            recorded=recorded,
            called=called,
        )

    def _start(self, found: Execution | _Completed) -> Handle[Any]:
        future: Future[Any] = Future(self._event_loop.is_current)
        if isinstance(found, _Completed):
            future.settle(found.result)
            return Handle(found.workflow_id, future, None)
        self._started[future] = found.run
        future.add_done_callback(lambda done: self._started.pop(done, None))  # type: ignore[call-overload]
        name = f"workflow {found.run.workflow_id}"
        threading.Thread(target=future.settle, args=(found.result,), name=name).start()
        return Handle(found.run.workflow_id, future, found.run)

    def _not_found(self, workflow_id: str) -> WorkflowNotFoundError:
        import difflib

        close = difflib.get_close_matches(workflow_id, [record.workflow_id for record in self.workflows()], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f" in {str(self.path)!r}"
        return WorkflowNotFoundError(f"no workflow {workflow_id!r}{hint}", workflow_id=workflow_id)


class _Completed:
    """A workflow whose result is on record."""

    def __init__(self, record: WorkflowRecord, result_codec: codec.Codec) -> None:
        self.workflow_id = record.workflow_id
        self._output, self._codec = record.output or "null", result_codec

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: its recorded result"

    def result(self) -> Any:
        return self._codec.decode(self._output, self)


def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket

    return socket.gethostname()


def _check_id(workflow_id: object) -> None:
    if not isinstance(workflow_id, str):
        raise InvalidNameError(f"workflow id {workflow_id!r}: expected a str, got {type(workflow_id).__name__}")
    if not workflow_id or len(workflow_id) > MAX_ID_LENGTH or not is_plain_text(workflow_id):
        raise InvalidNameError(
            f"workflow id {workflow_id[:MAX_ID_LENGTH]!r}: expected 1 to {MAX_ID_LENGTH} characters, without NUL and "
            f"lone surrogates"
        )


def _check_path(path: str | os.PathLike[str]) -> Path:
    """The file behind a path, links followed, so that all who use it meet at the same locks."""
    text = os.fsdecode(path)
    if text in ("", ":memory:"):
        raise StoreError(
            f"database {text!r}: expected the path of a file, since memory survives no crash", path=Path(text)
        )
    if not is_plain_text(text):
        raise StoreError(f"database {text!r}: a path cannot hold NUL or lone surrogates", path=Path())
    return Path(text).resolve()
