"""Child workflows: an id, rows and a life of their own, whoever crashes, fails, is interrupted or cancelled."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Moment, NonDeterminismError, WorkflowCancelledError
from durable.clock import ManualClock
from durable.errors import RunStopped, SerializationError, WorkflowConflictError
from durable.observer import crash
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import KILLED, child, crash_in_child, eventually
from tests.support.stored import is_waiting, outcomes, rows
from tests.support.workflows import act, effects


@dataclass(frozen=True)
class Desk:
    owner: str
    laptop: str


def equip(ctx: Context, name: str) -> Desk:
    laptop = ctx.step(act, f"laptop for {name}")
    ctx.step(act, f"desk for {name}")
    return Desk(name, laptop)


async def equip_async(ctx: Context, name: str) -> Desk:
    return equip(ctx, name)


def hire(ctx: Context, *names: str) -> list[Desk]:
    ctx.step(act, "contract")
    desks = [ctx.child(equip, name) for name in names]
    ctx.step(act, "welcome")
    return [desk.result() for desk in desks]


async def hire_async(ctx: Context, *names: str) -> list[Desk]:
    return list(await asyncio.gather(*[ctx.child(equip_async, name) for name in names]))


def statuses(engine: Engine) -> dict[str, str]:
    return {record.workflow_id: record.status for record in engine.workflows()}


def effects_by_workflow(database: Path) -> dict[str, int]:
    return dict(Counter(key.rpartition("/")[0] for key in all_effects(database)))


def all_effects(database: Path) -> list[str]:
    """The idempotency keys of all effects."""
    log = database.with_suffix(".effects.log")
    return [line.rpartition("\t")[2] for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


# ---- an id, rows, a result


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
def test_a_child_has_an_id_below_its_parent_and_rows_of_its_own(database: Path, suspend: bool) -> None:
    with Engine(database, suspend=suspend) as engine:
        result = engine.run("emp_001", hire, "Ann", "Bob")

        assert result == [Desk("Ann", "LAPTOP FOR ANN"), Desk("Bob", "LAPTOP FOR BOB")]
        assert statuses(engine) == dict.fromkeys(["emp_001", "emp_001/equip_2", "emp_001/equip_3"], "completed")
        assert [each.parent_id for each in engine.workflows()] == [None, "emp_001", "emp_001"]
        assert list(outcomes(engine)) == ["act_1", "equip_2", "equip_3", "act_4"]
        assert list(outcomes(engine, "emp_001/equip_3")) == ["act_1", "act_2"]
        assert outcomes(engine)["equip_2"] == ("completed", {"owner": "Ann", "laptop": "LAPTOP FOR ANN"})


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
def test_an_async_parent_awaits_async_children(database: Path, suspend: bool) -> None:
    with Engine(database, suspend=suspend) as engine:
        assert engine.run("emp_001", hire_async, "Ann", "Bob") == [
            Desk("Ann", "LAPTOP FOR ANN"),
            Desk("Bob", "LAPTOP FOR BOB"),
        ]


def named(ctx: Context) -> str:
    return ctx.child(equip, "Ann", workflow_id="the desk of Ann").result().laptop


def test_a_child_may_be_given_an_id_and_one_that_has_ended_is_not_run_again(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("the desk of Ann", equip, "Ann")

        assert engine.run("emp_001", named) == "LAPTOP FOR ANN"
        assert len(all_effects(database)) == 2
        assert engine.workflow("the desk of Ann").parent_id is None


def test_a_child_under_the_id_of_another_workflow_ends_the_run_and_not_the_workflow(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("the desk of Ann", equip, "Bob")

        with pytest.raises(WorkflowConflictError, match="the desk of Ann"):
            engine.run("emp_001", named)
        assert engine.workflow("emp_001").status == "running"


def test_a_call_that_does_not_fit_the_child_is_refused_before_anything_is_written(database: Path) -> None:
    def too_many(ctx: Context) -> None:
        ctx.child(equip, "Ann", "Bob")

    def unfit(ctx: Context) -> None:
        ctx.child(equip, threading.Lock())

    with Engine(database) as engine:
        with pytest.raises(TypeError, match="child workflow 'equip': too many positional arguments"):
            engine.run("emp_001", too_many)
        with pytest.raises(SerializationError, match="child workflow 'equip', argument 'name'"):
            engine.run("emp_002", unfit)

        assert rows(database, "select * from steps") == []
        assert rows(database, "select * from waits") == []


def test_grandchildren_nest(database: Path) -> None:
    with Engine(database) as engine:
        assert engine.run("a", generation, 3) == 3
        assert list(statuses(engine)) == [
            "a",
            "a/generation_1",
            "a/generation_1/generation_1",
            "a" + 3 * "/generation_1",
        ]


def generation(ctx: Context, left: int) -> int:
    return 0 if left == 0 else 1 + ctx.child(generation, left - 1).result()


# ---- failure


class World:
    """Whether the shop has the laptop."""

    is_down = False


def order() -> str:
    act("order")
    if World.is_down:
        raise ConnectionError("no laptops today")
    return "laptop"


def provision(ctx: Context) -> str:
    ctx.step(act, "form")
    return ctx.step(order)


def need(ctx: Context) -> str:
    ctx.step(act, "need")
    return ctx.child(provision).result()


def do_without(ctx: Context) -> str:
    try:
        return ctx.child(provision).result()
    except ConnectionError as error:
        return ctx.step(act, f"despite {error}")


def test_the_failure_of_a_child_is_raised_where_it_is_asked_and_stays_as_recorded(database: Path) -> None:
    World.is_down = True
    with Engine(database) as engine:
        result = engine.run("emp_001", do_without)
        World.is_down = False

        assert result == "DESPITE NO LAPTOPS TODAY"
        assert engine.run("emp_001", do_without) == result
        assert statuses(engine) == {"emp_001": "completed", "emp_001/provision_1": "failed"}


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
def test_a_failed_parent_that_is_run_again_tries_its_child_anew_and_no_finished_step(
    database: Path, suspend: bool
) -> None:
    World.is_down = True
    with Engine(database, suspend=suspend) as engine:
        with pytest.raises(ConnectionError, match="no laptops today"):
            engine.run("emp_001", need)
        failed = statuses(engine)
        World.is_down = False
        result = engine.run("emp_001", need)

        assert failed == dict.fromkeys(["emp_001", "emp_001/provision_2"], "failed")
        assert result == "laptop"
        assert statuses(engine) == dict.fromkeys(["emp_001", "emp_001/provision_2"], "completed")
    assert (
        all_effects(database)
        == ["emp_001/act_1", "emp_001%2Fprovision_2/act_1"] + ["emp_001%2Fprovision_2/order_2"] * 2
    )


class Changed:
    """Whether the child's code is another one by now."""

    is_true = False


