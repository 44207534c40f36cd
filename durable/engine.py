"""Engine: the typed face of a database. It checks and encodes; a backend runs, resumes and stores the workflows."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, get_args, overload

from msgspec.structs import replace

from durable.context import Context
from durable.errors import ScopeError, StoreError, WorkflowConflictError
from durable.face import Face
from durable.observer import Observer, crash_at
from durable.recovery.backend import Backend, Rewinding, RunReader, encode_message, not_supported
from durable.recovery.handle import Handle
from durable.recovery.lives import STOPPED
from durable.recovery.local import LocalBackend
from durable.recovery.registry import Registry, recorded_call
from durable.replay.keys import check_id, is_plain_text
from durable.signals import held_back, is_interrupt, reason_of
from durable.store.file import File
from durable.store.records import Selection
from durable.values.instants import check_instant, duration_of
from durable.waiting.clock import Clock, SystemClock

if TYPE_CHECKING:  # few workflows need them: `import durable` stays fast
    from pathlib import Path

    from durable.recovery.bulk import Retention
    from durable.recovery.recover import Recovery
    from durable.store.records import ProgressRecord, Published, RunRecord, StepRecord, WaitRecord, WorkflowRecord
    from durable.values.large import Freed

P = ParamSpec("P")
T = TypeVar("T")
Synchronous = Literal["full", "normal", "off"]


class Engine(metaclass=Face):
    """The workflows of one SQLite file. Safe to use from any thread; a forked child opens an engine of its own.

    `synchronous` is "full" (a returned step survives a power cut), "normal" (it survives the death of the process) or
    "off". `max_workers` bounds the parallel steps of one workflow. Observers get every moment, see `Moment`.
    With `suspend`, a workflow that only waits (for an instant, a message, a child) gives its thread back, and is
    replayed when that has come; `max_workflows` bounds how many run at once, children too, however many wait. Then
    `run` runs in the background too, and leaving the engine leaves the waiting ones for the next process that opens the
    file.
    With `retention`, a timedelta or text as `30d`, a thread deletes workflows that were completed or cancelled so long
    ago, in small batches, and gives space back. Failed ones stay.
    `modules` are those whose functions `recover` and an engine that suspends may run by their recorded names, beside
    the functions that were passed to this engine, and those of imported modules that are annotated `ctx: Context`.
    The environment variable DURABLE_CRASH_AT=STEP[:MOMENT] makes the process kill itself there.

    Raises StoreError if the file cannot be opened or is none of ours; then nothing was changed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "workflow.db",
        *,
        synchronous: Synchronous = "full",
        max_workers: int = 32,
        suspend: bool = False,
        max_workflows: int = 32,
        modules: Sequence[str] = (),
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        retention: timedelta | str | None = None,
    ) -> None:
        if synchronous not in get_args(Synchronous):
            raise ValueError(f"synchronous: expected 'full', 'normal' or 'off', got {synchronous!r}")
        check_limits(max_workers=max_workers, max_workflows=max_workflows)
        registry, observers, clock = Registry(modules), with_crash_point(observers), clock or SystemClock()
        check_retention(retention)
        backend = LocalBackend(
            File(_check_path(path), synchronous=synchronous),
            registry=registry,
            context=Context,
            clock=clock,
            observers=observers,
            max_workers=max_workers,
            max_workflows=max_workflows if suspend else None,
        )
        self._use(backend, clock, retention)

    def _use(self, backend: Backend, clock: Clock, retention: timedelta | str | None) -> None:
        self._backend, self._clock, self._pid = backend, clock, os.getpid()
        self._retention: Retention | None = None
        if retention is not None:
            with held_back():
                from durable.recovery.bulk import Retention

            self._retention = Retention(backend, clock.now, retention)

    @property
    def path(self) -> Path:
        """The database file, absolute; of another database, a path that has its name."""
        return self._backend.path

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

            >>> def double(ctx: Context, number: int) -> int:
            ...     return 2 * ctx.step(abs, number)
            >>> engine.run("double_1", double, -4)
            8
            >>> engine.workflow("double_1").status
            'completed'

        Raises what the workflow raised; WorkflowBusyError while another process or thread runs it; the errors of
        `Context`; and WorkflowConflictError where the id belongs to another function or other arguments.
        """
        if self._backend.event_loop.is_current():
            raise ScopeError(
                "engine.run() would block the event loop that runs this async workflow; await engine.start(...)"
            )
        return self._backend.run(workflow_id, workflow, args, kwargs)

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
        """Do as `run` does, in a thread of its own. An error before the function is called is raised here at once.

        The workflow sees the caller's context variables. It sees none that one of its steps has set.

        An engine that suspends joins a workflow that it runs already, since a caller cannot know whether it only waits.
        """
        return self._backend.start(workflow_id, workflow, args, kwargs)

    def resume(self, workflow_id: str) -> Handle[Any]:
        """`start` with the function and the arguments on record. The function's module is imported, whichever it is.

        Raises WorkflowNotFoundError if there is no such workflow, or its function cannot be imported here.
        """
        call = recorded_call(self.workflow(workflow_id), self._backend.registry.find_asked, self._backend.get_value)
        return self._backend.start(workflow_id, *call)

    def recover(self, *, max_crashes: int | None = None, executor_ids: Sequence[str] = ()) -> Recovery:
        """Resume, in the background, every workflow that a dead process has left `running`.

        One whose last `max_crashes` runs (3) all crashed or were stopped by an error of the engine, without a new
        checkpoint, is set aside until a caller runs or resumes it: it may be what ends them. An engine that suspends
        leaves one that was stopped at once, since the same code would repeat its effects.
        One whose function cannot be imported here, or is not to be run by its name alone (see `Engine`), or that
        another process runs, is left alone and named. A file has no executors: see `DBOSEngine`.
        """
        return self._backend.recover(max_crashes, executor_ids)

    def retry(
        self, *, function: str | None = None, prefix: str = "", since: datetime | timedelta | str | None = None
    ) -> Recovery:
        """Resume, in the background, the workflows that have failed, as `resume` does. Completed steps stay completed.

        The conditions are those of `workflows`. A child is tried again by its parent. `left` names those that cannot be
        resumed here, and why. Each takes a thread, unless the engine suspends: then `max_workflows` run at once.
        """
        with held_back():
            from durable.recovery.bulk import retry

        wanted = self._select("failed", function, prefix, since, None)
        return retry(self._backend.reader.select(replace(wanted, top_level=True)), self.resume)

    def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow and its children, whichever process runs them.

        The owner notices at its next operation, and at once when it waits; a step in flight ends first. Then the
        compensations run. One that no process runs is cancelled at once; if it has compensations, it is resumed for
        them. Raises WorkflowNotFoundError, and WorkflowEndedError if it has ended.
        """
        check_id(workflow_id)
        with held_back():
            self._backend.cancel(workflow_id)

    # ---- messages

    def send(
        self, workflow_id: str, event: str, value: Any = None, *, type: Any = None, key: str | None = None
    ) -> bool:
        """Leave a message for a workflow, from any process; it is received by `ctx.wait_event(event)`, now or later.

        `type` says how the value is encoded if its class does not, as in `list[Approval]`. If several have the same
        `key`, only the first is kept; returns whether this one was. Raises WorkflowNotFoundError; WorkflowEndedError
        if it is completed or cancelled and has no message of this key; SerializationError for a value without exact
        JSON form.
        """
        text = encode_message(workflow_id, event, value, type, key, self._backend.values_for)
        with held_back():
            return self._backend.send(workflow_id, event, text, key)

    def read(self, workflow_id: str, name: str, *, type: Any = Any) -> Any:
        """Return the latest value that a workflow has published under a name, decoded as `type`.

        Raises WorkflowNotFoundError, NotPublishedError while there is none, SerializationError if it does not fit.
        """
        check_id(workflow_id)
        return self._backend.reader.read(workflow_id, name, type=type)

    @overload
    def watch(self, workflow_id: str, *, progress: Literal[False] = False) -> Iterator[Published]: ...
    @overload
    def watch(self, workflow_id: str, *, progress: bool) -> Iterator[Published | ProgressRecord]: ...
    def watch(self, workflow_id: str, *, progress: bool = False) -> Iterator[Published | ProgressRecord]:
        """Yield what a workflow has published and goes on to publish, until it ends. Raises WorkflowNotFoundError.

        With `progress`, also what its running steps say of theirs, see `progress`, whenever that has changed.
        """
        check_id(workflow_id)
        return self._backend.watch(workflow_id, progress=progress)

    def progress(self, workflow_id: str) -> list[ProgressRecord]:
        """Return how far running steps say that they are (`current_step().publish`), in program order.

        Each `ctx.map` that has gone on for 0.2 s is there too, named "map", with how many of its calls have ended.
        Raises WorkflowNotFoundError.
        """
        self.workflow(workflow_id)
        return self._backend.reader.progress(workflow_id)

    # ---- looking

    def workflows(
        self,
        status: str | None = None,
        *,
        function: str | None = None,
        prefix: str = "",
        since: datetime | timedelta | str | None = None,
        until: datetime | timedelta | str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[WorkflowRecord]:
        """Return all workflows, oldest first; or those of a status: running, completed, failed or cancelled.

        `running` is also the status of one that a dead process left behind, see `owner`. `function` is the name of the
        workflow function, with or without its module. Ids begin with `prefix`. `since` and `until` bound the latest
        change, as an instant, or as a time before now: a timedelta, or text as `2d` or `12h`. With a `limit` only so
        many are read, after the first `offset`. Raises ValueError for what is none of these.
        """
        wanted = self._select(status, function, prefix, since, until)
        return self._backend.reader.select(replace(wanted, limit=limit, offset=offset))

    def _select(
        self,
        status: str | None,
        function: str | None,
        prefix: str,
        since: datetime | timedelta | str | None,
        until: datetime | timedelta | str | None,
    ) -> Selection:
        return Selection(
            status=status, function=function, prefix=prefix, since=self._instant(since), until=self._instant(until)
        )

    def _instant(self, at: datetime | timedelta | str | None) -> datetime | None:
        if at is None or isinstance(at, datetime):
            return at if at is None else check_instant(at, "since, until")
        return self._clock.now() - duration_of(at, "since, until")

    def find_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """Return one workflow, or None if the id is not recorded. Raises InvalidNameError for what cannot be an id."""
        check_id(workflow_id)
        return self._backend.reader.find_workflow(workflow_id)

    def workflow(self, workflow_id: str) -> WorkflowRecord:
        """Return one workflow. Raises WorkflowNotFoundError."""
        check_id(workflow_id)
        return self._backend.reader.workflow(workflow_id)

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """Return the steps of a workflow as they stand, in program order. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._backend.reader.steps(workflow_id)

    def attempts(self, workflow_id: str) -> list[StepRecord]:
        """Return the attempts that a later one superseded, in program order. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._backend.reader.attempts(workflow_id)

    def waits(self, workflow_id: str) -> list[WaitRecord]:
        """Return what the steps of a workflow wait for now, in program order. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._backend.reader.waits(workflow_id)

    def runs(self, workflow_id: str) -> list[RunRecord]:
        """Return the runs of a workflow, oldest first. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._run_reader("runs", workflow_id).runs(workflow_id)

    def owner(self, workflow_id: str) -> int | None:
        """Return the pid of the process that runs a workflow now, or None: then a `running` row is a zombie step."""
        check_id(workflow_id)
        return self._run_reader("owner", workflow_id).owner(workflow_id)

    def _run_reader(self, operation: str, workflow_id: str) -> RunReader:
        reader = self._backend.reader
        if isinstance(reader, RunReader):
            return reader
        raise not_supported(operation, workflow_id, self._backend)

    # ---- another way

    def rewind(self, workflow_id: str, *, to: str | None = None, failed_only: bool = False) -> None:
        """Take back all that is recorded from a step on, in program order; the next run goes on from there.

        `to` is the key of a step or a branch. With `failed_only` instead, only the failed steps are taken back, and
        what came after the fan-out of the first: the steps or branches that follow each other under the same name. So
        the others of the fan-out keep their results. The rows become superseded attempts, the messages that they
        received can be received again, and an ended workflow is `running` once more. Effects are not undone; what a
        compensation has undone stays undone; children stay as they ended. Raises WorkflowNotFoundError,
        StepNotFoundError, and WorkflowBusyError while it runs.
        """
        check_id(workflow_id)
        if (to is None) is not failed_only:
            raise TypeError("rewind: expected either to=STEP or failed_only=True")
        if not isinstance(self._backend, Rewinding):
            raise not_supported("rewind", workflow_id, self._backend)
        with held_back():
            self._backend.rewind(workflow_id, to)

    @overload
    def restart(
        self,
        workflow_id: str,
        workflow: Callable[Concatenate[Context, P], Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...
    @overload
    def restart(
        self, workflow_id: str, workflow: Callable[Concatenate[Context, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    def restart(self, workflow_id: str, workflow: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a recorded workflow anew from its first step, as another function or with other arguments.

        All its rows become superseded attempts, as `rewind` has it; the former arguments and outcome are not kept. A
        crash at any instant leaves the former workflow, or the new call with no step done. Children stay as they ended:
        one that is called again under the same id must be the same call. Raises WorkflowNotFoundError,
        WorkflowBusyError while it runs, and as `run` does.
        """
        check_id(workflow_id)
        if not isinstance(self._backend, Rewinding):
            raise not_supported("restart", workflow_id, self._backend)
        with held_back():
            self._backend.restart(workflow_id, workflow, args, kwargs)
        return self.run(workflow_id, workflow, *args, **kwargs)

    def fork(self, workflow_id: str, new_id: str, *, at: str) -> None:
        """Make a new workflow of a recorded one: its call, and its outcomes before a step in program order.

        `at` is the key of a step or a branch; `engine.resume(new_id)` goes on from there. Steps that are running or
        wait are not taken along, the outcomes of children are. The original stays as it is. Code that gives a step
        before it `ctx.workflow_id` diverges, since that is another one now. Raises WorkflowNotFoundError,
        StepNotFoundError, and WorkflowConflictError if the new id is taken.
        """
        check_id(workflow_id)
        check_id(new_id)
        if new_id == workflow_id:
            message = f"workflow {workflow_id!r} cannot become a fork of itself; give the fork an id of its own"
            raise WorkflowConflictError(message, workflow_id=workflow_id, recorded=workflow_id, called=new_id)
        with held_back():
            self._backend.fork(workflow_id, new_id, at)

    # ---- tidying up

    def delete(self, workflow_id: str) -> None:
        """Delete a workflow with all its steps and its children, so that the same id begins anew.

        Raises WorkflowNotFoundError, and WorkflowBusyError while it or a child runs; then nothing was deleted.
        """
        check_id(workflow_id)
        with held_back():
            self._backend.delete(workflow_id)

    def gc(self) -> Freed:
        """Drop the large values that no row names, and those that dead runs have begun to save. Return how many.

        It works in small transactions, and runs in any process may go on meanwhile. The file keeps its
        size, and has room for other rows.
        """
        with held_back():
            return self._backend.collect()

    def delete_ended(
        self,
        status: str = "completed",
        *,
        older_than: datetime | timedelta | str | None = None,
        function: str | None = None,
        prefix: str = "",
    ) -> int:
        """Delete workflows that have ended with a status, with their steps and children, in batches. Return how many.

        The conditions are those of `workflows`; `older_than` bounds the latest change. One with a child that has not
        ended stays. If more than half of the file is free then, it is written anew, without what is free, while other
        writers wait. Raises ValueError for the status `running`.
        """
        with held_back():
            from durable.recovery.bulk import delete

        if status not in ("completed", "failed", "cancelled"):
            raise ValueError(f"status: expected 'completed', 'failed' or 'cancelled', got {status!r}")
        return delete(self._backend, self._select(status, function, prefix, None, older_than))

    # ---- the end

    def close(self) -> None:
        """Wait for the workflows that were started, then close the database. May be called twice.

        One that sleeps or waits for a message is waited for as well, however long; Ctrl+C ends it, to be resumed. An
        engine that suspends waits only for those that run. `stop` leaves the workflows to the next process.
        """
        if os.getpid() != self._pid:  # a fork has none of the threads, and must leave the file alone
            return
        with held_back():
            self._end_retention()
            try:
                self._backend.wait_for_started()
            except BaseException as error:
                self._backend.interrupt_started(f"{reason_of(error)} while the engine was closed")
                self._backend.wait_for_started()
                raise
            finally:
                self._backend.close()

    def stop(self, timeout_seconds: float | None = 20, *, reason: str = STOPPED) -> bool:
        """Let the steps in flight end, begin nothing more, and close the database. May be called twice.

        An unfinished workflow is left to the next process that recovers it; that its run was interrupted counts as no
        crash. Its callers here get RunStopped, or Suspended if it was suspended. Returns whether all steps have ended
        in time. The result of a step that returns later is not saved, so it runs again; this process owns its workflow
        until then. With None, the time has no limit. The runs that it ends keep the reason.

        For a server that is to end: call it when SIGTERM has come, but not within the signal handler, which may be in
        the middle of a workflow.
        """
        if os.getpid() != self._pid:
            return True
        with held_back():
            self._end_retention()
            try:
                return self._backend.stop(timeout_seconds, reason)
            finally:
                self._backend.close()

    def _end_retention(self) -> None:
        if self._retention is not None:
            self._retention.stop()

    def __dir__(self) -> Iterable[str]:
        return dir(type(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and is_interrupt(error):  # Ctrl+C: the started workflows end with their step
            self._backend.interrupt_started(f"the engine was closed by {reason_of(error)}")
        self.close()


def check_limits(**limits: int) -> None:
    """Raise ValueError unless each number is at least 1."""
    for name, number in limits.items():
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")


def check_retention(retention: timedelta | str | None) -> None:
    """Raise ValueError unless it is a duration, or None."""
    if retention is not None:
        duration_of(retention, "retention")


def with_crash_point(observers: Sequence[Observer]) -> tuple[Observer, ...]:
    """Return the observers, and the one that DURABLE_CRASH_AT asks for."""
    crash_point = os.environ.get("DURABLE_CRASH_AT")
    return (*observers, crash_at.parse(crash_point)) if crash_point else tuple(observers)


def _check_path(path: str | os.PathLike[str]) -> Path:
    """Return the file behind a path, links followed, so that all its users meet at the same locks."""
    from pathlib import Path

    text = os.fsdecode(path)
    if text in ("", ":memory:"):
        raise StoreError(
            f"database {text!r}: expected the path of a file, since memory survives no crash", path=Path(text)
        )
    if "://" in text:  # the rest may hold a password
        scheme = text.partition(":")[0]
        raise StoreError(
            f"database {scheme}://...: expected the path of a file, not a URL; a database of PostgreSQL is opened by "
            f"durable.on_dbos.DBOSEngine, and by the option --engine",
            path=Path(),
        )
    if not is_plain_text(text):
        raise StoreError(f"database {text!r}: a path cannot hold NUL or lone surrogates", path=Path())
    return Path(text).resolve()
