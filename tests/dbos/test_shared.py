"""`durable list`, `steps`, `send`, `read`, `watch` with `--engine`: what workers share is seen, and nothing is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from durable.on_dbos.recovery.presence import Presence, list_held
from tests.dbos.test_worker_on_postgres import folder, log, submit, waits, worker
from tests.support.command_line import PROGRAM, Running, durable, error_of
from tests.support.processes import eventually

__all__ = ["folder"]

PUBLISHING = """
from durable import Context


def progress(ctx: Context) -> str:
    ctx.publish("percent", 50)
    said: str = ctx.wait_event("approval", type=str)
    ctx.publish("percent", 100)
    return said
"""


def states(url: str, *words: str) -> dict[str, str]:
    return {each["workflow_id"]: each["state"] for each in listed(url, *words)}


def listed(url: str, *words: str) -> list[dict[str, Any]]:
    document: list[dict[str, Any]] = json.loads(durable("list", "--json", "--engine", url, *words).stdout)
    return document


def to_be_typed(said: str, url: str) -> list[str]:
    """The words after `durable` of the command that is advised; only the way to the test's own server is the test's."""
    command = shlex.split(said.strip().splitlines()[-1].partition(": python -m durable ")[2])
    place = command.index("--engine") + 1
    assert command[place].partition("?")[0] == url.partition("?")[0]
    return [*command[:place], url, *command[place + 1 :]]


# ---- one that waits


def test_a_workflow_that_waits_is_listed_shown_and_sent_what_it_waits_for(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:approval", "a1")
    with worker(postgres_url) as running:
        eventually(lambda: waits(postgres_url, "a1"))
        table = durable("list", "--engine", postgres_url).stdout
        steps = durable("steps", "a1", "--engine", postgres_url).stdout
        (first, second) = json.loads(durable("steps", "a1", "--json", "--engine", postgres_url).stdout)
        other = durable("send", "a1", "aproval", "1", "--engine", postgres_url)
        sent = durable("send", "a1", "approval", '"yes"', "--engine", postgres_url)
        running.read_until("workflow a1 completed")
        pid = running.process.pid

    assert re.search(r"^ a1 +running +[-\d]+ [:\d]+ +flows:approval +for 'approval'", table, re.MULTILINE)
    assert re.search(r"^ approval_2 +event +waiting +1 +for 'approval'", steps, re.MULTILINE)
    assert re.search(rf"^workflow a1: running on worker durable-worker:[^:]+:{pid}:\w+:default$", steps, re.MULTILINE)
    assert (first["step_key"], first["status"], first["output"]) == ("say_1", "completed", "BEFORE")
    assert (second["waits_for"]["event"], second["zombie"]) == ("approval", False)
    assert other.stderr == "note: a1 does not wait for 'aproval' now; did you mean 'approval'?\n"
    assert sent.stdout == "sent 'approval' to a1\n"
    assert re.search(r"^ a1 +completed .* \"yes\"", durable("list", "--engine", postgres_url).stdout, re.MULTILINE)
    assert "is completed and receives nothing" in error_of("send", "a1", "approval", "1", "--engine", postgres_url)


@pytest.mark.thorough
def test_what_it_publishes_is_read_and_watched(folder: Path, postgres_url: str) -> None:
    (folder / "flows.py").write_text(PUBLISHING)
    submit(postgres_url, "flows.py:progress", "p1")
    with worker(postgres_url) as running, Running("watch", "p1", "--engine", postgres_url) as watching:
        watching.read_until("percent: 50")
        half = durable("read", "p1", "percent", "--engine", postgres_url).stdout
        with Running("watch", "p1", "--engine", postgres_url) as other:
            other.read_until("percent: 50")
            other.interrupt()
            again = to_be_typed(other.end(130), postgres_url)
        durable("send", "p1", "approval", '"yes"', "--engine", postgres_url)
        rest = watching.end(0)
        running.read_until("workflow p1 completed")

    assert half == "50\n"
    assert rest.endswith("percent: 100\nworkflow p1 completed\n")
    assert again == ["watch", "--engine", postgres_url, "p1"]
    assert "did you mean 'percent'?" in error_of("read", "p1", "percen", "--engine", postgres_url)


# ---- how it stands, and how it goes on


@pytest.mark.thorough
def test_running_is_said_of_a_living_worker_alone(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:gate", "g1", "--queue", "slow")
    queued = states(postgres_url)
    said = durable("steps", "g1", "--engine", postgres_url).stdout
    with worker(postgres_url, "--queue", "slow") as running:
        eventually(lambda: log(folder) == ["before", "at the gate"])
        meanwhile = listed(postgres_url)
        running.process.kill()
        running.process.wait()
        eventually(lambda: states(postgres_url) == {"g1": "crashed"})

    assert queued == {"g1": "queued"}
    assert "workflow g1: queued\nA worker of its queue starts or continues it: " in said
    assert to_be_typed(said, postgres_url) == ["worker", "--engine", postgres_url, "--queue", "slow"]
    assert (meanwhile[0]["state"], meanwhile[0]["owner"].split(":")[2]) == ("running", str(running.process.pid))
    crashed = durable("steps", "g1", "--engine", postgres_url).stdout
    assert to_be_typed(crashed, postgres_url) == ["worker", "--engine", postgres_url, "--queue", "slow"]
    assert listed(postgres_url)[0]["owner"] is None
    assert log(folder) == ["before", "at the gate"]  # who looks runs nothing


def test_what_has_failed_says_how_it_is_tried_again(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:shop_is_open", "s1")
    submit(postgres_url, "flows.py:errand", "e1", "--input", '{"what": ["a b"]}')
    with worker(postgres_url) as running:
        running.read_until("workflow s1 failed")
        eventually(lambda: states(postgres_url, "--status", "completed") == {"e1": "completed"})
        said = durable("steps", "s1", "--engine", postgres_url).stdout
        (folder / "open").touch()
        again = durable(*to_be_typed(said, postgres_url)).stdout
        running.read_until("workflow s1 completed")

    assert "enter_2   failed" in said
    assert "ConnectionError: closed" in said
    assert "workflow s1: failed\nTo go on: " in said
    assert "submitted to the queue 'default' again" in again
    assert durable("list", "--status", "failed", "--engine", postgres_url).stdout == "no workflows that are failed\n"


def test_one_that_was_set_aside_is_tried_again_with_its_arguments(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:errand", "e1", "--input", '{"what": ["a b"]}')
    with psycopg.connect(postgres_url) as connection:  # as a take-over leaves it, see test_takeover.py
        connection.execute(
            "update dbos.workflow_status set status = 'PENDING', attributes = '{\"durable.set_aside\": true}'"
        )
    said = durable("steps", "e1", "--engine", postgres_url).stdout

    assert "workflow e1: set aside\nTo go on: " in said
    assert "was set aside; submitted to the queue" in durable(*to_be_typed(said, postgres_url)).stdout
    assert states(postgres_url) == {"e1": "queued"}


def test_listing_the_locks_takes_none(postgres_url: str) -> None:
    names = [f"name {number}" for number in range(8)]  # their hashes are of either sign
    held = [Presence(postgres_url, name) for name in names[::2]]
    for each in held:
        each.keep()

    assert sorted(list_held(postgres_url, names)) == names[::2]
    for each in held:
        each.close()


# ---- wrong use


def test_what_cannot_be_looked_at_is_wrong_use(folder: Path, postgres_url: str) -> None:
    nowhere = "postgresql://me:secret@127.0.0.1:1/flows"
    commands = (["list"], ["steps", "e1"], ["send", "e1", "news"], ["read", "e1", "news"], ["watch", "e1"])

    for words in commands:
        unused, lost = error_of(*words, "--engine", postgres_url), error_of(*words, "--engine", nowhere)
        assert unused.endswith(" yet; the first `durable submit` makes its tables\n")
        assert "database postgresql://me:***@127.0.0.1:1/flows does not answer: " in lost
        assert "secret" not in lost
        assert (unused.count("\n"), lost.count("\n")) == (1, 1)
    assert "expected postgresql://user@host/database" in error_of("list", "--engine", "workflow.db")
    submit(postgres_url, "flows.py:errand", "errand_17")
    for words in (["steps", "erand_17"], ["send", "erand_17", "news"]):
        assert "error: no workflow 'erand_17' in " in error_of(*words, "--engine", postgres_url)
    assert "did you mean 'errand_17'?" in error_of("steps", "erand_17", "--engine", postgres_url)
    assert "expected running, completed" in error_of("list", "--status", "runing", "--engine", postgres_url)


def test_a_file_named_by_db_is_looked_at_whatever_else_is_said(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:errand", "shared")
    durable("run", "flows.py:errand", "mine")
    environment = os.environ | {"DURABLE_ENGINE": postgres_url}

    def list_in(*words: str) -> str:
        done = subprocess.run([*PROGRAM, "list", *words], capture_output=True, text=True, check=True, env=environment)
        return done.stdout

    assert " shared " in list_in()
    for words in (["--db", "workflow.db"], ["--db", "workflow.db", "--engine", postgres_url]):
        assert " mine " in list_in(*words)
        assert " shared " not in list_in(*words)


def test_a_command_that_is_advised_names_the_file_where_the_environment_means_another(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("DURABLE_ENGINE", "postgresql://me@host/flows")
    with Running("run", "flows.py:approval", "a1") as running:
        said = running.read_until("To send it: python -m durable send --db workflow.db a1 approval JSON")
        durable("send", "--db", "workflow.db", "a1", "approval", '"yes"')
        running.end(0)

    assert "approval_2" in said
