"""Frame: what a function of a workflow asks for, answered by the replay rule, which is `Frame.reach`.

Each operation draws its key from program order. A key with an outcome on record is answered from the record; any other
operation is begun, and its outcome recorded. That is all there is to durable execution. The rest of the package makes
sure that it is true. (`Frame.recall` is a faster way to the same answer, for a step that plainly completed.)
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar
from zlib import crc32

from durable.errors import (
    CancelRequested,
    CorruptionError,
    DurableError,
    NoThreadError,
    ScopeError,
)
from durable.parallel.future import Future
from durable.replay import drivers
from durable.replay.call import PLAIN, Call, Operation
from durable.replay.function import Function
from durable.replay.run import UNREAD, Run
from durable.replay.step import Outcome, Step
from durable.values.fingerprint import fingerprint_of_call, first_version

T = TypeVar("T")

UNKNOWN: Any = object()


class Frame(Function):
    """A workflow function or a branch of it, as the operations see it.

    An operation is a function of a frame, written with `reach`, `perform`, `future`, `launch` and `run`.
    """

    # ---- the rule

    def reach(self, call: Operation) -> Step:
        """Return the step of an operation: its key is drawn, and its outcome is set if one is on record.

        A crash leaves a row at `running`: no record says whether its effect has happened. The step is tried again, so
        it is executed at least once, and recorded once. Raises ScopeError and NonDeterminismError.
        """
        run, scope = self.run, self.scope
        key, position, row = self.draw(call.name, run.history.take, call)
        step = Step(call, key, position, scope)
        if row is not None or run.history.tries:
            run.history.count(step, row)
        if row is None:
            return step
        if row.status == "running" or key in run.history.waits:
            step.is_begun, step.wake_at = True, run.history.waits.get(key)
            return step
        if not row.is_intact():
            raise run.stop(_corrupted(run, key))
        step.attempt, step.outcome, step.value = row.attempt, Outcome(row.status, row.output, row.error, ""), UNREAD
        run.history.note_outcome(scope, key, row.epoch)
        run.notify("step.replayed", step)
        return step

    def recall(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer as `reach` would for a step that plainly completed; else change nothing and return UNKNOWN.

        The fast path of a replay: it takes 1.2 us a step, the rule 5. It leaves alone a step that differs, is observed,
        has failed, was tried before, or does not decode. Ctrl+C may come before its last two lines, and then no key was
        drawn. It cannot come between them, see `durable.signals`. Call this only if the history has rows.
        """
        run, scope, history = self.run, self.scope, self.run.history
        if run.observers or run.stopped is not None:
            return UNKNOWN
        try:
            plan = run.plans[fn]
            key = f"{scope.prefix}{plan.name}_{scope.number + 1}"
            _, output, recorded, stored, _, unusual = history.rows[key]
            if (
                output is None
                or unusual is not None
                or (recorded != first_version(args, kwargs) and recorded != fingerprint_of_call(fn, args, kwargs))
                or stored != crc32(f"{key}\0completed\0{output}\0".encode())  # as `Checkpoint.is_intact` has it
                or not self._may_draw()
            ):
                return UNKNOWN
            value = plan.codec.decode_text(output)
        except Exception:  # a KeyError, if it is not on record
            return UNKNOWN
        del history.rows[key]
        scope.number += 1
        return value

    def draw(self, name: str, look_up: Callable[..., T], *asked: Any, peek: bool = False) -> tuple[str, int, T]:
        """Draw the next key, and look its place up in the history. An error here ends the run, not the workflow.

        A cancelled run is still answered from the record, since it has to find out what to undo.
        """
        run, scope = self.run, self.scope
        if run.stopped is not None and not isinstance(run.stopped, CancelRequested):
            raise run.stopped
        try:
            if not self._may_draw() and not self._cleans_up():
                raise self.unwinding or self._misuse(name)  # `unwinding`: a `finally` asks for a step
            key, position = scope.peek(name) if peek else scope.draw(name)
            return key, position, look_up(*asked, scope, key, position)
        except DurableError as error:
            raise run.stop(error) from None

    # ---- for operations

    def perform(self, step: Step, effect: Callable[[], Any]) -> Any:
        """Perform the effect of a step in this thread, record its outcome, and return its value or raise its error.

        A step whose outcome is on record has no effect again.
        """
        if step.outcome is not None:
            return self.run.give(step)
        step.fn = effect
        self.in_step = step.key
        try:
            if step.call.is_async:
                self.refuse_to_block("ctx.step", "await ctx.submit(...)")
                return self.run.wait_for(drivers.on_loop(self.run, step))
            drivers.in_thread(self.run, step)
            return self.run.give(step)
        except BaseException as error:  # for example, it waits for its next attempt
            self.on_raised(error)
            raise
        finally:
            self.in_step = ""

    def record(self, step: Step, provide: Callable[[], Any]) -> Any:
        """Record a value that has no effect outside, in one transaction with its row. Return it as on record."""
        if step.outcome is None:
            try:
                drivers.at_once(self.run, step, provide)
            except BaseException as error:
                self.on_raised(error)
                raise
        return self.run.give(step)

    def perform_alongside(self, step: Step, effect: Callable[[], Any], future: Future[Any]) -> None:
        """Perform the effect of a step alongside what comes next; the future is its outcome."""
        run = self.run
        step.fn = effect
        if step.call.is_async:
            context = contextvars.copy_context()
            self.launch(future, lambda: run.workers.spawn(drivers.on_loop(run, step), future, context))
        elif run.observers or not run.can_batch:  # a thread performs it, and reports every moment
            drivers.in_worker(run, step, future, self.launch)
        else:
            drivers.in_batch(run, step, future, self.launch)

    def future(self, key: str, *, after: Collection[Future[Any]] | None = None) -> Future[Any]:
        """Return a new future of this function. With `after`, it ends once one of those has ended."""
        future: Future[Any] = Future(self._is_loop_thread, key, self, after=after)
        self._pending[future] = None
        return future

    def answer(self, step: Step) -> Future[Any]:
        """Return a future of a step whose outcome is on record."""
        future = self.future(step.key)
        future.settle(functools.partial(self.run.give, step))
        return future

    def launch(self, future: Future[Any], begin: Callable[[], object]) -> None:
        """Begin parallel work. If no thread can be started, the run is interrupted."""
        try:
            begin()
        except NoThreadError:
            stopped = self.run.find_no_thread()  # it ends all waits, and this may be one
            if not future.has_ended():
                future.set_exception(stopped)

    def refuse_to_block(self, operation: str, instead: str) -> None:
        """Raise ScopeError, and stop the run, if the caller would block the event loop that runs its workflow."""
        if self._is_loop_thread():
            error = ScopeError(f"{operation} would block the event loop that runs this async workflow; write {instead}")
            raise self.run.stop(error)


def effect_of(call: Call, run: Run) -> Callable[[], Any]:
    """Return the function of a step with its arguments, within the limits that it asks for.

    Raises SerializationError if its result could never be stored, and PayloadError.
    """
    fn = call.fn
    if (refusal := call.find_refusal(run.workflow_id)) is not None:  # as `check_call`, without a call
        raise run.stop(refusal)
    if call.options is not PLAIN:
        with run.stopping:
            fn = call.options.wrap(call, run.workers)
    return functools.partial(fn, *call.args, **call.kwargs) if call.args or call.kwargs else fn


def check_call(call: Operation, run: Run) -> None:
    """Raise SerializationError, and stop the run, if the result of an operation could never be stored."""
    if (refusal := call.find_refusal(run.workflow_id)) is not None:
        raise run.stop(refusal)


def _corrupted(run: Run, key: str) -> CorruptionError:
    path = run.log.path
    return CorruptionError(
        f"step {key!r} of {run.workflow_id!r}: its stored outcome does not match its checksum; restore "
        f"{str(path)!r} from a copy, or delete this workflow",
        path=path,
    )
