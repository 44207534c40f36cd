"""Rows -> DataFrames. Read-only, so that a workflow that is running is no obstacle, and nothing is made by looking."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable.lab.story import message_of
from durable.owner import find_owner
from durable.records import RunRecord, StepRecord, WorkflowRecord, program_order
from durable.store import Store

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # imported where it is used: the panel is there without it

Database = str | os.PathLike[str]

STEP_STATUS = ("running", "completed", "failed")
WORKFLOW_STATUS = ("running", "completed", "failed", "cancelled")
ENDED = ("completed", "failed", "interrupted", "stopped", "crashed")


def steps(db: Database, workflow_id: str | None = None) -> pd.DataFrame:
    """The steps table, in program order: one row a step, as of its latest attempt. Of one workflow, or of all.

    `output` is decoded, times are UTC, `duration` is missing while the step is running.
    """
    store = _open(db)
    try:
        ids = [workflow_id] if workflow_id is not None else [record.workflow_id for record in store.list_workflows()]
        rows = [step for one in ids for step in store.list_steps(one)]
    finally:
        store.close()
    frame = _frame_of_steps(rows)
    return (
        frame.drop(columns="workflow_id").set_index("step_key") if workflow_id is not None else frame.set_index(_KEYS)
    )


def workflows(db: Database) -> pd.DataFrame:
    """The workflows, oldest first. `lives` counts their runs."""
    store = _open(db)
    try:
        rows = store.list_workflows()
    finally:
        store.close()
    return _frame_of_workflows(rows).set_index("workflow_id")


def history(db: Database, workflow_id: str) -> pd.DataFrame:
    """Every attempt of every step, also those that a later one superseded: one row an attempt, in program order."""
    store = _open(db)
    try:
        rows = [*store.list_steps(workflow_id), *store.list_attempts(workflow_id)]
    finally:
        store.close()
    frame = _frame_of_steps(rows)
    frame["superseded_by"] = _integers([row.superseded_by for row in rows])
    order = {
        step.step_key: place for place, step in enumerate(sorted(rows, key=lambda row: program_order(row.step_key)))
    }
    frame["order"] = [order[row.step_key] for row in rows]
    frame = frame.sort_values(["order", "attempt"]).drop(columns=["workflow_id", "order"])
    return frame.set_index(["step_key", "attempt"])


def lives(db: Database, workflow_id: str) -> pd.DataFrame:
    """The runs of a workflow: one row a life. One that lives has no `ended`, one that crashed no `ended_at`."""
    store = _open(db)
    try:
        rows = store.list_runs(workflow_id)
    finally:
        store.close()
    if rows and rows[-1].ended is None and find_owner(store.path, workflow_id) is None:
        rows[-1] = replace(rows[-1], ended="crashed")  # the next run would write it down
    return _frame_of_runs(rows).set_index("epoch")


_KEYS = ["workflow_id", "step_key"]


def _open(db: Database) -> Store:
    return Store(Path(os.fspath(db)).resolve(), read_only=True)


def _frame_of_steps(rows: Iterable[StepRecord]) -> pd.DataFrame:
    import pandas as pd

    rows = list(rows)
    frame = pd.DataFrame(
        {
            "workflow_id": pd.Series([row.workflow_id for row in rows], dtype="object"),
            "step_key": pd.Series([row.step_key for row in rows], dtype="object"),
            "status": pd.Categorical([row.status for row in rows], categories=STEP_STATUS),
            "attempt": pd.Series([row.attempt for row in rows], dtype="int64"),
            "output": pd.Series([row.value for row in rows], dtype="object"),
            "error": pd.Series([message_of(row.error) for row in rows], dtype="object"),
            "thread": pd.Series([row.thread for row in rows], dtype="object"),
            "epoch": pd.Series([row.epoch for row in rows], dtype="int64"),
            "started_at": _instants([row.started_at for row in rows]),
            "ended_at": _instants([row.ended_at for row in rows]),
        }
    )
    frame["duration"] = frame["ended_at"] - frame["started_at"]
    return frame


def _frame_of_workflows(rows: Iterable[WorkflowRecord]) -> pd.DataFrame:
    import pandas as pd

    rows = list(rows)
    return pd.DataFrame(
        {
            "workflow_id": pd.Series([row.workflow_id for row in rows], dtype="object"),
            "function": pd.Series([row.function for row in rows], dtype="object"),
            "arguments": pd.Series([json.loads(row.arguments) for row in rows], dtype="object"),
            "status": pd.Categorical([row.status for row in rows], categories=WORKFLOW_STATUS),
            "output": pd.Series([json.loads(row.output or "null") for row in rows], dtype="object"),
            "error": pd.Series([message_of(row.error) for row in rows], dtype="object"),
            "lives": pd.Series([row.epoch for row in rows], dtype="int64"),
            "created_at": _instants([row.created_at for row in rows]),
            "updated_at": _instants([row.updated_at for row in rows]),
        }
    )


def _frame_of_runs(rows: Iterable[RunRecord]) -> pd.DataFrame:
    import pandas as pd

    rows = list(rows)
    return pd.DataFrame(
        {
            "epoch": pd.Series([row.epoch for row in rows], dtype="int64"),
            "pid": pd.Series([row.pid for row in rows], dtype="int64"),
            "ended": pd.Categorical([row.ended for row in rows], categories=ENDED),
            "started_at": _instants([row.started_at for row in rows]),
            "ended_at": _instants([row.ended_at for row in rows]),
        }
    )


def _instants(values: list[Any]) -> Any:
    import pandas as pd

    return pd.to_datetime(pd.Series(values, dtype="object"), utc=True)


def _integers(values: list[int | None]) -> Any:
    import pandas as pd

    return pd.array(values, dtype="Int64")
