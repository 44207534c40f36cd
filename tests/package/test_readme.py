"""The README is executed: its Python, its transcripts, its commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import patient

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def shell(command: str, folder: Path) -> list[str]:
    """What a command prints, as a user of this environment would see it, line by line."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "COLUMNS": "80"}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(60),
    )
    return (done.stdout + done.stderr).splitlines()


def transcripts(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that are said to follow it."""
    first, *parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    assert not first.strip()
    return [(command, lines) for command, *lines in (part.splitlines() for part in parts)]


def test_the_workflow_of_the_first_screen_runs_as_it_stands(tmp_path: Path):
    script = tmp_path / "workflow.py"
    script.write_text(blocks("python")[0] + "    print(engine.workflow('emp_001').output)\n", encoding="utf-8")

    assert shell(f"{shlex.quote(sys.executable)} workflow.py", tmp_path) == [
        '{"id":"emp_001","name":"Jane Doe","laptop":"MacBook Pro","email":"emp_001@company.com"}'
    ]


def test_the_workflow_of_the_first_screen_has_the_steps_of_the_example():
    lines = blocks("python")[0].partition("def onboarding")[2].splitlines()
    keys = re.findall(r"ctx\.(?:step|submit)\((\w+)", "\n".join(lines))

    assert keys == ["create_record", "provision_laptop", "setup_access", "send_welcome_email"]


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_the_transcripts_are_what_the_commands_print(tmp_path: Path):
    told = [pair for block in blocks("console") for pair in transcripts(block)]

    # parallel steps print in the order in which they come, so lines are compared without it
    printed = [(command, sorted(shell(command, tmp_path))) for command, _ in told]

    assert printed == [(command, sorted(lines)) for command, lines in told]


def test_ci_runs_the_very_command_that_the_readme_gives_for_the_tests():
    test_command = blocks("sh")[1].strip()

    assert test_command == 'python -m pip install -e ".[test]" && pytest'
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert test_command in ci.replace("pip install --quiet", "pip install")


def test_every_file_that_the_readme_names_exists():
    named = set(re.findall(r"`((?:tests|durable|notebooks|docs)/[\w./]+)`", README))
    reading_list = README.partition("## Where to read")[2]
    named |= {f"durable/{name}" for name in re.findall(r"`(\w+\.(?:py|sql)|lab/)`", reading_list)}
    named |= set(re.findall(r"\]\(([^):]+)\)", README))

    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
