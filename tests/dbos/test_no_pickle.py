"""What a row holds as pickle is never read: neither by who lists workflows of DBOS, nor by who runs them."""

from __future__ import annotations

import base64
import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dbos import DBOS
from dbos._serialization import DBOSDefaultSerializer, deserialize_value

from durable import Context
from durable.on_dbos import DBOSEngine, submit
from durable.on_dbos.store.messages import TOPIC
from durable.on_dbos.workers import queue
from tests.support import workflows
from tests.support.processes import eventually
from tests.terminal.test_cli import durable


class Planted:
    """Makes a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


PLACES = {
    "input": """
        with gone as (update dbos.workflow_input set inputs = %(pickle)s)
        update dbos.workflow_status set inputs = %(pickle)s, serialization = 'py_pickle'""",
    "output": """
        with gone as (update dbos.workflow_output set output = %(pickle)s)
        update dbos.workflow_status set output = %(pickle)s, serialization = 'py_pickle'""",
    "error": """
        with gone as (update dbos.workflow_output set output = null, error = %(pickle)s)
        update dbos.workflow_status set status = 'ERROR', output = null, error = %(pickle)s,
        serialization = 'py_pickle'""",
    "step": "update dbos.operation_outputs set output = %(pickle)s, serialization = 'py_pickle'",
}


def letter(ctx: Context) -> str:
    """Waits for a message."""
    return ctx.wait_event("news", type=str)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the effects are logged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def plant(url: str, place: str, path: Path) -> None:
    """What somebody who may write rows can do."""
    text = base64.b64encode(pickle.dumps(Planted(path))).decode()
    with psycopg.connect(url) as connection:
        connection.execute(PLACES[place], {"pickle": text})


@pytest.mark.parametrize("place", PLACES)
def test_a_pickle_in_a_row_is_read_neither_by_commands_nor_by_an_engine(
    postgres_url: str, tmp_path: Path, place: str
) -> None:
    called = tmp_path / "called"
    with DBOSEngine(postgres_url) as engine:
        engine.run("wf", workflows.errand, "a")
    plant(postgres_url, place, called)
    listed = json.loads(durable("list", "--json", "--engine", postgres_url).stdout)
    table = durable("list", "--engine", postgres_url).stdout
    durable("steps", "wf", "--engine", postgres_url)
    with DBOSEngine(postgres_url) as engine:
        engine.workflows()
        engine.steps("wf")
        with suppress(Exception):  # whatever it is called: what it said is not there any more
            engine.run("wf", workflows.errand, "a")

    assert not called.exists()
    assert [each["workflow_id"] for each in listed] == ["wf"]
    assert ("(not readable)" in table) == (place != "step")  # a workflow's row is refused as a whole


def test_a_pickle_in_a_queue_is_not_read_by_its_worker(postgres_url: str, tmp_path: Path) -> None:
    called = tmp_path / "called"
    with DBOSEngine(postgres_url, queues=["default"]) as engine:
        submit(postgres_url, "wf", workflows.errand)
        plant(postgres_url, "input", called)
        DBOS.register_queue("default")
        eventually(lambda: engine.workflow("wf").status == "failed")
        submit(postgres_url, "other", workflows.errand)
        eventually(lambda: engine.workflow("other").status == "completed")

    assert not called.exists()


def test_a_pickle_in_a_message_is_not_read_by_who_receives_it(postgres_url: str, tmp_path: Path) -> None:
    called = tmp_path / "called"
    with DBOSEngine(postgres_url) as engine:
        handle = engine.start("wf", letter)
        eventually(lambda: engine.waits("wf"))
        with psycopg.connect(postgres_url) as connection:
            text = base64.b64encode(pickle.dumps(Planted(called))).decode()
            columns = "destination_uuid, topic, message, serialization"
            sql = f"insert into dbos.notifications ({columns}) values ('wf', %s, %s, 'py_pickle')"
            connection.execute(sql, [TOPIC, text])
        with pytest.raises(TypeError, match="a value in 'py_pickle' is not read"):
            handle.result(20)
    assert not called.exists()


def test_other_users_of_dbos_in_this_process_keep_their_serializer(postgres_url: str) -> None:
    with queue.opening(postgres_url):
        text = DBOSDefaultSerializer.serialize({1, 2})

        assert deserialize_value(text, "py_pickle", DBOSDefaultSerializer) == {1, 2}
