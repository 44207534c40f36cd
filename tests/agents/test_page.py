"""docs/agents.md is executed: its agent is killed by SIGKILL and resumed, and all prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.command_line import COMMAND_SECONDS

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
(AGENT, _), (HOST, OUTPUT) = re.findall(r"^```python\n(.*?)^```(?:\n```\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)
(CONSOLE,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KILLED = 137  # as a shell has it


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path, "COLUMNS": "100"},
        capture_output=True, text=True, check=False, timeout=2 * COMMAND_SECONDS,
    )  # fmt: skip


def lines_of(text: str) -> list[str]:
    """The lines, without the numbers in keys, which depend on how many tasks a version of pydantic-ai creates."""
    return [re.sub(r"_\d+", "_N", line.rstrip()) for line in text.splitlines() if line.strip()]


def test_the_agent_of_the_page_is_killed_and_resumed_and_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT, encoding="utf-8")
    for place, part in enumerate(CONSOLE.split("$ ")[1:]):
        command, _, expected = part.partition("\n")
        done = run(["sh", "-c", command], tmp_path)

        seen = lines_of(done.stdout + done.stderr)
        assert seen[: len(lines_of(expected))] == lines_of(expected)
        assert done.returncode == (KILLED if place == 0 else 0)


def test_the_other_framework_of_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "crawl.py").write_text(HOST, encoding="utf-8")

    done = run([sys.executable, "crawl.py"], tmp_path)

    assert (done.stderr, done.stdout) == ("", OUTPUT)
