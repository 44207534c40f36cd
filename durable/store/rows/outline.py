"""Outline: a workflow of many steps, read in part: a page of its steps, the notable ones, and spans of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from durable.replay.keys import program_order
from durable.store.records import Span, StepRecord, columns, from_row

Read: TypeAlias = Callable[[str, tuple[Any, ...]], list[Any]]

STEP = columns(StepRecord).removesuffix(", superseded_by")
_PLAIN = "status = 'completed' and kind = 'step' and attempt = 1"
_HAS_BRANCHES = "select exists (select 1 from steps where workflow_id = ? and step_key like '%/%')"
_FIRST = f"select {STEP} from steps where workflow_id = ? order by position limit ? offset ?"
_NAMED = f"select {STEP} from steps where workflow_id = ? and step_key in (select value from json_each(?))"
_SPANS = (
    "select min(step_key), epoch, thread, min(started_at), max(ended_at), count(*) from steps"
    f" where workflow_id = ? and {_PLAIN} group by epoch, thread, substr(started_at, 1, ?)"
)
_WORK = (
    "select sum(86400 * (julianday(last) - julianday(first)))"
    " from (select min(started_at) first, max(ended_at) last from steps where workflow_id = ? group by epoch)"
)
_SHARE = 0.01  # steps that begin within this share of the time of all runs are one span
# letters of an instant that tell a minute, a second, a tenth, a hundredth, a thousandth of it; with seconds in each
_LETTERS = ((16, 60.0), (19, 1.0), (21, 0.1), (22, 0.01), (23, 0.001))


def count_steps(read: Read, workflow_id: str) -> int:
    """Return how many steps a workflow has."""
    return int(read("select count(*) from steps where workflow_id = ?", (workflow_id,))[0][0])


def list_page(read: Read, workflow_id: str, first: int, size: int) -> list[StepRecord]:
    """Return so many steps in program order, from a place on."""
    if not read(_HAS_BRANCHES, (workflow_id,))[0][0]:
        rows = read(_FIRST, (workflow_id, size, first))
        return [from_row(StepRecord, row) for row in rows]
    found = read("select step_key from steps where workflow_id = ?", (workflow_id,))
    keys = sorted((row[0] for row in found), key=program_order)[first : first + size]
    return in_order(read(_NAMED, (workflow_id, msgspec.json.encode(keys).decode())))


def list_notable(read: Read, workflow_id: str) -> list[StepRecord]:
    """Return the steps that did not just run and complete, in program order: failed, tried again, waits and others."""
    return in_order(read(f"select {STEP} from steps where workflow_id = ? and not ({_PLAIN})", (workflow_id,)))


def list_spans(read: Read, workflow_id: str) -> list[Span]:
    """Return the steps that are not notable, those that began at about the same time as one. SQLite counts them."""
    seconds = _SHARE * (read(_WORK, (workflow_id,))[0][0] or 0.0)
    letters = next((letters for letters, length in _LETTERS if length <= seconds), _LETTERS[-1][0])
    return [from_row(Span, row) for row in read(_SPANS, (workflow_id, letters))]


def in_order(rows: Sequence[Sequence[Any]]) -> list[StepRecord]:
    """Return rows of `steps` as records, in program order."""
    return sorted((from_row(StepRecord, row) for row in rows), key=lambda step: program_order(step.step_key))
