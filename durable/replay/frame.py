"""Frame: one function of a workflow, from its call to its end, and the replay rule, which is `Frame.reach`.

Each operation draws its key from program order. A key with an outcome on record is answered from the record; any other
operation is begun, and its outcome recorded. That is all there is to durable execution. The rest of the package makes
sure that it is true. (`Frame.recall` is a faster way to the same answer, for a step that plainly completed.)
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar
from zlib import crc32

from durable.errors import (
    CancelRequested,
    CorruptionError,
    DurableError,
    NonDeterminismError,
    ScopeError,
    Suspended,
    Unwinding,
)
from durable.parallel.future import Future, wait_async
from durable.replay import drivers
from durable.replay.call import PLAIN, Call, Operation
from durable.replay.keys import Scope, current_task
from durable.replay.run import UNREAD, Run
from durable.replay.step import Outcome, Step
from durable.signals import is_interrupt, let_through, reason_of
from durable.values.fingerprint import fingerprint_of_call, first_version

T = TypeVar("T")

UNKNOWN: Any = object()
_RACE = (
    "race the future with a timer, as in ctx.first(future, ctx.timer(seconds)).result(), which is the one of the two "
    "that ended first, on record"
)


class Frame:
    """A workflow function or a branch of it: its key counter, and what it has begun and not yet seen the end of.

    An operation is a function of a frame, written with `reach`, `perform`, `future`, `launch` and `run`.
    """

    def __init__(self, run: Run, scope: Scope) -> None:
        self.run, self.scope = run, scope
        self.in_step = ""  # the key of the step that its function is in
        self.unwinding: BaseException | None = None  # set once its function has to wait or is given up
        self.blocked_on: dict[object, list[Any]] = {}  # what its function waits for: all of the futures of each list
        self._is_closed = False  # whether its function has ended
        self._pending: dict[Future[Any], None] = {}  # what has not ended, or has failed; in program order
        self._is_loop_thread = run.workers.event_loop.is_current
        self._adopt()

    @property
    def workflow_id(self) -> str:
        """The id that the user gave to this execution."""
        return self.run.workflow_id

    # ---- the rule

    def reach(self, call: Operation) -> Step:
        """Return the step of an operation: its key is drawn, and its outcome is set if one is on record.

        A row that says `running` was left by a crash: its effect may have happened, no record tells. It is tried again,
        so a step is executed at least once, and recorded once. Raises ScopeError and NonDeterminismError.
        """
        run, scope = self.run, self.scope
        key, position, row = self.draw(call.name, run.history.take, call)
        step = Step(call, key, position, scope)
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

        The fast path of a replay: it takes 1.2 us a step, the rule 5. It leaves alone what differs, is observed, has
        failed, was tried before, or does not decode. Ctrl+C may come before its last two lines, and then the step was
        not asked for; not between them, see `durable.signals`.
        """
        run, scope, history = self.run, self.scope, self.run.history
        if not history.rows or run.observers or run.stopped is not None:
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

        A cancelled run is still answered from the record, or it would not know all that there is to undo.
        """
        run, scope = self.run, self.scope
        if run.stopped is not None and not isinstance(run.stopped, CancelRequested):
            raise run.stopped
        try:
            if not self._may_draw() and not self._cleans_up():
                raise self.unwinding or self._misuse(name)  # the first in a `finally`, on the way out
            key, position = scope.peek(name) if peek else scope.draw(name)
            return key, position, look_up(*asked, scope, key, position)
        except DurableError as error:
            raise run.stop(error) from None

    def _adopt(self) -> None:
        """Make the current thread and task the owner."""
        self._thread, self._task = threading.get_ident(), current_task()

    def _is_owner(self) -> bool:
        return self._thread == threading.get_ident() and self._task is current_task()

    def _may_draw(self) -> bool:
        return not (self.in_step or self._is_closed or self.unwinding) and self._is_owner()

    def _cleans_up(self) -> bool:
        """Return whether its function is handling an interrupt. It has the time to clean up, and ends so in any case.

        Raises RunStopped, and interrupts the run, if it has swallowed one.
        """
        error = self.unwinding
        if error is None or not _is_stop(error) or self.in_step or self._is_closed or not self._is_owner():
            return False
        handled = sys.exception()
        while handled is not None and handled is not error:
            handled = handled.__context__
        if handled is None:
            self.run.interrupt(reason_of(error))
            self.run.check()
        return True

    def _misuse(self, name: str) -> ScopeError:
        function = f"branch {self.scope.path!r}" if self.scope.path else "the workflow function"
        if self._is_closed:
            problem = f"was called after {function} had ended; call it before, and keep ctx out of callbacks"
        elif self.in_step and self._thread == threading.get_ident():
            problem = (
                "was called inside a step; a step is one unit, so call both from the workflow, or make it a ctx.branch"
            )
        elif self._thread != threading.get_ident():
            problem = (
                f"was called in thread {threading.current_thread().name!r}, which does not run {function}; start "
                f"parallel work with ctx.submit (one step) or ctx.branch (several), not with threads"
            )
        else:
            problem = (
                f"was called in another asyncio task than the one that runs {function}; start parallel work with "
                f"ctx.submit (one step) or ctx.branch (several), not with create_task or gather over ctx"
            )
        return ScopeError(f"workflow {self.workflow_id!r}: operation {name!r} {problem}")

    # ---- for operations

    def perform(self, step: Step, effect: Callable[[], Any]) -> Any:
        """Have the effect of a step in this thread, record its outcome, and return its value or raise its error.

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
        except BaseException as error:  # it waits for its next attempt, say
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
        """Have the effect of a step alongside what comes next; the future is its outcome."""
        run = self.run
        step.fn = effect
        if step.call.is_async:
            context = contextvars.copy_context()
            self.launch(future, lambda: run.workers.spawn(drivers.on_loop(run, step), future, context))
        elif run.observers or not run.can_batch:  # a thread sees it through, with every moment
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
        """Begin parallel work. If no thread can be started (interpreter shutdown), the run is interrupted."""
        try:
            begin()
        except RuntimeError:
            stopped = self.run.find_no_thread()  # ends the waits, of which this may be one
            if not future.has_ended():
                future.set_exception(stopped)

    def refuse_to_block(self, operation: str, instead: str) -> None:
        """Raise ScopeError, and stop the run, if the caller would block the event loop that runs its workflow."""
        if self._is_loop_thread():
            error = ScopeError(f"{operation} would block the event loop that runs this async workflow; write {instead}")
            raise self.run.stop(error)

    # ---- the owner of futures, see `durable.parallel.future.Owner`

    def waiting_for(self, futures: list[Any]) -> _Waiting:
        """Return a block in which its function waits until all of these have ended."""
        return _Waiting(self, futures)

    def on_raised(self, error: BaseException) -> None:
        """Note an error that is no outcome: its function cannot go on, whatever it does with it. An interrupt stays."""
        if is_interrupt(error) and (self.unwinding is None or isinstance(self.unwinding, Unwinding)):
            self.unwinding = error

    def on_cancelled(self) -> None:
        """Let its function begin nothing more if a wait of it was cancelled within it, by a timeout of asyncio, say."""
        if self.run.stopped is None and self.unwinding is None and not self._is_closed:
            self.unwinding = ScopeError(
                f"workflow {self.workflow_id!r}: a wait was cancelled within it, by a timeout of asyncio, say, and no "
                f"record tells a replay so; {_RACE}"
            )

    def refuse_to_tell(self, question: str, key: str) -> None:
        """Raise ScopeError, and stop the run, if a function of the workflow asks a future what no record answers."""
        if any(frame.is_calling() for frame in list(self.run.frames)):
            raise self.run.stop(
                ScopeError(
                    f"workflow {self.workflow_id!r}: it asked {key!r} for {question}, and no record tells a replay the "
                    f"answer; {_RACE}"
                )
            )

    def is_calling(self) -> bool:
        """Return whether its function itself is what runs in this thread and task."""
        return not (self.in_step or self._is_closed) and self._is_owner()

    def on_ended(self, future: Any) -> None:
        """A future of it has ended."""
        if future.ending is None or future.unasked_error() is None:
            del self._pending[future]
        self.run.waits.look()

    def is_idle(self) -> bool:
        """Return whether it does nothing until something that it waits for has come."""
        run = self.run
        if self.in_step:
            return run.waits.is_waiting(self.in_step)
        left = [future for future in list(self._pending) if not future.has_ended()]
        if not all(future.is_held() or run.waits.is_waiting(future.key) for future in left):
            return False
        if self._is_closed:
            return bool(left)
        blocked_on = list(self.blocked_on.values())
        return bool(blocked_on) and not any(all(one.has_ended() for one in futures) for futures in blocked_on)

    # ---- from its call to its end

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run it in this thread. Return or raise only once all that it has submitted has ended and is saved."""
        self._adopt()
        try:
            with _in_one_piece():
                value = let_through(fn, self, *args, **kwargs)
        except BaseException as error:
            self._close(error)
            self.run.wait(self._pending)
            self._raise_unasked(error)
            self._check_cancelled(error)
            raise
        self._close(None)
        self.run.wait(self._pending)
        self._raise_unasked(None)
        self._check_cancelled(None)
        return value

    async def call_async(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a coroutine function in this task, as `call` does."""
        self._adopt()
        interrupt = functools.partial(self.run.interrupt, "its task was cancelled")
        try:
            with _in_one_piece():
                value = await fn(self, *args, **kwargs)
        except BaseException as error:
            self._close(error)
            await wait_async(list(self._pending), interrupt)
            self._raise_unasked(error)
            self._check_cancelled(error)
            raise
        self._close(None)
        if cancelled := await wait_async(list(self._pending), interrupt):
            raise cancelled
        self._raise_unasked(None)
        self._check_cancelled(None)
        return value

    def check_registered(self, error: BaseException) -> None:
        """Raise NonDeterminismError if the workflow is to be undone and has missed a compensation on record."""
        try:
            self.run.history.check_registered()
        except NonDeterminismError as missed:
            raise self.run.stop(missed) from error

    def _close(self, error: BaseException | None) -> None:
        self._is_closed = True
        ending = self.unwinding if error is None or is_outcome(error) else error
        if ending is not None and _is_stop(ending):
            self.run.interrupt(reason_of(ending))
        for future in list(self._pending):
            if future.raced and not future.has_ended():
                self.run.waits.abandon(future.key)
        self.run.waits.look()

    def _raise_unasked(self, error: BaseException | None) -> None:
        """Fail the function with an error that no code asked for; if it fails anyway, note it there.

        A suspended future has not ended, asked or not. Then the function has not either, whatever came of the rest.
        """
        if error is None or is_outcome(error):
            for future in list(self._pending):
                if isinstance(future.ending, Suspended) and not future.raced:
                    raise future.ending from None
        unasked = [found for future in list(self._pending) if (found := future.unasked_error()) is not None]
        unasked.sort(key=is_outcome)
        if error is None and unasked:
            raise self.run.merge(unasked)
        if error is not None and is_outcome(error) and unasked:
            self.run.merge([error, *unasked])

    def _check_cancelled(self, error: BaseException | None) -> None:
        """Stop the run if its function has gone on after a wait was cancelled, or fails because of that alone."""
        is_failure = error is not None and is_outcome(error) and not self.run.steps_behind(error)
        if isinstance(self.unwinding, ScopeError) and (error is None or is_failure):
            raise self.run.stop(self.unwinding) from error


