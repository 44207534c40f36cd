"""Each code block of the README and of `docs/` is executed: here, or by the test of its page."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.pages import ROOT, Block, blocks_of, faults_of, list_pages

TESTS = Path(__file__).parents[1]
# pages whose code needs a kernel, a kill or a server have tests of their own
OWN = {
    "docs/howto/agents.md": "agents/test_page.py",
    "docs/howto/cells.md": "cells/test_page.py",
    "docs/howto/deployment.md": "package/test_deployment.py",
    "docs/howto/values.md": "package/test_values_page.py",
    "docs/explanation/fleet.md": "dbos/test_page.py",
    "docs/howto/moving_to_postgresql.md": "dbos/test_page.py",
}
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in list_pages()}
RUN_HERE = [name for name, text in PAGES.items() if name not in OWN and any(block.runs for block in blocks_of(text))]


# pages of ours with more than a few processes
HEAVY = [
    "batch",
    "changing_code",
    "fastapi_service",
    "from_joblib",
    "from_temporal",
    "reading_the_file",
    "scheduled_work",
    "testing",
]
SLOW = {f"docs/howto/{name}.md" for name in HEAVY}
RUN = [pytest.param(name, marks=pytest.mark.thorough if name in SLOW else ()) for name in RUN_HERE]


@pytest.mark.parametrize("name", RUN)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(name: str, tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None and "$ sqlite3" in PAGES[name]:
        pytest.skip("the sqlite3 shell is not installed")
    folder = tmp_path / "a page"
    folder.mkdir()

    assert list(faults_of(PAGES[name], folder)) == []


def test_each_other_page_has_a_test_that_names_it() -> None:
    for page, test in OWN.items():
        assert (ROOT / page).name in (TESTS / test).read_text(encoding="utf-8")


def test_each_block_that_does_not_run_has_a_reason_and_each_comment_is_one_that_is_known() -> None:
    known = ("file: ", "not run: ", "cut: ", "run on PostgreSQL", "run in the folder of onboarding")
    notes = [(name, block.note) for name, text in PAGES.items() for block in blocks_of(text) if block.note]

    assert [(name, note) for name, note in notes if not note.startswith(known)] == []
    assert [note for _, note in notes if note.removeprefix("not run: ").strip() == ""] == []


def test_the_queries_of_the_pages_are_answered(tmp_path: Path) -> None:
    queries = [block.code for text in PAGES.values() for block in blocks_of(text) if block.language == "sql"]
    database = sqlite3.connect(":memory:")
    database.executescript((ROOT / "durable" / "store" / "schema.sql").read_text(encoding="utf-8"))

    assert queries
    for query in queries:
        database.executescript(query)
    database.close()


def test_the_runner_finds_what_a_page_gets_wrong(tmp_path: Path) -> None:
    python = "```python\nprint(1)\n```\n```\n2\n```\n"
    console = "```console\n$ echo a b\na c\n```\n"

    assert list(faults_of(python, tmp_path)) == [r"'print(1)\n' printed '1\n', not '2\n'"]
    (error,) = faults_of("```python\n1 / 0\n```\n", tmp_path)
    assert error.startswith(r"'1 / 0\n' ended with 1: Traceback")
    assert list(faults_of(console, tmp_path)) == ["'echo a b' printed ['a b'], not ['a c']"]
    assert list(faults_of("```sh\nfalse\n```\n", tmp_path)) == [r"'false\n' ended with 1: "]
    assert list(faults_of(f"<!-- not run: so -->\n{console}<!-- file: a.sh -->\n```sh\nfalse\n```\n", tmp_path)) == []
    assert (tmp_path / "a.sh").read_text() == "false\n"
    assert blocks_of(python) == [Block("python", "print(1)\n", "", "2\n")]
