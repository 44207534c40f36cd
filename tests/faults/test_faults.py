"""Faults: a full disk, a disk that reports errors, in the middle of a run. The run ends, and can be resumed later.

A small library, compiled here and loaded before the C library, lets the nth call on the database file (and on the log,
the index and the locks beside it) fail; n goes through all calls of a run.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import patient
from tests.support.selection import first_alone, thorough

HERE = Path(__file__).parent
WRITING, FLUSHING, READING = 1, 2, 4
BEFORE = {"create": set[str](), "left": {"create"}, "right": {"create"}, "send": {"left", "right"}}

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None,
    reason="making a disk fail on purpose takes Linux and a C compiler (cc)",
)


@pytest.fixture(scope="module")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("disk") / "failing_disk.so"
    source = HERE / "failing_disk.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def run_on(failing_disk: Path, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run the driver; what it says of each run."""

    def run(kinds: int, error_number: int, lasting: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "tests.faults.driver", str(tmp_path), str(kinds), str(error_number), lasting]
        environment = os.environ | {"LD_PRELOAD": str(failing_disk)}
        driver = subprocess.run(
            command,
            cwd=HERE.parent.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )
        assert driver.returncode == 0, driver.stdout[-500:] + driver.stderr
        return [json.loads(line) for line in driver.stdout.splitlines()]

    return run


@pytest.mark.parametrize(
    ("kinds", "error_number", "lasting", "remedy"),
    first_alone(
        [
            (WRITING, errno.ENOSPC, "lasting", "make room on the disk"),
            (WRITING, errno.ENOSPC, "once", "make room on the disk"),
            (WRITING, errno.EIO, "once", "disk reported an error"),
            (FLUSHING, errno.EIO, "once", "disk reported an error"),
            (WRITING | FLUSHING, errno.EIO, "lasting", "disk reported an error"),
            (READING, errno.EIO, "once", "disk reported an error"),
        ]
    ),
    ids=["full for good", "full once", "a write error", "a flush error", "a dead disk", "a read error"],
)
def test_a_failing_disk_ends_the_run_clearly_and_it_can_be_resumed(
    run_on: Callable[..., list[dict[str, Any]]], kinds: int, error_number: int, lasting: str, remedy: str
) -> None:
    runs = run_on(kinds, error_number, lasting)

    assert not runs[-1]["was_hit"]
    assert runs[-1]["error"] is None
    failed = [run for run in runs if run["error"] is not None]
    assert len(failed) >= min(3, len(runs) - 1)  # else the disk did not fail where it matters
    assert any(remedy in run["message"] for run in failed)
    for run in runs:
        judge(run)


@pytest.mark.parametrize("stride", [8000, thorough(499)])
def test_a_disk_that_becomes_full_while_a_large_value_is_saved_ends_the_run_clearly(
    failing_disk: Path, tmp_path: Path, stride: int
) -> None:
    driver = subprocess.run(
        [sys.executable, "-m", "tests.faults.large_values", str(tmp_path), str(stride)],
        cwd=HERE.parent.parent,
        env=os.environ | {"LD_PRELOAD": str(failing_disk)},
        capture_output=True,
        text=True,
        timeout=patient(300),
        check=False,
    )
    assert driver.returncode == 0, driver.stdout[-500:] + driver.stderr
    *hit, last = [json.loads(line) for line in driver.stdout.splitlines()]

    failed = [run for run in hit if not run["is_saved"]]  # the last writes of all copy what is saved already
    assert len(failed) > 1
    for run in failed:
        assert run["error"] == "StoreError", run
        assert "; " in run["message"], run
    assert any("make room on the disk and run the workflow again" in run["message"] for run in failed)
    assert last["error"] is None
    for run in [*hit, last]:
        assert run["is_right"], run
        assert run["faults"] == [], run
        assert run["values"] == 2, run


def judge(run: dict[str, Any]) -> None:
    """Hold one run against what the engine promises."""
    if run["error"] is not None:
        assert run["error"] in ("StoreError", "CorruptionError"), run
        assert run["path"].endswith("workflow.db"), run
        assert "; " in run["message"], run
        assert "locked" not in run["message"], run
    completed, effects = set(run["completed"]), Counter(run["effects"])
    for effect in effects:  # nothing was begun before what it rests on had been saved
        assert completed >= BEFORE[effect], run
    again = Counter(run["effects_in_the_end"]) - effects
    assert not set(again) & completed, run  # what had been saved is not done again
    assert set(effects | again) == set(BEFORE), run
    assert max((effects + again).values()) <= 2, run
    assert run["result"] == "Jane left Jane right", run
    assert run["lives"][-1] == "completed", run
    assert run["integrity"] == "ok", run


GOOD: dict[str, Any] = {
    "error": "StoreError",
    "path": "workflow.db",
    "message": "disk full; make room",
    "completed": ["create", "left"],
    "effects": ["create", "left", "right"],
    "effects_in_the_end": ["create", "left", "right", "right", "send"],
    "result": "Jane left Jane right",
    "lives": ["interrupted", "stopped", "completed"],
    "integrity": "ok",
}


def test_the_judge_accepts_a_good_run() -> None:
    judge(GOOD)


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": "OSError"},
        {"path": "None"},
        {"message": "database is locked; wait"},
        {"effects": ["create", "left", "right", "send"], "effects_in_the_end": ["create", "left", "right", "send"]},
        {"effects_in_the_end": ["create", "left", "right", "left", "right", "send"]},
        {"effects_in_the_end": ["create", "left", "right", "right"]},
        {"result": "Jane left"},
        {"lives": ["interrupted", "stopped"]},
        {"integrity": "wrong # of entries in index"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_judge_rejects_a_run_that_breaks_a_promise(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        judge(GOOD | wrong)
