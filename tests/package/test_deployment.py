"""docs/howto/deployment.md is executed: its commands, and the worker of its unit file, which ends by SIGTERM."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from durable import Engine
from tests.support.patience import patient
from tests.support.processes import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "deployment.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "the shop"
    folder.mkdir()
    (folder / "shop.py").write_text(blocks("python")[0], encoding="utf-8")
    return folder


def environment() -> dict[str, str]:
    return os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def unit_command() -> list[str]:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(blocks("ini")[0])
    return shlex.split(unit["Service"]["ExecStart"])


@pytest.mark.thorough
def test_the_commands_of_the_page_run_in_their_order(shop: Path) -> None:
    done = subprocess.run(
        ["sh", "-e", "-c", "".join(blocks("sh"))],
        cwd=shop,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(120),
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("[DONE] charge") == 3  # the second run of the day has run nothing
    with Engine(shop / "workflow.db") as engine:
        assert [each.status for each in engine.workflows(prefix="nightly-")] == ["completed"]


def test_the_worker_of_the_unit_file_resumes_what_was_left_and_ends_by_sigterm(shop: Path) -> None:
    crash = environment() | {"DURABLE_CRASH_AT": "charge:started"}
    subprocess.run(
        ["durable", "run", "shop.py:order", "order_1"], cwd=shop, env=crash, check=False, capture_output=True
    )
    with subprocess.Popen(
        unit_command(), cwd=shop, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as worker:
        try:
            with Engine(shop / "workflow.db") as engine:
                eventually(lambda: engine.workflow("order_1").status == "completed")
            worker.send_signal(signal.SIGTERM)
            said, _ = worker.communicate(timeout=patient(30))
        finally:
            worker.kill()

    assert worker.returncode == 143
    assert "up to 8 workflows at once" in said


def test_the_containers_start_a_worker_with_options_that_it_has(shop: Path) -> None:
    help_ = subprocess.run(
        ["durable", "worker", "--help"], env=environment(), capture_output=True, text=True, check=True
    ).stdout
    (command,) = re.findall(r"^CMD (\[.*\])$", blocks("dockerfile")[0], re.MULTILINE)
    deployment = yaml.safe_load(blocks("yaml")[0])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    for words in (json.loads(command), container["command"], unit_command()):
        assert words[:3] == ["durable", "worker", "shop.py"]
        assert all(word in help_ for word in words if word.startswith("--"))
    assert [each["name"] for each in container["env"]] == ["DURABLE_ENGINE"]
    assert "DURABLE_ENGINE" in help_
