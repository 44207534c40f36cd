"""The README: its first screen, its commands, and the files that it and the other pages name."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from tests.support.pages import blocks_of, list_pages, shell

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [block.code for block in blocks_of(README) if block.language == language]


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


def test_ci_runs_the_command_that_contributors_run() -> None:
    command = 'python -m pip install -e ".[test]" && pytest'
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")

    assert command in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert command in ci.replace("pip install --quiet", "pip install")


def test_the_readme_is_short_and_each_promise_of_it_is_a_row_of_the_full_table() -> None:
    full = (ROOT / "docs" / "explanation" / "guarantees.md").read_text(encoding="utf-8")
    tests = re.findall(r"^\| .* \| `(tests/[\w/.]+)` \|$", README, re.MULTILINE)

    assert len(README.splitlines()) <= 150
    assert len(tests) == 10
    assert [test for test in tests if test not in full and Path(test).parent.as_posix() not in full] == []


def test_every_file_that_a_page_names_exists() -> None:
    missing = []
    for page in list_pages():
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"`((?:tests|durable|notebooks|docs)/[\w./]+)`", text))
        if page.name == "reading.md":
            named |= {
                f"durable/{name}" for name in re.findall(r"`([\w/]+(?:\.py|\.sql|/))`", text) if name != "durable/"
            }
            named = {name.removeprefix("durable/") if name.startswith("durable/durable/") else name for name in named}
        missing += [(page.name, name) for name in sorted(named) if not (ROOT / name).exists()]
        links = set(re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", text))
        made = ("made/", "../reference/made/", "course/")
        missing += [
            (page.name, link)
            for link in sorted(links)
            if not link.startswith(made) and not (page.parent / link).exists()
        ]

    assert missing == []
