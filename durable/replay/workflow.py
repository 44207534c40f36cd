"""Workflow: a workflow function called in a run, up to its outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from durable.errors import (
    CancelRequested,
    DurableError,
    NonDeterminismError,
    StoreError,
    Suspended,
    WorkflowCancelledError,
)
from durable.replay.call import is_async
from durable.replay.frame import Frame
from durable.replay.keys import Scope
from durable.replay.run import Run
from durable.replay.step import Outcome
from durable.signals import held_back, is_interrupt, reason_of
from durable.values import codec
from durable.values.failures import encode_error


class Execution:
    """One call of a workflow function. `result` makes it, in the calling thread, and releases the workflow id."""

    def __init__(
        self,
        run: Run,
        fn: Callable[..., Any],
        arguments: str,
        result_codec: codec.Codec,
        context: type[Frame],
        list_due: Callable[[], list[tuple[str, str]]],
    ) -> None:
        """`context` is the class of the function's first argument; `list_due` tells which waits are due now."""
        self.run = run
        self.function, self._arguments, self._codec, self._list_due = fn, arguments, result_codec, list_due
        self._values: tuple[str, ...] = ()  # the large values that its result names
        self._frame = context(run, Scope(run.workflow_id))
        run.frames.add(self._frame)

    @property
    def workflow_id(self) -> str:
        """The id of the workflow."""
        return self.run.workflow_id

    def __str__(self) -> str:
        return f"workflow {self.run.workflow_id!r}: its result"

    def result(self) -> Any:
        """Return the workflow's value, as on record. Raises what the function raised, or what ended the run."""
        run = self.run
        with held_back():
            try:
                run.notify("workflow.started")
                run.on_news("workflow.started", None, None)
                return self._outcome()
            except Suspended:
                self._note_end("suspended")
                run.notify("workflow.suspended")
                raise
            except BaseException as interrupt:
                if not is_interrupt(interrupt) or isinstance(interrupt, CancelRequested):
                    raise
                if isinstance(run.stopped, Exception) and not isinstance(interrupt, KeyboardInterrupt | SystemExit):
                    raise self._fail(run.stopped) from None  # a task that was cancelled because of it
                self._note_end("interrupted", reason_of(interrupt))
                raise
            finally:
                run.close()

    def give_up(self, ended: str, reason: str) -> None:
        """End the run without calling the function."""
        self._note_end(ended, reason)
        self.run.close()

    def _outcome(self) -> Any:
        run = self.run
        try:
            try:
                value = self._call()
            except Suspended:
                with run.stopping:
                    run.history.check_waits(self._frame.scope, self._list_due)
                raise
            return self._complete(value)
        except CancelRequested:
            raise self._cancel() from None
        except Exception as error:
            if is_interrupt(error):
                raise
            ending = self._fail(error)
            if ending is error:
                raise
            raise ending from ending.__cause__

    def _call(self) -> Any:
        """Call the function with the arguments as they were recorded: the first run sees what a replay would."""
        run, frame = self.run, self._frame
        subject = f"workflow {run.workflow_id!r}"
        args, kwargs = codec.decode_arguments(self.function, self._arguments, subject, run.read)
        if not is_async(self.function):
            value = frame.call(self.function, args, kwargs)
        else:
            value = run.wait_for(frame.call_async(self.function, args, kwargs))
        run.check()
        run.history.finish(frame.scope)
        return value

    def _complete(self, value: Any) -> Any:
        output, decoded = self._codec.round_trip(value, self, self._put)
        self._close("completed", output, None)
        return decoded

    def _put(self, head: bytes, buffers: Sequence[Any]) -> str:
        with self.run.stopping:
            sha256 = self.run.log.values.put(head, buffers)
        self._values += (sha256,)
        return sha256

    def _fail(self, error: Exception) -> BaseException:
        """Save an error of the workflow's own. One of the engine's ends the run, and the workflow can be resumed."""
        run = self.run
        if isinstance(run.stopped, CancelRequested):
            return self._cancel()
        if run.stopped is not None and not isinstance(run.stopped, Exception):
            self._note_end("interrupted")
            return run.stopped
        error = run.stopped or error
        if run.stopped is not None or (isinstance(error, DurableError) and not run.steps_behind(error)):
            self._stop(error)
            return error
        try:
            run.log.check()
        except CancelRequested:  # the error may be the end of a child that was cancelled with it
            return self._cancel()
        except DurableError as engine_error:
            self._stop(engine_error)
            return engine_error
        return self._undo(error, "failed", steps=run.steps_behind(error))

    def _cancel(self) -> BaseException:
        """Undo what is registered to be undone, and save that the workflow was cancelled."""
        self.run.stopped = None  # its threads have ended, and compensations may begin
        return self._undo(WorkflowCancelledError(f"workflow {self.run.workflow_id!r} was cancelled"), "cancelled")

    def _undo(self, error: Exception, status: str, **extra: Any) -> BaseException:
        """Run the compensations, and save the error as the outcome. An error of the engine ends the run instead."""
        run = self.run
        try:
            try:
                run.history.check_registered()
            except NonDeterminismError as missed:
                raise run.stop(missed) from error
            if run.undo is not None:
                run.undo(self._frame, error)
            self._close(status, None, encode_error(error, **extra), error)
        except DurableError as engine_error:
            self._stop(engine_error)
            return engine_error
        return error

    def _close(self, status: str, output: str | None, error: str | None, ending: Exception | None = None) -> None:
        run = self.run
        with run.stopping:
            outcome = Outcome(status, output, error, run.now(), values=self._values)
            run.log.close(status, outcome, run.reason)
        run.notify(f"workflow.{status}")
        run.on_news(f"workflow.{status}", None, ending)

    def _stop(self, error: Exception) -> None:
        self._note_end("stopped", f"{type(error).__name__}: {error}", error)

    def _note_end(self, ended: str, reason: str | None = None, error: Exception | None = None) -> None:
        with contextlib.suppress(StoreError):  # then the next run will call it crashed
            self.run.log.close(ended, None, self.run.reason or reason)
        self.run.on_news(f"workflow.{ended}", None, error)
