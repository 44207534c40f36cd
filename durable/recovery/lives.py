"""Lives: own a workflow id and begin a run, or find that the workflow has ended. It starts no thread.

It reaches what is stored through `Records`, so it knows no database.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from durable import logs
from durable.errors import DurableError, StoreError, WorkflowBusyError, WorkflowNotFoundError
from durable.limits.progress import show_progress
from durable.parallel.workers import Workers
from durable.recovery.names import conflict, is_name_of
from durable.recovery.records import Records
from durable.recovery.registry import Call, Registry, recorded_call
from durable.replay import Frame, WaitingLog
from durable.replay.keys import check_id
from durable.replay.moments import Observer
from durable.replay.run import Run
from durable.replay.workflow import Execution
from durable.signals import let_through
from durable.store.records import MAX_CRASHES, WorkflowRecord
from durable.values import codec
from durable.values.failures import decode_error
from durable.values.instants import as_text
from durable.waiting.alarm import Alarm
from durable.waiting.waits import Waits

if TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.values.large import Read

STOPPED = "the engine was stopped"  # why a run ended
LOOK_SECONDS = 0.01  # how often `stop` looks whether the runs have ended


class Lives:
    """The runs of one engine, as each begins. Safe to use from any thread."""

    def __init__(
        self,
        records: Records,
        *,
        registry: Registry,
        context: type[Frame],
        alarm: Alarm,
        observers: Sequence[Observer],
        new_workers: Callable[[], Workers],
        start_child: Callable[..., Any],
        suspends: bool,
    ) -> None:
        """`context` is the class of a workflow function's first argument.

        `start_child` is called with the id of the parent, the id of the child, and the call.
        """
        self.records, self._registry, self._context = records, registry, context
        self._alarm, self._observers, self._suspends = alarm, observers, suspends
        self._new_workers, self._start_child = new_workers, start_child
        self._running: dict[Run, None] = {}  # those that own their workflow ids, children after their parents
        self._stopped = threading.Event()

    def now(self) -> str:
        """Return the current instant, as it is stored."""
        return as_text(self._alarm.clock.now())

    def record(self, workflow_id: str) -> WorkflowRecord:
        """Return a workflow. Raises WorkflowNotFoundError."""
        record = self.records.find_state(workflow_id)
        if record is None:
            raise WorkflowNotFoundError(f"no workflow {workflow_id!r}", workflow_id=workflow_id)
        return record

    def new_log(self, workflow_id: str, epoch: int, arguments: str) -> WaitingLog:
        """Return the log of a run."""
        return self.records.new_log(workflow_id, epoch, arguments, self.now)

    def begin(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent_id: str | None = None,
        *,
        anew: bool = True,
        is_awaited: bool = False,
    ) -> Execution | Ended:
        """Own the workflow id and record a new run; or find that it has ended. Nothing of the workflow is called.

        `anew` says whether one that has failed is tried anew, `is_awaited` whether a caller gets its error in any case.
        Raises WorkflowBusyError, WorkflowConflictError.
        """
        check_id(workflow_id)
        if self._stopped.is_set():
            path = self.records.path
            raise StoreError(f"database {str(path)!r}: the engine is closed; open a new Engine", path=path)
        function = self._registry.add(fn)
        result_codec = self._codec_of(workflow_id, fn)
        arguments = self.encode(workflow_id, fn, args, kwargs)
        try:
            owner = self.records.own(workflow_id)
        except WorkflowBusyError:
            record = self._find_same(workflow_id, fn, arguments)
            if record is not None and self._is_final(record, anew=anew):
                return Ended(record, result_codec, self.get_value)
            raise
        log: WaitingLog | None = None
        run: Run | None = None
        try:
            record, epoch = self._record_run(workflow_id, fn, function, arguments, parent_id, anew=anew)
            if epoch is None:
                assert record is not None
                owner.release()
                return Ended(record, result_codec, self.get_value)
            text = arguments if record is None else record.arguments
            log = self.new_log(workflow_id, epoch, text)
            run = self._new_run(log, is_new=record is None)
            run.on_close += [owner.release, functools.partial(self._running.pop, run, None)]
            self._running[run] = None
            is_child = (parent_id if record is None else record.parent_id) is not None
            run.on_news = self._new_reporter(run, function, is_new=record is None, is_awaited=is_awaited or is_child)
            if self._stopped.is_set():  # just before: `stop` may not have seen it
                run.wind_down(STOPPED)
            return Execution(run, fn, text, result_codec, self._context, functools.partial(self._list_due, run))
        except BaseException as error:
            try:
                if log is not None:
                    _note_failure(log, error)
            finally:
                if run is not None:
                    run.close()
                owner.release()
            raise

    def encode(self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the arguments of a call as they are stored. Raises TypeError or SerializationError."""
        put = functools.partial(self._put, workflow_id)
        return codec.encode_arguments(fn, args, kwargs, f"workflow {workflow_id!r}", put)

    def wind_down(self, reason: str) -> None:
        """Let nothing more begin in this engine from now on. The steps in flight go on."""
        self._stopped.set()
        for run in reversed(list(self._running)):  # children first: a parent interrupts them
            run.wind_down(reason)

    def wait_for_end(self, timeout_seconds: float | None) -> bool:
        """Wait for the steps in flight, and return whether all runs have ended in time.

        Steps that outlast the time are stopped, unless they are in threads, which cannot be stopped.
        """
        give_up_at = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self._running and (give_up_at is None or time.monotonic() < give_up_at):
            let_through(time.sleep, LOOK_SECONDS)
        for run in list(self._running):
            run.workers.stop()
        return not self._running

    # ---- waking a suspended workflow

    def find_call_to_wake(self, workflow_id: str, fn: Callable[..., Any] | None) -> Call:
        """Return the call of a workflow that is due. Raises DurableError if its latest runs made no progress."""
        record = self.record(workflow_id)
        if not self.is_owned(workflow_id) and self.records.has_got_nowhere(workflow_id, MAX_CRASHES):
            raise DurableError(
                f"its last {MAX_CRASHES} runs crashed or stopped without a new checkpoint; run or resume it once the "
                f"cause is removed"
            )
        find = self._registry.find if fn is None else lambda *_: fn
        return recorded_call(record, find, self.get_value)

    def is_owned(self, workflow_id: str) -> bool:
        """Return whether a process runs it now."""
        return self.records.find_owner(workflow_id) is not None

    def is_unfinished(self, workflow_id: str) -> bool:
        """Return whether it has not ended, as far as can be read."""
        try:
            record = self.records.find_state(workflow_id)
        except StoreError:
            return True
        return record is not None and record.status == "running"

    def list_over(self, workflow_ids: Iterable[str]) -> list[str]:
        """Return those of the workflows that have ended, or were deleted."""
        return self.records.list_over(workflow_ids)

    def list_parents(self, child_ids: list[str]) -> list[tuple[str, str]]:
        """Return the workflows that wait for one of these to end, each with the id of that child."""
        return self.records.waits.list_parents(child_ids)

    # ---- within

    def _new_run(self, log: WaitingLog, *, is_new: bool) -> Run:
        run = Run(
            log,
            is_new=is_new,
            clock=self._alarm.clock.now,
            observers=self._observers,
            workers=self._new_workers(),
            start_child=functools.partial(self._start_child, log.workflow_id),
        )
        run.on_close.append(Waits(run, self._alarm, suspends=self._suspends).close)
        show_progress(run)
        return run

    def _new_reporter(self, run: Run, function: str, *, is_new: bool, is_awaited: bool) -> logs.Reporter:
        find_dead = functools.partial(self.records.find_dead, run.workflow_id, run.epoch - 1)
        return logs.Reporter(run, function, is_new=is_new, is_awaited=is_awaited, find_dead=find_dead)

    def _codec_of(self, workflow_id: str, fn: Callable[..., Any]) -> codec.Codec:
        """Return the codec of the result. Raises SerializationError, for a new workflow, if none can be stored."""
        subject = f"workflow {workflow_id!r}: its result"
        found = codec.codec_of_result(fn, subject)
        refusal = found.find_refusal(subject)
        if refusal is not None and self.records.find_state(workflow_id) is None:
            raise refusal
        return found

    def _record_run(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        function: str,
        arguments: str,
        parent_id: str | None,
        *,
        anew: bool,
    ) -> tuple[WorkflowRecord | None, int | None]:
        """Record a new run. Return the workflow as it was before, if it was there, and the epoch; None if it is final.

        Nothing is read before the first write: most ids that are begun are new.
        """
        life = os.getpid(), _host(), self.now(), parent_id, codec.names_in(arguments)
        record, epoch = None, self.records.begin_run(workflow_id, function, arguments, None, *life)
        while epoch is None:  # it is not new, or has changed since it was looked at
            record = self._find_same(workflow_id, fn, arguments)
            if record is not None and self._is_final(record, anew=anew):
                break
            text = arguments if record is None else record.arguments
            epoch = self.records.begin_run(workflow_id, function, text, record, *life)
        return record, epoch

    def _list_due(self, run: Run) -> list[tuple[str, str]]:
        return self._alarm.waits.list_due(run.now())

    def get_value(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """Read a large value that a row names. Raises CorruptionError."""
        found: tuple[bytes, list[memoryview]] = self.records.reader.get_value(sha256, subject)
        return found

    def _put(self, workflow_id: str, head: bytes, buffers: Sequence[Any]) -> str:
        return self.records.values_for(workflow_id, self.now).put(head, buffers)

    def _find_same(self, workflow_id: str, fn: Callable[..., Any], arguments: str) -> WorkflowRecord | None:
        """Return the workflow on record, if there is one. Raises WorkflowConflictError if it is another call."""
        record = self.records.find_state(workflow_id)
        if record is None:
            return None
        is_same, subject = is_name_of(record.function, fn), f"workflow {workflow_id!r}"
        if not is_same or not codec.are_same_arguments(fn, record.arguments, arguments, subject, self.get_value):
            raise conflict(workflow_id, record.function, record.arguments, fn, arguments)
        self._registry.add(fn, record.function)
        return record

    def _is_final(self, record: WorkflowRecord, *, anew: bool) -> bool:
        """Return whether another run would only return its outcome. One that failed is tried `anew` unless undone."""
        if record.status == "failed":
            return not anew or self.records.has_step(record.workflow_id, "compensation")
        return record.status != "running"


class Ended:
    """A workflow whose recorded outcome is final."""

    run = None

    def __init__(self, record: WorkflowRecord, result_codec: codec.Codec, read: Read) -> None:
        """`read` reads large values."""
        self.workflow_id = record.workflow_id
        self._output, self._error = record.output or "null", record.error
        self._codec, self._read = result_codec, read

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: its recorded result"

    def result(self) -> Any:
        """Return the value. Raises the error with which it ended."""
        if self._error is not None:
            raise decode_error(self._error)
        return self._codec.decode(self._output, self, self._read)


def _note_failure(log: WaitingLog, error: BaseException) -> None:
    """Save that a run has ended before its function was called. If that fails, the next run will call it crashed."""
    with contextlib.suppress(StoreError):
        ended = "stopped" if isinstance(error, Exception) else "interrupted"
        log.close(ended, None, f"{type(error).__name__}: {error}")


@functools.cache
def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket

    return socket.gethostname()
