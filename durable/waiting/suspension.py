"""Sleepers: the workflows of an engine that suspends. Waiting ones hold no thread; those that are due share a few."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from durable import logs
from durable.errors import NoThreadError, RunStopped, StoreError, Suspended, WorkflowBusyError
from durable.parallel.future import Future, wait
from durable.parallel.threads import NO_THREAD
from durable.replay.run import Run
from durable.replay.step_info import context_of_caller
from durable.replay.workflow import Execution
from durable.waiting.alarm import Alarm
from durable.waiting.waits import waits_of


class Begun(Protocol):
    """A workflow whose run has begun, or one that has ended and has no run."""

    @property
    def workflow_id(self) -> str:
        """Its id."""
        ...

    @property
    def run(self) -> Run | None:
        """The run."""
        ...

    def result(self) -> Any:
        """Run it to its end and return its value; or return the value on record. Raises its error."""
        ...


class Lives(Protocol):
    """How a workflow that is due is begun, see `durable.recovery.lives`."""

    def find_call_to_wake(
        self, workflow_id: str, fn: Callable[..., Any] | None
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Return the call on record. Raises DurableError if it is not to be run here, or not now."""
        ...

    def begin(
        self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, anew: bool
    ) -> Begun:
        """Own its id and begin a run. Raises WorkflowBusyError while it runs elsewhere."""
        ...

    def is_owned(self, workflow_id: str) -> bool:
        """Return whether a process runs it now."""
        ...

    def is_unfinished(self, workflow_id: str) -> bool:
        """Return whether it has not ended, as far as can be read."""
        ...

    def list_over(self, workflow_ids: Iterable[str]) -> list[str]:
        """Return those of the workflows that have ended, or were deleted."""
        ...

    def list_parents(self, child_ids: list[str]) -> list[tuple[str, str]]:
        """Return the workflows that wait for one of these to end, each with the id of that child."""
        ...


