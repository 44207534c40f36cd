"""Engine: opens one database file, and runs, resumes and lists the workflows in it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, get_args, overload

from durable.context import Context
from durable.errors import (
    ScopeError,
    StoreError,
    WorkflowBusyError,
    WorkflowEndedError,
    WorkflowNotFoundError,
)
from durable.observer import Observer, crash_at
from durable.parallel.future import Future, wait
from durable.parallel.loop import EventLoop
from durable.parallel.threads import Threads
from durable.parallel.workers import Workers
from durable.recovery.admission import Ended, find_same, is_final
from durable.recovery.handle import Handle
from durable.recovery.registry import Registry, find_workflow_function
from durable.replay.keys import check_id, check_message_key, check_name, is_plain_text
from durable.replay.run import MAX_CRASHES, Interruptible, Run
from durable.replay.workflow import Execution
from durable.signals import held_back
from durable.store.connection import Connection
from durable.store.log import FileLog
from durable.store.owner import Owner
from durable.store.waits import Waits as FileWaits
from durable.store.workflows import Workflows
from durable.values import codec
from durable.values.instants import as_text
from durable.waiting.alarm import Alarm
from durable.waiting.clock import Clock, SystemClock
from durable.waiting.waits import Waits

if TYPE_CHECKING:  # what few workflows need is imported only for them: `import durable` stays fast
    from pathlib import Path

    from durable.recovery.recover import Recovery
    from durable.store.reader import Reader
    from durable.store.records import Published, RunRecord, StepRecord, WaitRecord, WorkflowRecord
    from durable.waiting.suspension import Sleepers

P = ParamSpec("P")
T = TypeVar("T")
Synchronous = Literal["full", "normal", "off"]


class Engine:
    """The workflows of one SQLite file. Safe to use from any thread; a forked child opens an engine of its own.

    `synchronous` is "full" (a returned step survives a power cut), "normal" (it survives the death of the process) or
    "off". `max_workers` bounds the parallel steps of one workflow. Observers are told of every moment, see `Moment`.
    With `suspend`, a workflow that only waits (for an instant, a message, a child) gives its thread back, and is
    replayed when that has come; `max_workflows` bounds how many of them run at once, however many wait. Then `run` runs
    in the background too, and leaving the engine leaves the waiting ones for whoever opens the file next.
    `modules` are those whose functions `recover` and an engine that suspends may run by their recorded names, beside
    the functions that were passed to this engine, and those of imported modules that are annotated `ctx: Context`.
    The environment variable DURABLE_CRASH_AT=STEP[:MOMENT] makes the process kill itself there.

    Raises StoreError where the file cannot be opened or is none of ours; then nothing was changed.
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
    ) -> None:
        if synchronous not in get_args(Synchronous):
            raise ValueError(f"synchronous: expected 'full', 'normal' or 'off', got {synchronous!r}")
        for name, number in (("max_workers", max_workers), ("max_workflows", max_workflows)):
            if number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")
        self._max_workers = max_workers
        self._registry = Registry(modules)
        self._observers = tuple(observers)
        if crash_point := os.environ.get("DURABLE_CRASH_AT"):
            self._observers += (crash_at.parse(crash_point),)
        self._clock = clock or SystemClock()
        self._event_loop = EventLoop()
        self._pid = os.getpid()
        self._started: dict[Future[Any], Interruptible] = {}
        self._threads = Threads()  # of started workflows and of branches, and lent to the pools of the runs
        self._store = Workflows(Connection(_check_path(path), synchronous=synchronous))
        self._sleepers = self._begin_sleepers(max_workflows) if suspend else None
        self._beginning = contextlib.nullcontext if self._sleepers is None else self._sleepers.beginning
        on_look = None if self._sleepers is None else self._sleepers.look
        self._waits = FileWaits(self._store.connection)
        self._alarm = Alarm(self._waits, self._clock, on_look)
        if self._sleepers is not None:
            self._alarm.runs.add(self._sleepers)
            self._alarm.start()

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
        if self._sleepers is not None:
            return self.start(workflow_id, workflow, *args, **kwargs).result()
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
        """Like `run`, in a thread of its own. What `run` raises before it calls the function is raised here at once.

        An engine that suspends joins what it runs already: whether that sleeps or is just awake, one cannot know.
        """
        return self._start_or_join(workflow_id, workflow, args, kwargs)

    def resume(self, workflow_id: str) -> Handle[Any]:
        """`start` with the function and the arguments on record. The function's module is imported, whichever it is.

        Raises WorkflowNotFoundError where there is no such workflow, or its function cannot be imported here.
        """
        call = self.recorded_call(workflow_id, find=lambda _, function: find_workflow_function(function))
        return self._start_or_join(workflow_id, *call)

    def go_on(self, workflow_id: str) -> Handle[Any]:
        """`resume` of one that had not ended, if its function may be run by its name: see `Registry`.

        One that has ended meanwhile is not tried anew: the handle has its outcome.
        """
        return self._start_or_join(workflow_id, *self.recorded_call(workflow_id), anew=False)

    def recorded_call(
        self,
        workflow_id: str,
        fn: Callable[..., Any] | None = None,
        *,
        find: Callable[[str, str], Callable[..., Any]] | None = None,
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """The function, unless it is known, and the arguments on record. Raises WorkflowNotFoundError.

        `find(workflow_id, function)` looks for it, by default in the registry.
        """
        record = self.workflow(workflow_id)
        try:
            fn = fn or (find or self._registry.find)(workflow_id, record.function)
        except WorkflowNotFoundError:
            raise
        except Exception as error:  # as it is imported, a module of the user's may raise anything
            raise WorkflowNotFoundError(
                f"workflow {workflow_id!r}: its function {record.function!r} cannot be imported here ({error}); run it "
                f"with engine.run({workflow_id!r}, function)",
                workflow_id=workflow_id,
            ) from error
        return fn, *codec.decode_arguments(fn, record.arguments, f"workflow {workflow_id!r}")

    def recover(self, *, max_crashes: int = MAX_CRASHES) -> Recovery:
        """Resume, in the background, every workflow that a dead process has left `running`.

        One whose last `max_crashes` runs all ended in a crash is set aside, not resumed: it may be what kills them. One
        whose function cannot be imported here, or is not to be run by its name alone (see `Engine`), or that another
        process runs, is left alone and named.
        """
        from durable.recovery.recover import recover

        return recover(self, self._store, max_crashes)

    def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow and its children, whichever process runs them.

        The owner notices at its next operation, and at once when it waits; a step in flight ends first. Then the
        compensations run. One that nobody runs is cancelled at once; where it has compensations, it is resumed for
        them. Raises WorkflowNotFoundError, and WorkflowEndedError where it has ended.
        """
        from durable.recovery.recover import cancel

        check_id(workflow_id)
        with held_back():
            cancel(self, self._store, workflow_id, as_text(self._clock.now()))
            self._alarm.ring()

    # ---- messages

    def send(
        self, workflow_id: str, event: str, value: Any = None, *, type: Any = None, key: str | None = None
    ) -> bool:
        """Leave a message for a workflow, from any process; it is received by `ctx.wait_event(event)`, now or later.

        `type` says how the value is encoded where its class does not, as in `list[Approval]`. Of several with the same
        `key` only the first is kept; returns whether this one was. Raises WorkflowNotFoundError; WorkflowEndedError
        where it is completed or cancelled; SerializationError for a value without exact JSON form.
        """
        check_name(event)
        check_message_key(event, key)
        subject = f"message {event!r} to {workflow_id!r}: its value"
        text = codec.codec_of_value(value, type, subject).encode(value, subject)
        with held_back():
            record = self.workflow(workflow_id)
            if record.status in ("completed", "cancelled"):
                raise WorkflowEndedError(
                    f"workflow {workflow_id!r} is {record.status} and receives nothing more; send it to one that runs",
                    workflow_id=workflow_id,
                    status=record.status,
                )
            is_new = self._waits.send(workflow_id, event, text, key, as_text(self._clock.now()))
            self._alarm.ring()
            return is_new

    def read(self, workflow_id: str, name: str, *, type: Any = Any) -> Any:
        """The latest value that a workflow has published under a name, decoded as `type`.

        Raises WorkflowNotFoundError, NotPublishedError while there is none, SerializationError where it does not fit.
        """
        check_id(workflow_id)
        return self._reader.read(workflow_id, name, type=type)

    def watch(self, workflow_id: str) -> Iterator[Published]:
        """What a workflow has published and goes on to publish, until it ends. Raises WorkflowNotFoundError."""
        check_id(workflow_id)
        return self._reader.watch(workflow_id, self._alarm.wait_for_change)

    # ---- looking

    def workflows(self, status: str | None = None) -> list[WorkflowRecord]:
        """All workflows, oldest first; or those of a status: running, completed, failed or cancelled.

        `running` is also the status of one that a dead process left behind, see `owner`.
        """
        return self._reader.workflows(status)

    def find_workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """One workflow, or None."""
        check_id(workflow_id)
        return self._reader.find_workflow(workflow_id)

    def workflow(self, workflow_id: str) -> WorkflowRecord:
        """One workflow. Raises WorkflowNotFoundError."""
        check_id(workflow_id)
        return self._reader.workflow(workflow_id)

    def steps(self, workflow_id: str) -> list[StepRecord]:
        """The steps of a workflow as they stand, in program order. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._reader.steps(workflow_id)

    def attempts(self, workflow_id: str) -> list[StepRecord]:
        """The tries that a later one superseded. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._reader.attempts(workflow_id)

    def waits(self, workflow_id: str) -> list[WaitRecord]:
        """What the steps of a workflow wait for now, in program order. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._reader.waits(workflow_id)

    def runs(self, workflow_id: str) -> list[RunRecord]:
        """The lives of a workflow, oldest first. Raises WorkflowNotFoundError."""
        self.workflow(workflow_id)
        return self._reader.runs(workflow_id)

    def owner(self, workflow_id: str) -> int | None:
        """The pid of the process that runs a workflow now, or None: then a `running` row of it is a zombie step."""
        check_id(workflow_id)
        return self._reader.owner(workflow_id)

    # ---- another way

    def rewind(self, workflow_id: str, *, to: str) -> None:
        """Take back all that is recorded from a step on, in program order; the next run goes on from there.

        `to` is the key of a step or a branch. The rows become superseded attempts, the messages that they received can
        be received again, and an ended workflow is `running` once more. Effects are not undone; what a compensation has
        undone stays undone; children stay as they ended. Raises WorkflowNotFoundError, StepNotFoundError, and
        WorkflowBusyError while it runs.
        """
        from durable.store.archive import rewind

        self.workflow(workflow_id)
        with held_back():
            rewind(self._store, workflow_id, to, as_text(self._clock.now()))

    def fork(self, workflow_id: str, new_id: str, *, at: str) -> None:
        """Make a new workflow of a recorded one: its call, and its outcomes before a step in program order.

        `at` is the key of a step or a branch; `engine.resume(new_id)` goes on from there. Steps that are running or
        wait are not taken along, the outcomes of children are. The original stays as it is. Code that gives a step
        before it `ctx.workflow_id` diverges, since that is another one now. Raises WorkflowNotFoundError,
        StepNotFoundError, and WorkflowConflictError where the new id is taken.
        """
        from durable.store.archive import fork

        check_id(new_id)
        self.workflow(workflow_id)
        with held_back():
            fork(self._store, workflow_id, new_id, at, as_text(self._clock.now()))

    # ---- tidying up

    def delete(self, workflow_id: str) -> None:
        """Forget a workflow with all its steps and its children, so that the same id begins anew.

        Raises WorkflowNotFoundError, and WorkflowBusyError while it or a child runs; then nothing was deleted.
        """
        check_id(workflow_id)
        if not self._reader.has_workflow(workflow_id):
            raise self._reader.not_found(workflow_id)
        with held_back(), contextlib.ExitStack() as owners:
            family = self._store.list_family(workflow_id)
            for each in family:
                owners.callback(Owner(self.path, each).release)
            self._store.delete_workflows(family)
            self._alarm.ring()  # somebody may hold a handle of one that sleeps

    def close(self) -> None:
        """Wait for the workflows that were started, then close the file. May be called twice.

        One that sleeps or waits for a message is waited for as well, however long; Ctrl+C ends it, to be resumed. An
        engine that suspends waits only for those that run.
        """
        if os.getpid() != self._pid:  # a fork has none of the threads, and must leave the file alone
            return
        with held_back():
            try:
                self._wait_for_started()
            except KeyboardInterrupt:
                self._interrupt_started()
                self._wait_for_started()
                raise
            finally:
                self._alarm.stop()
                self._threads.close()
                try:
                    self._event_loop.close()
                finally:
                    self._store.close()
                    self._alarm.end()

    def _wait_for_started(self) -> None:
        if self._sleepers is None:
            while self._started:  # one of them may yet begin a child that lives on
                wait(list(self._started))
        else:
            self._alarm.stop()  # so that nothing more is woken
            self._sleepers.close()

    def _interrupt_started(self) -> None:
        for run in list(self._started.values()):
            run.interrupt("the engine was interrupted")
        if self._sleepers is not None:
            self._sleepers.interrupt_all()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):  # Ctrl+C: the started workflows end with their step
            self._interrupt_started()
        self.close()

    # ---- within

    @functools.cached_property
    def _reader(self) -> Reader:
        from durable.store.reader import Reader

        return Reader(self.path, self._store.connection)

    def _begin(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent_id: str | None = None,
        *,
        anew: bool = True,
    ) -> Execution | Ended:
        """Own the workflow id and record a new run; or find it ended. Nothing of the workflow has been called.

        `anew` says whether one that has failed is tried anew.
        """
        check_id(workflow_id)
        function = self._registry.add(fn)
        subject = f"workflow {workflow_id!r}"
        result_codec = codec.codec_of_result(fn, f"{subject}: its result")
        arguments = codec.encode_arguments(fn, args, kwargs, subject)
        record = None  # nothing is asked before the first write: for most ids that are begun it would be in vain
        try:
            owner = Owner(self.path, workflow_id)
        except WorkflowBusyError:
            record = find_same(self._store, workflow_id, fn, arguments)
            if record is not None and is_final(self._store, record, anew=anew):
                return Ended(record, result_codec)
            raise
        log: FileLog | None = None
        run: Run | None = None
        try:
            begin = functools.partial(self._store.begin_run, workflow_id, function)
            life = os.getpid(), _host(), as_text(self._clock.now()), parent_id
            while (epoch := begin(arguments if record is None else record.arguments, record, *life)) is None:
                record = find_same(self._store, workflow_id, fn, arguments)  # it is not new, or not any more
                if record is not None and is_final(self._store, record, anew=anew):
                    owner.release()
                    return Ended(record, result_codec)
            arguments = record.arguments if record is not None else arguments
            log = FileLog(self._store.connection, workflow_id, epoch, arguments, lambda: as_text(self._clock.now()))
            run = Run(
                log,
                is_new=record is None,
                clock=self._clock.now,
                observers=self._observers,
                workers=Workers(self._max_workers, self._event_loop, self._threads),
                start_child=functools.partial(self._start_child, workflow_id),
            )
            waits = Waits(run, self._alarm, suspends=self._sleepers is not None)
            run.on_close += [waits.close, owner.release]
            list_due = functools.partial(self._list_due, run)
            return Execution(run, fn, arguments, result_codec, Context, list_due)
        except BaseException as error:
            try:
                if log is not None:
                    with contextlib.suppress(StoreError):  # then the next run will call it crashed
                        ended = "stopped" if isinstance(error, Exception) else "interrupted"
                        log.close(ended, None, f"{type(error).__name__}: {error}")
            finally:
                if run is None:
                    owner.release()
                else:
                    run.close()
            raise

    def _list_due(self, run: Run) -> list[tuple[str, str]]:
        return self._waits.list_due(run.now())

    def _start_child(
        self, parent_id: str, workflow_id: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, anew: bool
    ) -> Handle[Any] | None:
        """Have a child workflow run; None where another process does already."""
        with self._beginning(workflow_id):
            try:
                return self._start(self._begin(workflow_id, fn, args, kwargs, parent_id, anew=anew))
            except WorkflowBusyError:
                return None

    def _start_or_join(
        self, workflow_id: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, anew: bool = True
    ) -> Handle[Any]:
        handle = None
        try:
            with held_back(), self._beginning(workflow_id):
                begin = functools.partial(self._begin, workflow_id, fn, args, kwargs, anew=anew)
                try:
                    handle = self._start(begin())
                except WorkflowBusyError:  # where it is not awake either, it has just ended, or fallen asleep
                    if self._sleepers is None:
                        raise
                    handle = self._join(self._sleepers, workflow_id, fn) or self._start(begin())
        except KeyboardInterrupt:  # it came while we started: then nobody would hold the handle
            if handle is not None:
                handle.end()
            raise
        return handle

    def _join(self, sleepers: Sleepers, workflow_id: str, fn: Any) -> Handle[Any] | None:
        """A handle of a workflow that is being seen to; None where none of this id is."""
        future = self._new_future()
        if not sleepers.join(workflow_id, fn, future):
            return None
        return self._hand_out(workflow_id, future, sleepers.sleeper(workflow_id))

    def _begin_sleepers(self, max_workflows: int) -> Sleepers:
        from durable.waiting.suspension import Sleepers

        return Sleepers(self, self._store, max_workflows)

    def _start(self, found: Execution | Ended) -> Handle[Any]:
        future = self._new_future()
        if isinstance(found, Ended):
            future.settle(found.result)
            return Handle(found.workflow_id, future, None)
        run: Interruptible = found.run if self._sleepers is None else self._sleepers.sleeper(found.workflow_id)
        handle = self._hand_out(found.workflow_id, future, run)
        if self._sleepers is not None:
            self._sleepers.live(found, future)
        else:
            try:
                self._threads.begin(f"workflow {found.workflow_id}", lambda: future.settle(found.result))
            except RuntimeError as error:
                found.give_up("interrupted", "no thread could be started")
                future.set_exception(error)
                raise
        return handle

    def _new_future(self) -> Future[Any]:
        return Future(self._event_loop.is_current)

    def _hand_out(self, workflow_id: str, future: Future[Any], run: Interruptible) -> Handle[Any]:
        """A handle of a workflow that runs, or will: closing the engine waits for it."""
        self._started[future] = run
        future.on_end(lambda done: self._started.pop(done, None))
        future.on_end(lambda _: self._alarm.ring())  # a parent may wait for it
        return Handle(workflow_id, future, run)


@functools.cache
def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket

    return socket.gethostname()


def _check_path(path: str | os.PathLike[str]) -> Path:
    """The file behind a path, links followed, so that all who use it meet at the same locks."""
    from pathlib import Path

    text = os.fsdecode(path)
    if text in ("", ":memory:"):
        raise StoreError(
            f"database {text!r}: expected the path of a file, since memory survives no crash", path=Path(text)
        )
    if not is_plain_text(text):
        raise StoreError(f"database {text!r}: a path cannot hold NUL or lone surrogates", path=Path())
    return Path(text).resolve()
