"""What a step asks of PostgreSQL, and the connections over which it does."""

from __future__ import annotations

import threading

import psycopg
import pytest
import sqlalchemy as sa
from dbos import DBOS

from durable import Context
from durable.on_dbos import DBOSEngine
from durable.on_dbos.store import connection
from durable.on_dbos.store.connection import RestedPool

said: list[tuple[int, str]] = []  # the thread of each statement and step, and which it was


def note(i: int) -> int:
    said.append((threading.get_ident(), "a step"))
    return i


def ours(ctx: Context, count: int) -> int:
    return sum(ctx.step(note, i) for i in range(count))


@DBOS.workflow(name="theirs")
def theirs(count: int) -> int:
    return sum(DBOS.run_step({"name": "note"}, note, i) for i in range(count))


def note_statement(_: object, __: object, statement: str, *___: object) -> None:
    said.append((threading.get_ident(), statement))


def note_checkout(*_: object) -> None:
    said.append((threading.get_ident(), "a connection"))


def between_steps() -> list[str]:
    """The statements and uses of a connection between the second step and the third, in the thread of the workflow."""
    ident = next(thread for thread, what in said if what == "a step")
    heard = [what for thread, what in said if thread == ident]
    places = [place for place, what in enumerate(heard) if what == "a step"]
    return heard[places[1] + 1 : places[2]]


@pytest.fixture
def pool(postgres_url):
    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, poolclass=RestedPool, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


def lose_connection(pool, url):
    """Use the connection, and have the server end it while it rests."""
    with pool.connect() as db:
        pid = db.execute(sa.text("select pg_backend_pid()")).scalar()
    with psycopg.connect(url, autocommit=True) as other:
        assert other.execute("select pg_terminate_backend(%s, 10000)", [pid]).fetchone() == (True,)


def test_a_step_asks_the_database_nothing_that_one_of_plain_dbos_does_not(postgres_url):
    sa.event.listen(sa.Engine, "before_cursor_execute", note_statement)
    sa.event.listen(RestedPool, "checkout", note_checkout)
    try:
        with DBOSEngine(postgres_url) as engine:
            said.clear()
            engine.run("ours", ours, 4)
            asked_by_ours = between_steps()
            said.clear()
            DBOS.start_workflow(theirs, 4).get_result()
            asked_by_theirs = between_steps()
    finally:
        sa.event.remove(RestedPool, "checkout", note_checkout)
        sa.event.remove(sa.Engine, "before_cursor_execute", note_statement)

    assert asked_by_ours == asked_by_theirs
    # two transactions: whether it is done already, in two questions; and whose the workflow is, and the row
    kinds = sorted(what.split()[0] for what in asked_by_ours)
    assert kinds == ["INSERT", "SELECT", "SELECT", "SELECT", "a", "a"]


def test_a_connection_that_was_lost_while_it_rested_is_replaced(pool, postgres_url, monkeypatch):
    monkeypatch.setattr(connection, "REST_SECONDS", 0.0)
    lose_connection(pool, postgres_url)

    with pool.connect() as db:
        assert db.execute(sa.text("select 1")).scalar() == 1


def test_a_connection_in_constant_use_is_not_asked_whether_it_is_alive(pool, postgres_url, monkeypatch):
    monkeypatch.setattr(connection, "REST_SECONDS", 1e9)
    lose_connection(pool, postgres_url)

    with pytest.raises(sa.exc.OperationalError) as lost, pool.connect() as db:
        db.execute(sa.text("select 1"))
    assert lost.value.connection_invalidated  # so DBOS does it again
    with pool.connect() as db:
        assert db.execute(sa.text("select 1")).scalar() == 1
