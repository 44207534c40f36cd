"""What is stored of a workflow: asked of the engine, or of SQLite alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from durable import Engine


def rows(database: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute(sql).fetchall()


def outcomes(engine: Engine, workflow_id: str = "emp_001") -> dict[str, tuple[str, Any]]:
    return {each.step_key: (each.status, each.value) for each in engine.steps(workflow_id)}


def is_waiting(database: Path, life: int) -> bool:
    if not database.exists():
        return False
    waiting = "select 1 from waits join workflows on workflows.id = workflow_id"
    try:
        return bool(rows(database, f"{waiting} where workflows.epoch = {life}"))
    except sqlite3.OperationalError:  # the tables are being made
        return False


def ends(engine: Engine, workflow_id: str = "emp_001") -> list[str | None]:
    return [run.ended for run in engine.runs(workflow_id)]


def is_asleep(engine: Engine, workflow_id: str = "emp_001") -> bool:
    return engine.owner(workflow_id) is None and ends(engine, workflow_id)[-1:] == ["suspended"]
