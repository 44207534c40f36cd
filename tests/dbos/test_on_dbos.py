"""Workflows on DBOS and PostgreSQL: what concerns that engine alone. What both promise is in `tests/conformance/`."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
import pytest
from dbos import DBOS

from durable.clock import ManualClock
from durable.errors import (
    CorruptionError,
    ExecutorBusyError,
    InvalidNameError,
    NotSupportedError,
    StoreError,
    WorkflowConflictError,
)
from durable.on_dbos import DBOSEngine, submit
from durable.on_dbos.engine import VERSION
from durable.on_dbos.outside import outside
from durable.on_dbos.workers import queue
from tests.conformance import world
from tests.conformance.engines import Lab
from tests.conformance.test_waiting import waits_for
from tests.package.test_import import modules_after
from tests.support import workflows
from tests.support.pages import ROOT, blocks_of
from tests.support.patience import PATIENCE_SECONDS
from tests.support.postgres import Server
from tests.support.processes import call_in_child, child, eventually


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


def open_and_wait(pipe: Connection, url: str) -> None:
    """An engine of another process."""
    with DBOSEngine(url, executor_id="one"):
        pipe.send("open")
        pipe.recv()


def test_an_executor_id_belongs_to_one_living_process(postgres_url: str) -> None:
    with child(open_and_wait, postgres_url) as other:
        assert other.receive() == "open"
        with pytest.raises(ExecutorBusyError, match="give each process an executor_id of its own") as raised:
            DBOSEngine(postgres_url, executor_id="one")
        with DBOSEngine(postgres_url, executor_id="two"):
            pass
        other.kill()

    assert raised.value.executor_id == "one"
    with DBOSEngine(postgres_url, executor_id="one"):
        pass


def test_a_database_that_is_not_there_is_made(postgres_server: Server) -> None:
    with DBOSEngine(postgres_server.url("made by the engine")) as engine:
        assert engine.workflows() == []


def test_a_server_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(
        StoreError, match=r"'flows' cannot be reached .*; start its server, or correct the URL"
    ) as raised:
        DBOSEngine("postgresql://me:secret@localhost:1/flows")

    assert "secret" not in str(raised.value)


def test_a_role_that_is_not_there_is_named_and_nothing_is_left_running(postgres_url: str) -> None:
    threads = set(threading.enumerate())

    with pytest.raises(StoreError, match='role "stranger" does not exist'):
        DBOSEngine(postgres_url.replace("postgres@", "stranger@"))

    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("url", ["workflow.db", "sqlite:///workflow.db", "postgresql://host", ""])
def test_what_is_no_url_of_postgresql_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected postgresql://user@host/database"):
        DBOSEngine(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(ValueError) as raised:
        DBOSEngine("mysql://me:secret@host/database")

    assert "secret" not in str(raised.value)


def test_an_id_of_blanks_is_refused(postgres_url: str) -> None:
    with DBOSEngine(postgres_url) as engine, pytest.raises(InvalidNameError, match="more than blanks"):
        engine.run("  ", workflows.errand)


def test_the_tools_of_dbos_see_our_step_keys_and_plain_json(postgres_url: str) -> None:
    with DBOSEngine(postgres_url) as engine:
        engine.run("wf", workflows.errand, "a", "b")
        steps = outside(DBOS.list_workflow_steps, "wf")
        status = outside(DBOS.get_workflow_status, "wf")

    assert [step["function_name"] for step in steps] == ["act_1", "act_2"]
    assert status is not None
    assert status.input == {"args": ["tests.support.workflows:errand", {"what": ["a", "b"]}], "kwargs": {}}


def test_a_process_that_was_taken_for_dead_can_save_nothing_when_it_wakes_up(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped between an effect and its save; another runs the workflow to its end; then it goes on."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    lab = Lab("dbos", postgres_url)
    with lab.running("wf", world.sleepy) as process, lab.open_beside() as engine:
        eventually(lambda: "asleep" in world.lines())
        recovered = engine.recover(executor_ids=["one"])
        assert [handle.result(PATIENCE_SECONDS) for handle in recovered.resumed] == [["WOKEN", "END"]]
        steps = engine.steps("wf")
        process.signal(signal.SIGCONT)

        assert process.outcome() == ["WOKEN", "END"]  # what is on record
        assert engine.steps("wf") == steps
    assert world.effects() == ["fall_asleep_1", "fall_asleep_1", "act_2"]


def test_a_wait_that_another_process_has_taken_over_ends_with_what_is_on_record(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has nothing to save by which it would be refused: it looks. The hour is over by the clock of the other one."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    lab = Lab("dbos", postgres_url)
    with (
        lab.running("wf", world.long_nap) as process,
        lab.open_beside(clock=ManualClock(datetime(2100, 1, 1, tzinfo=UTC))) as engine,
    ):
        eventually(lambda: engine.find_workflow("wf") is not None and engine.waits("wf"))
        process.stop()
        [handle] = engine.recover(executor_ids=["one"]).resumed
        assert handle.result(PATIENCE_SECONDS) == "RESTED"
        process.signal(signal.SIGCONT)

        assert process.outcome() == "RESTED"


class AlarmError(Exception):
    """What the handler of a time limit raises."""


def interrupt_oneself(pipe: Connection, url: str, path: str, number: int) -> object:
    """Ctrl+C, or a signal whose handler raises, while a step runs, and then the same id again."""

    def ring(*_: object) -> None:
        raise AlarmError

    if number != signal.SIGINT:
        signal.signal(number, ring)
    os.environ[world.WORLD] = path
    told: list[object] = []
    with DBOSEngine(url) as engine:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
        timer.start()
        try:
            engine.run("wf", world.wait_for_go)
        except (KeyboardInterrupt, AlarmError):
            told.append("interrupted")
        handle = engine.start("wf", world.wait_for_go)
        engine.send("wf", "go", "on")
        told.append(handle.result(PATIENCE_SECONDS))
    return told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGALRM])
def test_a_signal_ends_a_wait_at_once_and_the_same_process_can_go_on(
    postgres_url: str, tmp_path: Path, number: int
) -> None:
    told = call_in_child(interrupt_oneself, postgres_url, str(tmp_path / "world.log"), number)

    assert told == ["interrupted", "on"]


def test_a_wrong_call_does_not_keep_an_interrupted_workflow_from_going_on(postgres_url: str) -> None:
    with DBOSEngine(postgres_url) as engine:
        handle = engine.start("wf", world.wait_for_go)
        eventually(lambda: engine.waits("wf"))
        handle.end()
        with pytest.raises(WorkflowConflictError):
            engine.start("wf", world.errand, "a")
        handle = engine.start("wf", world.wait_for_go)
        try:
            engine.send("wf", "go", "on")
            assert handle.result(PATIENCE_SECONDS) == "on"
        finally:
            handle.interrupt()


def test_the_first_example_of_the_page_runs(postgres_url: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/explanation/fleet.md").read_text(encoding="utf-8")
    block = next(each for each in blocks_of(page) if "DBOSEngine" in each.code)
    script = (
        block.code.replace("postgresql://me@host/workflows", postgres_url)
        + "    print(engine.workflow('emp_001').output)\n"
    )

    told = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert told.stdout == '{"id":"emp_001","name":"Jane Doe","laptop":"MacBook Pro","email":"emp_001@company.com"}\n'
    assert told.stderr == ""


def test_a_workflow_that_is_begun_again_in_the_same_process_waits_for_the_step_in_flight(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another process, that took this one for dead, has put it back into the queue."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    world.settings.update(begun=threading.Event(), go=threading.Event())
    with DBOSEngine(postgres_url) as engine:
        handle = engine.start("wf", world.holding)
        world.settings["begun"].wait(PATIENCE_SECONDS)
        world.settings["begun"].clear()
        outside(DBOS.resume_workflow, "wf")
        assert not world.settings["begun"].wait(2.5), "two runs of one workflow in one process"
        world.settings["go"].set()

        assert handle.result(PATIENCE_SECONDS) == "HELDAFTER"
    assert world.effects() == ["held_1", "held_1", "act_2"]


@pytest.mark.thorough
def test_a_database_that_is_killed_and_comes_back_is_waited_for(
    own_postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    world.settings.update(begun=threading.Event(), go=threading.Event())
    with DBOSEngine(own_postgres.new_database()) as engine:
        handle = engine.start("wf", world.holding)
        assert world.settings["begun"].wait(PATIENCE_SECONDS)
        own_postgres.kill()
        world.settings["go"].set()
        eventually(lambda: world.effects() == ["held_1"])  # and it cannot be saved
        own_postgres.start()

        assert handle.result(PATIENCE_SECONDS) == "HELDAFTER"
    assert world.effects() == ["held_1", "act_2"]


def test_what_is_published_late_is_watched_once_and_so_is_what_was_published_meanwhile(postgres_url: str) -> None:
    """A branch that has drawn the earlier number is kept from saving until the other has saved."""
    with DBOSEngine(postgres_url) as engine, psycopg.connect(postgres_url) as held:
        handle = engine.start("wf", world.tellers)
        eventually(lambda: waits_for(engine, "wf", "go"))
        held.execute("select * from dbos.workflow_events where key = 'left' for update")
        engine.send("wf", "go")
        eventually(lambda: waits_for(engine, "wf", "go") and is_blocked(postgres_url))
        engine.send("wf", "go")

        watching = engine.watch("wf")
        seen = [next(watching), next(watching)]
        held.rollback()
        seen += watching
        handle.result(PATIENCE_SECONDS)
    assert [(each.number, each.name, each.value) for each in seen] == [(1, "left", 0), (2, "right", 1), (3, "left", 1)]


def is_blocked(url: str) -> bool:
    """Whether somebody waits for a row that another has locked."""
    with psycopg.connect(url) as connection:
        return connection.execute("select 1 from pg_locks where not granted").fetchone() is not None


def test_a_row_that_cannot_be_read_is_noticed_before_its_step_is_tried_anew(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    with DBOSEngine(postgres_url, log_level="ERROR") as engine:
        assert failure_of(engine, "wf", world.obstacles) == "first"
        monkeypatch.setitem(world.settings, "passed", ["first"])
        assert failure_of(engine, "wf", world.obstacles) == "second"
        with psycopg.connect(postgres_url) as db:
            sql = "update dbos.operation_outputs set output = replace(output, 'completed', 'completet\"')"
            assert db.execute(sql).rowcount
        with pytest.raises(CorruptionError, match="what is stored of 'pass_1' cannot be read"):
            engine.run("wf", world.obstacles)

    assert world.effects() == ["pass_1", "pass_1", "act_2", "pass_3"]


# ---- two who ask at once


def meanwhile(monkeypatch: pytest.MonkeyPatch, method: str, act: Callable[[], object]) -> None:
    """Have something happen just before the next call of a method of DBOS."""
    real = getattr(DBOS, method)

    def call(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(DBOS, method, real)
        act()
        return real(*args, **kwargs)

    monkeypatch.setattr(DBOS, method, call)


def test_another_call_that_begins_an_id_at_the_same_instant_is_refused(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen that the id is free. DBOS gave the second the execution of the first, and so its result."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    with DBOSEngine(postgres_url) as engine:
        meanwhile(monkeypatch, "start_workflow", lambda: engine.run("wf", world.errand, "a"))
        with pytest.raises(WorkflowConflictError) as raised:
            engine.run("wf", world.errand, "b")
        meanwhile(monkeypatch, "start_workflow", lambda: engine.run("other", world.errand, "a"))
        assert engine.run("other", world.errand, "a") == ["A"]

    assert raised.value.recorded == 'tests.conformance.world:errand with {"what":["a"]}'
    assert world.effects() == ["act_1", "act_1"]


def test_running_a_failed_workflow_again_beside_another_run_takes_nothing_back(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has seen that it failed, and stands still. Meanwhile another runs it, and it fails again, further on."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    with DBOSEngine(postgres_url) as engine:
        assert failure_of(engine, "wf", world.obstacles) == "first"
        monkeypatch.setitem(world.settings, "passed", ["first"])

        meanwhile(monkeypatch, "rewind_workflow", lambda: failure_of(engine, "wf", world.obstacles))
        assert failure_of(engine, "wf", world.obstacles) == "second"

    assert world.effects() == ["pass_1", "pass_1", "act_2", "pass_3", "pass_3"]


def test_running_a_failed_saga_again_beside_another_run_does_not_use_undone_steps(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    with DBOSEngine(postgres_url) as engine:
        assert failure_of(engine, "wf", world.saga_of_obstacles) == "first"
        monkeypatch.setitem(world.settings, "passed", ["first"])

        def another() -> None:
            assert failure_of(engine, "wf", world.saga_of_obstacles) == "second"
            world.settings["passed"].append("second")

        meanwhile(monkeypatch, "rewind_workflow", another)
        assert failure_of(engine, "wf", world.saga_of_obstacles) == "second"

    assert world.effects() == ["pass_1", "pass_1", "act_2", "pass_4", "act_3/act_1"]


def test_a_fork_to_an_id_at_the_same_instant_as_another_is_refused(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    with DBOSEngine(postgres_url) as engine:
        engine.run("a", world.errand, "a", "end")
        engine.run("b", world.errand, "b", "end")
        meanwhile(monkeypatch, "enqueue_workflow", lambda: engine.fork("a", "fork", at="act_2"))
        with pytest.raises(WorkflowConflictError):
            engine.fork("b", "fork", at="act_2")

        assert engine.resume("fork").result(PATIENCE_SECONDS) == ["A", "END"]


def test_what_fails_just_before_it_is_recovered_is_not_tried_anew(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    with DBOSEngine(postgres_url) as engine:
        handle = engine.start("wf", world.letter_and_failure)
        eventually(lambda: waits_for(engine, "wf", "news"))

        def fail() -> None:
            engine.send("wf", "news", "a")
            with pytest.raises(ValueError, match="no boat today"):
                handle.result(PATIENCE_SECONDS)

        meanwhile(monkeypatch, "get_workflow_status", fail)
        [recovered] = engine.recover().resumed
        with pytest.raises(ValueError, match="no boat today"):
            recovered.result(PATIENCE_SECONDS)
    assert world.effects() == ["refuse_at_first_2"]


SLOW_MODULE = """
import pathlib, time
here = pathlib.Path(__file__).parent
(here / "begun").touch()
while not (here / "go").exists():
    time.sleep(0.01)