class Sleepers:
    """The workflows of an engine that suspends: a bounded number runs, any number waits without a thread."""

    def __init__(self, lives: Lives, alarm: Alarm, max_workflows: int) -> None:
        """The alarm calls `look` once it is started."""
        self._lives, self._alarm = lives, alarm
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workflows, thread_name_prefix="workflow")
        self._working: set[concurrent.futures.Future[None]] = set()
        self._lock = threading.Condition()
        self._asked: dict[str, list[Future[Any]]] = {}  # the callers' futures of workflows that have not ended
        self._functions: dict[str, Callable[..., Any]] = {}  # the callers' functions, which need not be importable
        self._contexts: dict[str, contextvars.Context] = {}  # the callers' context variables
        self._awake: dict[str, Run | None] = {}  # each that a thread of the pool has, with its run once that has begun
        self._beginning: set[str] = set()  # held until it is known here whether this engine owns them
        # each that cannot be resumed here, or was interrupted, and why: left until a caller asks for it
        self._refused: dict[str, BaseException] = {}
        alarm.on_look = self.look
        alarm.runs.add(self)

    def leave(self, reason: str) -> None:
        """Do nothing: what is suspended holds no thread."""

    def is_idle(self) -> bool:
        """Return whether all workflows only wait."""
        return all(run is not None and waits_of(run).is_kept_awake() for run in list(self._awake.values()))

    def sleeper(self, workflow_id: str) -> Sleeper:
        """Return a handle that interrupts one of them."""
        return Sleeper(self, workflow_id)

    @contextlib.contextmanager
    def beginning(self, workflow_id: str) -> Iterator[None]:
        """Begin a run and note it, one thread at a time. So a thread that finds the id owned knows by which engine."""
        with self._lock:
            self._lock.wait_for(lambda: workflow_id not in self._beginning)
            self._beginning.add(workflow_id)
        try:
            yield
        finally:
            with self._lock:
                self._beginning.discard(workflow_id)
                self._lock.notify_all()

    def live(self, execution: Execution, future: Future[Any]) -> None:
        """Run a workflow in the pool; the future is its outcome, after any number of suspensions.

        Raises NoThreadError if none can be started, or the engine is closed; then it was given up.
        """
        workflow_id = execution.workflow_id
        with self._lock:
            self._ask(workflow_id, execution.function, future)
            context = self._contexts[workflow_id]
            self._awake[workflow_id] = execution.run
            self._refused.pop(workflow_id, None)
        try:
            self._work(self._live, execution, context)
        except NoThreadError as error:
            execution.give_up("interrupted", NO_THREAD)
            _end_with(self._take(workflow_id, execution.run), error)
            raise

    def join(self, workflow_id: str, fn: Callable[..., Any], future: Future[Any]) -> bool:
        """Let the future end with the workflow, if it is awake. Return False if it is not."""
        with self._lock:
            if workflow_id in self._awake:
                self._ask(workflow_id, fn, future)
            return workflow_id in self._awake

    def find_error(self, workflow_id: str) -> BaseException | None:
        """Return the error with which its run has stopped here, if no caller has asked for it since.

        An interrupt does not count, nor does a database that could not be written: it may work again later.
        """
        error = self._refused.get(workflow_id)
        return None if isinstance(error, RunStopped | StoreError) else error

    def look(self, due: set[str], has_changed: bool) -> None:
        """Resume the workflows that are due, and hand over the outcomes of those that others have ended or deleted."""
        with self._lock:
            asked = [each for each in self._asked if each not in self._awake] if has_changed else []
        over = self._lives.list_over(asked)  # without the lock: a thread in a transaction may ask for a workflow
        with self._lock:
            ready = due.union(over) - self._awake.keys() - self._refused.keys()
            self._awake |= dict.fromkeys(ready)
            refused = list(self._refused)
        for workflow_id in ready:
            try:
                self._work(self._resume, workflow_id, self._contexts.get(workflow_id))
            except NoThreadError:  # it is looked at again
                self._let_be(workflow_id, None)
        if asked and refused:
            for stuck in self._lives.list_parents(refused):
                if stuck[0] in asked:
                    with contextlib.suppress(NoThreadError):
                        self._work(self._stop_parent, stuck)

    def interrupt(self, workflow_id: str, reason: str) -> None:
        """Let nothing more of a workflow begin here, until a caller asks for it again."""
        with self._lock:
            self._refused[workflow_id] = _stopped(workflow_id)
            run, is_asleep = self._awake.get(workflow_id), workflow_id not in self._awake
        if run is not None:
            run.interrupt(reason)
        if is_asleep:
            _end_with(self._take(workflow_id, None), _stopped(workflow_id))

    def interrupt_all(self, reason: str) -> None:
        """Interrupt all that run."""
        for workflow_id in list(self._awake):
            self.interrupt(workflow_id, reason)

    def close(self, *, is_late: bool = False) -> None:
        """Wait for those that run, unless it is late, and leave the others to the process that opens the file next."""
        while self._working and not is_late:
            wait(list(self._working))
        self._pool.shutdown(wait=not is_late)
        for workflow_id in list(self._asked):
            closed = Suspended(f"workflow {workflow_id!r} waits, and its engine was closed")
            _end_with(self._take(workflow_id, None), closed)

    def _work(self, fn: Callable[[Any], None], subject: Any, context: contextvars.Context | None = None) -> None:
        context = contextvars.Context() if context is None else context.copy()  # one may be in use for another run
        try:
            working = self._pool.submit(context.run, fn, subject)
        except RuntimeError as error:
            raise NoThreadError(str(error)) from error
        self._working.add(working)
        working.add_done_callback(self._working.discard)

    def _ask(self, workflow_id: str, fn: Callable[..., Any], future: Future[Any]) -> None:
        self._asked.setdefault(workflow_id, []).append(future)
        self._functions[workflow_id], self._contexts[workflow_id] = fn, context_of_caller()

    def _resume(self, workflow_id: str) -> None:
        fn = self._functions.get(workflow_id)
        try:
            found = self._begin(workflow_id, fn)
        except (WorkflowBusyError, StoreError):  # its owner goes on with it; and it is looked at again
            self._let_be(workflow_id, None)
        except RunStopped as stopped:
            _end_with(self._take(workflow_id, None), stopped)
        except Exception as error:
            is_unfinished = self._lives.is_unfinished(workflow_id)
            with self._lock:
                has_learnt = self._functions.get(workflow_id) is not fn  # from a caller that has just asked for it
                asked = [] if has_learnt else self._end(workflow_id, None, error, is_unfinished)
            _end_with(asked, error)
            if has_learnt:
                self._resume(workflow_id)
        else:
            self._live(found)

    def _stop_parent(self, ids: tuple[str, str]) -> None:
        """End the wait of a parent whose child cannot be resumed here."""
        parent_id, child_id = ids
        error = self._refused.get(child_id)
        if error is not None and not self._lives.is_owned(child_id):
            _end_with(self._end(parent_id, None, error, is_unfinished=True), error)

    def _begin(self, workflow_id: str, fn: Callable[..., Any] | None) -> Begun:
        if workflow_id in self._refused:  # meanwhile
            raise _stopped(workflow_id)
        fn, args, kwargs = self._lives.find_call_to_wake(workflow_id, fn)
        with self.beginning(workflow_id):
            found = self._lives.begin(workflow_id, fn, args, kwargs, anew=False)
            if found.run is not None:
                self._note(found.run)
            return found

    def _live(self, found: Begun) -> None:
        workflow_id, run = found.workflow_id, found.run
        if run is not None and self._awake.get(workflow_id) is not run:
            return  # it was given up: the pool keeps work that it had no thread for, until it has one
        try:
            value = found.result()
        except Suspended:
            self._let_be(workflow_id, run)
            self._alarm.ring()
        except BaseException as error:
            _end_with(self._end(workflow_id, run, error, self._lives.is_unfinished(workflow_id)), error)
        else:
            for future in self._take(workflow_id, run):
                future.set_result(value)

    def _note(self, run: Run) -> None:
        with self._lock:
            self._awake[run.workflow_id] = run
            is_refused = run.workflow_id in self._refused
        if is_refused:
            run.interrupt("its handle was interrupted while it waited")

    def _let_be(self, workflow_id: str, run: Run | None) -> None:
        """Leave it until it is looked at again. If it was interrupted meanwhile, its callers get that."""
        with self._lock:
            is_refused = self._leave(workflow_id, run) and workflow_id in self._refused
        if is_refused:
            _end_with(self._take(workflow_id, None), _stopped(workflow_id))

    def _end(self, workflow_id: str, run: Run | None, error: BaseException, is_unfinished: bool) -> list[Future[Any]]:
        """Return the futures to settle. An unfinished one (changed code, SystemExit) is left until it is asked for."""
        with self._lock:
            if is_unfinished and self._awake.get(workflow_id) is run and workflow_id not in self._refused:
                if isinstance(error, Exception):  # else it was interrupted, which its run has reported
                    known = logs.extra(workflow_id)
                    logs.logger.warning("workflow %r is due and cannot go on here: %s", workflow_id, error, extra=known)
                self._refused[workflow_id] = error
            return self._take(workflow_id, run)

    def _take(self, workflow_id: str, run: Run | None) -> list[Future[Any]]:
        """Return the futures to settle with its outcome: none if it has begun anew, since they wait for that run."""
        with self._lock:
            if not self._leave(workflow_id, run):
                return []
            self._functions.pop(workflow_id, None)
            self._contexts.pop(workflow_id, None)
            return self._asked.pop(workflow_id, [])

    def _leave(self, workflow_id: str, run: Run | None) -> bool:
        """Note that it is asleep, unless another run has begun since."""
        with self._lock:
            if self._awake.get(workflow_id) is not run:
                return False
            self._awake.pop(workflow_id, None)
            return True


class Sleeper:
    """One workflow of them, for its caller to interrupt."""

    def __init__(self, sleepers: Sleepers, workflow_id: str) -> None:
        self._sleepers, self._workflow_id = sleepers, workflow_id

    def interrupt(self, reason: str) -> None:
        """Let nothing more of it begin."""
        self._sleepers.interrupt(self._workflow_id, reason)


def _end_with(asked: list[Future[Any]], ending: BaseException) -> None:
    for future in asked:
        future.set_exception(ending)


def _stopped(workflow_id: str) -> RunStopped:
    return RunStopped(f"workflow {workflow_id!r}: it was interrupted while it waited; run the same id again to go on")
