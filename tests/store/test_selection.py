"""Selections: the workflows of a file by id, function, status and time, in an order, in parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from durable import Context, Engine
from durable.clock import ManualClock
from durable.store.reader import Reader
from durable.store.records import Selection

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def order(ctx: Context) -> None:
    """Do nothing."""


def refund(ctx: Context) -> None:
    raise ValueError("no money")


@pytest.fixture
def reader(tmp_path):
    """Four orders and a refund that failed, one a day."""
    clock = ManualClock(BEGIN)
    with Engine(tmp_path / "a file.db", clock=clock) as engine:
        for workflow_id in ("o_1", "o_10", "o%2", "x_1"):
            engine.run(workflow_id, order)
            clock.advance(86400)
        with pytest.raises(ValueError, match="no money"):
            engine.run("o_9", refund)
    with Reader(tmp_path / "a file.db") as reader:
        yield reader


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, ["o_1", "o_10", "o%2", "x_1", "o_9"]),
        ({"descending": True}, ["o_9", "x_1", "o%2", "o_10", "o_1"]),
        ({"prefix": "o_"}, ["o_1", "o_10", "o_9"]),
        ({"prefix": "o%"}, ["o%2"]),
        ({"function": "refund"}, ["o_9"]),
        ({"function": "tests.store.test_selection:order", "prefix": "x"}, ["x_1"]),
        ({"function": "rder"}, []),
        ({"status": "failed"}, ["o_9"]),
        ({"since": BEGIN + timedelta(days=3)}, ["x_1", "o_9"]),
        ({"until": BEGIN + timedelta(days=1)}, ["o_1", "o_10"]),
        ({"sort": "id"}, ["o%2", "o_1", "o_10", "o_9", "x_1"]),
        ({"sort": "status", "descending": True}, ["o_9", "x_1", "o%2", "o_10", "o_1"]),
        ({"sort": "updated", "limit": 2, "offset": 1}, ["o_10", "o%2"]),
    ],
)
def test_workflows_are_selected_sorted_and_paged(reader, wanted, ids) -> None:
    assert [record.workflow_id for record in reader.select(Selection(**wanted))] == ids


def test_a_selection_is_counted_by_status_in_all_of_its_parts(reader) -> None:
    assert reader.count(Selection(limit=1)) == {"completed": 4, "failed": 1}
    assert reader.count(Selection(prefix="o_", offset=2)) == {"completed": 2, "failed": 1}
    assert reader.list_functions() == ["tests.store.test_selection:order", "tests.store.test_selection:refund"]
