"""Reading what a life left behind: by plain SQL, so that a wrong engine cannot tell its own story."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from durable.codec import checksum
from durable.testing.case import WORKFLOW_ID, Remains, StepRow
from durable.testing.effects import read_effects

_COLUMNS = "step_key, name, status, attempt, fingerprint, output, error"


def look_at(database: Path) -> Remains:
    """Read as any other program would. Nothing is made where there is nothing."""
    effects = tuple(read_effects(database, WORKFLOW_ID))
    if not database.exists():
        return Remains(effects=effects)
    with closing(sqlite3.connect(database)) as db:
        damage = [row[0] for row in db.execute("pragma integrity_check") if row[0] != "ok"]
        if not db.execute("select 1 from sqlite_master where name = 'steps'").fetchone():
            return Remains(effects=effects, damage=tuple(damage))
        mine = (WORKFLOW_ID,)
        found = db.execute("select status, output, error from workflows where id = ?", mine).fetchone()
        rows = db.execute(f"select {_COLUMNS}, checksum from steps where workflow_id = ?", mine).fetchall()
        tries = db.execute(f"select {_COLUMNS} from attempts where workflow_id = ?", mine).fetchall()
        lives = db.execute("select ended from runs where workflow_id = ? order by epoch", mine).fetchall()
    for *values, stored in rows:
        row = StepRow(*values)
        if row.status != "running" and stored != checksum(row.key, row.status, row.output, row.error):
            damage.append(f"the outcome of {row.key} does not match its checksum")
    return Remains(
        status=found[0] if found else None,
        output=found[1] if found else None,
        error=found[2] if found else None,
        steps={row[0]: StepRow(*row[:-1]) for row in rows},
        attempts=tuple(StepRow(*row) for row in tries),
        lives=tuple(row[0] for row in lives),
        effects=effects,
        damage=tuple(damage),
    )
