"""docs/howto/extending.md is executed, and shows the operation that tests/crash/test_crash_outside.py kills."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from tests.operations import test_outside
from tests.support.patience import patient

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
OUTPUTS = re.findall(r"^```\n```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs_and_prints_what_the_page_says(tmp_path: Path):
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(BLOCKS), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=patient(60)
    )

    assert (done.stderr, done.stdout) == ("", "".join(OUTPUTS))


def test_the_page_shows_the_operations_that_the_tests_kill():
    for operation in (test_outside.memo, test_outside.fetch):
        assert inspect.getsource(operation) in "\n\n".join(BLOCKS)
