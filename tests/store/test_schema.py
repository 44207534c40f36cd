"""The table: what design section 5 promises about the file, as the `sqlite3` shell and other programs see it."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine
from durable.clock import ManualClock
from durable.errors import CorruptionError, StoreError
from durable.store.database.connection import Connection
from durable.store.records import StepRecord
from durable.store.rows.steps import BEGIN, COMPLETE, END, RECORD
from durable.store.rows.steps import COLUMNS as COLUMNS_OF_STEPS
from durable.testing.inside import stored

COLUMNS = {
    "workflows": (
        "id function arguments status output error epoch checksum created_at updated_at parent_id cancel_requested_at"
    ),
    "runs": "workflow_id epoch pid host started_at ended_at ended reason",
    "steps": (
        "workflow_id step_key status output name kind position attempt epoch fingerprint error checksum started_at"
        " ended_at thread"
    ),
    "deleted": "workflow_id epoch",
    "waits": "workflow_id step_key wake_at event child_id",
    "messages": "id workflow_id event value message_key checksum sent_at received_by",
    "attempts": (
        "workflow_id step_key status output name kind position attempt epoch fingerprint error checksum started_at"
        " ended_at thread superseded_by"
    ),
    "step_progress": "workflow_id step_key name value total attempt epoch at",
    "large_values": "sha256 head sizes parts stored_at",
    "value_parts": "sha256 number data",
    "value_uses": "workflow_id used_by sha256",
}


def price(item: str) -> dict[str, float]:
    return {item: 12.5}


def decline(amount: float) -> None:
    raise ValueError(f"declined {amount}")


def order(ctx: Context, item: str) -> str:
    ctx.step(price, item)
    try:
        ctx.step(decline, 12.5)
    except ValueError:
        ctx.branch("refund", lambda inner: inner.step(price, "back")).result()
    return item


def failing(ctx: Context) -> None:
    ctx.step(price, "x")
    ctx.step(decline, 1.0)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file with a completed and a failed workflow, closed."""
    path = tmp_path / "workflow.db"
    with Engine(path, clock=ManualClock(datetime(2026, 11, 23, 12, 0, 0, 120, tzinfo=UTC))) as engine:
        engine.run("o_1", order, "laptop")
        with pytest.raises(ValueError, match="declined"):
            engine.run("o_2", failing)
    return path


