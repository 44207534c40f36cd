"""Sleepers: the workflows of an engine that suspends. What waits holds no thread; what is due runs in a few of them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from durable.errors import DurableError, RunStopped, StoreError, Suspended, WorkflowBusyError
from durable.parallel.future import Future, wait
from durable.recovery.admission import Ended
from durable.recovery.recover import has_crashed
from durable.replay.run import MAX_CRASHES, Run
from durable.replay.workflow import Execution
from durable.store.workflows import Workflows

if TYPE_CHECKING:
    from durable.engine import Engine


class Sleepers:
    """The workflows of an engine that suspends: a bounded number runs, any number waits without a thread."""

    def __init__(self, engine: Engine, store: Workflows, max_workflows: int) -> None:
        self._engine, self._store = engine, store
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workflows, thread_name_prefix="workflow")
        self._working: set[concurrent.futures.Future[None]] = set()
        self._lock = threading.Condition()
        self._asked: dict[str, list[Future[Any]]] = {}  # who asked for a workflow that has not ended
        self._functions: dict[str, Callable[..., Any]] = {}  # theirs, which need not be importable
        self._awake: dict[str, Run | None] = {}  # what is being seen to, with its run once that has begun
        self._beginning: set[str] = set()  # held while who owns them is not known here yet
        # what cannot be resumed here, or was interrupted, and why: left until it is asked for
        self._refused: dict[str, BaseException] = {}

    def is_idle(self) -> bool:
        """Whether nothing goes on until something has come."""
        return not self._awake

    def sleeper(self, workflow_id: str) -> Sleeper:
        """One of them, to be interrupted."""
        return Sleeper(self, workflow_id)

    @contextlib.contextmanager
    def beginning(self, workflow_id: str) -> Iterator[None]:
        """For one at a time: begin a run and say so. So who finds the id owned knows whether that is by this engine."""
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
        """Have a workflow run in the pool; the future is its outcome, after however many suspensions.

        Raises RuntimeError where no thread can be had, or the engine is closed; then it was given up.
        """
        workflow_id = execution.workflow_id
        with self._lock:
            self._ask(workflow_id, execution.function, future)
            self._awake[workflow_id] = execution.run
            self._refused.pop(workflow_id, None)
        try:
            self._work(self._live, execution)
        except RuntimeError as error:
            execution.give_up("interrupted", "no thread could be started")
            _tell(self._take(workflow_id, execution.run), error)
            raise

    def join(self, workflow_id: str, fn: Callable[..., Any], future: Future[Any]) -> bool:
        """Have the future end with a workflow that is being seen to. False where none of this id is."""
        with self._lock:
            if workflow_id in self._awake:
                self._ask(workflow_id, fn, future)
            return workflow_id in self._awake

    def look(self, due: set[str], has_changed: bool) -> None:
        """Resume the workflows for which something has come, and hand over what others have ended or deleted."""
        with self._lock:
            asked = [each for each in self._asked if each not in self._awake] if has_changed else []
        over = self._store.list_over(asked)  # without the lock: who is in a transaction, and asks, would wait for it
        with self._lock:
            ready = due.union(over) - self._awake.keys() - self._refused.keys()
            self._awake |= dict.fromkeys(ready)
            refused = list(self._refused)
        for workflow_id in ready:
            try:
                self._work(self._resume, workflow_id)
            except RuntimeError:  # no thread can be had: it is looked at again
                self._let_be(workflow_id, None)
        if asked and refused:
            for stuck in self._engine._waits.list_parents(refused):
                if stuck[0] in asked:
                    with contextlib.suppress(RuntimeError):
                        self._work(self._stop_parent, stuck)

    def interrupt(self, workflow_id: str, reason: str) -> None:
        """Let nothing more of a workflow begin here, until it is asked for again."""
        with self._lock:
            self._refused[workflow_id] = _stopped(workflow_id)
            run, is_asleep = self._awake.get(workflow_id), workflow_id not in self._awake
        if run is not None:
            run.interrupt(reason)
        if is_asleep:
            _tell(self._take(workflow_id, None), _stopped(workflow_id))

    def interrupt_all(self) -> None:
        """The same of all that run, whoever has asked for them."""
        for workflow_id in list(self._awake):
            self.interrupt(workflow_id, "the engine was interrupted")

    def close(self) -> None:
        """Wait for those that run, and leave the others to whoever opens the file next."""
        while self._working:
            wait(list(self._working))
        self._pool.shutdown()
        for workflow_id in list(self._asked):
            closed = Suspended(f"workflow {workflow_id!r} waits, and its engine was closed")
            _tell(self._take(workflow_id, None), closed)

    def _work(self, fn: Callable[[Any], None], subject: Any) -> None:
        working = self._pool.submit(fn, subject)
        self._working.add(working)
        working.add_done_callback(self._working.discard)

    def _ask(self, workflow_id: str, fn: Callable[..., Any], future: Future[Any]) -> None:
        self._asked.setdefault(workflow_id, []).append(future)
        self._functions[workflow_id] = fn

    def _resume(self, workflow_id: str) -> None:
        fn = self._functions.get(workflow_id)
        try:
            found = self._begin(workflow_id, fn)
        except (WorkflowBusyError, StoreError):  # whoever runs it sees to it; and it is looked at again
            self._let_be(workflow_id, None)
        except RunStopped as stopped:
            _tell(self._take(workflow_id, None), stopped)
        except Exception as error:
            is_unfinished = self._is_unfinished(workflow_id)
            with self._lock:
                has_learnt = self._functions.get(workflow_id) is not fn  # from who has just asked for it
                asked = [] if has_learnt else self._end(workflow_id, None, error, is_unfinished)
            _tell(asked, error)
            if has_learnt:
                self._resume(workflow_id)
        else:
            self._live(found)

    def _stop_parent(self, ids: tuple[str, str]) -> None:
        """What its child cannot do, it cannot wait for."""
        parent_id, child_id = ids
        error = self._refused.get(child_id)
        if error is not None and self._engine.owner(child_id) is None:
            _tell(self._end(parent_id, None, error, is_unfinished=True), error)

    def _begin(self, workflow_id: str, fn: Callable[..., Any] | None) -> Execution | Ended:
        if workflow_id in self._refused:  # meanwhile
            raise _stopped(workflow_id)
        state = self._store.find_state(workflow_id)
        is_owned = self._engine.owner(workflow_id) is not None
        if state and not is_owned and has_crashed(self._store, workflow_id, state.epoch, MAX_CRASHES):
            raise DurableError(f"its last {MAX_CRASHES} runs ended in a crash; resume it by hand once that is mended")
        fn, args, kwargs = self._engine.recorded_call(workflow_id, fn)
        with self.beginning(workflow_id):
            found = self._engine._begin(workflow_id, fn, args, kwargs, anew=False)
            if isinstance(found, Execution):
                self._note(found.run)
            return found

    def _live(self, found: Execution | Ended) -> None:
        workflow_id, run = found.workflow_id, found.run if isinstance(found, Execution) else None
        if run is not None and self._awake.get(workflow_id) is not run:
            return  # it was given up: the pool keeps what it had no thread for, until it has one
        try:
            value = found.result()
        except Suspended:
            self._let_be(workflow_id, run)
            self._engine._alarm.ring()
        except BaseException as error:
            _tell(self._end(workflow_id, run, error, self._is_unfinished(workflow_id)), error)
        else:
            for future in self._take(workflow_id, run):
                future.set_result(value)

    def _note(self, run: Run) -> None:
        with self._lock:
            self._awake[run.workflow_id] = run
            is_refused = run.workflow_id in self._refused
        if is_refused:
            run.interrupt("it was interrupted while it waited")

    def _is_unfinished(self, workflow_id: str) -> bool:
        try:
            state = self._store.find_state(workflow_id)
        except StoreError:
            return True
        return state is not None and state.status == "running"

    def _let_be(self, workflow_id: str, run: Run | None) -> None:
        """Until it is looked at again. Who has interrupted it meanwhile is told so."""
        with self._lock:
            is_refused = self._leave(workflow_id, run) and workflow_id in self._refused
        if is_refused:
            _tell(self._take(workflow_id, None), _stopped(workflow_id))

    def _end(self, workflow_id: str, run: Run | None, error: BaseException, is_unfinished: bool) -> list[Future[Any]]:
        """Who asked for it. One that is unfinished (changed code, SystemExit) is left alone until it is asked for."""
        with self._lock:
            if is_unfinished and self._awake.get(workflow_id) is run and workflow_id not in self._refused:
                logging.getLogger("durable").warning("workflow %r is due and cannot go on here: %s", workflow_id, error)
                self._refused[workflow_id] = error
            return self._take(workflow_id, run)

    def _take(self, workflow_id: str, run: Run | None) -> list[Future[Any]]:
        """Who asked for it; now it has an outcome. Nobody, where it has begun anew: then they wait for that."""
        with self._lock:
            if not self._leave(workflow_id, run):
                return []
            self._functions.pop(workflow_id, None)
            return self._asked.pop(workflow_id, [])

    def _leave(self, workflow_id: str, run: Run | None) -> bool:
        """Let it be awake no more, unless another run has begun since."""
        with self._lock:
            if self._awake.get(workflow_id) is not run:
                return False
            self._awake.pop(workflow_id, None)
            return True


class Sleeper:
    """One workflow of them, as whoever asked for it may interrupt it."""

    def __init__(self, sleepers: Sleepers, workflow_id: str) -> None:
        self._sleepers, self._workflow_id = sleepers, workflow_id

    def interrupt(self, reason: str) -> None:
        """Let nothing more of it begin."""
        self._sleepers.interrupt(self._workflow_id, reason)


def _tell(asked: list[Future[Any]], ending: BaseException) -> None:
    for future in asked:
        future.set_exception(ending)


def _stopped(workflow_id: str) -> RunStopped:
    return RunStopped(f"workflow {workflow_id!r}: it was interrupted while it waited; run the same id again to go on")
