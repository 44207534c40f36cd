"""LocalBackend: workflows that threads of this process run, on what a `Records` keeps."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from durable.errors import DurableError, NoThreadError, NotSupportedError, WorkflowBusyError
from durable.parallel.future import Future, wait
from durable.parallel.loop import EventLoop
from durable.parallel.threads import NO_THREAD, Threads
from durable.parallel.workers import Workers
from durable.recovery.handle import Handle
from durable.recovery.lives import Ended, Lives
from durable.recovery.records import Records
from durable.recovery.registry import Registry, recorded_call
from durable.replay import Frame
from durable.replay.moments import Observer
from durable.replay.run import Interruptible
from durable.replay.step_info import context_of_caller
from durable.replay.workflow import Execution
from durable.signals import held_back
from durable.store.records import MAX_CRASHES, ProgressRecord, Published, receives_nothing
from durable.values import codec
from durable.waiting.alarm import Alarm
from durable.waiting.clock import Clock

if TYPE_CHECKING:  # few workflows need them: `import durable` stays fast
    from durable.recovery.recover import Recovery
    from durable.values.large import Freed, LargeValues
    from durable.waiting.suspension import Sleepers


class LocalBackend:
    """See `durable.recovery.backend`. With `max_workflows` it suspends workflows that only wait."""

    def __init__(
        self,
        records: Records,
        *,
        registry: Registry,
        context: type[Frame],
        clock: Clock,
        observers: Sequence[Observer],
        max_workers: int,
        max_workflows: int | None,
    ) -> None:
        self.records, self.path, self.registry = records, records.path, registry
        self.event_loop = EventLoop()
        self.threads = Threads()  # for started workflows and branches, and lent to the pools of the runs
        self.started: dict[Future[Any], Interruptible] = {}
        self.alarm = Alarm(records.waits, clock)
        self.lives = Lives(
            records,
            registry=registry,
            context=context,
            alarm=self.alarm,
            observers=observers,
            new_workers=lambda: Workers(max_workers, self.event_loop, self.threads),
            start_child=self._start_child,
            suspends=max_workflows is not None,
        )
        self.sleepers = None if max_workflows is None else self._new_sleepers(max_workflows)
        self._beginning = contextlib.nullcontext if self.sleepers is None else self.sleepers.beginning
        if self.sleepers is not None:
            self.alarm.start()

    @property
    def reader(self) -> Any:
        """The stored workflows, to look at."""
        return self.records.reader

    # ---- running

    def run(self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a workflow in this thread; one that may be suspended, in the background."""
        if self.sleepers is not None:
            return self.start(workflow_id, fn, args, kwargs).result()
        with held_back():
            return self.lives.begin(workflow_id, fn, args, kwargs, is_awaited=True).result()

    def start(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        anew: bool = True,
    ) -> Handle[Any]:
        """Have a workflow run in a thread of its own; or join it, if it may be suspended and runs already."""
        handle = None
        try:
            with held_back(), self._beginning(workflow_id):
                begin = functools.partial(self.lives.begin, workflow_id, fn, args, kwargs, anew=anew)
                try:
                    handle = self._start(begin())
                except WorkflowBusyError:  # if it is not awake either, it has just ended, or was just suspended
                    if self.sleepers is None:
                        raise
                    handle = self._join(self.sleepers, workflow_id, fn) or self._start(begin())
        except BaseException:  # a signal came while we started, so that no caller would have the handle
            if handle is not None:
                handle.end()
            raise
        return handle

    def go_on(self, workflow_id: str) -> Handle[Any]:
        """Resume a workflow that had not ended, if its function may be run by name, see `Registry`.

        One that has ended meanwhile is not tried anew: the handle has its outcome.
        """
        call = recorded_call(self.lives.record(workflow_id), self.registry.find, self.lives.get_value)
        return self.start(workflow_id, *call, anew=False)

    def recover(self, max_crashes: int | None, executor_ids: Sequence[str]) -> Recovery:
        """Resume, in the background, every workflow that a dead process has left `running`."""
        with held_back():  # a handler that raises in the middle of an import would be another error of that
            from durable.recovery.recover import recover

        if executor_ids:
            raise NotSupportedError(
                "recover: a file has no executors; without executor_ids, all workflows that have no owner are found",
                operation="recover",
            )
        return recover(self.lives, self._go_on_unasked, MAX_CRASHES if max_crashes is None else max_crashes)

    def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow and its children, whichever process runs them."""
        from durable.recovery.recover import cancel

        self.reader.workflow(workflow_id)
        cancel(self.lives, self.go_on, workflow_id)
        self.alarm.ring()

    # ---- messages and the like, which outlive a run

    def send(self, workflow_id: str, event: str, value: str, key: str | None) -> bool:
        """Leave a message. Return whether it is the first of its key."""
        record = self.reader.workflow(workflow_id)
        if record.status in ("completed", "cancelled"):
            if key is not None and self.records.waits.has_message(workflow_id, key):
                return False
            raise receives_nothing(workflow_id, record.status)
        values = codec.names_in(value)
        is_new = self.records.waits.send(workflow_id, event, value, key, self.lives.now(), values)
        self.alarm.ring()
        return is_new

    def watch(self, workflow_id: str, *, progress: bool) -> Iterator[Published | ProgressRecord]:
        """Yield what a workflow has published and goes on to publish, until it ends; and its progress."""
        watched: Iterator[Published | ProgressRecord]
        watched = self.reader.watch(workflow_id, self.alarm.wait_for_change, progress=progress)
        return watched

    def rewind(self, workflow_id: str, to: str | None) -> None:
        """Take back all that is recorded from a step on; without one, the failed steps and what followed them."""
        self.reader.workflow(workflow_id)
        self.records.rewind(workflow_id, to, self.lives.now())

    def restart(self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take back all that is recorded, and note another call. Nothing is run."""
        self.reader.workflow(workflow_id)
        arguments = self.lives.encode(workflow_id, fn, args, kwargs)
        self.records.restart(workflow_id, self.registry.add(fn), arguments, self.lives.now())

    def fork(self, workflow_id: str, new_id: str, at: str) -> None:
        """Make a new workflow of the outcomes before a step."""
        self.reader.workflow(workflow_id)
        self.records.fork(workflow_id, new_id, at, self.lives.now())

    def delete(self, workflow_id: str) -> None:
        """Delete a workflow and its children. Raises WorkflowBusyError while one of them runs."""
        if not self.reader.has_workflow(workflow_id):
            raise self.reader.not_found(workflow_id)
        with contextlib.ExitStack() as owners:
            family = self.records.list_family(workflow_id)
            for each in family:
                owners.callback(self.records.own(each).release)
            self.records.delete_workflows(family)
            self.alarm.ring()  # a caller may hold a handle of one that is suspended

    def collect(self) -> Freed:
        """Drop the large values that no row names."""
        return self.records.collect()

    def get_value(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """Read a large value that a row names. Raises CorruptionError if it is missing or was changed."""
        return self.lives.get_value(sha256, subject)

    def values_for(self, workflow_id: str) -> LargeValues:
        """Return the large values of a call or a message that is to be sent to a workflow."""
        return self.records.values_for(workflow_id, self.lives.now)

    def delete_ended(self, workflow_ids: list[str]) -> int:
        """Delete, in one transaction, those that have ended, with children that have. Return how many."""
        with contextlib.ExitStack() as owners, held_back():
            families = [family for each in workflow_ids if (family := self._own_ended(each, owners))]
            self.records.delete_workflows([each for family in families for each in family])
        return len(families)

    def give_space_back(self) -> None:
        """Make the file smaller, if much of it is free."""
        self.records.give_space_back()

    def _own_ended(self, workflow_id: str, owners: contextlib.ExitStack) -> list[str]:
        """Own a workflow and its children, and return them; none if one of them runs, or is to go on."""
        family = self.records.list_family(workflow_id)
        with contextlib.ExitStack() as mine, contextlib.suppress(WorkflowBusyError):
            for each in family:
                mine.callback(self.records.own(each).release)
            if len(self.records.list_over(family)) == len(family):
                owners.push(mine.pop_all())
                return family
        return []

    # ---- the end

    def interrupt_started(self, reason: str) -> None:
        """Let nothing more begin of the workflows that were started here."""
        for run in list(self.started.values()):
            run.interrupt(reason)
        if self.sleepers is not None:
            self.sleepers.interrupt_all(reason)

    def wait_for_started(self) -> None:
        """Wait until the started workflows have ended; if this backend suspends, until none runs."""
        if self.sleepers is None:
            while self.started:  # one of them may yet begin a child that lives on
                wait(list(self.started))
        else:
            self.alarm.on_look = None  # no suspended workflow is woken; one that runs may wait for its pace
            self.sleepers.close()
            self.alarm.stop()

    def stop(self, timeout_seconds: float | None, reason: str) -> bool:
        """Let nothing more begin, and wait for the steps in flight. Return whether they have ended in time."""
        self.alarm.stop()  # so that nothing more is woken
        self.lives.wind_down(reason)
        if self.sleepers is not None:
            self.sleepers.interrupt_all(reason)
        has_ended = self.lives.wait_for_end(timeout_seconds)
        if self.sleepers is not None:
            self.sleepers.close(is_late=not has_ended)
        return has_ended

    def close(self) -> None:
        """End the threads and close the file. May be called twice."""
        self.alarm.stop()
        self.threads.close()
        try:
            self.event_loop.close()
        finally:
            self.records.close()
            self.alarm.end()

    # ---- within

    def _new_sleepers(self, max_workflows: int) -> Sleepers:
        from durable.waiting.suspension import Sleepers

        return Sleepers(self.lives, self.alarm, max_workflows)

    def _go_on_unasked(self, workflow_id: str) -> Handle[Any]:
        """Do as `go_on` does, unless its run has stopped here: the same code would have the same effects again."""
        error = None if self.sleepers is None else self.sleepers.find_error(workflow_id)
        if error is not None:
            raise DurableError(
                f"its run in this process ended with {type(error).__name__}: {error}; it is left until a caller runs "
                f"or resumes it, or another process recovers it"
            )
        return self.go_on(workflow_id)

    def _start_child(
        self, parent_id: str, workflow_id: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, anew: bool
    ) -> Handle[Any] | None:
        """Have a child workflow run. Return None if another process runs it."""
        with self._beginning(workflow_id):
            try:
                return self._start(self.lives.begin(workflow_id, fn, args, kwargs, parent_id, anew=anew))
            except WorkflowBusyError:
                return None

    def _join(self, sleepers: Sleepers, workflow_id: str, fn: Any) -> Handle[Any] | None:
        """Return a handle of a workflow that is awake; None if none of this id is."""
        future = self._new_future()
        if not sleepers.join(workflow_id, fn, future):
            return None
        return self._hand_out(workflow_id, future, sleepers.sleeper(workflow_id))

    def _start(self, found: Execution | Ended) -> Handle[Any]:
        future = self._new_future()
        if isinstance(found, Ended):
            future.settle(found.result)
            return Handle(found.workflow_id, future, None)
        run: Interruptible = found.run if self.sleepers is None else self.sleepers.sleeper(found.workflow_id)
        handle = self._hand_out(found.workflow_id, future, run)
        if self.sleepers is not None:
            self.sleepers.live(found, future)
        else:
            try:
                work = functools.partial(context_of_caller().run, future.settle, found.result)
                self.threads.begin(f"workflow {found.workflow_id}", work)
            except NoThreadError as error:
                found.give_up("interrupted", NO_THREAD)
                future.set_exception(error)
                raise
        return handle

    def _new_future(self) -> Future[Any]:
        return Future(self.event_loop.is_current)

    def _hand_out(self, workflow_id: str, future: Future[Any], run: Interruptible) -> Handle[Any]:
        """Return a handle of a workflow that runs, or will: closing the engine waits for it."""
        self.started[future] = run
        future.on_end(lambda done: self.started.pop(done, None))
        future.on_end(lambda _: self.alarm.ring())  # a parent may wait for it
        return Handle(workflow_id, future, run)
