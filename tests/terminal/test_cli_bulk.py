"""The commands that act on many workflows at once: list, retry, delete, rewind --failed-only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from durable import Engine
from tests.support.command_line import durable, error_of
from tests.support.patience import patient

SHOP = '''
from pathlib import Path

from durable import Context

HERE = Path(__file__).parent


def charge(number: int) -> int:
    with (HERE / "log").open("a") as log:
        log.write(f"{number}\\n")
    if number % 2 and not (HERE / "repaired").exists():
        raise ValueError(f"no money for {number}")
    return number


def order(ctx: Context, number: int) -> int:
    return ctx.step(charge, number)


def nightly(ctx: Context) -> int:
    """Goes on although some items have failed."""
    futures = [ctx.submit(charge, number) for number in range(4)]
    failed = [future.exception() is not None for future in futures]
    return ctx.step("report", sum, failed)
'''

BEGIN = """
from contextlib import suppress
from durable import Engine
import shop
with Engine("workflow.db") as engine:
    for number in range(4):
        with suppress(ValueError):
            engine.run(f"o_{number}", shop.order, number)
    engine.run("nightly", shop.nightly)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Two orders that are completed, two that have failed, and a batch."""
    folder = tmp_path / "a shop"
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    subprocess.run([sys.executable, "-c", BEGIN], cwd=folder, check=True, timeout=patient(60))
    return folder


def test_failed_workflows_are_listed_and_tried_again(shop: Path) -> None:
    listed = json.loads(durable("list", "--status", "failed", "--json", cwd=shop).stdout)
    assert [each["workflow_id"] for each in listed] == ["o_1", "o_3"]
    listed = json.loads(durable("list", "--function", "nightly", "--since", "1h", "--json", cwd=shop).stdout)
    assert [each["workflow_id"] for each in listed] == ["nightly"]

    again = durable("retry", "--status", "failed", "--since", "1h", "shop.py", cwd=shop, code=1)
    assert again.stderr == ""  # the failures are lines of stdout, and no records of a log
    assert again.stdout.endswith("2 resumed, of them 2 failed; 0 set aside; 0 left\n")
    (shop / "repaired").touch()
    again = durable("retry", "--prefix", "o_", "shop.py", cwd=shop)
    assert again.stdout.endswith("2 resumed, of them 0 failed; 0 set aside; 0 left\n")
    assert durable("retry", "shop.py", cwd=shop).stdout.endswith("0 resumed, of them 0 failed; 0 set aside; 0 left\n")


def test_ended_workflows_are_deleted(shop: Path) -> None:
    assert durable("delete", "--status", "completed", "--older-than", "30d", "--yes", cwd=shop).stdout == (
        "deleted 0 workflows\n"
    )
    refused = durable("delete", "--status", "completed", cwd=shop, code=2)
    assert "delete 3 completed workflows with their steps and children: cannot ask" in refused.stderr
    assert durable("delete", "--status", "completed", "--function", "order", "-y", cwd=shop).stdout == (
        "deleted 2 workflows\n"
    )
    with Engine(shop / "workflow.db") as engine:
        assert [each.workflow_id for each in engine.workflows()] == ["o_1", "o_3", "nightly"]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["delete"], "delete needs the ID of a workflow, or --status completed, failed or cancelled"),
        (["delete", "--status", "running", "-y"], "delete needs the ID of a workflow"),
        (["list", "--since", "soon"], "'soon': expected a number with s, m, h, d or w, as in 30d or 12h"),
        (["retry", "--status", "completed"], "only failed workflows can be tried again"),
        (["rewind", "nightly"], "rewind needs either --to STEP or --failed-only"),
        (["worker", "--retention", "1 year"], "expected a number with s, m, h, d or w"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], advice: str) -> None:
    assert advice in error_of(*words)


def test_only_the_failed_items_of_a_batch_are_tried_again(shop: Path) -> None:
    (shop / "log").unlink()
    (shop / "repaired").touch()

    told = durable("rewind", "nightly", "--failed-only", cwd=shop).stdout
    durable("run", "shop.py:nightly", "nightly", cwd=shop)

    assert told.startswith("rewound nightly to its failed steps: 2 kept, 3 taken back\n")
    assert sorted((shop / "log").read_text().split()) == ["1", "3"]
    with Engine(shop / "workflow.db") as engine:
        assert engine.workflow("nightly").output == "0"
