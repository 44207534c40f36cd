"""Execution: a workflow function called in a run, up to its outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from durable.context import Context
from durable.errors import CancelRequested, DurableError, StoreError, Suspended, WorkflowCancelledError
from durable.replay.call import is_async
from durable.replay.keys import Scope
from durable.replay.run import Run
from durable.signals import held_back
from durable.values import codec
from durable.values import failures as failure


class Execution:
    """One call of a workflow function. `result` makes it, in the calling thread, and releases the workflow id."""

    def __init__(
        self,
        run: Run,
        fn: Callable[..., Any],
        arguments: str,
        result_codec: codec.Codec,
        context: type[Context] = Context,
    ) -> None:
        self.run = run
        self.function, self._arguments, self._codec = fn, arguments, result_codec
        self._context = context(run, Scope(run.workflow_id))
        run.frames.add(self._context)

    @property
    def workflow_id(self) -> str:
        """Of the workflow."""
        return self.run.workflow_id

    def __str__(self) -> str:
        return f"workflow {self.run.workflow_id!r}: its result"

    def result(self) -> Any:
        """The workflow's value, as it is on record. Raises what the function raised, or what ended the run."""
        run = self.run
        with held_back():
            try:
                run.notify("workflow.started")
                return self._outcome()
            except Suspended:
                self._note_end("suspended")
                run.notify("workflow.suspended")
                raise
            except (CancelRequested, Exception):
                raise
            except BaseException as interrupt:
                if isinstance(run.stopped, Exception) and not isinstance(interrupt, KeyboardInterrupt | SystemExit):
                    raise self._fail(run.stopped) from None  # a task that was cancelled because of it
                self._note_end("interrupted")
                raise
            finally:
                run.close()

    def give_up(self) -> None:
        """It cannot be called, for want of a thread."""
        self._note_end("interrupted")
        self.run.close()

    def _outcome(self) -> Any:
        try:
            try:
                value = self._call()
            except Suspended:
                self._context.check_waits()
                raise
            return self._complete(value)
        except CancelRequested:
            raise self._cancel() from None
        except Exception as error:
            ending = self._fail(error)
            if ending is error:
                raise
            raise ending from ending.__cause__

    def _call(self) -> Any:
        """Call the function with the arguments as they were recorded: the first run sees what a replay would."""
        run = self.run
        args, kwargs = codec.decode_arguments(self.function, self._arguments, f"workflow {run.workflow_id!r}")
        context = self._context
        if not is_async(self.function):
            value = context.call(self.function, args, kwargs)
        else:
            value = run.wait_for(context.call_async(self.function, args, kwargs))
        run.check()
        context.finish()
        return value

    def _complete(self, value: Any) -> Any:
        run = self.run
        output, decoded = self._codec.round_trip(value, self)
        run.save(run.store.complete_workflow, output, self._arguments, run.now())
        run.notify("workflow.completed")
        return decoded

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
            self._note_end("stopped")
        else:
            try:
                self._context.compensate(error)
                record = failure.encode_error(error, steps=run.steps_behind(error))
                run.save(run.store.fail_workflow, record, self._arguments, run.now())
            except DurableError as engine_error:
                self._note_end("stopped")
                return engine_error
            run.notify("workflow.failed")
        return error

    def _cancel(self) -> Exception:
        """Undo what is registered to be undone, and save that the workflow was cancelled."""
        run, error = self.run, WorkflowCancelledError(f"workflow {self.run.workflow_id!r} was cancelled")
        run.stopped = None  # its threads have ended, and compensations may begin
        try:
            self._context.compensate(error)
            run.save(run.store.cancel_workflow, failure.encode_error(error), self._arguments, run.now())
        except DurableError as engine_error:
            self._note_end("stopped")
            return engine_error
        run.notify("workflow.cancelled")
        return error

    def _note_end(self, ended: str) -> None:
        with contextlib.suppress(StoreError):  # then the next run will call it crashed
            self.run.store.end_run(self.run.workflow_id, self.run.epoch, ended, self.run.now())
