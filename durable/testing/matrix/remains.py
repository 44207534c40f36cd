"""The rows that a run left behind, read by plain SQL, so that a wrong engine cannot tell its own story."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from durable.testing.effects import Effect, read_all_effects
from durable.testing.matrix.case import RETRIED, WORKFLOW_ID, Remains, StepRow, name_in_case
from durable.values.codec import checksum

_COLUMNS = "workflow_id, step_key, name, status, attempt, fingerprint, output, error, kind"


def look_at(database: Path) -> Remains:
    """Read the rows as any other program would. A missing file is not made."""
    effects = tuple(
        Effect(effect.what, name_in_case(owner, effect.step_key)) for owner, effect in read_all_effects(database)
    )
    if not database.exists():
        return Remains(effects=effects)
    with closing(sqlite3.connect(database)) as db:
        damage = [row[0] for row in db.execute("pragma integrity_check") if row[0] != "ok"]
        if not db.execute("select 1 from sqlite_master where name = 'steps'").fetchone():
            return Remains(effects=effects, damage=tuple(damage))
        mine = (WORKFLOW_ID,)
        found = db.execute("select status, output, error from workflows where id = ?", mine).fetchone()
        others = db.execute("select id, function, status, output, error from workflows where id <> ?", mine).fetchall()
        rows = db.execute(f"select {_COLUMNS}, checksum from steps").fetchall()
        waiting = set(db.execute("select workflow_id, step_key from waits"))
        tries = db.execute(f"select {_COLUMNS} from attempts").fetchall()
        lives = db.execute("select ended from runs where workflow_id = ? order by epoch", mine).fetchall()
    for workflow_id, key, _, status, _, _, output, error, _, stored in rows:
        if status != "running" and stored != checksum(key, status, output, error):
            damage.append(f"the outcome of {name_in_case(workflow_id, key)} does not match its checksum")
    steps = [_row(*values) for *values, _ in rows]
    steps = [
        step._replace(status=RETRIED) if step.status == "failed" and (row[0], row[1]) in waiting else step
        for step, row in zip(steps, rows, strict=True)
    ]
    steps += [_row(id_, None, function, status, 1, None, *ends, "workflow") for id_, function, status, *ends in others]
    return Remains(
        status=found[0] if found else None,
        output=found[1] if found else None,
        error=found[2] if found else None,
        steps={row.key: row for row in steps},
        attempts=tuple(_row(*row) for row in tries),
        lives=tuple(row[0] for row in lives),
        effects=effects,
        damage=tuple(damage),
    )


def _row(workflow_id: str, key: str | None, *values: Any) -> StepRow:
    return StepRow(name_in_case(workflow_id, key), *values)
