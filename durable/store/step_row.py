"""The row of a step as it is written: when its try begins, and how it ended; and the statements for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from durable.store.steps import BEGIN, BEGIN_SEVERAL, COMPLETE, END, END_SEVERAL, RECORD, write_rows
from durable.values.codec import checksum

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""SQL and its parameters."""


class NewStep(NamedTuple):
    """A step about to be tried, in the order of its SQL parameters."""

    step_key: str
    name: str
    kind: str
    position: int
    attempt: int
    fingerprint: str | None
    started_at: str
    thread: str


class Ending(NamedTuple):
    """How a step ended: with an output, or with an error."""

    status: str
    output: str | None
    error: str | None
    at: str


class EndedStep(NamedTuple):
    """The outcome of a step, in the order of its SQL parameters. `thread` is None where the running row names it."""

    status: str
    output: str | None
    error: str | None
    checksum: int
    ended_at: str
    thread: str | None
    step_key: str

    @classmethod
    def of(
        cls, step_key: str, status: str, output: str | None, error: str | None, at: str, thread: str | None = None
    ) -> EndedStep:
        """With its checksum."""
        return cls(status, output, error, checksum(step_key, status, output, error), at, thread, step_key)


def starting(workflow_id: str, epoch: int, step: NewStep) -> Statement:
    """The statement that writes a running row; it changes nothing for a superseded run or a cancelled workflow."""
    return BEGIN, (*step, "running", workflow_id, epoch)


def recording(workflow_id: str, epoch: int, step: NewStep, output: str) -> Statement:
    """The statement that writes a row and its outcome at once, under the same conditions."""
    stored = checksum(step.step_key, "completed", output, None)
    return RECORD, (*step, "completed", output, None, stored, step.started_at, workflow_id, epoch)


def completing(workflow_id: str, epoch: int, step_key: str, output: str, at: str) -> Statement:
    """The statement that saves the output of a running row."""
    stored = checksum(step_key, "completed", output, None)
    return COMPLETE, (output, stored, at, None, step_key, workflow_id, epoch)


def ending(
    status: str, output: str | None, error: str | None, at: str, workflow_id: str, epoch: int, step_key: str
) -> Statement:
    """The statement that saves the outcome of a running row; it changes nothing for a superseded run."""
    row = EndedStep.of(step_key, status, output, error, at)
    return END, (*row, workflow_id, epoch, workflow_id)


def start_rows(db: sqlite3.Connection, workflow_id: str, epoch: int, steps: Sequence[NewStep]) -> int:
    """Write running rows; how many."""
    return write_rows(db, BEGIN, BEGIN_SEVERAL, [(*step, "running") for step in steps], workflow_id, epoch)


def end_rows(db: sqlite3.Connection, workflow_id: str, epoch: int, steps: Sequence[EndedStep]) -> int:
    """Save the outcomes of running rows; how many."""
    return write_rows(db, END, END_SEVERAL, steps, workflow_id, epoch, workflow_id)
