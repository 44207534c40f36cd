"""Function: a function of a workflow while it runs: its thread, what it waits for, and how it ends.

It says whether the function may begin an operation. `durable.replay.frame` says what an operation does.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from durable.errors import ScopeError, Suspended, Unwinding
from durable.parallel.future import Future, wait_async
from durable.replay.keys import Scope, current_task
from durable.replay.run import Run
from durable.signals import is_interrupt, let_through, reason_of

if TYPE_CHECKING:
    from typing import Self

_RACE = (
    "race the future with a timer, as in ctx.first(future, ctx.timer(seconds)).result(), which is the one of the two "
    "that ended first, on record"
)


class Function:
    """A workflow function or a branch of it, with the work that it has begun and that has not ended."""

    def __init__(self, run: Run, scope: Scope) -> None:
        self.run, self.scope = run, scope
        self.in_step = ""  # the key of the step that its function is in
        self.unwinding: BaseException | None = None  # set once its function has to wait or is given up
        self.blocked_on: dict[object, list[Any]] = {}  # what its function waits for: all of the futures of each list
        self._is_closed = False  # whether its function has ended
        self._is_closing = False  # whether it is giving up the losers of its races: no clock may skip time meanwhile
        self._pending: dict[Future[Any], None] = {}  # what has not ended, or has failed; in program order
        self._is_loop_thread = run.workers.event_loop.is_current
        self._adopt()

    @property
    def workflow_id(self) -> str:
        """The id that the user gave to this execution."""
        return self.run.workflow_id

    # ---- whether it may begin an operation

    def _adopt(self) -> None:
        """Make the current thread and task the owner."""
        self._thread, self._task = threading.get_ident(), current_task()

    def _is_owner(self) -> bool:
        return self._thread == threading.get_ident() and self._task is current_task()

    def _may_draw(self) -> bool:
        if self.in_step or self._is_closed or self.unwinding:
            return False
        return self._thread == threading.get_ident() and self._task is current_task()  # as `_is_owner`, without a call

    def _cleans_up(self) -> bool:
        """Return whether its function is handling an interrupt: it may clean up, and then it ends.

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
                f"ctx.submit (one step) or ctx.branch (several), not with create_task or gather over ctx; code that "
                f"creates tasks of its own, run by ctx.host(coroutine), asks by hosted_step or current_context()"
            )
        return ScopeError(f"workflow {self.workflow_id!r}: operation {name!r} {problem}")

    # ---- the owner of futures, see `durable.parallel.future.Owner`

    def waiting_for(self, futures: list[Any]) -> _Waiting:
        """Return a block in which its function waits until all of these have ended."""
        return _Waiting(self, futures)

    def on_raised(self, error: BaseException) -> None:
        """Note an error that is no outcome: its function cannot go on, whatever it does with it. An interrupt stays."""
        if is_interrupt(error) and (self.unwinding is None or isinstance(self.unwinding, Unwinding)):
            self.unwinding = error

    def on_cancelled(self) -> None:
        """Let its function begin nothing more if a wait was cancelled within it, for example by `asyncio.timeout`."""
        if self.run.stopped is None and self.unwinding is None and not self._is_closed:
            self.unwinding = ScopeError(
                f"workflow {self.workflow_id!r}: a wait was cancelled within it, for example by a timeout of "
                f"asyncio; that is not on record, so a replay would not see it; {_RACE}"
            )

    def refuse_to_tell(self, question: str, key: str) -> None:
        """Raise ScopeError, and stop the run, if the workflow asks a future what is not on record."""
        if any(frame.is_calling() for frame in list(self.run.frames)):
            raise self.run.stop(
                ScopeError(
                    f"workflow {self.workflow_id!r}: it asked {key!r} for {question}, and the answer is not on record "
                    f"for a replay; {_RACE}"
                )
            )

    def is_calling(self) -> bool:
        """Return whether this thread and task runs the function itself."""
        return not (self.in_step or self._is_closed) and self._is_owner()

    def on_ended(self, future: Any) -> None:
        """A future of it has ended."""
        if future.ending is None or future.unasked_error() is None:
            del self._pending[future]
        self.run.waits.look()

    def is_idle(self) -> bool:
        """Return whether all that it does is wait."""
        run = self.run
        if self.in_step:
            return run.waits.is_waiting(self.in_step)
        # its own state first: if it goes on meanwhile, one of these futures has ended, or it has closed
        is_closed, blocked_on = self._is_closed and not self._is_closing, list(self.blocked_on.values())
        left = [future for future in list(self._pending) if not future.has_ended()]
        if not all(future.is_held() or run.waits.is_waiting(future.key) for future in left):
            return False
        if is_closed:
            return bool(left)
        return bool(blocked_on) and not any(all(one.has_ended() for one in futures) for futures in blocked_on)

    # ---- tasks of code that was not written for workflows, see `durable.operations.host`

    def part(self, scope: Scope) -> Self:
        """Return a function for the current task, with a scope of its own. Its work counts as work of this one."""
        part = type(self)(self.run, scope)
        part._pending, part.blocked_on = self._pending, self.blocked_on
        return part

    def close_part(self) -> None:
        """Let the function of a task begin nothing more."""
        self._is_closed = True
        self.run.end_frame(self)

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
            self._note_end(error)
            raise
        self._close(None)
        self.run.wait(self._pending)
        self._note_end(None)
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
            self._note_end(error)
            raise
        self._close(None)
        if cancelled := await wait_async(list(self._pending), interrupt):
            raise cancelled
        self._note_end(None)
        return value

    def _close(self, error: BaseException | None) -> None:
        self._is_closing = True
        self._is_closed = True
        ending = self.unwinding if error is None or is_outcome(error) else error
        if ending is not None and _is_stop(ending):
            self.run.interrupt(reason_of(ending))
        for future in list(self._pending):
            if future.raced and not future.has_ended():
                self.run.waits.abandon(future.key)
        self._is_closing = False
        self.run.waits.look()

    def _note_end(self, error: BaseException | None) -> None:
        """Raise the error with which the function fails, although it returned or raised something else."""
        self._raise_unasked(error)
        self._check_cancelled(error)

    def _raise_unasked(self, error: BaseException | None) -> None:
        """Fail the function with an error that no code asked for; if it fails anyway, add a note to its error.

        A suspended future has not ended. Then the function has not ended either, whatever else it did.
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

    __slots__ = ("_function", "_futures")

    def __init__(self, function: Function, futures: list[Any]) -> None:
        self._function, self._futures = function, futures

    def __enter__(self) -> None:
        self._function.blocked_on[self] = self._futures
        self._function.run.waits.look()

    def __exit__(self, *_: object) -> None:
        del self._function.blocked_on[self]
        if self._function.blocked_on:  # a coroutine goes on that had gathered several
            self._function.run.waits.look()


@contextlib.contextmanager
def _in_one_piece() -> Iterator[None]:
    """Return a block that takes an interrupt, or a suspension, out of an exception group and raises it alone."""
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
