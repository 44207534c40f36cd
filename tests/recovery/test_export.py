"""Export: all that is on record, as JSON, a line for each workflow, without holding it in memory."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine
from durable.errors import CorruptionError
from durable.store.database.schema import list_own_tables
from durable.store.export import TABLES
from durable.store.reader import Reader
from tests.support.command_line import PROGRAM, durable, error_of, hear_ctrl_c
from tests.support.patience import PATIENCE_SECONDS, patient

JSON_COLUMNS = ("arguments", "output", "error", "value")


def call(name: str, folder: str) -> str:
    if not Path(folder, name).exists():
        raise ConnectionError(f"no answer from {name}")
    return name


def long_text(number: int) -> str:
    return f"{number:06}" * 200


def order(ctx: Context, folder: str) -> str:
    ctx.step(call, "shop", folder)
    ctx.wait_event("paid")
    ctx.wait_event("delivered", timeout_seconds=3600)
    return "done"


def many(ctx: Context, count: int) -> int:
    return len(ctx.map(long_text, range(count)))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A database with rows in each table: a finished workflow, one that waits after two lives, one that was deleted."""
    path = tmp_path / "my flows" / "orders, all.db"
    path.parent.mkdir()
    with Engine(path, suspend=True) as engine:
        with pytest.raises(ConnectionError):
            engine.run("order_1", order, str(tmp_path))
        (tmp_path / "shop").touch()
        for event in ("paid", "lost"):
            engine.send("order_1", event, {"by": "Ann"})
        engine.start("order_1", order, str(tmp_path))
        assert engine.run("many", many, 3) == 3
        engine.run("gone", many, 1)
        engine.delete("gone")
    return path


def rows_of(path: Path, table: str, owner: str, workflow_id: str) -> list[dict[str, Any]]:
    """What is in the file, asked of SQLite alone."""
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        found = [dict(row) for row in db.execute(f"select * from {table} where {owner} = ?", (workflow_id,))]
    for row in found:
        row.pop("checksum", None)
        row |= {name: json.loads(row[name]) for name in JSON_COLUMNS if row.get(name) is not None}
    return found


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def test_every_row_of_every_table_is_in_it(filled: Path) -> None:
    lines = [json.loads(line) for line in durable("export", "--db", str(filled)).stdout.splitlines()]

    assert [line["workflow"]["id"] for line in lines] == ["order_1", "many"]
    for line in lines:
        workflow_id = line["workflow"]["id"]
        assert line["format"] == 1
        assert [line["workflow"]] == rows_of(filled, "workflows", "id", workflow_id)
        for table in TABLES:
            assert in_order(line[table]) == in_order(rows_of(filled, table, "workflow_id", workflow_id))
    for table in TABLES:
        assert lines[0][table], f"the example has nothing in {table}"


def test_it_knows_every_table_of_the_schema_but_those_of_what_is_gone_and_of_running_steps() -> None:
    values = {"large_values", "value_parts", "value_uses"}  # which are in the line as `values`
    assert {"workflows", "deleted", "step_progress", *values, *TABLES} == list_own_tables()


@pytest.mark.thorough
def test_ids_and_a_status_choose(filled: Path) -> None:
    def ids(*words: str) -> list[str]:
        lines = durable("export", *words, "--db", str(filled)).stdout.splitlines()
        return [json.loads(line)["workflow"]["id"] for line in lines]

    assert ids("many") == ["many"]
    assert ids("many", "order_1") == ["many", "order_1"]
    assert ids("--status", "completed") == ["many"]
    assert ids("--status", "running") == ["order_1"]
    assert ids("--status", "failed") == []


@pytest.mark.thorough
def test_wrong_use_says_what_was_meant(filled: Path) -> None:
    assert "no workflow 'order_2' in 'orders, all.db'; did you mean 'order_1'?" in error_of(
        "export", "order_2", "--db", str(filled)
    )
    assert "did you mean 'failed'?" in error_of("export", "--status", "faild", "--db", str(filled))
    assert "not both" in error_of("export", "many", "--status", "failed", "--db", str(filled))
    assert "there is no database" in error_of("export", "--db", str(filled.with_name("other.db")))


def test_numbers_and_texts_are_the_same_to_the_letter(tmp_path: Path) -> None:
    with Engine(tmp_path / "workflow.db") as engine:
        engine.run("odd", odd_values)
    reader = Reader(tmp_path / "workflow.db")
    text = "".join(reader.export("odd"))
    reader.close()

    assert '"output":{"big":9007199254740993,"small":1e-300,"text":"\\"\\\\ ☃ \\u2028"}' in text.replace(
        "\u2028", "\\u2028"
    )


