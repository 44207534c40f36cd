"""A process dies while it writes the progress of a step: it is seen or not, and nothing else has changed."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, current_step
from durable.observer import crash
from durable.store.log import FileLog
from durable.store.reader import Reader
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import crash_in_child


def load() -> str:
    """The first attempt lasts until it is killed."""
    me = current_step()
    me.publish("rows", 40, total=100)
    if me.attempt == 1:
        time.sleep(PATIENCE_SECONDS)
    return "loaded"


def loading(ctx: Context) -> str:
    return ctx.step(load)


def save_and_die(place: str) -> Any:
    """Return `FileLog.save_progress` with a kill before its transaction, in it, or after it."""
    save = FileLog.save_progress

    def killed(log: FileLog, *said: Any) -> None:
        if place == "before":
            crash()
        write = log._write
        if place == "within":
            log._write = lambda change, **options: write(lambda db: (change(db), crash()), **options)
        save(log, *said)
        crash()

    return killed


def run(_: Connection, path: Path, place: str) -> None:
    FileLog.save_progress = save_and_die(place)
    with Engine(path) as engine:
        engine.run("wf", loading)


@pytest.mark.parametrize("place", ["before", "within", "after"])
def test_a_kill_at_each_moment_of_writing_progress(tmp_path: Path, place: str) -> None:
    path = tmp_path / "workflow.db"
    crash_in_child(run, path, place)

    with Reader(path) as reader:
        assert reader.check_integrity() == []
        assert [each.text for each in reader.progress("wf")] == ["rows 40 of 100 (40 %)"] * (place == "after")
        assert [(each.step_key, each.status, each.attempt) for each in reader.steps("wf")] == [("load_1", "running", 1)]
    with Engine(path) as engine:
        assert engine.run("wf", loading) == "loaded"
        assert engine.progress("wf") == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("select count(*) from step_progress").fetchone() == (0,)
