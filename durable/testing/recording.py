"""Histories: the records of a workflow as JSON to keep, and a check of today's code against them that runs no step.

kept = history(engine, "emp_001")  # a dict; json.dumps it into a file
replay(kept, onboarding)  # raises NonDeterminismError if today's code would take a different path

From the command line: `python -m durable.testing.recording workflow.db emp_001 > onboarding.json`.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from durable.engine import Engine
from durable.errors import DurableError, NonDeterminismError, Unwinding
from durable.recovery.names import name_of_workflow
from durable.replay.moments import Moment
from durable.store.rows.steps import ABANDONED
from durable.testing.inside import stored
from durable.values import codec
from durable.values import failures as failure
from durable.values.codec import checksum
from durable.waiting.clock import ManualClock

FORMAT = 1
NEVER = "9999-01-01T00:00:00.000000+00:00"  # the due instant of the losers of a race, which were given up
_TABLES = {"workflows": "id", "steps": "workflow_id", "attempts": "workflow_id", "waits": "workflow_id"} | {
    "messages": "workflow_id"
}
_JSON = ("arguments", "output", "error", "value")
_WAITS = ("sleep", "event", "child")


def history(engine: Engine, workflow_id: str) -> dict[str, Any]:
    """Return a workflow and its children as plain values: call, outcome, steps with their attempts, waits, messages.

    Tracebacks are left out, since they hold paths of the machine. Raises WorkflowNotFoundError.
    """
    engine.workflow(workflow_id)
    read = stored(engine).connection.read
    family = [
        row[0]
        for row in read(
            "with recursive family (id) as (select ? union select workflows.id from workflows join family"
            " on workflows.parent_id = family.id) select id from family",
            (workflow_id,),
        )
    ]
    found: dict[str, Any] = {"format": FORMAT, "workflow_id": workflow_id}
    for table, column in _TABLES.items():
        names = [row[1] for row in read(f"pragma table_info({table})")]
        rows = [
            row
            for each in family
            for row in read(f"select * from {table} where {column} = ? order by rowid", (each,))  # as they were written
        ]
        found[table] = [_as_plain(dict(zip(names, row, strict=True))) for row in rows]
    return found


def replay(history: dict[str, Any], workflow: Callable[..., Any]) -> None:
    """Check today's code of a workflow against a history. No step runs, nothing is waited for, no child is started.

    A history of an unfinished workflow is replayed up to its end: the replay stops at the first new step.

    Raises NonDeterminismError, with both sides, for the first step that differs or is new in a finished history, for
    checkpoints that are never asked for, and for a different result or error. Raises SerializationError for a recorded
    value that no longer fits its type, and ValueError if this is no history, or one of a newer version.
    """
    if history.get("format") != FORMAT:
        raise ValueError(f"history: expected format {FORMAT}, got {history.get('format')!r}; export it anew")
    with tempfile.TemporaryDirectory(prefix="durable-replay-") as folder:
        _Replay(history, workflow, Path(folder, "replay.db")).run()


class EndOfHistory(Unwinding):
    """The code has reached a step that was never recorded. It goes no further."""


class _Replay:
    def __init__(self, history: dict[str, Any], workflow: Callable[..., Any], database: Path) -> None:
        self._history, self._workflow, self._database = history, workflow, database
        self._id: str = history["workflow_id"]
        self._row = next(row for row in history["workflows"] if row["id"] == self._id)
        self._is_finished = self._row["status"] in ("completed", "failed")
        self._beyond: Moment | None = None
        self._lock = threading.Lock()
        self._given_up = {
            (row["workflow_id"], row["step_key"]) for row in history["steps"] if self._is_finished and _is_given_up(row)
        }

    def run(self) -> None:
        """Replay the history, and compare how the workflow ends."""
        clock = ManualClock(datetime.now(UTC))
        with Engine(self._database, synchronous="off", observers=[self._stop_at_new], clock=clock) as engine:
            args, kwargs = self._arguments()
            stored(engine).connection.write(self._restore)
            try:
                ended: Any = ("completed", engine.run(self._id, self._workflow, *args, **kwargs))
            except EndOfHistory:
                return self._check_end()
            except DurableError as error:
                if (
                    engine.workflow(self._id).status == "running"
                ):  # an error of the engine: a divergence, or a value that does not fit
                    raise
                ended = ("failed", error)
            except Exception as error:
                ended = ("failed", error)
        if self._is_finished:
            self._compare(*ended)
        return None

    def _stop_at_new(self, moment: Moment) -> None:
        if moment.name == "step.scheduled" and (moment.workflow_id, moment.step_key) not in self._given_up:
            with self._lock:
                self._beyond = self._beyond or moment
            raise EndOfHistory(f"step {moment.step_key!r} of {moment.workflow_id!r} is not in the history")

    def _check_end(self) -> None:
        if self._is_finished and self._beyond is not None:
            key = self._beyond.step_key or ""
            raise self._diverged(
                key, f"the workflow's end, {self._row['status']}", f"the code calls a new step {key!r}"
            )

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        text = _as_text(self._row["arguments"])
        try:
            return codec.decode_arguments(self._workflow, text, f"workflow {self._id!r}")
        except (KeyError, TypeError) as error:
            raise self._diverged("", f"called with {text}", f"the code takes other arguments ({error})") from error

    def _compare(self, status: str, ended: Any) -> None:
        recorded = (self._row["status"], _as_plain_outcome(self._row))
        if status == "failed":
            called = (status, f"{failure.type_name(ended)}: {ended}")
        else:
            subject = f"workflow {self._id!r}: its result"
            called = (status, json.loads(codec.codec_of_result(self._workflow, subject).encode(ended, subject)))
        if called != recorded:
            raise self._diverged("", _show(*recorded), f"the code has {_show(*called)}")

    def _diverged(self, step_key: str, recorded: str, called: str) -> NonDeterminismError:
        return NonDeterminismError(
            f"history of workflow {self._id!r}: recorded is {recorded}, and now {called}; guard the change with "
            f"ctx.patched, or give the new code new workflow ids",
            workflow_id=self._id,
            step_key=step_key,
            recorded=recorded,
            called=called,
        )

    def _restore(self, db: sqlite3.Connection) -> None:
        """Write the rows as they were, but with the workflow running, so that it is replayed."""
        for table in _TABLES:
            for row in self._history[table]:
                _insert(db, table, self._prepare(table, row))
        for workflow_id, key in self._given_up:
            db.execute("delete from waits where workflow_id = ? and step_key = ?", (workflow_id, key))
            _insert(db, "waits", {"workflow_id": workflow_id, "step_key": key, "wake_at": NEVER})

    def _prepare(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {name: _as_text(value) if name in _JSON else value for name, value in row.items()}
        arguments, output, error = (values.get(name) for name in ("arguments", "output", "error"))
        if table == "workflows":
            if row["id"] == self._id:
                output = error = None
                values |= {"status": "running", "output": None, "error": None, "cancel_requested_at": None}
                values["function"] = name_of_workflow(self._workflow)  # it may have been renamed
            values["checksum"] = checksum(arguments, output, error)
        elif table == "messages":
            values["checksum"] = checksum(row["event"], values["value"])
        elif table == "steps" and (row["workflow_id"], row["step_key"]) in self._given_up:
            values = {name: value for name, value in values.items() if name not in ("error", "ended_at")}
            values["status"] = "running"
        elif table == "steps" and row["status"] != "running":
            values["checksum"] = checksum(row["step_key"], row["status"], output, error)
        return values


def _is_given_up(row: dict[str, Any]) -> bool:
    """Return whether the workflow ended before this step, the loser of a race, did."""
    is_abandoned = "error" in row and row["error"]["type"] == json.loads(ABANDONED)["type"]
    return is_abandoned or (row["status"] == "running" and row["kind"] in _WAITS)


def _insert(db: sqlite3.Connection, table: str, values: dict[str, Any]) -> None:
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    db.execute(f"insert into {table} ({columns}) values ({marks})", tuple(values.values()))


def _as_plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its JSON as values, without nulls, checksums, and tracebacks, which belong to that machine."""
    row = {name: value for name, value in row.items() if value is not None and name != "checksum"}
    row |= {name: json.loads(row[name]) for name in _JSON if name in row}
    if "error" in row:
        row["error"]["traceback"] = ""
    return row


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_plain_outcome(row: dict[str, Any]) -> Any:
    return f"{row['error']['type']}: {row['error']['message']}" if "error" in row else row["output"]


def _show(status: str, outcome: Any) -> str:
    return f"{status} with {outcome if status == 'failed' else _as_text(outcome)}"


if __name__ == "__main__":
    with Engine(sys.argv[1]) as opened:
        print(json.dumps(history(opened, sys.argv[2]), ensure_ascii=False, indent=1))  # noqa: T201 - its output
