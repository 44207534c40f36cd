"""The alarm of an engine that suspends goes on, and misses nothing that it may have been told of."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable import Engine
from durable.clock import SystemClock
from durable.errors import StoreError, WorkflowNotFoundError
from durable.store.database.connection import Connection
from durable.store.rows.waits import Waits
from durable.testing.inside import file_of
from durable.waiting.alarm import Alarm
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually
from tests.support.stored import is_asleep
from tests.support.workflows import wait_for_news


class Bell(threading.Event):
    """One at which something happens just after the alarm has asked whether it rings, at the beginning of a look."""

    def __init__(self, happen: Callable[[], object]) -> None:
        super().__init__()
        self._happen: Callable[[], object] | None = happen

    def is_set(self) -> bool:
        rings = super().is_set()
        if not rings and self._happen is not None and sys._getframe(1).f_code.co_name == "_watch":
            happen, self._happen = self._happen, None
            happen()
        return rings


def test_a_ring_just_after_it_has_asked_whether_it_was_rung_is_heard(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", wait_for_news)
        eventually(lambda: is_asleep(engine))
        file_of(engine).alarm._bell = Bell(lambda: engine.delete("emp_001"))  # which rings

        with pytest.raises(WorkflowNotFoundError):
            handle.result(PATIENCE_SECONDS)


def test_it_tells_to_look_for_all_now_and_then_also_where_nothing_was_written(database: Path) -> None:
    """A workflow is being woken here, and owned by another process, which ends it; it is not looked for meanwhile.
    By the time that it is left to the other one, nothing more is written."""
    told: list[bool] = []
    with closing(Connection(database)) as connection:
        alarm = Alarm(Waits(connection), SystemClock(), lambda due, has_changed: told.append(has_changed))
        alarm.start()
        eventually(lambda: told.count(True) > 1)
        alarm.stop()


def test_it_goes_on_once_the_database_can_be_read_again(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = database.with_suffix(".moved")
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", wait_for_news)
        eventually(lambda: is_asleep(engine))
        database.rename(moved)
        with pytest.raises(StoreError):
            engine.send("emp_001", "news", "lost")
        eventually(lambda: "the alarm cannot look for what is due" in caplog.text)
        moved.rename(database)
        with Engine(database) as other:
            other.send("emp_001", "news", "today")

        assert handle.result(PATIENCE_SECONDS) in ("today", "lost")  # what a failed commit did is not known
