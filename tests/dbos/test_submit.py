"""Submitting from Python: one workflow or many, for workers to run."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from durable.errors import InvalidNameError, SerializationError, WorkflowConflictError
from durable.on_dbos import DBOSEngine, submit, submit_many
from durable.on_dbos.workers.worker import Worker
from durable.values import codec
from tests.conformance import world
from tests.support.large import leg, row_of
from tests.support.postgres import Server
from tests.support.processes import eventually


@pytest.fixture
def url(postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that has not been used before."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    return postgres_server.create_database(f"submit_{tmp_path.name.replace('-', '_')}".lower())


def count_transactions(url: str) -> int:
    """Return how many transactions have changed rows of workflows: each has a number of its own."""
    with psycopg.connect(url) as db:
        (found,) = db.execute("select count(distinct xmin::text) from dbos.workflow_status").fetchone()
    return found


def test_what_is_submitted_is_run_once_by_a_worker(url: str) -> None:
    assert submit(url, "one", world.errand, "a", "b") == "submitted"
    assert submit(url, "one", world.errand, "a", "b") == "running"
    assert submit_many(url, world.errand, {"one": ("a", "b"), "two": ("c",), "three": ()}) == {
        "one": "running",
        "two": "submitted",
        "three": "submitted",
    }
    worker = Worker(url, modules=["tests.conformance.world"])
    try:
        eventually(lambda: len(worker.engine.workflows("completed")) == 3)
    finally:
        worker.close()

    assert submit_many(url, world.errand, {"two": ("c",)}) == {"two": "completed"}
    assert sorted(world.effects()) == ["act_1", "act_1", "act_2"]


def test_a_failed_one_goes_back_into_the_queue_and_another_call_is_refused(url: str) -> None:
    with DBOSEngine(url) as engine, pytest.raises(ValueError, match="no boat today"):
        engine.run("wf", world.broken)
    with pytest.raises(WorkflowConflictError):
        submit_many(url, world.errand, {"new": ("a",), "wf": ()})
    with pytest.raises(InvalidNameError):
        submit_many(url, world.errand, {" ": ()})
    with pytest.raises(SerializationError):
        submit_many(url, world.errand, {"new": (object(),)})
    with pytest.raises(SerializationError, match="'new': its result is annotated Model, which has no JSON form"):
        submit(url, "new", world.hopeless_workflow)

    assert submit_many(url, world.broken, {"wf": ()}) == {"wf": "again"}


def test_large_arguments_are_stored_apart_from_the_rows_and_once(url: str) -> None:
    load = row_of(20_000, 0.0)
    assert submit(url, "one", leg, load) == "submitted"
    assert submit_many(url, leg, {"one": (load,), "two": (load,)}) == {"one": "running", "two": "submitted"}
    with pytest.raises(WorkflowConflictError):
        submit(url, "one", leg, load + 1)

    with psycopg.connect(url) as db:
        assert all(size < 1000 for (size,) in db.execute("select length(inputs) from dbos.workflow_input").fetchall())
        assert db.execute("select parts, count(*) from durable.large_values group by 1").fetchall() == [(1, 2)]
    worker = Worker(url, modules=["tests.support.large"])
    try:
        eventually(lambda: len(worker.engine.workflows("completed")) == 2)
        assert (worker.engine.run("two", leg, load) == row_of(20_000, 1.0)).all()
    finally:
        worker.close()


def test_a_call_whose_large_arguments_an_older_version_has_put_into_the_row_is_the_same_call(url: str) -> None:
    load = row_of(20_000, 0.0)
    submit(url, "other", leg, load[:1])
    with psycopg.connect(url) as db:
        inline = codec.encode_arguments(leg, (load,), {}, "it")
        assert len(inline) > 200_000
        db.execute(
            "update dbos.workflow_input set inputs = jsonb_set(inputs::jsonb, '{args,1}', %s::jsonb)::text", [inline]
        )

    assert submit(url, "other", leg, load) == "running"
    with pytest.raises(WorkflowConflictError):
        submit(url, "other", leg, load + 1)


def test_a_thousand_are_one_transaction(url: str) -> None:
    submit(url, "first", world.errand)
    before = count_transactions(url)

    told = submit_many(url, world.errand, {f"wf_{number}": (str(number),) for number in range(1500)}, queue="other")

    assert set(told.values()) == {"submitted"}
    assert len(told) == 1500
    assert count_transactions(url) - before == 2


def test_a_url_of_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="postgresql"):
        submit("mysql://me@host/flows", "wf", world.errand)
