"""Small stories about faults that the engine once had: each returns whether it ends as it should."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

from durable import Context, Engine, NonDeterminismError
from durable.store.log import FileLog
from durable.values.codec import checksum
from durable.values.failures import encode_error
from tests.support.processes import eventually
from tests.support.workflows import act

ROOT = Path(__file__).parents[2]


# ---- the loser of a race is cancelled


def race_in_branch(ctx: Context) -> None:
    quick = ctx.submit(act, "quick")
    ctx.first(quick, ctx.timer(3600)).result()


def register_behind_a_race(ctx: Context) -> None:
    ctx.branch(race_in_branch).result()
    ctx.on_failure(act, "undo")
    ctx.wait_event("never")


def all_is_undone(database: Path) -> bool:
    """A suspended workflow is cancelled: what it registered behind a branch with a race is undone."""
    with Engine(database, suspend=True) as engine:
        engine.start("emp_001", register_behind_a_race)
        eventually(lambda: [run.ended for run in engine.runs("emp_001")] == ["suspended"])
        engine.cancel("emp_001")
        eventually(lambda: engine.workflow("emp_001").status == "cancelled")
        return [step.kind for step in engine.steps("emp_001")].count("compensation") == 1


# ---- a handler raises in the middle of the bookkeeping


def no_bookkeeping_is_torn(database: Path) -> bool:
    """A time limit strikes while an outcome is saved: it interrupts the run, and is not the outcome of the workflow."""
    end = FileLog.end

    def end_late(self: FileLog, steps: Any) -> None:
        signal.raise_signal(signal.SIGALRM)
        end(self, steps)

    def strike(*_: object) -> None:
        raise TimeoutError("too late")

    def workflow(ctx: Context) -> None:
        ctx.step(act, "a")

    signal.signal(signal.SIGALRM, strike)
    FileLog.end = end_late
    with Engine(database) as engine, suppress(TimeoutError):
        engine.run("emp_001", workflow)
    with Engine(database) as engine:
        return (engine.workflow("emp_001").status, engine.runs("emp_001")[0].ended) == ("running", "interrupted")


# ---- crashes after progress


def five_steps(ctx: Context) -> int:
    return len([ctx.step(act, what) for what in "abcde"])


def run_five_steps(database: str) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", five_steps)


def one_that_gets_on_is_resumed(database: Path) -> bool:
    """Three runs crash, each one step further: the workflow is resumed."""
    for number in (1, 2, 3):
        code = f"from tests.support import scenarios; scenarios.run_five_steps({str(database)!r})"
        environment = os.environ | {"DURABLE_CRASH_AT": f"act_{number}:checkpointed"}
        subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=False)
    with Engine(database) as engine:
        found = engine.recover()
    return [handle.result() for handle in found.resumed] == [5]


# ---- arguments


def take_first(parts: list[str]) -> str:
    return parts.pop(0)


def a_changed_argument_is_refused(database: Path) -> bool:
    """A step changes its argument in place."""

    def workflow(ctx: Context) -> str:
        return ctx.step(take_first, ["a", "b"])

    try:
        with Engine(database) as engine:
            engine.run("emp_001", workflow)
    except NonDeterminismError:
        return True
    return False


class Orders:
    """The class of an argument, which gets a field with a default between two runs."""

    Order: Any = make_dataclass("Order", [("item", str)])


def ship(order: Any) -> str:
    return str(order.item)


lives: list[int] = []


def ship_order(ctx: Context) -> str:
    lives.append(1)
    shipped = ctx.step(ship, Orders.Order("lamp"))
    if len(lives) == 1:
        raise SystemExit
    return shipped


def a_new_default_is_no_difference(database: Path) -> bool:
    """A field with a default is added to the class of an argument while a workflow is under way."""
    with Engine(database) as engine:
        with suppress(SystemExit):
            engine.run("emp_001", ship_order)
        Orders.Order = make_dataclass("Order", [("item", str), ("colour", str, "white")])
        with suppress(NonDeterminismError):
            return bool(engine.run("emp_001", ship_order) == "lamp")
    return False


# ---- a row that names a function as its error


def fail_for_good(ctx: Context) -> None:
    ctx.on_failure(act, "undo")
    raise ValueError("no")


def no_row_calls_a_function(database: Path) -> bool:
    """A file that was received names `os.mkdir` as the class of an error."""
    made = database.with_suffix(".made")
    with Engine(database) as engine, suppress(ValueError):
        engine.run("emp_001", fail_for_good)
    error = encode_error(ValueError(str(made))).replace("builtins:ValueError", "os:mkdir")
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        arguments = db.execute("select arguments from workflows").fetchone()[0]
        db.execute("update workflows set error = ?, checksum = ?", [error, checksum(arguments, None, error)])
    with Engine(database) as engine, suppress(Exception):
        engine.run("emp_001", fail_for_good)
    return not made.exists()
