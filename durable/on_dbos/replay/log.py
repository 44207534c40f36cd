"""DBOSLog: the log of one run on DBOS. One method, one row saved.

A step is saved by DBOS itself, as the result of one of its own steps, see `DBOSRun.call`. So `begin` and `end` have
nothing to save, and a step that is running has no row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from dbos import DBOS

from durable.errors import CancelRequested, FencedError
from durable.on_dbos.replay.mailbox import Mailbox
from durable.on_dbos.replay.slots import NotOurs, Slots
from durable.on_dbos.store.large import SharedValues
from durable.on_dbos.store.progress import RunProgress
from durable.on_dbos.store.rows import Record, StepRow, SupersededRow
from durable.on_dbos.store.serializer import WorkflowFailed
from durable.on_dbos.store.workflows import BARE, find_status, find_workflow, has_cancel_request
from durable.parallel.loop import EventLoop
from durable.replay.log import Message, Row, Said, Wait
from durable.replay.step import Outcome, Step
from durable.values.failures import encode_error

T = TypeVar("T")


class DBOSLog:
    """See `durable.replay.log`: a `Log`, a `WaitingLog` and a `ProgressLog`. Safe to use from any thread."""

    def __init__(
        self,
        workflow_id: str,
        record: Record,
        slots: Slots,
        path: Path,
        loop: EventLoop,
        on_message: Callable[[], object],
        values: SharedValues,
        progress: RunProgress,
    ) -> None:
        """`on_message` is called when a message has come."""
        self.values, self._progress = values, progress
        self.workflow_id, self.epoch, self.path = workflow_id, record.last_run + 1, path
        self.record_of_steps, self.slots = record, slots
        self.mailbox = Mailbox(self, record.messages.values(), loop, on_message)
        self.output: str | None = None  # the workflow's
        self.error: str | None = None
        self.is_cancelled = False
        self.is_lost = False  # whether DBOS has refused a row
        self._begun: dict[str, StepRow] = {key: row for key, row in record.steps.items() if row.status == "running"}
        self._lock = threading.Lock()

    # ---- the history

    def read(self) -> Iterator[list[Row]]:
        """See `Log`. All rows are in one page."""
        return iter([[row.checkpoint().row() for row in self.record_of_steps.steps.values()]])

    def list_tries(self) -> list[tuple[str, int, bool, int]]:
        """See `Log`."""
        return self.record_of_steps.list_tries()

    def list_waiting(self) -> dict[str, str | None]:
        """See `Log`."""
        return self.record_of_steps.list_waiting()

    # ---- steps

    def begin(self, steps: Sequence[Step]) -> None:
        """Save nothing: DBOS knows no running step."""

    def end(self, steps: Sequence[Step]) -> None:
        """Save nothing: DBOS has saved the step."""

    def record(self, step: Step) -> None:
        """See `Log`. DBOS publishes the values that a workflow publishes."""
        row = self.ended_row(step)
        if step.call.kind != "publish":
            self.save(row)
            return

        def publish() -> StepRow:
            DBOS.set_event(step.call.name, row)
            return row

        self.attempt(lambda: self.slots.run_here(lambda: self.slots.perform(row.key, publish)))

    def supersede(self, step_keys: Sequence[str]) -> None:
        """See `Log`."""
        row = SupersededRow(list(step_keys), self.epoch, has_failed=False)
        self.attempt(lambda: self.slots.save("durable.superseded", row))

    # ---- the run

    def check(self) -> None:
        """See `Log`."""
        if has_cancel_request(find_status(self.workflow_id, **BARE)):
            raise CancelRequested(f"workflow {self.workflow_id!r}: it was cancelled")
        if self.is_lost:
            raise FencedError(self.workflow_id, self.epoch)

    def close(self, ended: str, outcome: Outcome | None = None, reason: str | None = None) -> None:  # noqa: ARG002
        """See `Log`. DBOS saves the outcome as that of its function, and keeps nothing of a run without one.

        The steps that failed the workflow are superseded, so that its next run tries them anew.
        """
        self._progress.close()
        if outcome is None:
            return
        self.values.check(outcome.values)
        self.output, self.error, self.is_cancelled = outcome.output, outcome.error, ended == "cancelled"
        if ended == "failed" and outcome.error is not None:
            row = SupersededRow(_steps_behind(outcome.error), self.epoch, has_failed=True)
            self.attempt(lambda: self.slots.save("durable.failed", row))

    def save_progress(self, said: Sequence[Said], ended: Sequence[str]) -> None:
        """See `ProgressLog`."""
        self._progress.save(said, ended)

    # ---- waits and messages

    def begin_wait(self, step: Step, wait: Wait) -> tuple[str | None, bool]:
        """See `WaitingLog`."""
        row = self.find_begun(step.key)
        is_new = row is None
        if row is None:
            wake_at, event, child_id = wait
            row = msgspec.structs.replace(self.new_row(step), wake_at=wake_at, event=event, child_id=child_id)
            with self._lock:
                self._begun[row.key] = row
            self.save(row)
        if wait.event is not None:
            self.mailbox.wait(step.key, wait.event)
        return row.wake_at, is_new

    def end_wait(self, step: Step) -> bool:
        """See `WaitingLog`."""
        begun, outcome = self.find_begun(step.key), step.outcome
        assert begun is not None, step.key
        assert outcome is not None, step.key
        number = outcome.message
        message = None if number is None else self.mailbox.claim(number)
        if number is not None and message is None:
            return False
        try:
            self.values.adopt(outcome.values)
            self.save(begun.ended(outcome, wake_at=None, message=message))
        except BaseException:
            if number is not None:
                self.mailbox.put_back(number)
            raise
        self.mailbox.end_wait(step.key)
        return True

    def find_message(self, event: str) -> Message | None:
        """See `WaitingLog`."""
        return self.mailbox.find(event)

    def find_end(self, workflow_id: str) -> tuple[str, str | None, str | None] | None:
        """See `WaitingLog`."""
        found = find_workflow(workflow_id)
        return None if found is None or found.status == "running" else (found.status, found.output, found.error)

    # ---- rows

    def new_row(self, step: Step) -> StepRow:
        """Return the row of a step that has no outcome yet."""
        return StepRow(
            key=step.key,
            name=step.call.name,
            kind=step.call.kind,
            position=step.position,
            attempt=step.attempt,
            run=self.epoch,
            status="running",
            started_at=step.started_at,
            thread=step.thread,
            fingerprint=step.call.recorded_as,
        )

    def ended_row(self, step: Step) -> StepRow:
        """Return the row of a step with its outcome. Raises CorruptionError if a large value of it is missing."""
        assert step.outcome is not None, step.key
        self.values.check(step.outcome.values)
        return self.new_row(step).ended(step.outcome, wake_at=step.outcome.wake_at)

    def find_begun(self, key: str) -> StepRow | None:
        """Return the row of a step that waits, of this run or an earlier one."""
        return self._begun.get(key)

    def save(self, row: StepRow) -> None:
        """Save a row."""
        self.attempt(lambda: self.slots.save(row.key, row))

    def attempt(self, work: Callable[[], T]) -> T:
        """Do what saves something, and return what it returned. Raises CancelRequested, FencedError or StoreError."""
        try:
            with self.slots.refusals():
                return work()
        except NotOurs:
            raise self.refused() from None

    def refused(self) -> BaseException:
        """Return why DBOS refused a row."""
        self.is_lost = True
        try:
            self.check()
        except (CancelRequested, FencedError) as refusal:
            return refusal
        raise AssertionError

    def outcome_error(self, error: Exception) -> WorkflowFailed:
        """Return how the workflow failed, for DBOS to save: the error that was recorded, or that of the engine."""
        return WorkflowFailed(self.error or encode_error(error))


def _steps_behind(error: str) -> list[str]:
    steps: list[str] = msgspec.json.decode(error).get("steps", [])
    return steps
