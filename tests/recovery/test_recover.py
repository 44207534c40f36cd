"""Recovery: what dead processes have left is resumed by its recorded function, by whoever is first, not for ever."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine
from durable.clock import ManualClock
from durable.observer import crash, crash_at
from durable.testing import wait_for_change
from tests.support import workflows
from tests.support.processes import KILLED, child, crash_in_child
from tests.support.workflows import act, effects, errand, refuse

# ---- what dies, and in which way


def errand_and_crash(pipe: Connection, database: Path, workflow_id: str, crash_point: str) -> Any:
    """Run three steps up to a crash."""
    with Engine(database, observers=[crash_at.parse(crash_point)]) as engine:
        return engine.run(workflow_id, errand, "a", "b", "c")


def kill_process() -> None:
    """A step that no process survives."""
    crash()


def poison(ctx: Context) -> str:
    """Kills whoever runs it."""
    ctx.step(act, "begin")
    ctx.step(kill_process)
    return "survived"


def poison_to_cancel(ctx: Context) -> None:
    """Kills whoever undoes it."""
    ctx.on_failure(kill_process)
    ctx.wait_event("never")


def sleep_long(ctx: Context) -> str:
    """Waits a minute."""
    ctx.sleep(60)
    return ctx.step(act, "awake")


def recover_all(pipe: Connection, database: Path, *, suspend: bool = False) -> Any:
    """Recover as soon as told; the results by id, what was set aside, who was left."""
    with Engine(database, suspend=suspend) as engine:
        pipe.send("ready")
        pipe.recv()
        found = engine.recover()
        return {handle.workflow_id: handle.result() for handle in found.resumed}, found.set_aside, list(found.left)


def crash_errand(database: Path, workflow_id: str, crash_point: str = "act_2:executed") -> None:
    crash_in_child(errand_and_crash, database, workflow_id, crash_point)


# ---- resumed


def test_every_workflow_of_a_dead_process_is_resumed_and_what_has_ended_is_not(database: Path) -> None:
    for number in range(3):
        crash_errand(database, f"emp_{number}")
    with Engine(database) as engine:
        engine.run("done", errand, "a")
        found = engine.recover()

        assert {handle.workflow_id: handle.result() for handle in found.resumed} == {
            f"emp_{number}": ["A", "B", "C"] for number in range(3)
        }
        assert (found.set_aside, found.left) == ([], {})
        assert engine.recover().resumed == []
    assert effects(database, "emp_1") == ["act_1", "act_2", "act_2", "act_3"]


def test_what_is_running_is_left_and_named_with_its_process(database: Path) -> None:
    with child(run_and_wait, database) as owner, Engine(database) as engine:
        owner.receive()
        found = engine.recover()
        owner.send()

        assert (found.resumed, found.set_aside) == ([], [])
        assert found.left == {
            "emp_001": f"workflow 'emp_001' is already running in process {owner.pid}; wait for it, or use another id"
        }
        assert owner.outcome() == ["A"]


def run_and_wait(pipe: Connection, database: Path) -> Any:
    """One step, in which it waits to be let go on."""

    def hold() -> None:
        pipe.send("in the step")
        pipe.recv()

    workflows.after_effect["a"] = hold
    with Engine(database) as engine:
        return engine.run("emp_001", errand, "a")


def test_what_cannot_be_imported_is_left_and_the_others_are_resumed(
    database: Path, tmp_path: Path, monkeypatch
) -> None:
    for workflow_id in ("gone", "broken", "moved", "whole"):
        crash_errand(database, workflow_id)
    (tmp_path / "broken_flows.py").write_text("raise RuntimeError('no configuration here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        for workflow_id, function in (
            ("gone", "no_such_module:errand"),
            ("broken", "broken_flows:errand"),
            ("moved", "tests.support.workflows:no_errand"),
        ):
            db.execute("update workflows set function = ? where id = ?", (function, workflow_id))
    with Engine(database, modules=["no_such_module", "broken_flows"]) as engine:
        found = engine.recover()

        assert [handle.result() for handle in found.resumed] == [["A", "B", "C"]]
        assert list(found.left) == ["gone", "broken", "moved"]
        assert "No module named 'no_such_module'" in found.left["gone"]
        assert "no configuration here" in found.left["broken"]
        assert "run it with engine.run('moved', function)" in found.left["moved"]


def unlucky(ctx: Context) -> None:
    ctx.wait_event("go")
    ctx.step(refuse, "visa")


def of_slow_module(ctx: Context) -> None:
    ctx.wait_event("go")


of_slow_module.__module__ = "slow_to_recover"
as_it_is_imported: list[Callable[[], object]] = []


def test_one_that_fails_meanwhile_is_not_tried_anew(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are left. While the module of the first is imported, somebody else resumes the second, and it fails."""

    def fail() -> None:
        with Engine(database) as other:
            other.send("second", "go")
            with pytest.raises(ValueError, match="no visa"):
                other.run("second", unlucky)

    code = "from tests.recovery.test_recover import as_it_is_imported, of_slow_module\nas_it_is_imported.pop()()"
    (tmp_path / "slow_to_recover.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    as_it_is_imported.append(fail)
    with Engine(database, modules=["slow_to_recover"]) as engine:
        for workflow_id, workflow in (("first", of_slow_module), ("second", unlucky)):
            engine.start(workflow_id, workflow).end()
        found = engine.recover()
        for handle in found.resumed:
            handle.interrupt()

        assert [run.ended for run in engine.runs("second")] == ["interrupted", "failed"]
        assert effects(database) == ["refuse_2"]
        assert found.left == {}


def test_two_processes_that_recover_at_once_share_the_work_and_no_step_runs_twice(database: Path) -> None:
    ids = [f"emp_{number:02}" for number in range(12)]
    for workflow_id in ids:
        crash_errand(database, workflow_id, "act_1:checkpointed")
    with child(recover_all, database) as one, child(recover_all, database) as other:
        for process in (one, other):
            process.receive()
        for process in (one, other):
            process.send()
        outcomes = [one.outcome(), other.outcome()]

    done = {workflow_id for resumed, _, _ in outcomes for workflow_id in resumed}
    assert done == set(ids)
    assert all(result == ["A", "B", "C"] for resumed, _, _ in outcomes for result in resumed.values())
    for workflow_id in ids:
        assert effects(database, workflow_id) == ["act_1", "act_2", "act_3"]


# ---- poison


def test_a_workflow_that_kills_its_process_is_set_aside_after_three_crashes(database: Path) -> None:
    crash_in_child(run_poison, database)
    for _ in range(2):
        with child(recover_all, database) as killed:
            killed.receive()
            killed.send()
            assert killed.join() == KILLED
    with Engine(database) as engine:
        found = engine.recover()

        assert ([handle.workflow_id for handle in found.resumed], found.set_aside) == ([], ["emp_001"])
        assert engine.workflow("emp_001").status == "running"
        assert [run.ended for run in engine.runs("emp_001")] == ["crashed", "crashed", None]
        with pytest.raises(ValueError, match="max_crashes: expected at least 1, got 0"):
            engine.recover(max_crashes=0)


def run_poison(pipe: Connection, database: Path) -> Any:
    """Run one that kills the process."""
    with Engine(database) as engine:
        return engine.run("emp_001", poison)


def cancel_poison(pipe: Connection, database: Path) -> Any:
    """Have one suspended, and then cancel it."""
    with Engine(database, suspend=True) as engine:
        handle = engine.start("emp_001", poison_to_cancel)
        while not engine.runs("emp_001")[0].ended:
            wait_for_change(engine)
        engine.cancel("emp_001")
        return handle.result()


def open_and_look(pipe: Connection, database: Path) -> Any:
    """Open an engine that suspends, and wait for word."""
    with Engine(database, suspend=True):
        pipe.recv()
    return "survived"


@pytest.mark.thorough
def test_an_engine_that_suspends_does_not_wake_poison_again_and_again(database: Path, caplog: Any) -> None:
    crash_in_child(cancel_poison, database)
    for _ in range(2):
        crash_in_child(open_and_look, database)
    with Engine(database, suspend=True) as engine:
        while "its last 3 runs crashed or stopped" not in caplog.text:
            wait_for_change(engine)

        assert [run.ended for run in engine.runs("emp_001")] == ["suspended", "crashed", "crashed", None]


@pytest.mark.thorough
def test_a_rewind_gives_what_was_set_aside_another_chance(database: Path, monkeypatch: Any) -> None:
    for _ in range(3):
        crash_in_child(run_poison, database)
    monkeypatch.setattr(sys.modules[__name__], "kill_process", lambda: None)
    kill_process.__name__ = "kill_process"
    with Engine(database) as engine:
        assert engine.recover().set_aside == ["emp_001"]
        engine.rewind("emp_001", to="kill_process_2")
        (handle,) = engine.recover().resumed

        assert handle.result() == "survived"


# ---- suspended


def test_what_waits_is_left_by_a_plain_engine_and_woken_by_one_that_suspends(database: Path) -> None:
    clock = ManualClock(skip=False)
    with Engine(database, suspend=True, clock=clock) as engine:
        engine.start("emp_001", sleep_long)
        while [run.ended for run in engine.runs("emp_001")] != ["suspended"]:
            wait_for_change(engine)
    with Engine(database, clock=clock) as plain:
        found = plain.recover()
        assert (found.resumed, found.set_aside, found.left) == ([], [], {})
    clock.advance(61)
    with Engine(database, clock=clock) as plain:
        assert plain.recover().resumed == []
    with Engine(database, suspend=True, clock=clock) as engine:
        while engine.workflow("emp_001").status == "running":
            wait_for_change(engine)

        assert engine.workflow("emp_001").output == '"AWAKE"'
        assert [run.ended for run in engine.runs("emp_001")] == ["suspended", "completed"]


# ---- defined in a notebook


NOTEBOOK = """
import os, signal
from durable import Context, Engine

def buy(what: str) -> str:
    open("log", "a").write(what + "\\n")
    return what.upper()

def shopping(ctx: Context) -> list[str]:
    first = ctx.step(buy, "bread")
    if not os.path.exists("repaired"):
        os.kill(os.getpid(), signal.SIGKILL)
    return [first, ctx.step(buy, "milk")]
"""


@pytest.mark.thorough
def test_a_workflow_defined_in_a_notebook_is_resumed_there_after_its_kernel_died(tmp_path: Path) -> None:
    from tests.support.kernel import Kernel  # each child process imports this module, and none needs Jupyter

    kernel = Kernel(tmp_path)
    try:
        kernel.run(NOTEBOOK)
        kernel.client.execute("Engine('w.db').run('today', shopping)")
        while kernel.manager.is_alive():
            pass
    finally:
        kernel.shut_down()
    (tmp_path / "repaired").touch()
    kernel = Kernel(tmp_path)
    try:
        before = kernel.run("from durable import Engine\nprint(list(Engine('w.db').recover().left.values()))")
        after = kernel.run(f"{NOTEBOOK}\nprint([h.result() for h in Engine('w.db').recover().resumed])")
    finally:
        kernel.shut_down()

    assert "shopping" in before.text
    assert "cannot be imported here" in before.text
    assert after.text.strip() == "[['BREAD', 'MILK']]"
    assert (tmp_path / "log").read_text() == "bread\nmilk\n"
