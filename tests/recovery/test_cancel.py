"""Cancel: from any process, whatever its owner is doing, with its children; then its compensations have run."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, WorkflowCancelledError
from durable.errors import WorkflowEndedError, WorkflowNotFoundError
from durable.observer import crash_at
from durable.testing.inside import stored
from tests.support import workflows
from tests.support.patience import patient
from tests.support.processes import KILLED, Child, child, crash_in_child, eventually
from tests.support.workflows import act, effects, errand

AT_ONCE_SECONDS = 0.5
CANCELLED = "WorkflowCancelledError"

# ---- workflows, and what they are doing when it comes


def waiting(ctx: Context) -> str:
    """Has something to undo, and waits for what never comes."""
    ctx.step(act, "book")
    ctx.on_failure(act, "unbook")
    return ctx.wait_event("never", type=str)


def sleeping(ctx: Context) -> None:
    """The same with a timer."""
    ctx.step(act, "book")
    ctx.on_failure(act, "unbook")
    ctx.sleep(3600)


def plain_waiting(ctx: Context) -> str:
    """Has nothing to undo."""
    ctx.step(act, "book")
    return ctx.wait_event("never", type=str)


def grandparent(ctx: Context) -> None:
    """Three generations, each with something to undo, the youngest waits."""
    ctx.on_failure(act, "undo the eldest")
    ctx.child(parent).result()


def parent(ctx: Context) -> None:
    """The one in the middle."""
    ctx.on_failure(act, "undo the middle")
    ctx.child(waiting).result()


def in_branches(ctx: Context) -> None:
    """Waits in two branches and a step."""
    ctx.on_failure(act, "undo")
    for future in [ctx.branch(waiting), ctx.branch(sleeping)]:
        future.result()


async def asynchronous(ctx: Context) -> str:
    """A coroutine that waits."""
    ctx.on_failure(act, "unbook")
    return await ctx.event("never", type=str)


async def in_a_task_group(ctx: Context) -> None:
    """Waits in a task beside its own."""
    ctx.on_failure(act, "unbook")
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.wait_for(ctx.event("never", type=str), None))


def run_in_child(pipe: Connection, database: Path, workflow: Callable[..., Any], suspend: bool = False) -> Any:
    """Run it, and say when it began to wait."""

    def tell(moment: Any) -> None:
        if moment.name == "step.started" and moment.step_name in ("never", "sleep"):
            pipe.send("waits")

    with Engine(database, observers=[tell], suspend=suspend) as engine:
        return engine.run("emp_001", workflow)


def run_and_hold(pipe: Connection, database: Path) -> Any:
    """Run three steps; after the effect of b, say so and wait to be let go on."""

    def hold() -> None:
        pipe.send("in the step")
        pipe.recv()

    workflows.after_effect["b"] = hold
    with Engine(database) as engine:
        return engine.run("emp_001", errand, "a", "b", "c")


def run_steps_for_ever(pipe: Connection, database: Path) -> Any:
    """Nothing but steps."""
    workflows.after_effect["3"] = lambda: pipe.send("goes on")
    with Engine(database) as engine:
        return engine.run("emp_001", endless)


def endless(ctx: Context) -> None:
    """Steps without end."""
    ctx.on_failure(act, "undo")
    for number in itertools.count():
        ctx.step(act, str(number))


def crash_while_waiting(pipe: Connection, database: Path, workflow: Callable[..., Any]) -> Any:
    """Die as the wait has begun."""
    with Engine(database, observers=[crash_at("never", "started")]) as engine:
        return engine.run("emp_001", workflow)


def cancelled_seconds(owner: Child, engine: Engine) -> float:
    """Cancel it from here; after how many seconds its owner has ended it."""
    asked_at = time.monotonic()
    engine.cancel("emp_001")
    assert owner.outcome().type_name == CANCELLED
    return time.monotonic() - asked_at


def kinds(engine: Engine, workflow_id: str = "emp_001") -> list[tuple[str, str]]:
    return [(row.step_key, row.status) for row in engine.steps(workflow_id)]


# ---- by another process


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize("workflow", [waiting, sleeping, plain_waiting, asynchronous, in_a_task_group, in_branches])
def test_an_owner_that_waits_notices_at_once_and_its_compensations_run(
    database: Path, workflow: Callable[..., Any], suspend: bool
) -> None:
    with child(run_in_child, database, workflow, suspend) as owner, Engine(database) as engine:
        assert owner.receive() == "waits"
        if workflow is in_branches:
            assert owner.receive() == "waits"
        seconds = cancelled_seconds(owner, engine)

        assert seconds < AT_ONCE_SECONDS
        record = engine.workflow("emp_001")
        assert (record.status, record.output) == ("cancelled", None)
        undone = {plain_waiting: 0, in_branches: 3}.get(workflow, 1)
        assert len([row for row in engine.steps("emp_001") if row.kind == "compensation"]) == undone
        assert all(row.status != "running" for row in engine.steps("emp_001"))
        assert waits_of(engine) == []
        ended = [run.ended for run in engine.runs("emp_001")]
        assert ended == (["cancelled"] if not suspend else ended) and set(ended) <= {"suspended", "cancelled"}


def test_an_owner_in_a_step_ends_it_and_saves_it_and_begins_no_other(database: Path) -> None:
    with child(run_and_hold, database) as owner, Engine(database) as engine:
        owner.receive()
        engine.cancel("emp_001")
        assert engine.workflow("emp_001").status == "running"
        owner.send()

        assert owner.outcome().type_name == CANCELLED
        assert kinds(engine) == [("act_1", "completed"), ("act_2", "completed")]
    assert effects(database) == ["act_1", "act_2"]


def test_an_owner_between_steps_notices_at_the_next(database: Path) -> None:
    with child(run_steps_for_ever, database) as owner, Engine(database) as engine:
        owner.receive()
        seconds = cancelled_seconds(owner, engine)

        assert seconds < AT_ONCE_SECONDS
        assert {row.status for row in engine.steps("emp_001")} == {"completed"}
    assert effects(database)[-1] == "act_1/act_1"


def test_children_and_grandchildren_are_cancelled_and_undone_too(database: Path) -> None:
    with child(run_in_child, database, grandparent) as owner, Engine(database) as engine:
        assert owner.receive() == "waits"
        seconds = cancelled_seconds(owner, engine)

        assert seconds < 2 * AT_ONCE_SECONDS
        assert [record.status for record in engine.workflows()] == ["cancelled"] * 3
        undone = [
            row.name for each in engine.workflows() for row in engine.steps(each.workflow_id) if "/" in row.step_key
        ]
        assert undone == ["act"] * 3


def test_a_child_that_is_begun_while_its_parent_is_cancelled_is_cancelled_too(database: Path) -> None:
    # the parent has written that it waits for its child, which is not there yet; now the cancel comes
    # then the parent begins the child
    def cancel_in_between(moment: Any) -> None:
        if moment.name == "step.started" and moment.step_name == "parent":
            engine.cancel("emp_001")

    with Engine(database, observers=[cancel_in_between]) as engine, pytest.raises(WorkflowCancelledError):
        engine.run("emp_001", grandparent)

    with Engine(database) as engine:
        assert {record.workflow_id: record.status for record in engine.workflows()} == {
            "emp_001": "cancelled",
            "emp_001/parent_2": "cancelled",
        }
        assert engine.steps("emp_001/parent_2") == []


# ---- where nobody runs it


def wait_and_go_on(ctx: Context) -> None:
    """Registers compensations after what it waits for has begun, and waits in the end."""
    never, race = ctx.event("never"), ctx.first(ctx.timer(3600), ctx.event("nothing"))
    child = ctx.child(plain_waiting)
    ctx.step(act, "book")
    ctx.on_failure(act, "unbook")
    ctx.publish("progress", 1)
    for future in (never, child, race):
        future.result()


def crash_as_told(pipe: Connection, database: Path, workflow: Callable[..., Any]) -> Any:
    """Run it, and wait for the kill."""
    with Engine(database) as engine:
        engine.start("emp_001", workflow)
        pipe.send("runs")
        pipe.recv()


@pytest.mark.parametrize(("workflow", "registered"), [(wait_and_go_on, 1), (in_branches, 3)])
def test_what_was_registered_beside_or_after_a_wait_is_undone_too(
    database: Path, workflow: Callable[..., Any], registered: int
) -> None:
    # the process dies when all is registered and the waits are open; the cancel comes before the next run
    # the run meets the first open wait before it has come to the registration
    with child(crash_as_told, database, workflow) as killed, Engine(database) as engine:
        killed.receive()
        eventually(lambda: engine.find_workflow("emp_001") and len(waits_of(engine)) >= 2 and ready(engine, registered))
        assert killed.kill() == KILLED
    with Engine(database) as engine:
        engine.cancel("emp_001")
    with Engine(database) as engine:
        assert engine.workflow("emp_001").status == "cancelled"
        assert len([row for row in engine.steps("emp_001") if row.kind == "compensation"]) == registered


def waits_of(engine: Engine) -> list[str]:
    with closing(sqlite3.connect(engine.path)) as db:
        return [key for (key,) in db.execute("select step_key from waits where workflow_id = 'emp_001'")]


def ready(engine: Engine, registered: int) -> bool:
    return len([row for row in engine.steps("emp_001") if row.kind == "on_failure"]) == registered


@pytest.mark.parametrize(("workflow", "undone"), [(waiting, ["act_1", "act_2/act_1"]), (plain_waiting, ["act_1"])])
def test_one_that_a_dead_process_left_is_cancelled_here(
    database: Path, workflow: Callable[..., Any], undone: list[str]
) -> None:
    crash_in_child(crash_while_waiting, database, workflow)
    with Engine(database) as engine:
        engine.cancel("emp_001")
    with Engine(database) as engine:
        assert engine.workflow("emp_001").status == "cancelled"
        with pytest.raises(WorkflowCancelledError):
            engine.run("emp_001", workflow)
    assert effects(database) == undone


@pytest.mark.parametrize("workflow", [waiting, plain_waiting])
def test_one_that_is_suspended_elsewhere_is_cancelled_here_and_its_handle_there_is_told(
    database: Path, workflow: Callable[..., Any]
) -> None:
    with child(run_in_child, database, workflow) as owner:
        owner.receive()
        assert owner.kill() == KILLED
    with Engine(database, suspend=True) as sleeper, Engine(database) as engine:
        handle = sleeper.resume("emp_001")
        eventually(lambda: sleeper.runs("emp_001")[-1].ended == "suspended")
        asked_at = time.monotonic()
        engine.cancel("emp_001")
        with pytest.raises(WorkflowCancelledError):
            handle.result(timeout=patient(20))

        assert time.monotonic() - asked_at < AT_ONCE_SECONDS
        assert engine.workflow("emp_001").status == "cancelled"


def test_compensations_that_cannot_be_imported_here_run_as_soon_as_their_function_is_there(
    database: Path, caplog: Any
) -> None:
    def local(ctx: Context) -> None:
        ctx.on_failure(act, "undo")
        ctx.wait_event("never")

    with Engine(database, suspend=True) as engine:
        engine.start("emp_001", local)
        eventually(lambda: engine.runs("emp_001")[0].ended == "suspended")
    with Engine(database) as engine:
        engine.cancel("emp_001")
        assert "cancelled as soon as its function is there" in caplog.text
        assert engine.workflow("emp_001").status == "running"
        with pytest.raises(WorkflowCancelledError):
            engine.run("emp_001", local)

        assert engine.workflow("emp_001").status == "cancelled"
    assert effects(database) == ["act_1/act_1"]


# ---- twice, too late, at the wrong moment


def test_cancelling_twice_while_it_is_in_a_step_is_as_once(database: Path) -> None:
    with child(run_and_hold, database) as owner, Engine(database) as engine:
        owner.receive()
        engine.cancel("emp_001")
        first = engine.workflow("emp_001").cancel_requested_at
        engine.cancel("emp_001")
        assert engine.workflow("emp_001").cancel_requested_at == first
        owner.send()
        assert owner.outcome().type_name == CANCELLED
        with pytest.raises(WorkflowEndedError, match="is cancelled already"):
            engine.cancel("emp_001")


def test_one_that_has_ended_cannot_be_cancelled_and_stays_as_it_is(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", errand, "a")
        before = engine.workflow("emp_001")
        with pytest.raises(WorkflowEndedError) as ended:
            engine.cancel("emp_001")
        with pytest.raises(WorkflowNotFoundError, match="did you mean 'emp_001'"):
            engine.cancel("emp_01")

        assert (ended.value.workflow_id, ended.value.status) == ("emp_001", "completed")
        assert engine.workflow("emp_001") == before


def test_a_cancel_that_comes_between_its_question_and_its_answer_overwrites_no_result(
    database: Path, monkeypatch: Any
) -> None:
    # the canceller has asked, while the workflow still runs; it completes before the canceller looks for its owner
    # the canceller finds no owner
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait()

    workflows.after_effect["a"] = hold
    with Engine(database) as runner, Engine(database) as engine:
        handle = runner.start("emp_001", errand, "a")
        entered.wait()
        ask = stored(engine).request_cancel

        def ask_and_let_it_end(*args: Any) -> list[str]:
            asked = ask(*args)
            leave.set()
            assert handle.result() == ["A"]
            return asked

        monkeypatch.setattr(stored(engine), "request_cancel", ask_and_let_it_end)
        engine.cancel("emp_001")

        assert engine.workflow("emp_001").status == "completed"
    del workflows.after_effect["a"]


def race(pipe: Connection, database: Path, workflow_id: str) -> Any:
    """Run many steps as soon as told."""
    with Engine(database) as engine:
        pipe.send("ready")
        pipe.recv()
        return engine.run(workflow_id, saga_of_many)


def saga_of_many(ctx: Context) -> str:
    """Each step with its compensation; so many that a cancel comes in the midst of them."""
    for what in "abcdefghijklmnop":
        ctx.on_failure(act, f"undo {what}")
        ctx.step(act, what)
    return "done"


@pytest.mark.thorough
@pytest.mark.parametrize("kill", [False, True])
def test_a_cancel_at_any_instant_ends_in_one_way_or_the_other_also_when_the_owner_is_killed(
    database: Path, kill: bool
) -> None:
    chance, ends = random.Random(11), set()
    for number in range(12):
        workflow_id = f"emp_{number:02}"
        with child(race, database, workflow_id) as owner, Engine(database) as engine:
            owner.receive()
            owner.send()
            eventually(lambda each=workflow_id: engine.find_workflow(each))
            time.sleep(chance.uniform(0, 0.012))  # the instant of the cancel, which is left to chance
            try:
                engine.cancel(workflow_id)
            except WorkflowEndedError as ended:
                assert ended.status == "completed"
            if kill:
                owner.kill()
                engine.recover()
            else:
                owner.outcome()
        with Engine(database) as engine:
            status = engine.workflow(workflow_id).status
            rows = engine.steps(workflow_id)
            undone = [row for row in rows if row.kind == "compensation"]
            registered = [row for row in rows if row.kind == "on_failure"]

            assert status in ("completed", "cancelled")
            assert len(undone) == (len(registered) if status == "cancelled" else 0)
            left = [row.step_key for row in rows if row.status != "completed"]
            assert len(left) <= (1 if kill and status == "cancelled" else 0)  # the zombie step of the kill
            assert workflows.list_faults(engine.path) == []
        ends.add(status)
    assert "cancelled" in ends


def test_a_stopped_owner_is_cancelled_when_it_goes_on(database: Path) -> None:
    with child(run_in_child, database, waiting) as owner, Engine(database) as engine:
        owner.receive()
        owner.stop()
        engine.cancel("emp_001")
        assert engine.workflow("emp_001").status == "running"
        owner.signal(signal.SIGCONT)

        assert owner.outcome().type_name == CANCELLED
