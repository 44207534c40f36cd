"""The reference of the site names everything that is public: each name, each command with its options, each column."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import sys
from pathlib import Path
from types import ModuleType

import pytest

import durable
from tests.support.command_line import durable as run

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """docs/made.py, which is not in a package."""
    spec = importlib.util.spec_from_file_location("made", DOCS / "made.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_public_name_has_an_entry(made: ModuleType) -> None:
    pages = "\n".join(text for _, text in made.list_name_pages())
    expected = {f"durable.{name}" for name in durable.__all__ if name not in vars(durable.errors)}
    for module in made.MODULES:
        names = getattr(sys.modules[f"durable.{module}"], "__all__", ())
        expected |= {f"durable.{module}.{name}" for name in names}

    entries = set(re.findall(r":: ([\w.]+)$", pages, re.MULTILINE))
    links = {name for name in expected - entries if f"`{name.rpartition('.')[2]}` is {{py:obj}}" in pages}
    assert expected - entries - links == set()
    assert {f"durable.errors.{name}" for name in vars(durable.errors) if name.endswith("Error")} <= entries


def test_every_public_module_has_a_page_and_a_place_in_the_index(made: ModuleType) -> None:
    index = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    pages = [name for name, _ in made.list_name_pages()]

    assert sorted(re.findall(r"^made/(\w+)$", index, re.MULTILINE)) == sorted([*pages, "commands", "tables"])


def test_each_command_and_each_option_has_a_line(made: ModuleType) -> None:
    page = made.commands_page()
    commands = re.findall(r"^  (\w+) {2,}", run("--help").stdout.partition("Commands:")[2], re.MULTILINE)

    assert len(commands) > 20
    assert [name for name in commands if f"## durable {name}\n" not in page] == []
    assert "--crash-at STEP[:MOMENT]" in page.partition("## durable run")[2].partition("## durable")[0]


def test_each_table_and_each_column_has_a_line(made: ModuleType) -> None:
    page = made.tables_page()
    database = sqlite3.connect(":memory:")
    database.executescript(made.SCHEMA.read_text(encoding="utf-8"))
    tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]

    assert len(tables) > 8
    for table in tables:
        part = page.partition(f"## {table}\n")[2].partition("\n## ")[0]
        columns = [column for _, column, *_ in database.execute(f"pragma table_info({table})")]
        assert [column for column in columns if f"| `{column}` |" not in part] == []
    database.close()
