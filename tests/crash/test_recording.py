"""Moments, rows and attempts of many workflows are those that the engine wrote before its core was rebuilt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import patient

ROOT = Path(__file__).parents[2]


@pytest.mark.thorough
def test_every_life_and_every_crash_leaves_what_is_recorded() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.recording"],  # it forks, so it has a process without threads
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(600),
    )

    assert done.stdout == "all 32 lives and 538 crashes are alike\n", done.stdout + done.stderr
