"""What the commands share: JSON that controls no terminal, URLs without passwords, streams that are closed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from durable import Context, Engine
from durable.errors import StoreError
from durable.terminal.output.usage import to_json
from tests.support.command_line import durable, error_of


def greet(_: Context, name: str) -> str:
    return f"hello {name}"


@pytest.fixture
def database(tmp_path: Path) -> str:
    with Engine(tmp_path / "workflow.db", synchronous="off") as engine:
        for number in range(103):
            engine.run(f"emp_{number:03}", greet, "\u202eJane" if number == 7 else "Jane")
    return str(tmp_path / "workflow.db")


def test_json_escapes_what_would_control_a_terminal_and_nothing_else() -> None:
    value = {"name": "\u202eJane \x9b31m", "place": "Zürich 東京", "key": "\U000e0001"}

    text = to_json(value, indent=2)

    assert json.loads(text) == value
    assert "\\u202eJane \\u009b31m" in text
    assert "Zürich 東京" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_the_json_of_a_command_controls_no_terminal(database: str) -> None:
    assert "\u202e" not in durable("list", "--db", database, "--json").stdout


def test_people_see_the_latest_hundred_and_programs_all(database: str) -> None:
    shown = durable("list", "--db", database).stdout
    assert "emp_002" not in shown
    assert "emp_003" in shown
    assert shown.rstrip().endswith("100 workflows; --offset 100 shows older ones, --limit 0 all")
    older = durable("list", "--db", database, "--offset", "100").stdout
    assert "emp_002" in older
    assert "emp_003" not in older
    assert "emp_000" in durable("list", "--db", database, "--limit", "0").stdout
    assert [each["workflow_id"] for each in json.loads(durable("list", "--db", database, "--json").stdout)] == [
        f"emp_{number:03}" for number in range(103)
    ]
    assert len(json.loads(durable("list", "--db", database, "--json", "--limit", "2").stdout)) == 2


def test_a_url_that_is_taken_for_a_file_is_refused_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://me:secret@localhost/flows"

    for words in (["run", "onboarding", "e1", "--db", url], ["list", "--db", url], ["steps", "e1", "--db", url]):
        said = error_of(*words)
        assert "secret" not in said
        assert "--engine" in said
    with pytest.raises(StoreError, match=r"postgresql://\.\.\.: expected the path of a file") as raised:
        Engine(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@h", "postgresql://h/db?user=me&password=secret", "x?PASSWORD=secret"]
)
def test_a_password_is_hidden_wherever_it_stands(url: str) -> None:
    from durable.on_dbos.store.connection import hide_password

    hidden = hide_password(url)

    assert "secret" not in hidden
    assert "***" in hidden


def test_a_command_runs_with_its_output_closed(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m durable run onboarding e1 >&- 2>&-'

    ended = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=False, timeout=60)

    assert ended.returncode == 0
    with Engine(tmp_path / "workflow.db") as engine:
        assert engine.workflow("e1").status == "completed"


def test_only_the_latest_ids_are_searched_for_the_one_that_was_meant(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable.errors import WorkflowNotFoundError
    from durable.store import reader

    with Engine(database) as engine:
        with pytest.raises(WorkflowNotFoundError, match="did you mean 'emp_001'"):
            engine.workflow("emp_001x")
        monkeypatch.setattr(reader, "MANY", 2)
        with pytest.raises(WorkflowNotFoundError, match="did you mean 'emp_10"):
            engine.workflow("emp_001x")
