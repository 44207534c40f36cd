"""Record what the engine writes for many workflows, so that a change of its inside can be compared with before.

python -m tests.crash.recording           compare with the committed recording; exit 1 and name each difference
python -m tests.crash.recording --write   write it anew

Each workflow of `tests.support.operations` and `tests.support.workflows` runs under a ManualClock, unobserved and
observed, and then once for each moment of each step at which it is killed and resumed. Message texts, pids, instants,
random values, the numbers of worker threads and columns that the recording does not have are left out.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from durable import Engine, Moment
from durable.clock import ManualClock
from durable.observer import crash
from tests.support import operations, workflows

FILE = Path(__file__).parent / "recording.json"
LATER = {"blocks", "hosts"}  # operations that came after the core was rebuilt: there is no before to compare with
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{fn.__name__: (fn, ()) for fn in operations.EVERY if fn.__name__ not in LATER},
    "errand_of_five": (workflows.errand_of_five, ()),
    "side_by_side": (workflows.side_by_side, ("a", "b", "c")),
    "two_branches": (workflows.two_branches, (1,)),
    "two_branches_async": (workflows.two_branches_async, (1,)),
    "journey": (workflows.journey, ()),
    "journey_async": (workflows.journey_async, ()),
}
PATIENCE_SECONDS = 60
DRAWN = {"now", "uuid4", "random"}  # steps whose values are chance
Seen = list[tuple[str, str, int | None]]  # of each moment: the step key, its name, the attempt


def main() -> int:
    """Write the recording, or compare with it."""
    found = json.loads(json.dumps({"lives": dict(record_lives()), "crashes": dict(record_crashes())}))
    if "--write" in sys.argv:
        FILE.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    expected = json.loads(FILE.read_text(encoding="utf-8"))
    differences = list(compare(expected, found, ""))
    print("\n".join(differences) or f"all {len(found['lives'])} lives and {len(found['crashes'])} crashes are alike")
    return 1 if differences else 0


def record_lives() -> Iterator[tuple[str, Any]]:
    """Yield what each workflow leaves behind when nothing disturbs it, unobserved and observed."""
    for name in CASES:
        for is_observed in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                database, moments = Path(folder) / "w.db", Path(folder) / "moments"
                live(database, name, functools.partial(note, moments) if is_observed else None)
                found = read_tables(database)
                if is_observed:
                    found["moments"] = by_key(read_moments(moments))
                yield f"{name}, {'observed' if is_observed else 'unobserved'}", found


def record_crashes() -> Iterator[tuple[str, Any]]:
    """Yield, for each moment at which a workflow is killed, the step's row then, and all outcomes after resuming."""
    points = []
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            moments = Path(folder) / "moments"
            live(Path(folder) / "w.db", name, functools.partial(note, moments))
            points += [(name, *point) for point in dict.fromkeys(read_moments(moments))]
    for point in points:
        yield record_crash(*point)


def record_crash(name: str, key: str, moment: str, attempt: int | None) -> tuple[str, Any]:
    """Kill a workflow at a moment, resume it, and return both states."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "w.db"
        live(database, name, functools.partial(crash_when, key, moment, attempt))
        crashed = read_tables(database)
        live(database, name, None)
        resumed = read_tables(database)
    return f"{name}, killed at {key}:{moment}:{attempt}", {
        "row": crashed["steps"].get(key),
        "steps": {each: row["status"] for each, row in resumed["steps"].items()},
        "attempts": [row["attempt"] for row in resumed["attempts"].get(key, [])],
        "workflows": {each: row["status"] for each, row in resumed["workflows"].items()},
    }


# ---- one life, in a process of its own


def live(database: Path, name: str, observer: Callable[[Moment], object] | None) -> None:
    """Run a workflow in a fresh interpreter's fork, and wait for the end of its process."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE_SECONDS)  # ends a life that hangs
        status = 1
        try:
            fn, args = CASES[name]
            opened = Engine(database, observers=[observer] if observer else [], clock=ManualClock())
            with opened as engine, contextlib.suppress(Exception):  # a saga ends in an error; it is on record
                engine.run(name, fn, *args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(ended) not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{name}: its process ended with {os.waitstatus_to_exitcode(ended)}")


def note(path: Path, moment: Moment) -> None:
    """Append a moment to a file, in one write, from whichever thread."""
    line = json.dumps([moment.step_key or "", moment.name, moment.attempt, moment.workflow_id]) + "\n"
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())


def crash_when(key: str, name: str, attempt: int | None, moment: Moment) -> None:
    """Kill the process at this moment."""
    if (moment.step_key or "", moment.name, moment.attempt) == (key, name, attempt):
        crash()


# ---- reading


def read_moments(path: Path) -> Seen:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(key, name, attempt) for key, name, attempt, workflow_id in lines if "/" not in workflow_id]


def by_key(moments: Seen) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, name, attempt in moments:
        found.setdefault(key, []).append(f"{name} {attempt}")
    return found


def read_tables(database: Path) -> dict[str, Any]:
    """Return the rows of all tables, without what differs from run to run."""
    db = sqlite3.connect(database)
    db.row_factory = sqlite3.Row

    def read(table: str, order: str) -> list[dict[str, Any]]:
        return [normal(dict(row)) for row in db.execute(f"select * from {table} order by {order}")]

    try:
        attempts: dict[str, list[Any]] = {}
        for row in read("attempts", "workflow_id, step_key, attempt"):
            attempts.setdefault(full_key(row), []).append(row)
        return {
            "workflows": {row["id"]: row for row in read("workflows", "id")},
            "runs": [(row["workflow_id"], row["epoch"], row["ended"]) for row in read("runs", "workflow_id, epoch")],
            "steps": {full_key(row): row for row in read("steps", "workflow_id, step_key")},
            "attempts": attempts,
            "waits": read("waits", "workflow_id, step_key"),
            "messages": read("messages", "workflow_id, event, received_by"),
        }
    finally:
        db.close()


def full_key(row: dict[str, Any]) -> str:
    """Name the step of a child with its workflow id, that of the workflow itself by its key alone."""
    owner, _, path = row["workflow_id"].partition("/")
    return f"{owner}/{path}: {row['step_key']}" if path else row["step_key"]


def normal(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs from run to run."""
    for name in [each for each in row if each.endswith("_at") or (each in ("checksum", "id") and each in row)]:
        if name != "id" or isinstance(row["id"], int):
            row[name] = None if row[name] is None else "*"
    if row.get("error"):
        row["error"] = json.loads(row["error"])["type"]
    if row.get("name") in DRAWN or "uuid" in str(row.get("output")):
        row["output"] = "*"
    if "function" in row:
        row["function"] = row["function"].rpartition(":")[2]  # its module may move
    if row.get("thread", "").startswith("worker"):
        row["thread"] = "worker"
    for name in ("fingerprint", "output"):  # of the steps that are given what was drawn
        if row.get(name) and any(mark in row[name] for mark in ("0.", "2026", "-4")):
            row[name] = "*"
    return row


def compare(expected: Any, found: Any, place: str) -> Iterator[str]:
    """Yield each place in which the two differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}):
            yield from compare(expected.get(key), found.get(key), f"{place} > {key}")
    elif expected != found:
        yield f"{place}: was {expected!r}, is {found!r}"


if __name__ == "__main__":
    sys.exit(main())