class _Waiting:
    """A block in which a function waits, so that a clock can tell whether time may be skipped."""

    __slots__ = ("_frame", "_futures")

    def __init__(self, frame: Frame, futures: list[Any]) -> None:
        self._frame, self._futures = frame, futures

    def __enter__(self) -> None:
        self._frame.blocked_on[self] = self._futures
        self._frame.run.waits.look()

    def __exit__(self, *_: object) -> None:
        del self._frame.blocked_on[self]
        if self._frame.blocked_on:  # a coroutine goes on that had gathered several
            self._frame.run.waits.look()


@contextlib.contextmanager
def _in_one_piece() -> Iterator[None]:
    """Return a block that no group leaves, as of a TaskGroup, if it holds what is no outcome: that comes out alone."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and not isinstance(error, Exception):
            error = min(error.exceptions, key=is_outcome)
        if error is group:
            raise
        raise error from None


def is_outcome(error: BaseException) -> bool:
    """Return whether an error may be recorded. Sorting by it puts interrupts and suspensions first."""
    return not is_interrupt(error)


def _is_stop(error: BaseException) -> bool:
    """Return whether an error interrupts the run."""
    return is_interrupt(error) and not isinstance(error, Unwinding)


def effect_of(call: Call, run: Run) -> Callable[[], Any]:
    """Return the function of a step with its arguments, within the limits that it asks for.

    Raises SerializationError if its result could never be stored, and PayloadError.
    """
    fn = call.fn
    check_call(call, run)
    if call.options is not PLAIN:
        with run.stopping:
            fn = call.options.wrap(call, run.workers)
    return functools.partial(fn, *call.args, **call.kwargs) if call.args or call.kwargs else fn


def check_call(call: Call, run: Run) -> None:
    """Raise SerializationError, and stop the run, if the effect of a call would be in vain."""
    if (refusal := call.find_refusal(run.workflow_id)) is not None:
        raise run.stop(refusal)


def _corrupted(run: Run, key: str) -> CorruptionError:
    path = run.log.path
    return CorruptionError(
        f"step {key!r} of {run.workflow_id!r}: its stored outcome does not match its checksum; restore "
        f"{str(path)!r} from a copy, or delete this workflow",
        path=path,
    )