def changing(ctx: Context) -> str:
    ctx.step("new" if Changed.is_true else "old", act, "before")
    return ctx.step(die)


def die() -> str:
    raise SystemExit(3)


def wait_for_changing(ctx: Context) -> str:
    return ctx.child(changing).result()


def test_what_ends_the_run_of_a_child_ends_that_of_its_parent_and_is_no_outcome(database: Path) -> None:
    Changed.is_true = False
    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", wait_for_changing)
        Changed.is_true = True
        with pytest.raises(NonDeterminismError, match="step 'old_1' was recorded as"):
            engine.run("emp_001", wait_for_changing)

        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted", "stopped"]
        assert statuses(engine) == dict.fromkeys(["emp_001", "emp_001/changing_1"], "running")


def test_an_error_of_a_child_that_nobody_asked_for_fails_the_parent(database: Path) -> None:
    def careless(ctx: Context) -> str:
        ctx.child(provision)
        return "returned"

    World.is_down = True
    with Engine(database) as engine, pytest.raises(ConnectionError, match="no laptops today"):
        engine.run("emp_001", careless)


def test_a_parent_ends_only_when_its_children_have(database: Path) -> None:
    def fail(ctx: Context) -> None:
        ctx.child(equip, "Ann")
        raise ValueError("at once")

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="at once"):
            engine.run("emp_001", fail)
        assert statuses(engine) == {"emp_001": "failed", "emp_001/equip_1": "completed"}


# ---- crashes at every moment of either


class CrashAtNth:
    """An observer that kills the process at the nth moment, of whichever workflow."""

    def __init__(self, number: int) -> None:
        self.left, self._lock = number, threading.Lock()

    def __call__(self, moment: Moment) -> None:
        with self._lock:
            self.left -= 1
            if self.left == 0:
                crash()


def run_until_killed(pipe: Connection, database: Path, number: int, suspend: bool) -> str:
    with Engine(database, observers=[CrashAtNth(number)], suspend=suspend, synchronous="off") as engine:
        engine.run("emp_001", hire, "Ann")
    return "lived"


@pytest.mark.thorough
@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
def test_a_crash_at_any_moment_of_parent_or_child_is_survived_by_both(tmp_path: Path, suspend: bool) -> None:
    number, lived = 0, False
    while not lived:
        number += 1
        database = tmp_path / f"{number}.db"
        with child(run_until_killed, database, number, suspend) as first:
            lived = first.join() != KILLED
        with Engine(database, synchronous="off") as engine:
            result = engine.run("emp_001", hire, "Ann")

            assert result == [Desk("Ann", "LAPTOP FOR ANN")], number
            assert set(statuses(engine).values()) == {"completed"}, number
            assert len(statuses(engine)) == 2, number
        repeated = {key: times for key, times in Counter(all_effects(database)).items() if times > 1}
        assert len(all_effects(database)) in (4, 5, 6), number  # what was in flight as it died
        assert set(repeated.values()) <= {2}, number
    assert number > 20


