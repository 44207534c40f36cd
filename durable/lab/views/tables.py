"""Rows -> DataFrames. The file is only read: a running workflow is not disturbed, and looking makes no file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from durable.dashboard.rows import Rows, as_it_stood, change_between, message_of, read_rows, read_runs
from durable.dashboard.source import open_source
from durable.dashboard.values import tell_parts
from durable.replay.keys import program_order
from durable.store.reader import Reader as File
from durable.store.records import Reader, RunRecord, StepRecord, WorkflowRecord, get_step
from durable.values.codec import codec_of

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # imported where it is used: the panel is there without it

    from durable.lab.views.comparison import Comparison

Database = str | os.PathLike[str]

STEP_STATUS = ("running", "completed", "failed")
WORKFLOW_STATUS = ("running", "completed", "failed", "cancelled")
CHANGES = ("unchanged", "new", "tried again", "completed since", "failed since", "taken back")
ENDED = ("completed", "failed", "cancelled", "interrupted", "stopped", "suspended", "crashed")


def steps(db: Database | Reader, workflow_id: str | None = None) -> pd.DataFrame:
    """Return the steps table of one workflow, or of all, in program order: one row per step, with its latest attempt.

    It is read from a file, or from an engine. `output` is decoded; a formatted value in it, such as a frame, is
    described, and `value` reads it. Times are UTC, `duration` is missing while the step is running.
    """
    with _reading(db) as reader:
        ids = [workflow_id] if workflow_id is not None else [record.workflow_id for record in reader.workflows()]
        frame = _frame_of_steps([step for one in ids for step in reader.steps(one)])
    return (
        frame.drop(columns="workflow_id").set_index("step_key") if workflow_id is not None else frame.set_index(_KEYS)
    )


def workflows(db: Database | Reader) -> pd.DataFrame:
    """Return the workflows of a file or an engine, oldest first. `lives` counts their runs."""
    with _reading(db) as reader:
        return _frame_of_workflows(reader.workflows()).set_index("workflow_id")


def history(db: Database | Reader, workflow_id: str) -> pd.DataFrame:
    """Return every attempt of every step, including superseded ones: one row per attempt, in program order.

    It is read from a file, or from an engine.
    """
    with _reading(db) as reader:
        rows = [*reader.steps(workflow_id), *reader.attempts(workflow_id)]
    frame = _frame_of_steps(rows)
    frame["superseded_by"] = _integers([row.superseded_by for row in rows])
    order = {
        step.step_key: place for place, step in enumerate(sorted(rows, key=lambda row: program_order(row.step_key)))
    }
    frame["order"] = [order[row.step_key] for row in rows]
    frame = frame.sort_values(["order", "attempt"]).drop(columns=["workflow_id", "order"])
    return frame.set_index(["step_key", "attempt"])


def value(db: Database, workflow_id: str, step_key: str | None = None, *, type: Any = Any) -> Any:
    """Return the value of a step, or without a key the result of the workflow: a frame, say, as the code got it.

    It is decoded as `type`. A value saved by pickle is read only under `Annotated[..., durable.formats.Pickled]`.
    `db` is a file, or the URL of a PostgreSQL. Raises WorkflowNotFoundError and StepNotFoundError, ValueError if there
    is no value (yet), SerializationError if it does not fit the type, CorruptionError if it was damaged.
    """
    with closing(open_source(db)) as source:
        record: WorkflowRecord | StepRecord = source.workflow(workflow_id)
        subject = f"workflow {workflow_id!r}"
        if step_key is not None:
            record, subject = get_step(source, workflow_id, step_key), f"step {step_key!r} of {workflow_id!r}"
        if record.output is None:
            raise ValueError(f"{subject} is {record.status} and has no value; lab.steps shows what is on record")
        return codec_of(type, subject).decode(record.output, subject, source.get_value)


def lives(db: Database, workflow_id: str) -> pd.DataFrame:
    """Return the runs of a workflow, one row per run. A running one has no `ended`, a crashed one no `ended_at`.

    `reason` says why a run ended if it brought no outcome: the signal, the error, the engine that was closed.
    """
    with File(db) as file:
        rows, _ = read_runs(file, workflow_id)
    return _frame_of_runs(rows).set_index("epoch")


def compare(db: Database, workflow_id: str, life: int | None = None) -> Comparison:
    """Return the steps table at a crash beside the one now, and the change of each step in words.

    `life` is the epoch of the run that crashed; by default, the last one. Columns are `at the crash` and `now`, each
    with status, attempt and output, and `change`: unchanged, new, tried again, completed since, failed since or taken
    back. A notebook marks the changed rows. Raises ValueError if there was no such crash.
    """
    import pandas as pd

    from durable.lab.views.comparison import Comparison

    rows = read(db, workflow_id)
    crashed = [run.epoch for run in rows.runs if run.ended == "crashed"]
    if not crashed or life not in (None, *crashed):
        which = "no life of it ended in a crash" if not crashed else f"life {life} did not; these did: {crashed}"
        raise ValueError(f"compare of {workflow_id!r}: {which}; crash it first, or use lab.steps")
    before = as_it_stood(rows, crashed[-1] if life is None else life)
    old = {row.step_key: row for row in before}
    both = sorted({*old, *(row.step_key for row in rows.steps)}, key=program_order)
    keys = pd.Index(both, name="step_key", dtype="object")
    then, now = (_frame_of_steps(each).set_index("step_key")[_COMPARED].reindex(keys) for each in (before, rows.steps))
    for each in (then, now):
        each["attempt"] = each["attempt"].astype("Int64")
    change = pd.Categorical([change_between(old.get(key), rows.find_step(key)) for key in both], categories=CHANGES)
    told = pd.DataFrame({"change": pd.Series(change, index=keys)})
    return Comparison(pd.concat({"at the crash": then, "now": now, "": told}, axis=1))


def read(db: Database, workflow_id: str) -> Rows:
    """Return all records of a workflow."""
    with File(db) as file:
        return read_rows(file, workflow_id)


_COMPARED = ["status", "attempt", "output"]
_KEYS = ["workflow_id", "step_key"]


@contextmanager
def _reading(db: Database | Reader) -> Iterator[Reader]:
    if not isinstance(db, str | os.PathLike):
        yield db
        return
    with File(db) as file:
        yield file


def _frame_of_steps(rows: Iterable[StepRecord]) -> pd.DataFrame:
    import pandas as pd

    rows = list(rows)
    frame = pd.DataFrame(
        {
            "workflow_id": pd.Series([row.workflow_id for row in rows], dtype="object"),
            "step_key": pd.Series([row.step_key for row in rows], dtype="object"),
            "status": pd.Categorical([row.status for row in rows], categories=STEP_STATUS),
            "attempt": pd.Series([row.attempt for row in rows], dtype="int64"),
            "output": pd.Series([_plain(row.output) for row in rows], dtype="object"),
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
            "arguments": pd.Series([_plain(row.arguments) for row in rows], dtype="object"),
            "status": pd.Categorical([row.status for row in rows], categories=WORKFLOW_STATUS),
            "output": pd.Series([_plain(row.output) for row in rows], dtype="object"),
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
            "reason": pd.Series([row.reason for row in rows], dtype="object"),
            "started_at": _instants([row.started_at for row in rows]),
            "ended_at": _instants([row.ended_at for row in rows]),
        }
    )


def _plain(text: str | None) -> Any:
    return None if text is None else tell_parts(json.loads(text))


def _instants(values: list[Any]) -> Any:
    import pandas as pd

    return pd.to_datetime(pd.Series(values, dtype="object"), utc=True)


def _integers(values: list[int | None]) -> Any:
    import pandas as pd

    return pd.array(values, dtype="Int64")
