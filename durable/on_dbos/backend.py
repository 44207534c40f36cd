"""DBOSBackend: workflows that DBOS runs, in this process and in others, on one PostgreSQL database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from dbos import DBOS, DBOSConfig, WorkflowStatus, error

from durable.errors import NotSupportedError, WorkflowBusyError, WorkflowNotFoundError
from durable.observer import Observer
from durable.on_dbos.outside import outside
from durable.on_dbos.process import Process, check_alone
from durable.on_dbos.recovery import cancel, fork
from durable.on_dbos.recovery.admission import check_importable, check_same, check_workflow_id, start_in_dbos
from durable.on_dbos.recovery.ending import Ending
from durable.on_dbos.recovery.executor import Executor
from durable.on_dbos.recovery.runs import Runs
from durable.on_dbos.recovery.set_aside import begin_afresh, is_set_aside, note_crash
from durable.on_dbos.replay.slots import Slots
from durable.on_dbos.store import large, progress, workflows
from durable.on_dbos.store.connection import RestedPool, check_url
from durable.on_dbos.store.reader import Reader
from durable.on_dbos.store.serializer import JSONSerializer
from durable.parallel.future import Future, wait
from durable.parallel.loop import EventLoop
from durable.recovery.handle import Handle
from durable.recovery.recover import Recovery
from durable.recovery.registry import Registry, import_for, recorded_call
from durable.replay.run import Interruptible
from durable.replay.step_info import context_of_caller
from durable.signals import held_back, is_interrupt
from durable.store.records import ProgressRecord, Published
from durable.values import codec
from durable.values.large import Freed, LargeValues
from durable.waiting.clock import Clock

VERSION = "durable"  # the version of all applications: changed code is found by the replay rule, step by step


class DBOSBackend:
    """See `durable.recovery.backend`."""

    lacks: ClassVar = {  # each capability that DBOS has not, and the remedy
        "runs": "DBOS counts the runs, and keeps nothing of each; the epoch of a step tells in which run it was saved",
        "owner": "any machine may run it, where a pid tells nothing; DBOS has its executor_id",
        "rewind": "DBOS takes rows back by their numbers, which have no order here; fork it at that step instead",
        "restart": "DBOS takes no row back; fork it, or give the new call another workflow id",
        "max_crashes": "runs are counted as they begin, so recover comes too late; leave max_crashes out",
    }

    def __init__(
        self,
        database_url: str,
        executor_id: str,
        *,
        application_version: str,
        application: str,
        registry: Registry,
        clock: Clock,
        observers: Sequence[Observer],
        max_workers: int,
        max_workflows: int | None,
        log_level: str,
        queues: Sequence[str],
        on_missing: Callable[..., object] | None,
    ) -> None:
        self.reader = Reader(DBOS, check_url(database_url))
        check_alone()
        self.path, self.registry, self.event_loop = Path(self.reader.name), registry, EventLoop()
        self.started: dict[Future[Any], Interruptible] = {}
        self._executor_id, self._clock = executor_id, clock
        self._queue = queues[-1] if queues else None  # for what is taken up again; None is served by every process
        self._executor = Executor(database_url, executor_id, self.reader.name)
        self._tables = large.Tables(database_url, self.path)
        self.reader.get_value, self.reader.ask = self.get_value, self._tables.ask
        self.runs = Runs(
            self.path,
            executor_id,
            tables=self._tables,
            registry=registry,
            clock=clock,
            observers=observers,
            max_workers=max_workers,
            max_workflows=max_workflows,
            event_loop=self.event_loop,
            start_child=self._start_child,
        )
        self.runs.on_missing = on_missing or self.runs.on_missing
        config: DBOSConfig = {
            "name": application,
            "system_database_url": database_url,
            "executor_id": executor_id,
            "application_version": application_version,
            "serializer": JSONSerializer(),
            "log_level": log_level,
            "db_engine_kwargs": {"pool_pre_ping": False, "poolclass": RestedPool},
        }
        try:
            self._process = Process(config, self.runs.execute, queues)
        except BaseException:
            self.runs.close()
            self._executor.close()
            raise
        self.runs.keep = self._executor.keep

    # ---- running

    def run(self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a workflow in a thread of DBOS's, or join one that runs already; and wait for its end."""
        return self.start(workflow_id, fn, args, kwargs).result()

    def start(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        anew: bool = True,
    ) -> Handle[Any]:
        """Have DBOS run a workflow, or join it. It is not set aside while a caller waits for it."""
        with held_back():
            self.runs.asked.append(workflow_id)
            try:
                handle = self._start(workflow_id, fn, args, kwargs, outside, anew=anew)
            except BaseException:
                self.runs.asked.remove(workflow_id)
                raise
            handle.when_done(lambda: self.runs.asked.remove(workflow_id))
            return handle

    def recover(self, max_crashes: int | None, executor_ids: Sequence[str]) -> Recovery:
        """Return what has been taken up again, and take up what these executors have left; they must be dead.

        DBOS itself takes up the workflows of this executor id, as the engine is opened. One whose last three runs
        got nowhere has been set aside; `run` and `resume` take it up all the same.
        """
        if max_crashes is not None:
            raise NotSupportedError(f"recover: {self.lacks['max_crashes']}", operation="recover")
        found = Recovery()
        for status in workflows.list_statuses(status=workflows.STATUSES["running"], load_output=False):
            if is_set_aside(status):
                found.set_aside.append(status.workflow_id)
            elif status.status == "PENDING" and status.executor_id in (self._executor_id, *executor_ids):
                self._recover(status, found)
        return found

    def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow and its children, whichever process runs them.

        Its process notices within a second; a step in flight ends first. Then the compensations run. One that has not
        begun is cancelled at once; one whose process has died, when another takes it up.
        """
        found = self.reader.status(workflow_id, **workflows.BARE)
        for each in cancel.cancel(found, self.runs, self._clock.now()):
            self._go_on(each)

    # ---- messages and the like, which outlive a run

    def send(self, workflow_id: str, event: str, value: str, key: str | None) -> bool:
        """Leave a message. DBOS tells whether it is the first of its key only after the end."""
        return self.reader.send_text(workflow_id, event, value, key)

    def watch(self, workflow_id: str, *, progress: bool) -> Iterator[Published | ProgressRecord]:
        """Yield what a workflow has published and goes on to publish, until it ends; and its progress."""
        return self.reader.watch(workflow_id, progress=progress)

    def fork(self, workflow_id: str, new_id: str, at: str) -> None:
        """Make a new workflow of the outcomes before a step."""
        check_workflow_id(new_id)
        fork.fork(self.reader.status(workflow_id), new_id, at)
        large.share(self._tables, workflow_id, new_id)  # until then, the values are those of the original

    def delete(self, workflow_id: str) -> None:
        """Delete a workflow and its children. Raises WorkflowBusyError if one of them may be running."""
        found = self.reader.status(workflow_id, **workflows.BARE)
        family = list(cancel.list_family(found))
        for each in family:
            if each.status == "PENDING" and each.workflow_id not in self.runs.left and not is_set_aside(each):
                raise WorkflowBusyError(each.workflow_id, None)
        outside(lambda: DBOS.delete_workflow(workflow_id, delete_children=True))
        self.runs.want(workflow_id)
        large.forget(self._tables, [each.workflow_id for each in family])  # a crash before it leaves them to gc
        progress.forget(self._tables, [each.workflow_id for each in family])

    def collect(self) -> Freed:
        """Drop the large values that no row names. Those of a workflow that has not ended stay."""
        return large.collect(self._tables)

    def get_value(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """Read a large value that a row names. Raises CorruptionError if it is missing or was changed."""
        return large.SharedValues(self._tables, "").get(sha256, subject)

    def values_for(self, workflow_id: str) -> LargeValues:
        """Return the large values of a call or a message that is to be sent to a workflow."""
        return large.SharedValues(self._tables, workflow_id)

    def delete_ended(self, workflow_ids: list[str]) -> int:
        """Delete those that have ended, with children that have. Return how many."""
        count = 0
        for each in workflow_ids:
            with contextlib.suppress(WorkflowBusyError, WorkflowNotFoundError):  # another process deletes, too
                family = cancel.list_family(self.reader.status(each, **workflows.BARE))
                if all(workflows.status_of(member) != "running" for member in family):
                    self.delete(each)
                    count += 1
        return count

    def give_space_back(self) -> None:
        """Leave it to PostgreSQL, whose autovacuum does it."""

    # ---- the end

    def interrupt_started(self, reason: str) -> None:
        """Let nothing more begin of the workflows that were started here."""
        for each in list(self.started.values()):
            each.interrupt(reason)

    def wait_for_started(self) -> None:
        """Wait for the workflows that were started here."""
        wait(list(self.started))

    def stop(self, timeout_seconds: float | None, reason: str) -> bool:
        """Let nothing more begin, and wait for the steps in flight. Return whether they have ended in time."""
        has_ended = self.runs.stop(timeout_seconds, reason)
        self.interrupt_started(reason)  # this ends the waits for what other processes run
        return has_ended

    def close(self) -> None:
        """Interrupt what DBOS has begun here without a caller, and leave the database. May be called twice."""
        self.runs.close()
        self.event_loop.close()
        self._process.close()
        self._executor.close()
        self._tables.close()

    # ---- within

    def _go_on(self, workflow_id: str) -> Handle[Any]:
        call = recorded_call(self.reader.workflow(workflow_id), self.registry.find, self.get_value)
        return self.start(workflow_id, *call, anew=False)

    def _start(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        begin: Callable[[Callable[[], Any]], Any],
        *,
        anew: bool = True,
        frees: bool = True,
    ) -> Handle[Any]:
        """`begin` calls what starts a workflow in DBOS; `anew` says whether one that has failed is tried anew.

        `frees` says whether one that is set aside is taken up.
        """
        check_workflow_id(workflow_id)
        function, subject = check_importable(fn), f"workflow {workflow_id!r}"
        self.registry.add(fn)
        result_codec = codec.codec_of_result(fn, f"{subject}: its result")
        arguments = codec.encode_arguments(fn, args, kwargs, subject, self.values_for(workflow_id).put)
        found, handle = outside(DBOS.get_workflow_status, workflow_id), None
        refusal = result_codec.find_refusal(f"{subject}: its result")
        if refusal is not None and found is None:
            raise refusal
        plain = workflows.plain_arguments(arguments)
        self.runs.contexts[workflow_id] = context_of_caller()
        while found is None and handle is None:
            self.runs.want(workflow_id)
            handle = begin(lambda: start_in_dbos(workflow_id, function, plain))
            if handle is None:  # another was quicker
                found = outside(DBOS.get_workflow_status, workflow_id)
        if found is not None:
            self.registry.add(fn, check_same(found, fn, arguments, self.get_value))
            self._take_up(found, anew=anew, frees=frees)
        future: Future[Any] = Future(self.event_loop.is_current)
        ending = Ending(workflow_id, self.runs, future, result_codec, self.get_value)
        self.started[future] = ending
        future.on_end(lambda done: self.started.pop(done, None))
        future.on_end(lambda _: self.runs.contexts.pop(workflow_id, None))  # if another process has run it
        ending.start(handle)
        return Handle(workflow_id, future, ending)

    def _take_up(self, found: WorkflowStatus, *, anew: bool, frees: bool) -> None:
        """Have an existing workflow go on, if it may and no process runs it."""
        workflow_id = found.workflow_id
        was_left = self.runs.want(workflow_id)
        if found.status == "ERROR":
            if anew and not workflows.read_record_of(found).is_undone():
                _run_again(workflow_id, self._queue)
        elif frees if is_set_aside(found) else was_left or fork.is_waiting(found):
            begin_afresh(found)
            outside(lambda: DBOS.resume_workflow(workflow_id, queue_name=self._queue))

    def _recover(self, status: WorkflowStatus, found: Recovery) -> None:
        workflow_id = status.workflow_id
        try:
            import_for(workflow_id, workflows.call_of(status)[0], self.registry.find)
            if status.executor_id != self._executor_id:
                if note_crash(status):
                    found.set_aside.append(workflow_id)
                    return
                outside(DBOS.resume_workflow, workflow_id)
            call = recorded_call(self.reader.workflow(workflow_id), self.registry.find, self.get_value)
            handle = self._start(workflow_id, *call, outside, anew=False, frees=False)
            if is_set_aside(self.reader.status(workflow_id, **workflows.BARE)):  # meanwhile, as DBOS began it
                handle.interrupt()
                found.set_aside.append(workflow_id)
            else:
                found.resumed.append(handle)
        except Exception as error:  # a module of the user's may raise anything as it is imported
            if is_interrupt(error):
                raise
            found.left[workflow_id] = str(error) or type(error).__name__

    def _start_child(
        self, slots: Slots, workflow_id: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, anew: bool
    ) -> Handle[Any]:
        return self._start(workflow_id, fn, args, kwargs, slots.draw_within, anew=anew)


def _run_again(workflow_id: str, queue: str | None) -> None:
    """Have DBOS dispatch a failed workflow, with all its rows; another process may have been quicker to ask for it."""
    try:
        outside(lambda: DBOS.rewind_workflow(workflow_id, start_step=workflows.BEHIND_ALL, queue_name=queue))
    except error.DBOSException:
        found = workflows.find_status(workflow_id)
        if found is None or found.status == "ERROR":
            raise