def odd_values(ctx: Context) -> dict[str, Any]:
    return {"big": 2**53 + 1, "small": 1e-300, "text": '"\\ ☃ \u2028'}


def test_pages_are_seamless(tmp_path: Path) -> None:
    path = tmp_path / "workflow.db"
    with Engine(path, synchronous="normal") as engine:
        engine.run("long", many, 450)
        for number in range(410):
            engine.run(f"wf_{number}", many, 0)

    lines = [json.loads(line) for line in durable("export", "--db", str(path)).stdout.splitlines()]

    assert len(lines) == 411
    assert in_order(lines[0]["steps"]) == in_order(rows_of(path, "steps", "workflow_id", "long"))
    assert len(lines[0]["steps"]) == 450


def test_a_workflow_is_written_as_it_stood_at_one_instant(filled: Path) -> None:
    reader = Reader(filled)
    pieces = reader.export("order_1")
    begun = next(pieces)

    with Engine(filled) as engine:
        engine.send("order_1", "paid", "too late to be seen")
    rest = "".join(pieces)
    again = "".join(reader.export("order_1"))
    reader.close()

    assert "too late to be seen" not in begun + rest
    assert "too late to be seen" in again


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("update steps set output = '\"shap\"' where step_key = 'call_1'", "'call_1' in 'steps'"),
        ("update attempts set error = '{}'", "'call_1' in 'attempts'"),
        ("update messages set value = '1' where event = 'paid'", "'paid' in 'messages'"),
        ("update workflows set arguments = '{}'", "'its arguments or outcome' in 'workflows'"),
    ],
)
def test_a_row_that_was_changed_is_named_and_not_exported(filled: Path, change: str, what: str) -> None:
    with sqlite3.connect(filled) as db:
        db.execute(change)
    reader = Reader(filled)

    with pytest.raises(CorruptionError) as error:
        list(reader.export("order_1"))

    assert str(error.value).startswith(f"workflow 'order_1': {what} does not match its checksum; restore")
    reader.close()


def peak_kilobytes(path: Path) -> int:
    """What an export takes, as Linux counts it for the program alone: `ru_maxrss` begins with the parent's."""
    code = f"""
import sys
from durable.__main__ import main
sys.argv = ["durable", "export", "--db", {str(path)!r}]
try:
    main()
except SystemExit:
    pass
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    return int(done.stderr)


@pytest.mark.thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the peak")
def test_a_large_workflow_does_not_fill_the_memory(tmp_path: Path) -> None:
    small, large = tmp_path / "small.db", tmp_path / "large.db"
    for path, count in ((small, 10), (large, 20_000)):
        with Engine(path, synchronous="normal") as engine:
            engine.run("wf", many, count)

    grown = peak_kilobytes(large) - peak_kilobytes(small)

    assert large.stat().st_size > 24_000_000
    assert grown < 6_000  # kilobytes: a page of rows, and what SQLite keeps of the file


def test_ctrl_c_says_how_much_was_written(filled: Path) -> None:
    with Engine(filled, synchronous="normal") as engine:
        engine.run("long", many, 3000)  # more than a pipe holds, so it stands still until it is read
    process = subprocess.Popen(
        [*PROGRAM, "export", "--db", str(filled)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hear_ctrl_c,  # noqa: PLW1509 - the tests have no threads
    )
    assert process.stdout is not None
    process.stdout.readline(), process.stdout.readline(), process.stdout.read(1)  # it is in its third line

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=patient(20))

    assert process.returncode == 130
    assert said.decode() == "\n[STOP] Ctrl+C: 2 workflows were written; a line after them is incomplete\n"


def test_an_export_cut_off_by_its_reader_prints_no_traceback(filled: Path) -> None:
    with Engine(filled, synchronous="normal") as engine:
        engine.run("long", many, 3000)
    process = subprocess.Popen(
        [*PROGRAM, "export", "--db", str(filled)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.stderr.read() == ""
    assert process.wait(PATIENCE_SECONDS) == 0


def test_ids_come_in_the_order_in_which_workflows_were_made(filled: Path) -> None:
    reader = Reader(filled)

    assert list(reader.list_ids()) == ["order_1", "many"]
    reader.close()
