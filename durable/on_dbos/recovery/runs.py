"""Runs: the workflows that this process runs at the moment, for any caller."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from dbos import DBOS, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from durable import logs
from durable.context import Context
from durable.errors import CancelRequested, RunStopped, StoreError, WorkflowCancelledError, WorkflowNotFoundError
from durable.limits.progress import show_progress
from durable.on_dbos.outside import outside
from durable.on_dbos.process import cancelled
from durable.on_dbos.recovery.set_aside import begin_afresh, note_crash, note_interrupt
from durable.on_dbos.replay.log import DBOSLog
from durable.on_dbos.replay.mailbox import Mailboxes
from durable.on_dbos.replay.room import Room, RoomyWaits
from durable.on_dbos.replay.run import DBOSRun
from durable.on_dbos.replay.slots import NotOurs, Slots
from durable.on_dbos.store import workflows
from durable.on_dbos.store.large import SharedValues, Tables
from durable.on_dbos.store.progress import RunProgress
from durable.on_dbos.store.rows import OutcomeRow
from durable.on_dbos.store.serializer import WorkflowFailed
from durable.parallel.loop import EventLoop
from durable.parallel.threads import Threads
from durable.parallel.workers import Workers
from durable.recovery.registry import Registry, import_for
from durable.replay.moments import Observer
from durable.replay.workflow import Execution
from durable.signals import let_through
from durable.store.records import MAX_CRASHES, WaitRecord
from durable.values import codec
from durable.values.failures import encode_error
from durable.waiting.alarm import Alarm
from durable.waiting.clock import Clock

GLANCE_SECONDS = 0.5  # how often it is looked whether a workflow that runs here was cancelled

PATIENCE_SECONDS = 2.0  # with a look that does not come back, since the database is away

Tell = Callable[[BaseException], object]
StartChild = Callable[..., Any]  # see DBOSEngine._start_child


class Runs:
    """Safe to use from any thread."""

    def __init__(
        self,
        path: Path,
        executor_id: str,
        *,
        tables: Tables,
        registry: Registry,
        clock: Clock,
        observers: Sequence[Observer],
        max_workers: int,
        max_workflows: int | None,
        event_loop: EventLoop,
        start_child: StartChild,
    ) -> None:
        self.path, self._clock, self._observers, self._max_workers = path, clock, observers, max_workers
        self._event_loop, self._start_child, self._executor_id = event_loop, start_child, executor_id
        self._registry, self._threads, self._tables = registry, Threads(), tables
        self._active: dict[str, DBOSRun] = {}
        self._mailboxes, self._room = Mailboxes(self._active, self._ring), Room(max_workflows)
        self._alarm = Alarm(self._mailboxes, clock)
        self._executing: list[str] = []  # from when DBOS has called: its module may take long to be imported
        self._to_interrupt: set[str] = set()
        self._interrupted: dict[str, list[Tell]] = {}
        self._is_closed = threading.Event()
        self._is_late = False
        self.keep: Callable[[], object] = lambda: None  # to be called now and then
        self.on_missing: Callable[[str, WorkflowNotFoundError], object] = _warn
        self.contexts: dict[str, Mapping[contextvars.ContextVar[Any], Any]] = {}  # the callers', until it is executed
        self.asked: list[str] = []  # a caller has asked for these and waits, so that none of them is set aside
        self.left: set[str] = set()  # interrupted here, and not run by any process since
        self._watch = threading.Thread(target=self._watch_for_cancels, name="cancel watch", daemon=True)
        self._watch.start()

    def execute(self, function: str, arguments: dict[str, Any], forked: list[dict[str, Any]]) -> OutcomeRow:
        """Run the workflow that DBOS has begun in this thread. DBOS saves what it raises, if that is an Exception."""
        workflow_id = DBOS.workflow_id
        assert workflow_id is not None
        self._executing.append(workflow_id)
        context = contextvars.copy_context()  # DBOS's own variables stay
        context.run(_add_variables, self.contexts.pop(workflow_id, {}))
        try:
            return context.run(self._execute, workflow_id, function, arguments, forked)
        except WorkflowFailed:
            raise
        except CancelRequested:  # DBOS has cancelled it, and saves nothing more
            error = WorkflowCancelledError(f"workflow {workflow_id!r} was cancelled")
            raise WorkflowFailed(encode_error(error)) from None
        except BaseException as error:
            if isinstance(error, Exception):
                raise WorkflowFailed(encode_error(error)) from error
            if isinstance(error, _NotRun):
                raise
            if not isinstance(error, _SetAside):
                self.left.add(workflow_id)
            for tell in self._interrupted.pop(workflow_id, []):
                tell(error)
            raise
        finally:
            self._room.leave(workflow_id)
            self._executing.remove(workflow_id)

    def interrupt(self, workflow_id: str, *, is_begun_here: bool = False) -> bool:
        """Let nothing more of it begin here; nor it itself, where DBOS is about to. Returns whether it runs here."""
        if is_begun_here:
            self._to_interrupt.add(workflow_id)
        run = self._active.get(workflow_id)
        if run is not None:
            run.interrupt("the engine was asked to interrupt it")
        return run is not None

    def find_new_wait(self, workflow_id: str, step_key: str) -> WaitRecord | None:
        """See `DBOSEngine.find_new_wait`."""
        run = self._active.get(workflow_id)
        row = None if run is None else run.dbos_log.find_begun(step_key)
        return None if row is None else row.wait_record(workflow_id)

    def is_active(self, workflow_id: str) -> bool:
        """Return whether it runs here, or is about to."""
        return workflow_id in self._executing

    def ask_to_cancel(self, workflow_id: str) -> bool:
        """Tell it that it is to be cancelled. Returns whether it runs here."""
        run = self._active.get(workflow_id)
        if run is not None:
            run.ask_to_cancel()
        return run is not None

    def when_interrupted(self, workflow_id: str, tell: Tell) -> None:
        """Have it called where a run of this workflow ends here without an outcome."""
        self._interrupted.setdefault(workflow_id, []).append(tell)

    def forget(self, workflow_id: str, tell: Tell) -> None:
        """Forget a call of `when_interrupted`: it is not needed any more."""
        told = self._interrupted.get(workflow_id, [])
        if tell in told:
            told.remove(tell)
        if not told:
            self._interrupted.pop(workflow_id, None)

    def want(self, workflow_id: str) -> bool:
        """Note that a caller wants it to run. Return whether it was interrupted here, and not run since."""
        self._to_interrupt.discard(workflow_id)
        is_left = workflow_id in self.left
        self.left.discard(workflow_id)
        return is_left

    def interrupt_all(self) -> None:
        """Let nothing more begin here from now on."""
        self._is_closed.set()
        for run in list(self._active.values()):
            run.interrupt("the engine was closed")

    def stop(self, timeout_seconds: float | None, reason: str) -> bool:
        """Let nothing more begin here, and the steps in flight end. Return whether they have ended in time."""
        self._is_closed.set()
        active = list(self._active.values())
        for run in reversed(active):  # children first: a parent interrupts them
            run.wind_down(reason)
        give_up_at = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        for run in active:
            left = None if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            let_through(run.has_ended.wait, left)
        self._is_late = not all(run.has_ended.is_set() for run in active)
        return not self._is_late

    def close(self) -> None:
        """Interrupt what runs, and wait until it has ended, unless it has outlasted `stop`."""
        self.interrupt_all()
        self._watch.join(PATIENCE_SECONDS)
        while self._active and not self._is_late:
            for workflow_id, run in list(self._active.items()):
                self.interrupt(workflow_id)
                run.has_ended.wait()
        self._threads.close()
        self._alarm.stop()

    # ---- one run

    def _execute(
        self, workflow_id: str, function: str, arguments: dict[str, Any], forked: list[dict[str, Any]]
    ) -> OutcomeRow:
        fn = self._find_or_leave(workflow_id, function)
        self._room.enter(workflow_id, lambda: self._may_not_begin(workflow_id), lambda: note_interrupt(workflow_id))
        found = codec.codec_of_result(fn, f"workflow {workflow_id!r}: its result")
        record, taken = workflows.read_record(workflow_id, forked)
        slots = Slots(taken, self.path)
        values = SharedValues(self._tables, workflow_id)
        progress = RunProgress(self._tables, workflow_id, is_first=record.last_run == 0)
        log = DBOSLog(workflow_id, record, slots, self.path, self._event_loop, self._mailboxes.change, values, progress)
        if not record.is_undone():  # also if a caller asked for it to be run again
            record.begin_run()
        run = self._begin(log, function)
        try:
            text, list_due = msgspec.json.encode(arguments).decode(), functools.partial(self._mailboxes.list_due, "")
            Execution(run, fn, text, found, Context, list_due).result()
            return OutcomeRow(msgspec.Raw((log.output or "null").encode()))
        except Exception as error:
            if log.is_cancelled:
                cancelled.append(workflow_id)
                outside(DBOS.cancel_workflow, workflow_id)
            else:
                with contextlib.suppress(StoreError):  # the error itself says more
                    log.mailbox.drain()
            raise log.outcome_error(error) from error
        except CancelRequested:
            raise
        except BaseException:
            with contextlib.suppress(SQLAlchemyError):
                note_interrupt(workflow_id)
            raise
        finally:
            self._end(run)

    def _find_or_leave(self, workflow_id: str, function: str) -> Callable[..., Any]:
        """Return the function. Without it the workflow is left for other processes, or a caller that passes it."""
        try:
            return import_for(workflow_id, function, self._registry.find)
        except WorkflowNotFoundError as error:
            self.left.add(workflow_id)
            if self._registry.is_passed(function):  # meanwhile, by a caller who may not have found it left
                self.left.discard(workflow_id)
                return import_for(workflow_id, function, self._registry.find)
            self.on_missing(workflow_id, error)
            raise _NotRun(str(error)) from error

    def _begin(self, log: DBOSLog, function: str) -> DBOSRun:
        workflow_id = log.workflow_id
        while (stale := self._active.get(workflow_id)) is not None:  # it has lost the workflow to this one
            stale.lose(NotOurs("it was begun again"))
            stale.has_ended.wait()
        if self._may_not_begin(workflow_id):
            self._to_interrupt.discard(workflow_id)
            raise RunStopped(f"workflow {workflow_id!r}: its run was interrupted; run the same id again to go on")
        run = DBOSRun(
            log,
            clock=self._clock.now,
            observers=self._observers,
            workers=Workers(self._max_workers, self._event_loop, self._threads),
            start_child=functools.partial(self._start_child, log.slots),
            room=self._room,
        )
        run.on_close.append(RoomyWaits(run, self._alarm, self._room).close)
        show_progress(run)
        run.on_news = logs.Reporter(run, function, is_new=log.epoch == 1, is_awaited=True, find_dead=lambda: None)
        self._active[workflow_id] = run
        log.mailbox.on_error = run.lose
        found = workflows.find_status(workflow_id, **workflows.BARE)
        if workflows.has_cancel_request(found, or_parent=log.epoch == 1):
            run.ask_to_cancel()
        elif found is not None and (found.recovery_attempts or 0) > 1 and note_crash(found):
            if workflow_id not in self.asked:  # asked only now: a caller looks for the note after it has asked
                run.close()
                self._end(run)
                logs.warn("workflow %r is set aside: its last %d runs made no progress", workflow_id, MAX_CRASHES)
                raise _SetAside(
                    f"workflow {workflow_id!r} is set aside: its last {MAX_CRASHES} runs ended without a new "
                    f"checkpoint; run or resume it once the cause is removed"
                )
            begin_afresh(found)
        return run

    def _end(self, run: DBOSRun) -> None:
        run.dbos_log.mailbox.close()
        self._active.pop(run.workflow_id, None)
        run.has_ended.set()

    def _may_not_begin(self, workflow_id: str) -> bool:
        return self._is_closed.is_set() or workflow_id in self._to_interrupt

    def _ring(self) -> None:
        self._alarm.ring()

    def _watch_for_cancels(self) -> None:
        while not self._is_closed.wait(GLANCE_SECONDS):
            self.keep()
            active = dict(self._active)  # these runs, and not what has begun since the look
            if not active:
                continue
            for status in self._look_up([*active]):
                run = active[status.workflow_id]
                if workflows.has_cancel_request(status):
                    run.ask_to_cancel()
                elif self._is_elsewhere(status):
                    run.lose(NotOurs("another process runs it"))  # this one was taken for dead

    def _is_elsewhere(self, status: WorkflowStatus) -> bool:
        return status.status == "ENQUEUED" or status.executor_id not in (None, self._executor_id)

    def _look_up(self, active: list[str]) -> list[WorkflowStatus]:
        try:
            return workflows.list_statuses(workflow_ids=active, load_input=False, load_output=False)
        except SQLAlchemyError:  # the database is away; the next save will report it
            return []


def _add_variables(variables: Mapping[contextvars.ContextVar[Any], Any]) -> None:
    here = contextvars.copy_context()
    for variable, value in variables.items():
        if variable not in here:
            variable.set(value)


class _NotRun(RunStopped):
    """The workflow was left before anything of it was called. No caller waits for that run."""


class _SetAside(RunStopped):
    """The workflow was left before anything of it was called. Its callers are notified."""


def _warn(workflow_id: str, error: WorkflowNotFoundError) -> None:
    logs.logger.warning("left: %s", error, extra=logs.extra(workflow_id))
