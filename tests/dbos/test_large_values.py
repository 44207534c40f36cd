"""Large values in PostgreSQL: a server that dies in the middle, two processes at once, and what gc leaves alone."""

from __future__ import annotations

import json
import re
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import psycopg
import pytest

from durable import Context
from durable.formats import Pickled
from durable.observer import Moment
from durable.on_dbos import DBOSEngine
from durable.on_dbos.store.large import SharedValues, Tables
from tests.support.command_line import durable, error_of
from tests.support.large import MB, crate, noise, result_of
from tests.support.postgres import Server
from tests.support.processes import child

HEAD = b'{"format":"bytes/1"}'
LARGE = noise(5 * MB // 2)
DAMAGED = r"large value \w{12}\.\.\., named by 'wf', is missing or does not match its hash"


@pytest.mark.thorough
def test_a_server_that_is_killed_while_a_value_is_saved_loses_none_of_it(own_postgres: Server) -> None:
    url = own_postgres.create_database("large")
    tables, parts = Tables(url, Path("large")), list[int]()

    def kill_once() -> None:
        parts.append(1)
        if len(parts) == 2:
            own_postgres.kill()
            own_postgres.start()

    values = SharedValues(tables, "wf")
    sha256 = values.put(HEAD, [LARGE], kill_once)
    values.check([sha256])
    assert len(parts) > 3  # those before the kill were put again
    own_postgres.kill()
    own_postgres.start()

    values.check([sha256])
    assert bytes(values.get(sha256)[1][0]) == LARGE
    tables.close()


def test_a_database_without_large_values_gets_no_tables(postgres_url: str) -> None:
    with DBOSEngine(postgres_url) as engine:
        assert engine.gc() == (0, 0)

    with psycopg.connect(postgres_url) as db:
        assert db.execute("select to_regnamespace('durable')").fetchone() == (None,)


def put_when_told(pipe: Connection, url: str) -> str:
    tables = Tables(url, Path("large"))
    pipe.send("ready")
    pipe.recv()
    try:
        return SharedValues(tables, "wf").put(HEAD, [LARGE])
    finally:
        tables.close()


def test_processes_that_put_the_same_content_at_once_make_the_tables_once(postgres_url: str) -> None:
    with child(put_when_told, postgres_url) as one, child(put_when_told, postgres_url) as two:
        for each in (one, two):
            assert each.receive() == "ready"
        for each in (one, two):
            each.send()
        assert one.outcome() == two.outcome()


def test_gc_leaves_what_a_workflow_that_runs_has_begun_to_save(postgres_url: str) -> None:
    freed: list[tuple[int, int]] = []
    engines: list[DBOSEngine] = []

    def collect(moment: Moment) -> None:
        if moment.name == "step.part_stored":
            freed.append(engines[0].gc())

    with DBOSEngine(postgres_url, observers=[collect]) as engine:
        engines.append(engine)
        assert engine.run("wf", crate) == result_of()
    assert freed == [(0, 0)] * 8


def test_gc_leaves_the_arguments_of_a_workflow_that_is_about_to_begin(postgres_url: str) -> None:
    with DBOSEngine(postgres_url) as engine:
        engine._backend.values_for("later").put(HEAD, [LARGE])
        assert engine.gc() == (0, 0)
        with psycopg.connect(postgres_url) as db:
            db.execute("update durable.value_uses set noted_at = noted_at - interval '2 hours'")
        assert engine.gc() == (1, len(LARGE))


def test_the_command_gc_drops_what_no_row_of_the_workers_database_names(postgres_url: str) -> None:
    def gc(*words: str) -> str:
        return str(durable("gc", "--engine", postgres_url, *words).stdout)

    assert gc() == "dropped 0 large values of 0 bytes\n"  # there are no tables yet
    with DBOSEngine(postgres_url) as engine:
        assert engine.run("wf", crate) == result_of()
        engine._backend.values_for("gone").put(HEAD, [LARGE[:MB]])
    assert gc() == "dropped 0 large values of 0 bytes\n"
    with psycopg.connect(postgres_url) as db:
        db.execute("update durable.value_uses set noted_at = noted_at - interval '2 hours'")
        before = db.execute("select count(*) from durable.large_values").fetchone()

    assert gc("--json") == '{"values": 1, "bytes": 1048576}\n'
    with psycopg.connect(postgres_url) as db:
        assert (before, db.execute("select count(*) from durable.large_values").fetchone()) == ((3,), (2,))
    with DBOSEngine(postgres_url) as engine:
        for step in engine.steps("wf"):
            if isinstance(step.value, dict):
                engine._backend.get_value(step.value["$value"])


def pickle_one() -> Annotated[complex, Pickled]:
    return 1j


def pickling(ctx: Context) -> None:
    ctx.step(pickle_one)


def test_the_command_doctor_finds_values_that_are_damaged_missing_unused_or_pickled(postgres_url: str) -> None:
    def doctor(*, healthy: bool = True) -> dict[str, list[str]]:
        done = durable("doctor", "--engine", postgres_url, "--json", code=0 if healthy else 1)
        rows = [row for row in json.loads(done.stdout) if row["subject"] in ("integrity", "values", "pickle")]
        return {row["subject"]: [each["text"] for each in rows if each["subject"] == row["subject"]] for row in rows}

    with DBOSEngine(postgres_url) as engine:
        engine.run("model", pickling)
        sound = "the hashes of all large values find nothing wrong"
        pickled = ["saved by pickle, and read only if the code asks for it: model: pickle_one_1"]
        assert doctor() == {"integrity": [sound], "pickle": pickled}  # there are no tables yet
        engine.run("wf", crate)
        engine._backend.values_for("gone").put(HEAD, [LARGE[:MB]])
        assert doctor() == {"integrity": [sound], "pickle": pickled}
    with psycopg.connect(postgres_url) as db:
        db.execute("update durable.value_uses set noted_at = noted_at - interval '2 hours'")
    unused = ["1 large value of 1,048,576 bytes, which no row names; `durable gc` drops them"]
    assert doctor() == {"integrity": [sound], "values": unused, "pickle": pickled}

    with psycopg.connect(postgres_url) as db:
        named = "select sha256 from durable.value_uses where workflow_id = 'wf'"
        flipped = "set_byte(data, 70000, get_byte(data, 70000) # 1)"
        db.execute(f"update durable.value_parts set data = {flipped} where number = 1 and sha256 in ({named})")
    damaged = doctor(healthy=False)["integrity"]
    with psycopg.connect(postgres_url) as db:
        db.execute(f"delete from durable.large_values where sha256 in ({named})")

    assert damaged
    assert all(re.fullmatch(DAMAGED, text) for text in damaged)
    assert len(doctor(healthy=False)["integrity"]) == 2


def test_the_command_gc_says_that_a_database_does_not_answer() -> None:
    assert "does not answer" in error_of("gc", "--engine", "postgresql://me@127.0.0.1:1/flows")