@pytest.fixture
def shell(database: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection."""
    connection = sqlite3.connect(database)
    yield connection
    connection.close()


def ask_shell(path: Path, sql: str) -> list[str]:
    """The lines that the sqlite3 command prints."""
    command = shutil.which("sqlite3")
    assert command is not None, "install the sqlite3 command: the file is promised to work with it"
    return subprocess.run([command, path, sql], capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_classic_queries_work_from_the_sqlite3_shell(database: Path) -> None:
    assert ask_shell(database, "select workflow_id, step_key, status, output from steps;") == [
        'o_1|price_1|completed|{"laptop":12.5}',
        "o_1|decline_2|failed|",
        'o_1|refund_3/price_1|completed|{"back":12.5}',
        'o_2|price_1|completed|{"x":12.5}',
        "o_2|decline_2|failed|",
    ]
    assert ask_shell(database, "select workflow_id, count(*) from steps group by workflow_id;") == ["o_1|3", "o_2|2"]
    assert ask_shell(database, "select id, status, output from workflows;") == ['o_1|completed|"laptop"', "o_2|failed|"]
    assert ask_shell(
        database, "select json_extract(error, '$.message') from steps where status = 'failed' limit 1;"
    ) == ["declined 12.5"]


def test_the_shell_may_look_while_the_engine_works(tmp_path: Path) -> None:
    path, seen = tmp_path / "workflow.db", list[str]()

    def look() -> None:
        seen.extend(ask_shell(path, "select step_key, status from steps; select ended is null from runs"))

    def workflow(ctx: Context) -> None:
        ctx.step(price, "laptop")
        ctx.step(look)

    with Engine(path) as engine:
        engine.run("wf", workflow)

    assert seen == ["price_1|completed", "look_2|running", "1"]


def test_the_columns_are_those_of_the_design(shell: sqlite3.Connection) -> None:
    found = {
        table: " ".join(row[1] for row in shell.execute(f"pragma table_info({table})"))
        for (table,) in shell.execute("select name from sqlite_master where type = 'table' order by rowid").fetchall()
    }

    assert found == COLUMNS


def test_the_keys_and_the_check_of_the_design_hold(shell: sqlite3.Connection) -> None:
    keys = {
        table: [
            row[1] for row in sorted(shell.execute(f"pragma table_info({table})"), key=lambda row: row[5]) if row[5]
        ]
        for table in COLUMNS
    }

    assert keys == {
        "workflows": ["id"],
        "runs": ["workflow_id", "epoch"],
        "steps": ["workflow_id", "step_key"],
        "attempts": ["workflow_id", "step_key", "attempt"],
        "deleted": ["workflow_id"],
        "waits": ["workflow_id", "step_key"],
        "messages": ["id"],
        "step_progress": ["workflow_id", "step_key", "name"],
        "large_values": ["sha256"],
        "value_parts": ["sha256", "number"],
        "value_uses": ["workflow_id", "used_by", "sha256"],
    }
    for change in (
        "update steps set status = 'done'",
        "insert into steps select * from steps",
        "update steps set name = null",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            shell.execute(change)


def test_the_file_says_its_version_and_keeps_a_log(shell: sqlite3.Connection) -> None:
    values = [
        shell.execute(f"pragma {name}").fetchone()[0] for name in ("user_version", "journal_mode", "integrity_check")
    ]

    assert values == [5, "wal", "ok"]


def test_a_file_of_version_1_is_brought_up_to_date_and_its_workflows_go_on(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    with Engine(path) as engine:
        engine.run("o_1", order, "laptop")
        with pytest.raises(ValueError, match="declined"):
            engine.run("o_2", failing)
        steps, workflows = engine.steps("o_1"), engine.workflows()
    old = tmp_path / "old.db"
    _as_version_1(path, old)
    with pytest.raises(StoreError, match="has schema version 1; open it with an Engine once"):
        Connection(old, read_only=True)
    with Engine(old) as engine:
        assert (engine.steps("o_1"), engine.workflows()) == (steps, workflows)
        assert engine.run("o_1", order, "laptop") == "laptop"
        with pytest.raises(ValueError, match="declined"):
            engine.run("o_2", failing)
        assert [run.ended for run in engine.runs("o_2")] == ["failed", "failed"]
        engine.send("o_2", "hello", 1)
    new, brought = (_structure(each) for each in (path, old))

    assert new == brought


def _as_version_1(path: Path, old: Path) -> None:
    """The same rows in a file as the first release made it."""
    shell = sqlite3.connect(old)
    shell.executescript(Path(__file__).with_name("schema_1.sql").read_text())
    shell.execute("attach ? as new", (str(path),))
    for (table,) in shell.execute("select name from main.sqlite_master where type = 'table'").fetchall():
        columns = ", ".join(row[1] for row in shell.execute(f"pragma main.table_info({table})"))
        shell.execute(f"insert into main.{table} select {columns} from new.{table}")
    shell.execute(f"pragma main.application_id = {0x64757261}")
    shell.execute("pragma main.user_version = 1")
    shell.commit()
    shell.close()


def _structure(path: Path) -> dict[str, list[Any]]:
    """Tables and their columns, and which indexes there are."""
    shell = sqlite3.connect(path)
    tables = [row[0] for row in shell.execute("select name from sqlite_master where type = 'table' order by name")]
    found = {table: shell.execute(f"pragma table_info({table})").fetchall() for table in tables}
    found["indexes"] = shell.execute(
        "select name, sql from sqlite_master where type = 'index' order by name"
    ).fetchall()
    shell.close()
    return found


@pytest.mark.parametrize(("asked", "levels"), [("full", {2, 1}), ("normal", {1}), ("off", {0})])
def test_what_is_promised_is_flushed_and_the_running_row_is_not(tmp_path: Path, asked: Any, levels: set[int]) -> None:
    """2 is FULL, 1 NORMAL, 0 OFF: the level at which each transaction of a run was committed."""
    statements: list[str] = []
    with Engine(tmp_path / "workflow.db", synchronous=asked) as engine:
        connection = stored(engine).connection._db
        assert connection is not None
        connection.set_trace_callback(statements.append)
        engine.run("wf", order, "laptop")

    committed: dict[str, set[int]] = {"running": set(), "ended": set()}
    names = {"full": 2, "normal": 1, "off": 0}
    level = names[asked]
    for statement in map(str.lower, statements):
        if pragma := re.match(r"pragma synchronous = (\w+)", statement):
            level = names[pragma[1]]
        elif statement.startswith("insert into steps"):
            committed["running"].add(level)
        elif statement.startswith(("update steps set", "update workflows set", "insert into workflows")):
            committed["ended"].add(level)
    assert committed == {"running": {min(levels)}, "ended": {max(levels)}}


def test_no_statement_of_a_steps_life_makes_a_temporary_table(shell: sqlite3.Connection) -> None:
    row, place = ("a_1", "a", "step", 1, 1, None, "now", "main"), ("wf", 1)
    statements = [
        (BEGIN, (*row, "running", *place)),
        (RECORD, (*row, "completed", "1", None, 0, "now", *place)),
        (COMPLETE, ("1", 0, "now", None, "a_1", *place)),
        (END, ("failed", None, "{}", 0, "now", None, "a_1", *place, "wf")),
    ]
    made = {sql: [row[1] for row in shell.execute(f"explain {sql}", parameters)] for sql, parameters in statements}

    assert all(steps[0] == "Init" for steps in made.values())
    assert [sql for sql, steps in made.items() if "OpenEphemeral" in steps] == []


def test_instants_are_iso_8601_in_utc_with_microseconds(shell: sqlite3.Connection) -> None:
    instants = [
        row[0]
        for sql in (
            "select created_at from workflows union all select updated_at from workflows",
            "select started_at from runs union all select ended_at from runs",
            "select started_at from steps union all select ended_at from steps",
        )
        for row in shell.execute(sql)
    ]

    assert set(instants) == {"2026-11-23T12:00:00.000120+00:00"}


def test_stored_values_are_json_that_sqlite_understands(shell: sqlite3.Connection) -> None:
    bad = shell.execute(
        "with texts (text) as (select output from steps union all select error from steps union all select fingerprint"
        " from steps union all select arguments from workflows union all select output from workflows"
        " union all select error from workflows) select text from texts where text is not null and not json_valid(text)"
    ).fetchall()

    assert bad == []
    assert shell.execute("select arguments ->> '$.item' from workflows where id = 'o_1'").fetchone() == ("laptop",)


FLIPS = [
    ("steps", "output", "o_1", "price_1"),
    ("steps", "error", "o_1", "decline_2"),
    ("workflows", "output", "o_1", None),
    ("workflows", "arguments", "o_1", None),
    ("workflows", "error", "o_2", None),
    ("workflows", "arguments", "o_2", None),
]


@pytest.mark.parametrize(
    ("table", "column", "workflow_id", "key"), FLIPS, ids=[f"{t}.{c} of {w}" for t, c, w, _ in FLIPS]
)
def test_the_checksum_catches_each_flipped_bit(
    database: Path, shell: sqlite3.Connection, table: str, column: str, workflow_id: str, key: str | None
) -> None:
    where = f"{'id' if table == 'workflows' else 'workflow_id'} = '{workflow_id}'" + (
        f" and step_key = '{key}'" if key else ""
    )
    [(text,)] = shell.execute(f"select {column} from {table} where {where}").fetchall()
    if key is not None:  # so that the steps are looked at again
        shell.execute(
            "update workflows set status = 'running', output = null, error = null, checksum = ?", (_of_arguments(),)
        )
    data, missed, flips = text.encode(), [], 0
    with Engine(database) as engine:
        for bit in range(0, len(data) * 8, max(1, len(data) * 8 // 400)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            flips += 1
            shell.execute(f"update {table} set {column} = cast(? as text) where {where}", (bytes(flipped),))
            shell.commit()
            try:
                engine.run(workflow_id, *((order, "laptop") if workflow_id == "o_1" else (failing,)))
                missed.append(bit)
            except CorruptionError as error:
                assert error.path == database
                assert workflow_id in str(error) or "UTF-8" in str(error)
                assert "restore" in str(error)
    assert flips > 10
    assert missed == []


def _of_arguments() -> int:
    from durable.values.codec import checksum

    return checksum('{"item":"laptop"}', None, None)


KILLED = """
import os, signal, sys
from durable import Context, Engine

def effect() -> int:
    return 7

def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

def workflow(ctx: Context) -> None:
    ctx.step(effect)
    ctx.step(die)

Engine(sys.argv[1]).run("wf", workflow)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_the_database_of_a_killed_process_is_readable_by_anyone_and_shows_the_zombie_step(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    child = subprocess.run([sys.executable, "-c", KILLED, path], check=False)

    assert child.returncode == -signal.SIGKILL
    assert ask_shell(path, "pragma integrity_check") == ["ok"]
    assert ask_shell(path, "select step_key, status, output, attempt from steps") == [
        "effect_1|completed|7|1",
        "die_2|running||1",
    ]
    assert ask_shell(path, "select status from workflows; select epoch, ended from runs") == ["running", "1|"]
    with Engine(path) as engine:
        assert [(step.step_key, step.status, step.value) for step in engine.steps("wf")] == [
            ("effect_1", "completed", 7),
            ("die_2", "running", None),
        ]
        assert engine.owner("wf") is None


def test_a_sqlite_that_is_too_old_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 32, 3))

    with pytest.raises(StoreError, match=r"expected 3\.33 or later; use a newer Python"):
        Engine(tmp_path / "workflow.db")

    assert list(tmp_path.iterdir()) == []


def test_the_columns_of_a_step_are_written_and_read_from_one_list(shell: sqlite3.Connection) -> None:
    columns = [row[1] for row in shell.execute("pragma table_info(steps)")]

    assert sorted(COLUMNS_OF_STEPS.split(", ")) == sorted(columns)
    assert {*StepRecord.__struct_fields__} == {*columns, "superseded_by"} - {"checksum"}
