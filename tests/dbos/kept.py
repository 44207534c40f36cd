"""Workflows whose rows on DBOS are kept in `kept.json`, as this release has saved them.

Every later release must go on with those rows. So the functions stay as they are. To record the rows anew, for another
file beside it: `python -c "from tests.dbos.kept import main; main()" > FILE`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from durable import Context
from durable.clock import ManualClock
from durable.observer import crash_at
from durable.on_dbos import DBOSEngine
from tests.conformance.world import WORLD, act, have_effect, refuse
from tests.support.postgres import Server
from tests.support.processes import KILLED, child, eventually

EXECUTOR = "one"


@dataclass(frozen=True)
class Trip:
    places: list[str]
    nights: int = 2


def plan(place: str) -> Trip:
    have_effect()
    return Trip([place.upper()])


def travel(ctx: Context, place: str) -> list[Any]:
    """Each kind of row, and then a wait and a last step."""
    trip = ctx.step(plan, place)
    begun_at = ctx.now()
    packed = ctx.map(act, ["hat", "coat"])
    side = ctx.branch(leg, "north").result()
    hotel = ctx.child(book, "hotel").result()
    ctx.publish("progress", len(packed))
    answer = ctx.wait_event("answer", type=str)
    return [trip.places, trip.nights, begun_at.isoformat(), packed, side, hotel, ctx.step(act, answer)]


def leg(ctx: Context, side: str) -> str:
    return ctx.step(act, side)


def book(ctx: Context, what: str) -> str:
    return ctx.step(act, what)


def give_up(ctx: Context) -> str:
    """Fails, and can be tried anew."""
    ctx.step(act, "train")
    return ctx.step(refuse, "boat")


def undo(ctx: Context) -> str:
    """Fails, and is final: what it has done is undone."""
    ctx.step(act, "train")
    ctx.on_failure(act, "no train")
    return ctx.step(refuse, "boat")


# ---- recording


def be_killed(_: Connection, url: str) -> None:
    """Leave one workflow waiting for a message, and die after the last effect of another."""
    with DBOSEngine(
        url, executor_id=EXECUTOR, clock=ManualClock(), observers=[crash_at("act_9", "executed")]
    ) as engine:
        engine.start("waiting", travel, "Rome")
        eventually(lambda: [wait.event for wait in engine.waits("waiting")] == ["answer"])
        crashing = engine.start("crashed", travel, "Rome")
        engine.send("crashed", "answer", "ticket")
        crashing.result()


def record(url: str) -> None:
    """Have all of them run, each to its own end."""
    with DBOSEngine(url, executor_id="another", clock=ManualClock()) as engine:
        handle = engine.start("completed", travel, "Rome")
        engine.send("completed", "answer", "ticket")
        handle.result()
        for workflow_id, workflow in {"failed": give_up, "undone": undo}.items():
            with suppress(ValueError):
                engine.run(workflow_id, workflow)
    with child(be_killed, url) as process:
        assert process.join() == KILLED, process.outcome()


def tables(database: psycopg.Connection[Any]) -> Iterator[sql.Identifier]:
    """Yield the tables of DBOS that hold something of workflows."""
    found = database.execute("select tablename from pg_tables where schemaname = 'dbos' order by tablename").fetchall()
    for (name,) in found:
        if name != "dbos_migrations":
            yield sql.Identifier("dbos", name)


def dump(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows."""
    with psycopg.connect(url) as database:
        kept = {}
        for table in tables(database):
            rows = [row[0] for row in database.execute(sql.SQL("select to_json(t) from {} t").format(table))]
            if rows:
                kept[table.as_string().replace('"', "")] = rows
        return kept


def load(url: str, kept: dict[str, list[dict[str, Any]]]) -> None:
    """Put kept rows into a database that has the tables. A column that has come since has its default."""
    with psycopg.connect(url) as database:
        database.execute("set session_replication_role = replica")  # the tables come in no order
        for name, rows in kept.items():
            table = sql.Identifier(*name.split("."))
            for row in rows:
                columns = sql.SQL(", ").join(map(sql.Identifier, row))
                database.execute(
                    sql.SQL("insert into {0} ({1}) select {1} from json_populate_record(null::{0}, %s)").format(
                        table, columns
                    ),
                    (json.dumps(row),),
                )


@contextmanager
def fresh_world() -> Iterator[None]:
    """A world outside in which nothing has happened."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[WORLD] = str(Path(folder) / "world.log")
        yield


def main() -> None:
    """Print the rows of a database in which all of them have run."""
    with Server({"max_connections": "300"}) as server, fresh_world():
        place = server.new_database()
        record(place)
        json.dump(dump(place), sys.stdout, indent=1)
