"""The selections of the test command: what `pytest` runs and what it leaves out for `pytest -m thorough`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import patient

ROOT = Path(__file__).parents[2]


def collect(*options: str) -> set[str]:
    """Return the ids of the tests that a call would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-n", "0", "-p", "no:cacheprovider", *options]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patient(120), check=True)
    return {line for line in found.stdout.splitlines() if "::" in line}


@pytest.mark.thorough
def test_the_ordinary_and_the_thorough_tests_are_all_tests_but_the_soaks() -> None:
    ordinary, rest = collect(), collect("-m", "thorough")
    soaks = collect("-m", "soak")

    assert ordinary
    assert rest
    assert soaks
    assert ordinary.isdisjoint(rest)
    assert soaks.isdisjoint(ordinary | rest)
    assert ordinary | rest | soaks == collect("-m", "soak or not soak")


@pytest.mark.thorough
def test_the_ordinary_tests_include_kills_a_browser_the_notebooks_and_postgresql() -> None:
    files = {test.partition("::")[0] for test in collect()}

    assert {
        "tests/crash/test_crash_everywhere.py",
        "tests/browser/test_click_through.py",
        "tests/lab/test_notebooks.py",
        "tests/dbos/test_takeover.py",
    } <= files


def test_ci_runs_both_selections() -> None:
    commands = (ROOT / ".ci/run").read_text(encoding="utf-8")

    assert "&& pytest " in commands
    assert "\npytest -m thorough " in commands
