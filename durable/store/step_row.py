"""The row of a step as it is written: when its try begins, and how it ended; and the statements for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from durable.values.codec import checksum

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""SQL and its parameters. What each of them changes is nothing for a run that a newer one has superseded."""


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


# ---- one row

_START_STEP = (
    "insert into steps (workflow_id, epoch, status, step_key, name, kind, position, attempt, fingerprint, started_at,"
    " thread) select id, epoch, 'running', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 from workflows where id = ?9 and epoch = ?10"
    " and (cancel_requested_at is null or ?3 = 'compensation')"
)
_RECORD_STEP = (
    "insert into steps (workflow_id, epoch, status, step_key, name, kind, position, attempt, fingerprint, started_at,"
    " thread, output, checksum, ended_at) select id, epoch, 'completed', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?11, ?12, ?7"
    " from workflows where id = ?9 and epoch = ?10 and cancel_requested_at is null"
)
_COMPLETE_STEP = (
    "update steps set status = 'completed', output = ?1, checksum = ?2, ended_at = ?3 where step_key = ?4"
    " and workflow_id = ?5 and epoch = ?6 and epoch = (select epoch from workflows where id = ?5)"
)
_END_STEP = (
    "update steps set status = ?, output = ?, error = ?, checksum = ?, ended_at = ?, thread = coalesce(?, thread)"
    " where step_key = ? and workflow_id = ? and epoch = ? and epoch = (select epoch from workflows where id = ?)"
)


def starting(workflow_id: str, epoch: int, step: NewStep) -> Statement:
    """The statement that writes a running row; it changes nothing for a superseded run or a cancelled workflow."""
    return _START_STEP, (*step, workflow_id, epoch)


def recording(workflow_id: str, epoch: int, step: NewStep, output: str) -> Statement:
    """The statement that writes a row and its outcome at once, under the same conditions."""
    return _RECORD_STEP, (
        *step, workflow_id, epoch, output, checksum(step.step_key, "completed", output, None),
    )  # fmt: skip


def completing(workflow_id: str, epoch: int, step_key: str, output: str, at: str) -> Statement:
    """The statement that saves the output of a running row; what is right in it already costs nothing."""
    return _COMPLETE_STEP, (output, checksum(step_key, "completed", output, None), at, step_key, workflow_id, epoch)


def ending(
    status: str, output: str | None, error: str | None, at: str, workflow_id: str, epoch: int, step_key: str
) -> Statement:
    """The statement that saves the outcome of a running row; it changes nothing for a superseded run."""
    stored = checksum(step_key, status, output, error)
    return _END_STEP, (status, output, error, stored, at, None, step_key, workflow_id, epoch, workflow_id)


# ---- several rows

_LOT = 32  # rows of a statement that writes several: a statement costs as much as two of its rows


def _lot(width: int) -> str:
    """So many rows of parameters, in SQL; their columns are `column1` and on."""
    return f"(values {', '.join(['(' + ', '.join('?' * width) + ')'] * _LOT)})"


_START_STEPS = (
    "insert into steps (workflow_id, epoch, status, step_key, name, kind, position, attempt, fingerprint, started_at,"
    " thread) select id, epoch, 'running', column1, column2, column3, column4, column5, column6, column7, column8"
    f" from workflows, {_lot(8)} where id = ? and epoch = ? and (cancel_requested_at is null or"
    " column3 = 'compensation')"
)
_END_STEPS = (
    "update steps set status = column1, output = column2, error = column3, checksum = column4, ended_at = column5,"
    f" thread = coalesce(column6, thread) from {_lot(7)} where step_key = column7 and workflow_id = ? and epoch = ?"
    " and epoch = (select epoch from workflows where id = ?)"
)


def start_rows(db: sqlite3.Connection, workflow_id: str, epoch: int, steps: Sequence[NewStep]) -> int:
    """Write running rows; how many."""
    return _write_rows(db, _START_STEP, _START_STEPS, steps, workflow_id, epoch)


def end_rows(db: sqlite3.Connection, workflow_id: str, epoch: int, steps: Sequence[EndedStep]) -> int:
    """Save the outcomes of running rows; how many."""
    return _write_rows(db, _END_STEP, _END_STEPS, steps, workflow_id, epoch, workflow_id)


def _write_rows(db: sqlite3.Connection, one: str, lot: str, rows: Sequence[tuple[Any, ...]], *parameters: Any) -> int:
    """Execute `lot` for as many rows at a time as it takes, and `one` for each that is left. Returns how many changed.

    Not only is that quicker. As each statement ends, it may wait until a thread that computes lets go of the GIL.
    """
    whole = len(rows) - len(rows) % _LOT
    lots = [(*chain.from_iterable(rows[start : start + _LOT]), *parameters) for start in range(0, whole, _LOT)]
    singles = [(*row, *parameters) for row in rows[whole:]]
    return sum(db.executemany(sql, each).rowcount for sql, each in ((lot, lots), (one, singles)) if each)
