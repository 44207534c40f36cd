"""docs/howto/values.md is executed: its pipeline is killed and resumed, and all prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.command_line import in_shell

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "values.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```(?:\n```\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KILLED = 137  # as a shell has it


def lines_of(text: str) -> list[str]:
    """The lines that hold anything, without what depends on versions: sizes, and where a line is cut."""
    plain = re.sub(r"[\d,]+ bytes(: .*…)?", "N bytes", text).replace("datetime64[ns", "datetime64[us")
    return [re.sub(r" +", " ", line).strip() for line in plain.splitlines() if line.strip()]


@pytest.mark.thorough
def test_the_pipeline_of_the_page_is_killed_and_resumed_and_prints_what_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    folder = tmp_path / "the lamps"
    folder.mkdir()
    (folder / "pipeline.py").write_text(BLOCKS[0][0], encoding="utf-8")
    for place, (command, expected) in enumerate(COMMANDS):
        done = in_shell(command, folder)
        seen = [line for line in lines_of(done.stdout) if command != "durable doctor" or line in lines_of(expected)]

        assert seen == lines_of(expected), done.stderr
        assert done.returncode == (KILLED if place == 0 else 0)
    for place, (code, expected) in enumerate(BLOCKS[1:]):
        (folder / f"block_{place}.py").write_text(code, encoding="utf-8")
        done = in_shell(f"python block_{place}.py", folder)

        assert (done.stderr, done.stdout) == ("", expected)


def test_the_page_has_what_the_test_runs() -> None:
    assert [command for command, _ in COMMANDS] == [
        "DURABLE_CRASH_AT=fit:executed durable run pipeline.py:pipeline lamps",
        "durable run pipeline.py:pipeline lamps",
        "durable steps lamps",
        "durable steps lamps --value load_1",
        "durable doctor",
        "durable gc",
    ]
    assert [bool(output) for _, output in BLOCKS] == [False, True, True, True]
