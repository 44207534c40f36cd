"""The replay rule, and the frame around it: one function of a workflow, from its call to its end.

The rule is `Frame._replay`: each operation draws its key from program order; a key with an outcome on record is
answered from the record; any other is begun, and its outcome recorded. That is all there is to durable execution. The
rest of the package makes sure that it is true. (Two short ways lead to the same, only faster: `Frame._recall` where a
step has plainly completed, `Context._anew` where nothing is on record any more.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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
from durable.replay.attempt import Recorded
from durable.replay.call import Operation
from durable.replay.checkpoint import Checkpoint
from durable.replay.keys import Scope
from durable.replay.run import Run
from durable.signals import let_through
from durable.values.codec import fingerprint

B = TypeVar("B")
T = TypeVar("T")

UNKNOWN = object()


class Frame:
    """A workflow function or a branch of it: its scope, and what it has begun and not yet seen the end of."""

    def __init__(self, run: Run, scope: Scope) -> None:
        self._run = run
        self._scope = scope
        self._pending: dict[Future[Any], None] = {}  # what has not ended, or has failed; in program order
        self._is_loop_thread = run.workers.event_loop.is_current
        scope.on_blocked = run.suspend_if_idle
        scope.on_ended = self._forget

    @property
    def workflow_id(self) -> str:
        """The id that the user gave to this execution."""
        return self._run.workflow_id

    def _replay(self, call: Operation, begin: Callable[[str, int, Checkpoint | None], B]) -> Recorded | B:
        """An operation with an outcome on record is answered from it; any other is begun, by key, place and row.

        A row that says `running` was left behind by a crash: its effect may have happened, nobody knows. It is tried
        again, which is why a step is executed at least once, and recorded once.
        """
        run, scope = self._run, self._scope
        key, position, row = self._draw(call.name, run.history.take, call)
        if row is None or row.status == "running" or key in run.history.waits:
            return begin(key, position, row)
        if not row.is_intact():
            raise run.stop(
                CorruptionError(
                    f"step {key!r} of {run.workflow_id!r}: its stored outcome does not match its checksum; restore "
                    f"{str(run.database)!r} from a copy, or delete this workflow",
                    path=run.database,
                )
            )
        run.history.note_outcome(scope, key, row.epoch)
        run.notify("step.replayed", key, call.name, row.attempt)
        return Recorded(run, call, row)

    def _recall(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The short way of the rule, for nearly all of a replay: the value of a step that plainly has completed.

        It asks what `_replay` asks. What is not plain (differs, is watched, has failed, was tried before, or does not
        decode) it leaves as it was, and to `_replay`. Ctrl+C may come before its last three lines, and then the step
        was not asked for; not between them, see `interrupt.py`.
        """
        run, scope, history = self._run, self._scope, self._run.history
        if not history.rows or run.is_watched or run.stopped is not None:
            return UNKNOWN
        try:
            plan = run.plans[fn]
            key = f"{scope.prefix}{plan.name}_{scope.number + 1}"
            _, output, recorded, stored, _, unusual = history.rows[key]
            if (
                output is None
                or unusual is not None
                or recorded != fingerprint(args, kwargs)
                or stored != crc32(f"{key}\0completed\0{output}\0".encode())  # as `Checkpoint.is_intact` has it
                or not scope.may_draw()
            ):
                return UNKNOWN
            value = plan.codec.decode_text(output)
        except Exception:  # a KeyError, where it is not on record
            return UNKNOWN
        del history.rows[key]
        scope.number += 1
        return value

    def _draw(
        self, name: str, look_up: Callable[..., T], *asked: Any, draw: Callable[[str], tuple[str, int]] | None = None
    ) -> tuple[str, int, T]:
        """The next key, and what the history says of its place. What is wrong here ends the run, not the workflow."""
        # a cancelled run is still answered from the record, or it would not know all that there is to undo; what is not
        # on record ends where it would begin
        if not isinstance(self._run.stopped, CancelRequested):
            self._run.check()
        try:
            key, position = (draw or self._scope.draw)(name)
            return key, position, look_up(*asked, self._scope, key, position)
        except DurableError as error:
            raise self._run.stop(error) from None

    def is_idle(self) -> bool:
        """Whether nothing goes on in it until something that it waits for has come."""
        run, scope = self._run, self._scope
        if scope.in_step:
            return run.is_waiting(scope.in_step)
        queued = waiting = 0
        for future in list(self._pending):
            if future.done():
                continue
            if future.is_queued:
                queued += 1
            elif future.is_compound or run.is_waiting(future.key):
                waiting += 1
            else:
                return False
        if queued and not waiting:  # one of them is about to begin
            return False
        if scope.closed:
            return bool(waiting)
        blocked_on = list(scope.blocked_on.values())
        return bool(blocked_on) and not any(all(one.done() for one in futures) for futures in blocked_on)

    def _new_future(self, key: str, *, is_compound: bool = False) -> Future[Any]:
        future: Future[Any] = Future(self._is_loop_thread, key, self._scope, is_compound=is_compound)
        self._pending[future] = None
        return future

    def _forget(self, future: Any) -> None:
        if future.ending is None or future.unasked_error() is None:
            del self._pending[future]
        self._run.suspend_if_idle()

    def _launch(self, future: Future[Any], begin: Callable[..., None], *args: Any) -> None:
        """Begin parallel work. Where no thread can be had any more, as the interpreter ends, the run is interrupted."""
        try:
            begin(*args)
        except RuntimeError:
            stopped = self._run.find_no_thread()  # ends the waits, of which this may be one
            if not future.done():
                future.set_exception(stopped)

    def _refuse_to_block(self, operation: str, instead: str) -> None:
        if self._run.workers.event_loop.is_current():
            error = ScopeError(f"{operation} would block the event loop that runs this async workflow; write {instead}")
            raise self._run.stop(error)

    # ---- from its call to its end

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run it in this thread. Returns or raises only when all that it has submitted has ended and is saved."""
        self._scope.adopt()
        try:
            with _in_one_piece():
                value = let_through(fn, self, *args, **kwargs)
        except BaseException as error:
            self._close(error)
            self._run.wait(self._pending)
            self._raise_unasked(error)
            raise
        self._close(None)
        self._run.wait(self._pending)
        self._raise_unasked(None)
        return value

    async def call_async(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same for a coroutine function, in this task."""
        self._scope.adopt()
        try:
            with _in_one_piece():
                value = await fn(self, *args, **kwargs)
        except BaseException as error:
            self._close(error)
            await wait_async(list(self._pending), self._run.interrupt)
            self._raise_unasked(error)
            raise
        self._close(None)
        if cancelled := await wait_async(list(self._pending), self._run.interrupt):
            raise cancelled
        self._raise_unasked(None)
        return value

    def finish(self) -> None:
        """The workflow has returned: raise NonDeterminismError for checkpoints that it never asked for."""
        self._run.history.finish(self._scope)

    def check_waits(self) -> None:
        """The workflow is suspended: raise NonDeterminismError where it never asked for a wait that is due."""
        run = self._run
        try:
            run.history.check_waits(self._scope, lambda: run.alarm.waits.list_due(run.now()))
        except DurableError as error:
            raise run.stop(error) from error.__cause__

    def check_registered(self, error: BaseException) -> None:
        """The workflow is to be undone: raise NonDeterminismError where it has missed a compensation on record."""
        try:
            self._run.history.check_registered()
        except NonDeterminismError as missed:
            raise self._run.stop(missed) from error

    def _close(self, error: BaseException | None) -> None:
        self._scope.closed = True
        if error is not None and not isinstance(error, Exception | Unwinding):
            self._run.interrupt()
        for future in list(self._pending):
            if future.raced and not future.done():
                self._run.abandon(future.key)
        self._run.suspend_if_idle()

    def _raise_unasked(self, error: BaseException | None) -> None:
        """An error that nobody asked for fails the function; where it fails anyway, it is noted.

        What is suspended has not ended, asked or not: then the function has not either, whatever came of the rest.
        """
        if error is None or isinstance(error, Exception):
            for future in list(self._pending):
                if isinstance(future.ending, Suspended) and not future.raced:
                    raise future.ending from None
        unasked = [found for future in list(self._pending) if (found := future.unasked_error()) is not None]
        unasked.sort(key=is_outcome)
        if error is None and unasked:
            raise self._run.merge(unasked)
        if isinstance(error, Exception) and unasked:
            self._run.merge([error, *unasked])


@contextlib.contextmanager
def _in_one_piece() -> Iterator[None]:
    """A block out of which no group comes, as of a TaskGroup, that holds what is no outcome: it comes out alone."""
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
    """Whether it is one that may be recorded; sorting by it, what is none comes first: an interrupt, a suspension."""
    return isinstance(error, Exception)
