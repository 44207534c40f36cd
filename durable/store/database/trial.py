"""Trial: what a folder can do for a database, tried out with a new database in it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

from durable.errors import WorkflowBusyError
from durable.signals import held_back
from durable.store.database.connection import Connection
from durable.store.ownership.owner import Owner

COMMITS = 50
_PRAGMAS = ("journal_mode", "synchronous", "fullfsync")


class Trial(NamedTuple):
    """The measurements. `pragmas` are those of an engine's connection."""

    commit_seconds: float  # the median of `COMMITS` commits that reach the disk
    pragmas: dict[str, Any]
    locks_hold: bool  # whether a second owner of a workflow id is kept out


def try_out(path: Path) -> Trial:
    """Make a database and measure it. Raises StoreError if the folder cannot hold one."""
    connection = Connection(path)
    try:
        commit_seconds = _measure_commits(connection)
        pragmas = {name: connection.read(f"pragma {name}")[0][0] for name in _PRAGMAS}
    finally:
        connection.close()
    return Trial(commit_seconds, pragmas, locks_hold(path))


def _measure_commits(connection: Connection) -> float:
    durations = []
    for number in range(COMMITS):
        begin = time.perf_counter()
        with held_back():
            connection.write(("insert into deleted values (?, 1)", (f"trial {number}",)))
        durations.append(time.perf_counter() - begin)
    return statistics.median(durations)


def locks_hold(path: Path) -> bool:
    """Return whether a second owner of a workflow id is kept out; if it is, check that it is let in afterwards."""
    with held_back():
        first = Owner(path, "trial")
        try:
            Owner(path, "trial").release()
        except WorkflowBusyError:
            pass
        else:
            return False
        finally:
            first.release()
        Owner(path, "trial").release()
    return True
