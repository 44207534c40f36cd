"""Attempt: one try of one step, from its running row to its checkpoint."""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable import failure
from durable.call import Call
from durable.errors import DurableError, ScopeError, SerializationError
from durable.interrupt import let_through
from durable.run import Run
from durable.scope import Scope
from durable.store import Checkpoint, NewStep


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What a step may know of itself. `attempt` counts from 1; `database` is the file its workflow is saved in."""

    workflow_id: str
    key: str
    attempt: int
    database: Path

    @property
    def idempotency_key(self) -> str:
        """`<workflow id>/<step key>`, the same on each attempt: give it to the outside world along with the request."""
        return idempotency_key(self.workflow_id, self.key)


def idempotency_key(workflow_id: str, step_key: str) -> str:
    """`<workflow id>/<step key>`; a slash in the id becomes %2F, so that no two steps of two workflows share one."""
    return f"{workflow_id.replace('%', '%25').replace('/', '%2F')}/{step_key}"


_current: contextvars.ContextVar[Attempt | None] = contextvars.ContextVar("durable_step", default=None)


def current_step() -> StepInfo:
    """The step that is running here. Raises ScopeError outside of a step."""
    attempt = _current.get()
    if attempt is None:
        raise ScopeError(
            "current_step() was called outside of a step; call it in a function that ctx.step or ctx.submit runs"
        )
    return attempt.info()


class Attempt:
    """A try that has not begun. `result` or `result_async` make it: the running row, the effect, the checkpoint.

    An Exception out of the step is an outcome, and saved; anything else (Ctrl+C, SystemExit, cancellation) is none.
    """

    def __init__(self, run: Run, scope: Scope, call: Call, key: str, position: int, number: int) -> None:
        self.call, self.key, self.number = call, key, number
        self._run, self._scope, self._position = run, scope, position

    def __str__(self) -> str:
        return f"step {self.key!r} of {self._run.workflow_id!r}: its result"

    def info(self) -> StepInfo:
        """What the step may know of itself."""
        return StepInfo(self._run.workflow_id, self.key, self.number, self._run.database)

    def result(self) -> Any:
        """Make the try in this thread. Returns what the checkpoint says, or raises what it says."""
        self._begin(_thread_label(self._scope))
        token = _current.set(self)
        try:
            value = let_through(self.call.fn, *self.call.args, **self.call.kwargs)
        except Exception as error:
            raise self._fail(error) from None
        finally:
            _current.reset(token)
        return self._complete(value)

    async def result_async(self) -> Any:
        """Make the try of a coroutine function, with the bookkeeping in the run's pool."""
        call = self._run.workers.call
        await call(self._begin, "event loop")
        token = _current.set(self)
        try:
            value = await self.call.fn(*self.call.args, **self.call.kwargs)
        except Exception as error:
            raise await call(self._fail, error) from None
        finally:
            _current.reset(token)
        return await call(self._complete, value)

    def _begin(self, thread: str) -> None:
        run, call = self._run, self.call
        self._notify("step.scheduled")
        run.check()  # an observer may have held us here until the run had ended
        step = NewStep(self.key, call.name, call.kind, self._position, self.number, call.fingerprint, run.now(), thread)
        run.save(run.store.start_step, step)
        self._notify("step.started")

    def _complete(self, value: Any) -> Any:
        run = self._run
        self._notify("step.executed")  # a crash here repeats the effect: the gap that idempotency keys close
        try:
            output, decoded = self.call.codec.round_trip(value, self)
        except SerializationError as error:
            raise run.stop(error) from error.__cause__
        run.save(run.store.complete_step, self.key, output, run.now())  # durable once this returns
        run.history.note_outcome(self._scope, self.key, run.epoch)
        self._notify("step.checkpointed")
        return decoded  # also on the first run, so that it sees what a replay would

    def _fail(self, error: Exception) -> BaseException:
        run = self._run
        if isinstance(run.stopped, DurableError):  # the step may have failed because of it
            return run.stopped
        self._notify("step.executed")
        record = failure.encode_error(error)
        run.save(run.store.fail_step, self.key, record, run.now())
        run.history.note_outcome(self._scope, self.key, run.epoch)
        self._notify("step.failed")
        rebuilt = failure.decode_error(record).with_traceback(error.__traceback__)
        run.note_failure(rebuilt, [self.key])
        return rebuilt

    def _notify(self, name: str) -> None:
        self._run.notify(name, self.key, self.call.name, self.number)


class Recorded:
    """An outcome on record: what `result` returns or raises is what the first run was given."""

    def __init__(self, run: Run, call: Call, row: Checkpoint) -> None:
        self._run, self._call, self._row = run, call, row

    def __str__(self) -> str:
        return f"step {self._row.step_key!r} of {self._run.workflow_id!r}: its recorded result"

    def result(self) -> Any:
        """Decode the value, or raise the error."""
        row = self._row
        if row.status == "failed" and row.error is not None:
            error = failure.decode_error(row.error)
            self._run.note_failure(error, [row.step_key])
            raise error
        try:
            return self._call.codec.decode(row.output or "null", self)
        except SerializationError as misfit:  # the code has changed, so this ends the run, not the workflow
            raise self._run.stop(misfit) from misfit.__cause__


def _thread_label(scope: Scope) -> str:
    """For the table: a worker's name, else the branch that runs the step itself, or `main`."""
    if scope.is_owner():
        return scope.path or "main"
    return threading.current_thread().name
