"""Attempt: one try of one step, made inside a step of DBOS, which records what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from durable.errors import DurableError, StoreError
from durable.on_dbos.rows import StepRow
from durable.on_dbos.serializer import StepFailed
from durable.on_dbos.slots import NotOurs
from durable.replay.attempt import Attempt, thread_label
from durable.replay.step_info import current
from durable.signals import let_through
from durable.values import failures as failure
from durable.waiting.clock import as_text

if TYPE_CHECKING:
    from durable.on_dbos.run import DBOSRun


class _Unrecorded(BaseException):
    """Carries an error that is no outcome through DBOS, which records each Exception."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class DBOSAttempt(Attempt):
    """A try that has not begun."""

    _value: Any = None

    def once(self) -> tuple[Any] | None:
        """Make a try that is due, in this thread: its value, or None where another is to follow. Raises its error."""
        if self._due is not None:
            self._due.result()
        row = self._new_row(thread_label(self._scope))
        ending = None
        try:
            with self._refusals():
                self._slots.perform(self.key, lambda: self._effect(row))
        except StepFailed as failed:
            ending = self._after(failed)
        else:
            self._checkpointed()
            return (self._value,)
        self._go_on(ending)
        return None

    async def result_async(self) -> Any:
        """Make the tries of a coroutine function."""
        while True:
            if (due := self.due()) is not None:
                await due
            row = await self._run.workers.call(self._new_row, "event loop")
            try:
                with self._refusals():
                    await self._slots.perform_async(self.key, self._effect_async, row)
            except StepFailed as failed:
                ending = self._after(failed)
            else:
                await self._run.workers.call(self._checkpointed)
                return self._value
            self._go_on(ending)

    # ---- inside the step of DBOS

    def _effect(self, row: StepRow) -> StepRow:
        token = current.set(self.info)
        try:
            value = let_through(self._fn, *self.call.args, **self.call.kwargs)
        except Exception as error:
            raise self._failed(row, error) from error
        finally:
            current.reset(token)
        return self._completed_row(row, value)

    async def _effect_async(self, row: StepRow) -> StepRow:
        token = current.set(self.info)
        try:
            value = await self._fn(*self.call.args, **self.call.kwargs)
        except Exception as error:
            raise await self._run.workers.call(self._failed, row, error) from error
        finally:
            current.reset(token)
        return await self._run.workers.call(self._completed_row, row, value)

    def _completed_row(self, row: StepRow, value: Any) -> StepRow:
        self._notify("step.executed")  # a crash here repeats the effect: the gap that idempotency keys close
        try:
            output, self._value = self._round_trip(value)
        except DurableError as error:
            raise _Unrecorded(error) from error.__cause__
        return row.ended("completed", output, None, self._run.now())

    def _failed(self, row: StepRow, error: Exception) -> BaseException:
        run, number = self._run, self.number - self._tries_before
        if isinstance(run.stopped, DurableError):  # the step may have failed because of it
            return _Unrecorded(run.stopped)
        self._notify("step.executed")
        now, wake_at = run.clock.now(), None
        delay = self.call.options.next_delay(error, number, self.info().idempotency_key)
        if delay is not None:
            wake_at = as_text(now + timedelta(seconds=delay))
        return StepFailed(row.ended("failed", None, failure.encode_error(error), as_text(now), wake_at=wake_at))

    # ---- around it

    @property
    def _slots(self) -> Any:
        return cast("DBOSRun", self._run).checkpoints.slots

    def _new_row(self, thread: str) -> StepRow:
        self._notify("step.scheduled")  # an observer may hold us here until the run has ended
        row = cast("DBOSRun", self._run).checkpoints.new_row(self.new_step(thread, self._run.now()))
        self._notify("step.started")
        return row

    def _checkpointed(self) -> None:
        self._note_outcome()
        self._notify("step.checkpointed")

    def _after(self, failed: StepFailed) -> BaseException | str:
        """What is to be raised, or the instant of the next try."""
        self._notify("step.failed")
        if failed.row.wake_at is not None:
            return failed.row.wake_at
        self._note_outcome()
        cause = failed.__cause__
        assert failed.row.error_text is not None
        return self._rebuild(failed.row.error_text, cause if isinstance(cause, Exception) else failed)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        run = cast("DBOSRun", self._run)
        try:
            yield
        except _Unrecorded as carried:
            raise carried.error from carried.__cause__
        except NotOurs:
            raise run.refused() from None
        except StoreError as error:
            raise run.stop(error) from error.__cause__