def be_killed_in_the_child(pipe: Connection, database: Path) -> None:
    def kill(moment: Moment) -> None:
        if (moment.workflow_id, moment.step_key) == ("emp_001/equip_2", "act_2"):
            crash()

    with Engine(database, observers=[kill]) as engine:
        engine.run("emp_001", hire, "Ann")


def test_the_crash_of_both_may_be_recovered_in_either_order(database: Path) -> None:
    crash_in_child(be_killed_in_the_child, database)
    with Engine(database) as engine:
        recovery = engine.recover()
        for handle in recovery.resumed:
            handle.result(PATIENCE_SECONDS)

        assert statuses(engine) == dict.fromkeys(["emp_001", "emp_001/equip_2"], "completed")
        assert recovery.left.keys() <= {"emp_001/equip_2"}  # where its parent was quicker to begin it
        assert Counter(all_effects(database))["emp_001%2Fequip_2/act_1"] == 1


def run_child_alone(pipe: Connection, database: Path) -> str:
    def hold(moment: Moment) -> None:
        if moment.step_key == "act_2" and moment.name == "step.scheduled":
            pipe.send("in the child")
            pipe.recv()

    with Engine(database, observers=[hold]) as engine:
        return engine.resume("emp_001/equip_2").result().laptop


def test_a_parent_waits_for_a_child_that_another_process_runs_and_does_not_run_it_twice(database: Path) -> None:
    crash_in_child(be_killed_in_the_child, database)
    with child(run_child_alone, database) as other, Engine(database) as engine:
        assert other.receive() == "in the child"
        handle = engine.start("emp_001", hire, "Ann")
        eventually(lambda: outcomes(engine).get("act_3", ("", ""))[0] == "completed")
        assert not handle.done()
        other.send()

        assert other.outcome() == "LAPTOP FOR ANN"
        assert handle.result(PATIENCE_SECONDS) == [Desk("Ann", "LAPTOP FOR ANN")]
    assert effects_of_child(database) == ["emp_001%2Fequip_2/act_1", "emp_001%2Fequip_2/act_2"]


def effects_of_child(database: Path) -> list[str]:
    return [key for key in all_effects(database) if "%2F" in key]


def test_a_parent_takes_its_child_over_when_the_other_process_dies(database: Path) -> None:
    crash_in_child(be_killed_in_the_child, database)
    with child(run_child_alone, database) as other, Engine(database) as engine:
        assert other.receive() == "in the child"
        handle = engine.start("emp_001", hire, "Ann")
        eventually(lambda: outcomes(engine).get("act_3", ("", ""))[0] == "completed")
        other.kill()

        assert handle.result(PATIENCE_SECONDS) == [Desk("Ann", "LAPTOP FOR ANN")]
    assert effects_of_child(database) == ["emp_001%2Fequip_2/act_1", "emp_001%2Fequip_2/act_2"]


# ---- Ctrl+C and cancelling


def wait_for_child(ctx: Context) -> str:
    result: str = ctx.child(wait_long, workflow_id=None).result()
    return result


def wait_long(ctx: Context) -> str:
    ctx.step(act, "begun")
    ctx.sleep(1e6)
    return ctx.step(act, "ended")


def interrupted_with_child(pipe: Connection, database: Path) -> Any:
    with Engine(database) as engine:
        try:
            engine.run("emp_001", wait_for_child)
        except KeyboardInterrupt:
            handles = statuses(engine)
            eventually(lambda: engine.owner("emp_001/wait_long_1") is None)
            return handles, [engine.runs(each)[-1].ended for each in handles]


def test_ctrl_c_of_the_parent_interrupts_its_child(database: Path) -> None:
    with child(interrupted_with_child, database) as process:
        eventually(lambda: is_waiting(database, 1) and len(rows(database, "select * from waits")) == 2)
        process.signal(signal.SIGINT)

        statuses_then, ended = process.outcome()
    assert statuses_then == dict.fromkeys(["emp_001", "emp_001/wait_long_1"], "running")
    assert ended == ["interrupted", "interrupted"]


@pytest.mark.parametrize("suspend", [False, True], ids=["waiting", "suspending"])
def test_a_child_is_cancelled_with_its_parent(database: Path, suspend: bool) -> None:
    with Engine(database, suspend=suspend) as engine:
        handle = engine.start("emp_001", wait_for_child)
        eventually(lambda: len(rows(database, "select * from waits")) == 2)
        engine.cancel("emp_001")

        with pytest.raises(WorkflowCancelledError):
            handle.result(PATIENCE_SECONDS)
        eventually(lambda: set(statuses(engine).values()) == {"cancelled"})
        assert effects(database, "emp_001%2Fwait_long_1") == ["act_1"]


