"""Checkpoints: what `store.py` is on a file, for one run on DBOS. One method, one row saved.

A method returns false where DBOS refuses the row: the workflow was cancelled, or another process runs it by now.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from dbos import DBOS

from durable.on_dbos.ending import encode_ending
from durable.on_dbos.rows import Record, StepRow, SupersededRow
from durable.on_dbos.serializer import WorkflowFailed
from durable.on_dbos.slots import NotOurs, Slots
from durable.on_dbos.workflows import find_workflow, has_cancel_request
from durable.replay.checkpoint import Row
from durable.store.records import WorkflowRecord
from durable.store.step_row import NewStep


class Checkpoints:
    """The rows of one run. Safe to use from any thread."""

    def __init__(self, workflow_id: str, record: Record, slots: Slots, path: Path) -> None:
        self.workflow_id, self.record, self.slots, self.path = workflow_id, record, slots, path
        self.run = record.last_run + 1
        self.output: str | None = None  # of the workflow
        self.error: str | None = None
        self.is_cancelled = False
        self.on_error: Callable[[BaseException], object] = lambda _: None  # of what goes on beside the steps
        self.lost = False  # whether DBOS has refused a row
        self._begun: dict[str, StepRow] = {key: row for key, row in record.steps.items() if row.status == "running"}
        self._lock = threading.Lock()

    # ---- what a run asks of its store

    def read_pages(self, _: str) -> Iterator[list[Row]]:
        """All recorded steps of the workflow, in one page."""
        return iter([[row.checkpoint().row() for row in self.record.steps.values()]])

    def list_tries(self, _: str) -> list[tuple[str, int, bool, int]]:
        """See `Store.list_tries`."""
        return self.record.list_tries()

    def record_step(self, _: str, __: int, step: NewStep, output: str) -> bool:
        """A step whose value the engine provides. What it publishes, DBOS publishes."""
        row = self.new_row(step).ended("completed", output, None, step.started_at)
        if step.kind != "publish":
            return self.save(row)

        def publish() -> StepRow:
            DBOS.set_event(step.name, row)
            return row

        return self.attempt(lambda: self.slots.run_here(lambda: self.slots.perform(row.key, publish)))

    def supersede_steps(self, _: str, epoch: int, step_keys: Sequence[str]) -> bool:
        """Put steps aside that the code, on another way since a failed step was tried anew, no longer asks for."""
        row = SupersededRow(list(step_keys), epoch, has_failed=False)
        return self.attempt(lambda: self.slots.save("durable.superseded", row))

    def complete_workflow(self, _: str, __: int, output: str, ___: str, ____: str) -> bool:
        """It is saved by DBOS, as the outcome of its function."""
        self.output = output
        return True

    def fail_workflow(self, _: str, epoch: int, error: str, __: str, ___: str) -> bool:
        """The steps that failed it are put aside, so that its next run tries them anew; the rest as above."""
        self.error = error
        row = SupersededRow(_steps_behind(error), epoch, has_failed=True)
        return self.attempt(lambda: self.slots.save("durable.failed", row))

    def cancel_workflow(self, _: str, __: int, error: str, ___: str, ____: str) -> bool:
        """The rest as above."""
        self.error, self.is_cancelled = error, True
        return True

    def end_run(self, _: str, __: int, ended: str, ___: str) -> None:
        """DBOS knows no lives of a workflow."""

    def is_current(self, _: str, __: int) -> bool:
        """Whether nobody else runs the workflow, as far as DBOS has told."""
        return not self.lost

    def is_cancel_requested(self, workflow_id: str, _: int) -> bool:
        """Whether somebody wants the workflow to be cancelled."""
        return has_cancel_request(workflow_id)

    def find_state(self, workflow_id: str) -> WorkflowRecord | None:
        """What `Store.find_state` tells of a workflow, and more."""
        return find_workflow(workflow_id)

    # ---- rows

    def new_row(self, step: NewStep) -> StepRow:
        """A row of a step that has no outcome yet."""
        return StepRow(
            key=step.step_key,
            name=step.name,
            kind=step.kind,
            position=step.position,
            attempt=step.attempt,
            run=self.run,
            status="running",
            started_at=step.started_at,
            thread=step.thread,
            fingerprint=step.fingerprint,
        )

    def begin(self, row: StepRow) -> bool:
        """Save that a step waits."""
        with self._lock:
            self._begun[row.key] = row
        return self.save(row)

    def find_begun(self, key: str) -> StepRow | None:
        """The row of a step that waits, of this run or an earlier one."""
        return self._begun.get(key)

    def save(self, row: StepRow) -> bool:
        """Save a row."""
        return self.attempt(lambda: self.slots.save(row.key, row))

    def attempt(self, work: Callable[[], Any], is_done: Callable[[Any], bool] = lambda _: True) -> bool:
        """Do what saves something; `is_done` judges what it returns. False where DBOS refuses."""
        try:
            with self.slots.refusals():
                return is_done(work())
        except NotOurs:
            self.lost = True
            return False

    def outcome_error(self, error: Exception) -> WorkflowFailed:
        """How the workflow has failed, for DBOS to save: the error that was recorded, or that of the engine."""
        return WorkflowFailed(self.error or encode_ending(error))


def _steps_behind(error: str) -> list[str]:
    steps: list[str] = msgspec.json.decode(error).get("steps", [])
    return steps