def slow(ctx) -> int:
    return 1
"""


def test_a_workflow_whose_module_takes_long_to_be_imported_counts_as_running(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker puts back what it has and does not run: the step in flight of the first run would have been repeated."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_module.py").write_text(SLOW_MODULE)
    (tmp_path / "go").touch()
    slow_module = importlib.import_module("slow_module")
    with DBOSEngine(postgres_url, queues=["default"], modules=["slow_module"]) as engine:
        submit(postgres_url, "wf", slow_module.slow)
        for name in ("go", "begun"):
            (tmp_path / name).unlink()
        del sys.modules["slow_module"]
        DBOS.register_queue("default")
        try:
            eventually((tmp_path / "begun").exists)
            assert engine.is_active("wf")
        finally:
            (tmp_path / "go").touch()
        eventually(lambda: engine.workflow("wf").status == "completed")
        eventually(lambda: not engine.is_active("wf"))


# ---- functions that are not run by their names alone


def test_a_recorded_command_in_a_queue_is_left(postgres_url: str, tmp_path: Path) -> None:
    missing: dict[str, Exception] = {}
    with (
        DBOSEngine(postgres_url, queues=["default"], on_missing=missing.__setitem__) as engine,
        queue.opening(postgres_url) as client,
    ):
        client.enqueue(
            {"workflow_name": "durable.workflow", "queue_name": "default", "workflow_id": "wf", "app_version": VERSION},
            "pydoc:pipepager",
            {"cmd": f"touch {tmp_path}/called"},
        )
        DBOS.register_queue("default")
        eventually(lambda: missing)

        assert str(missing["wf"]).startswith("workflow 'wf': its function 'pydoc:pipepager' ")
        assert engine.workflow("wf").status == "running"
        assert list(engine.recover().left) == ["wf"]
    assert not (tmp_path / "called").exists()


def without_annotation(ctx):  # type: ignore[no-untyped-def]
    return ctx.wait_event("news", type=str)


def test_what_an_engine_takes_up_and_may_not_run_is_left_until_its_function_is_passed(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with DBOSEngine(postgres_url) as engine:
        engine.start("wf", without_annotation)
        eventually(lambda: waits_for(engine, "wf", "news"))
        engine.stop()
    with DBOSEngine(postgres_url) as engine:
        name = f"{__name__}:without_annotation"
        eventually(lambda: f"left: workflow 'wf': its function '{name}' is not run by its name alone" in caplog.text)
        left = engine.recover().left
        engine.send("wf", "news", "today")

        assert engine.run("wf", without_annotation) == "today"
        assert list(left) == ["wf"]


def test_what_an_engine_takes_up_is_run_where_its_module_is_named(postgres_url: str) -> None:
    with DBOSEngine(postgres_url) as engine:
        engine.start("wf", without_annotation)
        eventually(lambda: waits_for(engine, "wf", "news"))
        engine.stop()
    with DBOSEngine(postgres_url, modules=[__name__]) as engine:
        engine.send("wf", "news", "today")

        eventually(lambda: engine.workflow("wf").status == "completed")


def failure_of(engine: DBOSEngine, workflow_id: str, workflow: Callable[..., object]) -> str:
    with pytest.raises(ValueError) as raised:
        engine.run(workflow_id, workflow)
    return str(raised.value)


# ---- the seam: what the replay rule asks of a file, and here of DBOS