def test_a_child_that_is_begun_while_its_parent_is_cancelled_does_nothing(database: Path) -> None:
    with Engine(database) as engine:

        def cancel(moment: Moment) -> None:
            if (moment.workflow_id, moment.name) == ("emp_001", "step.started"):
                engine.cancel("emp_001")

        with Engine(database, observers=[cancel]) as other, pytest.raises(WorkflowCancelledError):
            other.run("emp_001", wait_for_child)

        eventually(lambda: statuses(engine) == dict.fromkeys(["emp_001", "emp_001/wait_long_1"], "cancelled"))
        assert all_effects(database) == []


def test_a_cancelled_child_is_an_error_that_the_parent_may_catch(database: Path) -> None:
    def carry_on(ctx: Context) -> str:
        try:
            ctx.child(wait_long).result()
        except WorkflowCancelledError as error:
            return str(error)
        return "not cancelled"

    with Engine(database) as engine:
        handle = engine.start("emp_001", carry_on)
        eventually(lambda: len(rows(database, "select * from waits")) == 2)
        engine.cancel("emp_001/wait_long_1")

        assert handle.result(PATIENCE_SECONDS) == "workflow 'emp_001/wait_long_1' was cancelled"
        assert engine.run("emp_001", carry_on) == "workflow 'emp_001/wait_long_1' was cancelled"


def test_a_child_that_loses_a_race_is_not_waited_for_and_lives_on(database: Path) -> None:
    def hurry(ctx: Context) -> str:
        return ctx.first(ctx.child(wait_for_it), ctx.submit(act, "work")).result().result()

    with Engine(database) as engine:
        result = engine.run("emp_001", hurry)
        before = statuses(engine)
        engine.send("emp_001/wait_for_it_1", "go")
        eventually(lambda: statuses(engine)["emp_001/wait_for_it_1"] == "completed")

        assert result == "WORK"
        assert before == {"emp_001": "completed", "emp_001/wait_for_it_1": "running"}


def test_closing_the_engine_waits_for_a_child_that_was_begun_meanwhile_and_outlives_its_parent(database: Path) -> None:
    leave, leave_child = threading.Event(), threading.Event()

    def hold(event: threading.Event) -> None:
        assert event.wait(PATIENCE_SECONDS)

    def slow(ctx: Context) -> str:
        ctx.step(hold, leave_child)
        return ctx.step(act, "late")

    def hurry(ctx: Context) -> None:
        ctx.step(hold, leave)
        ctx.first(ctx.child(slow, workflow_id="slow"), ctx.submit(act, "work")).result()

    engine = Engine(database)
    handle = engine.start("emp_001", hurry)
    before = len(handle._future._callbacks or [])
    closing = threading.Thread(target=engine.close)
    closing.start()
    eventually(lambda: len(handle._future._callbacks or []) > before)  # by now it waits for the parent
    leave.set()
    handle.result(PATIENCE_SECONDS)
    leave_child.set()
    closing.join()

    with Engine(database) as engine:
        assert statuses(engine) == {"emp_001": "completed", "slow": "completed"}


def wait_for_it(ctx: Context) -> str:
    return ctx.wait_event("go") or "went"


def test_a_manual_clock_skips_the_time_of_children_too(database: Path) -> None:
    with Engine(database, clock=ManualClock()) as engine:
        assert engine.run("emp_001", wait_for_child) == "ENDED"


def test_one_that_is_interrupted_by_its_own_handle_leaves_its_parent_waiting(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", wait_for_child)
        eventually(lambda: len(rows(database, "select * from waits")) == 2)
        handle.end()

        with pytest.raises(RunStopped):
            handle.result()
        eventually(lambda: engine.owner("emp_001/wait_long_1") is None)
        assert set(statuses(engine).values()) == {"running"}


def nested_to_a_depth(ctx: Context, depth: int) -> int:
    return 1 + ctx.child(nested_to_a_depth, depth - 1).result() if depth else 0


def test_children_nest_deeper_than_an_id_is_long(database: Path) -> None:
    with Engine(database) as engine:
        assert engine.run("emp_001", nested_to_a_depth, 30) == 30
        ids = [record.workflow_id for record in engine.workflows()]
        engine.rewind("emp_001", to="nested_to_a_depth_1")
        assert engine.run("emp_001", nested_to_a_depth, 30) == 30

        assert [record.workflow_id for record in engine.workflows()] == ids
    assert len(ids) == 31
    assert max(map(len, ids)) <= 255
    assert ids[1] == "emp_001/nested_to_a_depth_1"
    assert ids[20].startswith("emp_001/nested_to_a_depth_1/nested_to_a_depth_1/")
