"""Run: one life of a workflow on DBOS, and how a step's life is driven there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from durable.errors import DurableError, StoreError
from durable.on_dbos.replay.log import DBOSLog
from durable.on_dbos.replay.room import Room
from durable.on_dbos.replay.slots import NotOurs
from durable.on_dbos.store.rows import StepRow
from durable.on_dbos.store.serializer import StepFailed
from durable.parallel.threads import is_process_ending
from durable.replay.run import Run
from durable.replay.step import Outcome, Step


class _Unrecorded(BaseException):
    """Carries an error that is no outcome through DBOS, which records each Exception."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class DBOSRun(Run):
    """A run whose rows DBOS keeps. The effect of a step and its outcome are one step of DBOS."""

    can_batch = False

    def __init__(self, log: DBOSLog, room: Room, **parts: Any) -> None:
        super().__init__(log, **parts)
        self.dbos_log, self._room = log, room
        self._is_cancelling = False
        self.has_ended = threading.Event()

    # ---- a step's life

    def begin(self, step: Step) -> None:
        """Write nothing. Wait for a place, if the run gave it back while it waited."""
        self._room.enter(self.workflow_id, lambda: self.stopped)
        super().begin(step)

    def call(self, step: Step) -> None:
        """Have the effect within a step of DBOS, which saves what comes of it."""
        with self._refusals():
            self.dbos_log.slots.perform(step.key, lambda: self._effect(step))

    async def call_async(self, step: Step) -> None:
        """Have the effect of a coroutine function within a step of DBOS."""
        with self._refusals():
            await self.dbos_log.slots.perform_async(step.key, self._effect_async, step)

    def judge(self, step: Step) -> Outcome:
        """Return the outcome that DBOS has saved; of a recorded value, the one to be saved."""
        return step.outcome or super().judge(step)

    def _effect(self, step: Step) -> StepRow:
        try:
            super().call(step)
        except DurableError as error:
            raise _Unrecorded(error) from error.__cause__
        return self._judged(step)

    async def _effect_async(self, step: Step) -> StepRow:
        try:
            await super().call_async(step)
        except DurableError as error:
            raise _Unrecorded(error) from error.__cause__
        return await self.workers.call(self._judged, step)

    def _judged(self, step: Step) -> StepRow:
        try:
            step.outcome = super().judge(step)
            row = self.dbos_log.ended_row(step)
        except DurableError as error:
            raise _Unrecorded(error) from error.__cause__
        if step.raised is not None:
            raise StepFailed(row) from step.raised
        return row

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """A block in which DBOS may refuse to save. A failed step goes on: its outcome is saved."""
        with self.stopping:
            try:
                yield
            except StepFailed:
                pass
            except _Unrecorded as carried:
                raise carried.error from carried.__cause__
            except NotOurs:
                raise self.dbos_log.refused() from None
            except StoreError as error:
                raise error from error.__cause__

    # ---- its end

    def ask_to_cancel(self) -> None:
        """Have the workflow cancelled, once: its compensations may begin in spite of it."""
        if self.stopped is None and not self._is_cancelling:
            self._is_cancelling = True
            self.cancel()

    def lose(self, error: BaseException) -> None:
        """Let nothing more begin: something that goes on alongside the steps has met an error."""
        if isinstance(error, NotOurs):
            self.stop(self.dbos_log.refused())
        elif is_process_ending():  # DBOS gets no thread any more: that is no outcome
            self.interrupt("the process ended while it waited")
        else:
            self.stop(error)
