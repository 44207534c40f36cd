"""Runs a workflow with large values on a disk that becomes full at ever later writes.

Started by tests/faults/test_faults.py with the failing disk loaded. Prints one line of JSON for each run.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from durable import Engine
from durable.store.reader import Reader
from tests.faults.driver import arm, disk
from tests.support.large import crate, result_of

WRITING = 1


def run_on_full_disk(path: Path, call: int) -> dict[str, object]:
    """One workflow on a disk that is full from the nth write on, then on one with room."""
    said: dict[str, object] = {"call": call, "error": None, "message": ""}
    with Engine(path):
        pass
    arm(WRITING, call, errno.ENOSPC, is_lasting=True, part=b".db")
    try:
        with Engine(path) as engine:
            engine.run("wf", crate)
    except Exception as error:  # the judge wants only errors of ours
        said |= {"error": type(error).__name__, "message": str(error)}
    said["was_hit"] = disk.disk_calls() >= call
    arm(0, 0, 0, is_lasting=False)
    with Engine(path) as engine:
        record = engine.find_workflow("wf")
        said["is_saved"] = record is not None and record.status == "completed"
        said["is_right"] = engine.run("wf", crate) == result_of()
        engine.gc()
    with Reader(path) as reader:
        said["faults"] = reader.check_integrity()
    with closing(sqlite3.connect(path)) as db:
        said["values"] = db.execute("select count(*) from large_values").fetchone()[0]
    return said


def main(folder: str, stride: str) -> None:
    """Let the disk become full at every so many writes."""
    call, was_hit = 1, True
    while was_hit:
        said = run_on_full_disk(Path(folder) / f"{call}.db", call)
        was_hit = bool(said["was_hit"])
        call += int(stride)
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
