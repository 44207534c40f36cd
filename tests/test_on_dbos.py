"""Workflows on DBOS and PostgreSQL: what concerns that engine alone. What both promise is in `tests/conformance/`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from dbos import DBOS

from durable.errors import InvalidNameError, NotSupportedError
from durable.on_dbos import DBOSEngine
from durable.on_dbos.outside import outside
from tests import workflows
from tests.test_import import modules_after


def test_import_durable_does_not_import_dbos() -> None:
    assert "dbos" not in modules_after("import durable")


def test_without_dbos_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['dbos'] = None; import durable; import durable.on_dbos"

    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert child.returncode == 1
    assert "ImportError: durable.on_dbos needs the package dbos, and that is not installed here" in child.stderr
    assert 'pip install "durable-lab[dbos]"' in child.stderr


def test_a_function_that_no_other_process_could_import_is_refused(postgres_url: str) -> None:
    def inner(ctx: object) -> None:
        """Not at the top level."""

    with DBOSEngine(postgres_url) as engine, pytest.raises(InvalidNameError, match="can import by this path"):
        engine.run("wf", inner)


def test_a_process_has_one_engine_at_a_time(postgres_url: str) -> None:
    with DBOSEngine(postgres_url), pytest.raises(NotSupportedError, match="share it, or close it") as raised:
        DBOSEngine(postgres_url)

    assert raised.value.operation == "a second DBOSEngine"


@pytest.mark.parametrize("url", ["workflow.db", "sqlite:///workflow.db", "postgresql://host", ""])
def test_what_is_no_url_of_postgresql_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected postgresql://user@host/database"):
        DBOSEngine(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(ValueError) as raised:
        DBOSEngine("mysql://me:secret@host/database")

    assert "secret" not in str(raised.value)


def test_the_tools_of_dbos_see_our_step_keys_and_plain_json(postgres_url: str) -> None:
    with DBOSEngine(postgres_url) as engine:
        engine.run("wf", workflows.errand, "a", "b")
        steps = outside(DBOS.list_workflow_steps, "wf")
        status = outside(DBOS.get_workflow_status, "wf")

    assert [step["function_name"] for step in steps] == ["act_1", "act_2"]
    assert status is not None
    assert status.input == {"args": ["tests.workflows:errand", {"what": ["a", "b"]}], "kwargs": {}}
