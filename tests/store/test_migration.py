"""Files of an earlier schema version: they are brought up to date as they are opened, and their workflows go on."""

from __future__ import annotations

import resource
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable import Engine
from durable.clock import ManualClock
from durable.errors import StoreError
from durable.examples.approval import approval
from durable.examples.onboarding import Employee, onboarding
from durable.examples.saga import BadgeError, saga
from durable.store.database.connection import Connection

KEPT = Path(__file__).with_name("schema_2.sql")
JANE = ("Jane Doe", 0.0)
WISH = ("MacBook Pro", 3000, 2000, 1e9, 0.0)


@pytest.fixture
def old(database: Path) -> Path:
    """A file of version 2."""
    with closing(sqlite3.connect(database)) as db:
        db.executescript(KEPT.read_text(encoding="utf-8"))
    return database


def rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"select rowid, * from {table} order by rowid").fetchall()


def structure(path: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as db:
        names = db.execute("select name from sqlite_master where type = 'table' order by name").fetchall()
        found: dict[str, Any] = {name: db.execute(f"pragma table_info({name})").fetchall() for (name,) in names}
        found["indexes"] = db.execute("select name, sql from sqlite_master where type = 'index' order by 1").fetchall()
        return found


def test_the_kept_file_tells_nothing_of_the_machine() -> None:
    assert not any(place in KEPT.read_text(encoding="utf-8") for place in ("/home/", "/work/", "/tmp/", "/usr/"))


def test_every_row_stays_and_a_run_has_a_reason(old: Path) -> None:
    tables = ("workflows", "steps", "attempts", "waits", "messages", "deleted")
    before, runs = {table: rows(old, table) for table in tables}, rows(old, "runs")

    Engine(old).close()

    assert {table: rows(old, table) for table in tables} == before
    assert rows(old, "runs") == [(*run, None) for run in runs]


def test_a_migrated_file_has_the_structure_of_a_new_one(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    Engine(old).close()
    Engine(new).close()

    assert structure(old) == structure(new)
    with closing(sqlite3.connect(old)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("pragma user_version").fetchone() == (5,)


def test_a_file_of_version_3_gets_the_tables_of_large_values_and_goes_on(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    Engine(old).close()
    with closing(sqlite3.connect(old)) as db:
        db.executescript("drop table large_values; drop table value_parts; drop table value_uses;")
        db.execute("pragma user_version = 3")
    with Engine(old) as engine, Engine(new):
        assert engine.run("crashed", onboarding, *JANE).email == "crashed@company.com"
        assert engine.gc() == (0, 0)

    assert structure(old) == structure(new)


def test_a_file_of_version_4_gets_the_table_of_progress_and_goes_on(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    Engine(old).close()
    with closing(sqlite3.connect(old)) as db:
        db.executescript("drop table step_progress; pragma user_version = 4;")
    with Engine(old) as engine, Engine(new):
        assert engine.run("crashed", onboarding, *JANE).email == "crashed@company.com"
        assert engine.progress("crashed") == []

    assert structure(old) == structure(new)


def test_a_migrated_file_takes_states_of_later_versions(old: Path) -> None:
    Engine(old).close()
    with closing(sqlite3.connect(old)) as db:
        db.execute("update workflows set status = 'parked'")
        db.execute("update runs set ended = 'terminated'")


def test_completed_and_failed_workflows_keep_their_outcome(old: Path) -> None:
    with Engine(old) as engine:
        assert engine.run("completed", onboarding, *JANE) == Employee(
            "completed", "Jane Doe", "MacBook Pro", "completed@company.com"
        )
        assert [run.ended for run in engine.runs("completed")] == ["completed"]
        with pytest.raises(BadgeError, match="the office is closed"):
            engine.run("failed", saga, "Jane Doe", False, 0.0)
        assert [run.ended for run in engine.runs("failed")] == ["failed"]


def test_a_failed_workflow_tries_its_failed_step_anew(old: Path) -> None:
    with Engine(old) as engine:
        engine.run("refused", onboarding, *JANE)

        assert [run.ended for run in engine.runs("refused")] == ["failed", "completed"]
        assert [(each.step_key, each.status) for each in engine.attempts("refused")] == [("create_record_1", "failed")]


def test_a_crashed_workflow_goes_on(old: Path) -> None:
    with Engine(old) as engine:
        done = engine.run("crashed", onboarding, *JANE)
        steps = {step.step_key: (step.status, step.attempt) for step in engine.steps("crashed")}

        assert done == Employee("crashed", "Jane Doe", "MacBook Pro", "crashed@company.com")
        assert steps == {
            "create_record_1": ("completed", 1),
            "provision_laptop_2": ("completed", 3),
            "setup_access_3": ("completed", 1),
            "send_welcome_email_4": ("completed", 1),
        }
        assert [run.ended for run in engine.runs("crashed")] == ["crashed", "crashed", "completed"]


def test_a_waiting_workflow_waits_on_until_its_answer_comes(old: Path) -> None:
    with Engine(old) as engine:
        assert [wait.event for wait in engine.waits("waiting")] == ["approval"]
        engine.send("waiting", "approval", {"by": "Ann", "granted": False})

        assert engine.run("waiting", approval, *WISH) == "rejected by Ann"
        assert engine.run("answered", approval, *WISH) == "MacBook Pro is on its way"
        assert engine.workflow("cancelled").status == "cancelled"


def test_the_number_of_runs_of_a_deleted_workflow_goes_on(old: Path) -> None:
    with Engine(old, clock=ManualClock()) as engine:
        engine.run("gone", onboarding, *JANE)

        assert [run.epoch for run in engine.runs("gone")] == [2]


def test_an_old_file_is_not_opened_to_be_read_alone(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(StoreError, match="has schema version 2; open it with an Engine once"):
        Connection(old, read_only=True)

    assert old.read_bytes() == before


def test_tables_and_views_of_the_user_still_refer_to_the_same_tables(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db:
        db.executescript(
            "create view lives as select id, count(*) as n from workflows join runs on id = workflow_id group by id;"
            "create table bills (workflow_id text references workflows (id));"
        )
    Engine(old).close()

    with closing(sqlite3.connect(old)) as db:
        assert db.execute("select n from lives where id = 'crashed'").fetchone() == (2,)
        assert db.execute("select \"table\" from pragma_foreign_key_list('bills')").fetchone() == ("workflows",)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no rusage")
def test_a_large_file_is_migrated_in_little_memory(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db:
        db.execute(
            "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 50000)"
            " insert into workflows select 'wf_' || n, function, arguments, status, zeroblob(1000), error, epoch,"
            " checksum, created_at, updated_at, parent_id, cancel_requested_at from workflows, numbers"
            " where id = 'completed'"
        )
        db.commit()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Connection(old).close()

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes; the rows have 50 MB
