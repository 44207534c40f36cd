"""docs/howto/agents.md is executed: its agent is killed by SIGKILL and resumed, and all prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.command_line import in_shell

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "agents.md").read_text(encoding="utf-8")
(AGENT, _), (HOST, OUTPUT) = re.findall(r"^```python\n(.*?)^```(?:\n```\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)
(CONSOLE,) = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KILLED = 137  # as a shell has it


def lines_of(text: str) -> list[str]:
    """The lines, without the numbers in keys, which depend on how many tasks a version of pydantic-ai creates."""
    return [re.sub(r"_\d+", "_N", line.rstrip()) for line in text.splitlines() if line.strip()]


def test_the_agent_of_the_page_is_killed_and_resumed_and_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT, encoding="utf-8")
    for place, part in enumerate(CONSOLE.split("$ ")[1:]):
        command, _, expected = part.partition("\n")
        done = in_shell(command, tmp_path, columns=100)

        seen = lines_of(done.stdout + done.stderr)
        assert seen[: len(lines_of(expected))] == lines_of(expected)
        assert done.returncode == (KILLED if place == 0 else 0)


def test_the_other_framework_of_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "crawl.py").write_text(HOST, encoding="utf-8")

    done = in_shell("python crawl.py", tmp_path)

    assert (done.stderr, done.stdout) == ("", OUTPUT)
