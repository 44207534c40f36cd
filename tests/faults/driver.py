"""Runs a workflow again and again on a disk that fails at the first, second, third, ... call, until it no longer fails.

Started by tests/faults/test_faults.py with the failing disk loaded. Prints one line of JSON for each run, to be judged
there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from durable import Context, Engine
from durable.examples.effects import have_effect, list_effects

disk = ctypes.CDLL(None)
disk.disk_calls.restype = ctypes.c_long


life = SimpleNamespace(is_first=True)


def create(name: str) -> str:
    """The step that is on record before the disk begins to fail."""
    have_effect("create")
    return name


def left(name: str) -> str:
    """One of two parallel steps."""
    have_effect("left")
    return f"{name} left"


def right(name: str) -> str:
    """The other one."""
    have_effect("right")
    return f"{name} right"


def send(text: str) -> str:
    """The last step."""
    have_effect("send")
    return text


def order(ctx: Context, name: str) -> str:
    """A step, an interrupt in the first life, two parallel steps, a last one."""
    created = ctx.step(create, name)
    if life.is_first:
        raise KeyboardInterrupt
    futures = [ctx.submit(left, created), ctx.submit(right, created)]
    return ctx.step(send, " ".join(future.result() for future in futures))


def arm(kinds: int, call: int, error: int, *, is_lasting: bool, part: bytes = b"/workflow.db") -> None:
    """Let the nth call on the database, and on what lies beside it, fail."""
    disk.disk_arm(part, kinds, ctypes.c_long(call), error, int(is_lasting))


def run_on_failing_disk(path: Path, kinds: int, call: int, error_number: int, *, is_lasting: bool) -> dict[str, Any]:
    """One workflow, interrupted once without any fault, then run on the failing disk, then on a repaired one."""
    life.is_first = True
    with Engine(path) as first, contextlib.suppress(KeyboardInterrupt):
        first.run("order", order, "Jane")
    life.is_first = False
    said: dict[str, Any] = {"call": call, "error": None, "message": "", "path": None}
    engine = None
    arm(kinds, call, error_number, is_lasting=is_lasting)
    try:
        engine = Engine(path)
        said["result"] = engine.run("order", order, "Jane")
    except Exception as error:  # the judge wants only errors of ours
        said |= {"error": type(error).__name__, "message": str(error), "path": str(getattr(error, "path", ""))}
    said["was_hit"] = disk.disk_calls() >= call
    arm(0, 0, 0, is_lasting=False)
    said["effects"] = list_effects(path)
    if engine is None or call % 2:  # the same engine may go on, or a new one
        if engine is not None:
            engine.close()
        engine = Engine(path)
    said["completed"] = _completed_steps(engine)
    said["result"] = engine.run("order", order, "Jane")
    said["effects_in_the_end"] = list_effects(path)
    said["lives"] = [run.ended for run in engine.runs("order")]
    engine.close()
    db = sqlite3.connect(path)
    said["integrity"] = db.execute("pragma integrity_check").fetchone()[0]
    db.close()
    return said


def _completed_steps(engine: Engine) -> list[str]:
    return [step.name for step in engine.steps("order") if step.status == "completed"]


def main(folder: str, kinds: str, error_number: str, lasting: str) -> None:
    """Go through all calls of one run."""
    call, was_hit = 0, True
    while was_hit:
        call += 1
        place = Path(folder) / str(call)
        place.mkdir()
        said = run_on_failing_disk(
            place / "workflow.db", int(kinds), call, int(error_number), is_lasting=lasting == "lasting"
        )
        was_hit = said["was_hit"]
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
