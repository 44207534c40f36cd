"""Types: mypy and pyright see what the public names promise, and refuse what typed_contract.py marks as wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.selection import first_alone

ROOT = Path(__file__).parents[2]
CONTRACT = Path(__file__).with_name("typed_contract.py")
WRONG = "# wrong"


def disagreements(source: str, errors: dict[int, str]) -> list[str]:
    """Where a checker's errors, by line, are not those that the source marks."""
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        is_wrong = line.endswith(WRONG)
        if is_wrong and number not in errors:
            found.append(f"{number} is accepted: {line.strip()}")
        elif not is_wrong and number in errors:
            found.append(f"{number} is refused: {line.strip()}: {errors[number]}")
    return found


def run_mypy(path: Path) -> dict[int, str]:
    """The first error of each line."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(path)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout + checked.stderr
    lines = re.findall(rf"^.*{re.escape(path.name)}:(\d+): error: (.*)$", checked.stdout, re.MULTILINE)
    assert checked.stdout.count(": error: ") == len(lines), checked.stdout  # all of them are in this file
    return {int(number): message for number, message in reversed(lines)}


def run_pyright(path: Path) -> dict[int, str]:
    """The first error of each line. The package fetches its own program with npm when it is first run."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", str(path)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.stdout.startswith("{"), f"pyright did not start: {checked.stdout}{checked.stderr}"
    said = json.loads(checked.stdout)
    assert said["summary"]["filesAnalyzed"] == 1, said
    errors = [error for error in said["generalDiagnostics"] if error["severity"] == "error"]
    return {error["range"]["start"]["line"] + 1: error["message"] for error in reversed(errors)}


@pytest.mark.parametrize("run_checker", first_alone([run_mypy, run_pyright]))
def test_the_typed_contract_holds(run_checker: object) -> None:
    assert callable(run_checker)

    found = disagreements(CONTRACT.read_text(encoding="utf-8"), run_checker(CONTRACT))

    assert found == []


def test_the_contract_says_both_what_is_right_and_what_is_wrong() -> None:
    source = CONTRACT.read_text(encoding="utf-8")

    assert source.count("assert_type(") > 50
    assert source.count(f"{WRONG}\n") > 50


def test_a_disagreement_is_found_on_either_side() -> None:
    source = f"good()\nbad()  {WRONG}\nworse()  {WRONG}\n"

    assert disagreements(source, {2: "no", 3: "no"}) == []
    assert disagreements(source, {1: "no", 3: "no"}) == ["1 is refused: good(): no", "2 is accepted: bad()  # wrong"]
