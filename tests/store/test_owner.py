"""One owner per workflow id at a time, the next one the instant its process dies, and no word from a zombie: rule 8."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Moment, WorkflowBusyError, WorkflowConflictError
from durable.errors import FencedError, StoreError
from durable.store.ownership.owner import Owner, lock_path
from tests.support import workflows
from tests.support.processes import KILLED, Raised, call_in_child, child, eventually
from tests.support.workflows import act

AT_ONCE_SECONDS = 0.5
NEXT_OWNER_SECONDS = 1.0


def run_and_wait_in_step(pipe: Connection, database: Path, what: str, parallel: bool = False) -> Any:
    """Run three steps a, b, c; after the effect of one of them, say so, and wait to be let go on."""

    def hold() -> None:
        pipe.send("in the step")
        pipe.recv()

    workflows.after_effect[what] = hold
    with Engine(database) as engine:
        return engine.run("emp_001", workflows.side_by_side if parallel else workflows.errand, "a", "b", "c")


def rows(database: Path, table: str = "steps") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute(f"select * from {table} order by 1, 2").fetchall()


# ---- the second is told at once


def test_a_second_process_gets_the_pid_of_the_owner_at_once(database: Path) -> None:
    with child(run_and_wait_in_step, database, "b") as owner, Engine(database) as engine:
        owner.receive()
        before = rows(database)
        asked_at = time.monotonic()
        with pytest.raises(WorkflowBusyError, match=f"process {owner.pid}") as busy:
            engine.run("emp_001", workflows.errand, "a", "b", "c")
        seconds = time.monotonic() - asked_at

        assert seconds < AT_ONCE_SECONDS
        assert (busy.value.workflow_id, busy.value.pid) == ("emp_001", owner.pid)
        assert engine.owner("emp_001") == owner.pid
        assert rows(database) == before
        owner.send()
        assert owner.outcome() == ["A", "B", "C"]
    assert workflows.effects(database) == ["act_1", "act_2", "act_3"]


@pytest.mark.parametrize("same_engine", [True, False])
def test_a_second_thread_gets_the_pid_of_the_owner_at_once(database: Path, same_engine: bool) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return "held"

    def workflow(ctx: Context) -> str:
        return ctx.step(hold)

    with Engine(database) as engine, Engine(database) as other:
        handle = engine.start("emp_001", workflow)
        entered.wait()
        asked_at = time.monotonic()
        for method in ("run", "start"):
            with pytest.raises(WorkflowBusyError) as busy:
                getattr(engine if same_engine else other, method)("emp_001", workflow)
            assert busy.value.pid == os.getpid()
        with pytest.raises(WorkflowBusyError):
            other.delete("emp_001")
        seconds = time.monotonic() - asked_at
        leave.set()

        assert seconds < AT_ONCE_SECONDS
        assert handle.result() == "held"
        assert engine.run("emp_001", workflow) == "held"


def test_one_of_many_threads_that_start_at_once_runs_and_the_others_are_refused(database: Path) -> None:
    effects: list[str] = []
    barrier, all_told = threading.Barrier(8), threading.Event()
    told: list[WorkflowBusyError] = []

    def effect() -> str:
        all_told.wait()
        effects.append("done")
        return "done"

    def workflow(ctx: Context) -> str:
        return ctx.step(effect)

    def contend(engine: Engine) -> None:
        barrier.wait()
        try:
            assert engine.run("emp_001", workflow) == "done"
        except WorkflowBusyError as busy:
            told.append(busy)
            if len(told) == 7:
                all_told.set()

    with Engine(database) as engine:
        threads = [threading.Thread(target=contend, args=(engine,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(engine.runs("emp_001")) == 1
    assert effects == ["done"]
    assert {busy.pid for busy in told} == {os.getpid()}
    assert len(told) == 7


def race(pipe: Connection, database: Path) -> Any:
    with Engine(database) as engine:
        pipe.send("ready")
        pipe.recv()
        return engine.run("emp_001", workflows.errand, *"abcdef")


def test_of_processes_that_race_for_one_id_each_step_runs_once(database: Path) -> None:
    for _ in range(10):
        with child(race, database) as one, child(race, database) as two:
            for process in (one, two):
                process.receive()
            for process in (one, two):
                process.send()
            outcomes = [one.outcome(), two.outcome()]

        answers = [outcome for outcome in outcomes if not isinstance(outcome, Raised)]
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Raised)]
        assert answers
        assert all(answer == list("ABCDEF") for answer in answers)
        assert all(refusal.type_name == "WorkflowBusyError" for refusal in refusals)
        assert workflows.effects(database) == [f"act_{number}" for number in range(1, 7)]
        with Engine(database) as engine:
            engine.delete("emp_001")
        database.with_suffix(".effects.log").unlink()


@pytest.mark.parametrize("fails", [False, True])
def test_what_ends_between_the_look_and_the_lock_is_seen(
    database: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    # Engine 1 finds no such workflow, and is held up. Engine 2 runs it to its end.
    # Engine 1 comes to own it: it has to look again, and to answer from the record, or go on from there.
    calls: list[str] = []
    held_up: list[Owner] = []

    def workflow(ctx: Context) -> str:
        calls.append("called")
        ctx.step(act, "a")
        if fails and len(calls) == 1:
            raise ValueError("the first time")
        return "done"

    class HeldUp(Owner):
        def __init__(self, path: Path, workflow_id: str) -> None:
            held_up.append(self)
            if len(held_up) == 1:
                with Engine(database) as other, suppress(ValueError):
                    other.run(workflow_id, workflow)
            super().__init__(path, workflow_id)

    monkeypatch.setattr("durable.store.file.Owner", HeldUp)
    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == "done"

        assert calls == ["called"] * (2 if fails else 1)
        assert [run.epoch for run in engine.runs("emp_001")] == ([1, 2] if fails else [1])
        assert engine.owner("emp_001") is None
    assert workflows.effects(database) == ["act_1"]


def test_a_workflow_that_runs_its_own_id_is_told_that_it_is_busy(database: Path) -> None:
    def workflow(_: Context) -> str:
        with pytest.raises(WorkflowBusyError) as busy:
            engine.run("emp_001", workflow)
        return f"busy in {busy.value.pid}"

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == f"busy in {os.getpid()}"


def test_an_ended_workflow_answers_although_its_id_is_locked(database: Path) -> None:
    with Engine(database) as engine:
        result = engine.run("emp_001", workflows.errand, "a", "b", "c")
        owner = Owner(engine.path, "emp_001")  # another asks at the same instant

        assert engine.run("emp_001", workflows.errand, "a", "b", "c") == result
        with pytest.raises(WorkflowConflictError):
            engine.run("emp_001", workflows.errand, "a", "b", "d")
        owner.release()


# ---- the next owner


def test_after_the_owner_is_killed_the_next_starts_within_a_second(database: Path) -> None:
    with child(run_and_wait_in_step, database, "b") as owner, Engine(database) as engine:
        owner.receive()
        assert owner.kill() == KILLED
        killed_at = time.monotonic()
        result = engine.run("emp_001", workflows.errand, "a", "b", "c")
        seconds = time.monotonic() - killed_at

        assert result == ["A", "B", "C"]
        assert seconds < NEXT_OWNER_SECONDS
        assert [run.ended for run in engine.runs("emp_001")] == ["crashed", "completed"]
    assert workflows.effects(database) == ["act_1", "act_2", "act_2", "act_3"]


def fork_and_report(pipe: Connection, database: Path) -> Any:
    """The owner, in the middle of a step, forks a child that lives on until it is killed."""

    def fork() -> None:
        if pid := os.fork():
            pipe.send(pid)
            pipe.recv()
        else:
            while True:
                signal.pause()

    workflows.after_effect["b"] = fork
    with Engine(database) as engine:
        return engine.run("emp_001", workflows.errand, "a", "b", "c")


def test_a_forked_child_of_the_owner_does_not_keep_its_lock(database: Path) -> None:
    with child(fork_and_report, database) as owner, Engine(database) as engine:
        grandchild = owner.receive()
        try:
            assert owner.kill() == KILLED
            killed_at = time.monotonic()
            assert engine.run("emp_001", workflows.errand, "a", "b", "c") == ["A", "B", "C"]

            assert time.monotonic() - killed_at < NEXT_OWNER_SECONDS
            os.kill(grandchild, 0)  # it is still there
        finally:
            os.kill(grandchild, signal.SIGKILL)


def use_parents_engine_in_a_fork(pipe: Connection, database: Path) -> Any:
    with Engine(database) as engine:
        engine.run("emp_001", workflows.errand, "a")
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            try:
                engine.run("emp_002", workflows.errand, "a")
                said = "it ran"
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            os.write(write_end, said.encode())
            os._exit(0)
        os.wait()
        return os.read(read_end, 1000).decode()


def test_a_fork_cannot_use_its_parents_engine(database: Path) -> None:
    said = call_in_child(use_parents_engine_in_a_fork, database)

    assert said.startswith("StoreError")
    assert "fork" in said
    with Engine(database) as engine:
        assert [workflow.workflow_id for workflow in engine.workflows()] == ["emp_001"]


def test_the_lock_file_is_never_deleted(database: Path) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", workflows.errand, "a")
        engine.delete("emp_001")

    assert lock_path(database, "emp_001").exists()


def test_an_open_and_close_of_the_lock_file_by_someone_else_does_not_free_it(database: Path) -> None:
    with child(run_and_wait_in_step, database, "b") as owner, Engine(database) as engine:
        owner.receive()
        lock_path(database, "emp_001").read_bytes()

        with pytest.raises(WorkflowBusyError):
            engine.run("emp_001", workflows.errand, "a", "b", "c")
        owner.send()
        owner.outcome()


# ---- a zombie process


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("successor_has_finished", [True, False])
def test_a_stopped_owner_that_wakes_after_its_lock_was_lost_cannot_write(
    database: Path, successor_has_finished: bool, parallel: bool
) -> None:
    workflow = workflows.side_by_side if parallel else workflows.errand
    with child(run_and_wait_in_step, database, "b", parallel) as owner:
        owner.receive()
        if parallel:
            eventually(lambda: sum(row[2] == "completed" for row in rows(database)) == 2)
        owner.stop()
        shutil.rmtree(f"{database}-locks")  # as a careless administrator might
        with child(run_and_wait_in_step, database, "c" if not parallel else "b", parallel) as successor:
            successor.receive()
            if successor_has_finished:
                successor.send()
                assert successor.outcome() == ["A", "B", "C"]
            before = [rows(database, table) for table in ("steps", "attempts", "workflows", "runs")]

            owner.signal(signal.SIGCONT)
            owner.send()
            refused = owner.outcome()

            assert isinstance(refused, Raised)
            assert refused.type_name == "FencedError"
            assert refused.attributes == {"workflow_id": "emp_001", "epoch": 1}
            assert [rows(database, table) for table in ("steps", "attempts", "workflows", "runs")] == before
            if not successor_has_finished:
                successor.send()
                assert successor.outcome() == ["A", "B", "C"]
    with Engine(database) as engine:
        assert engine.run("emp_001", workflow, "a", "b", "c") == ["A", "B", "C"]
        assert {step.epoch for step in engine.steps("emp_001") if step.attempt == 2} == {2}


def wait_at(pipe: Connection, database: Path, name: str, key: str | None, what: str) -> Any:
    """An owner that waits at a moment, in which nothing of the user's code runs."""

    def hold(moment: Moment) -> None:
        if (moment.name, moment.step_key) == (name, key):
            pipe.send("there")
            pipe.recv()

    with Engine(database, observers=[hold]) as engine:
        return engine.run("emp_001", a_step_and_an_end, what)


def a_step_and_an_end(ctx: Context, what: str) -> str:
    done = ctx.step(act, what)
    if what == "a failure":
        raise ValueError("the end")
    return done


@pytest.mark.parametrize("what", ["a result", "a failure"])
def test_a_zombie_that_wakes_after_its_last_step_cannot_end_the_workflow(database: Path, what: str) -> None:
    with child(wait_at, database, "step.checkpointed", "act_1", what) as owner:
        owner.receive()
        owner.stop()
        shutil.rmtree(f"{database}-locks")
        with child(wait_at, database, "workflow.started", None, what) as successor:
            successor.receive()
            before = [rows(database, table) for table in ("steps", "attempts", "workflows", "runs")]
            owner.signal(signal.SIGCONT)
            owner.send()

            assert owner.outcome().type_name == "FencedError"
            assert [rows(database, table) for table in ("steps", "attempts", "workflows", "runs")] == before
            successor.send()
            assert successor.outcome() == ("A RESULT" if what == "a result" else Raised("ValueError", "the end", {}))
    assert workflows.effects(database) == ["act_1"]


def test_a_zombie_that_wakes_before_its_first_step_has_no_effect(database: Path) -> None:
    with child(wait_at, database, "workflow.started", None, "a") as owner:
        owner.receive()
        owner.stop()
        shutil.rmtree(f"{database}-locks")
        with Engine(database) as engine:
            assert engine.run("emp_001", a_step_and_an_end, "a") == "A"
        owner.signal(signal.SIGCONT)
        owner.send()

        assert owner.outcome().type_name == "FencedError"
    assert workflows.effects(database) == ["act_1"]


def test_a_zombie_is_refused_also_after_its_workflow_was_deleted_and_begun_anew(database: Path) -> None:
    with child(run_and_wait_in_step, database, "b") as owner:
        owner.receive()
        owner.stop()
        shutil.rmtree(f"{database}-locks")
        with Engine(database) as engine:
            engine.delete("emp_001")
        with child(run_and_wait_in_step, database, "c") as successor:
            successor.receive()
            before = rows(database), rows(database, "workflows")
            owner.signal(signal.SIGCONT)
            owner.send()

            assert owner.outcome().type_name == "FencedError"
            assert (rows(database), rows(database, "workflows")) == before
            successor.send()
            assert successor.outcome() == ["A", "B", "C"]


def test_a_fenced_workflow_that_swallows_every_error_still_saves_nothing(database: Path) -> None:
    def stubborn(ctx: Context) -> str:
        for _ in range(3):
            try:
                ctx.step(lose_the_lock)
            except Exception as error:
                seen.append(error)
        return "all is well"

    def lose_the_lock() -> str:
        if not seen:
            with closing(sqlite3.connect(database, isolation_level=None)) as db:
                db.execute("update workflows set epoch = epoch + 1")
        return "done"

    seen: list[Exception] = []
    with Engine(database) as engine:
        with pytest.raises(FencedError):
            engine.run("emp_001", stubborn)

        assert [type(error) for error in seen] == [FencedError] * 3
        assert [step.status for step in engine.steps("emp_001")] == ["running"]
        assert engine.workflow("emp_001").status == "running"
        assert engine.owner("emp_001") is None


# ---- an interrupted owner


def interrupt_with_a_step_in_a_thread(pipe: Connection, database: Path) -> Any:
    """Ctrl+C until the run gives way, while a parallel step still runs; then ask for the id in the same process."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return "held"

    def workflow(ctx: Context) -> str:
        future = ctx.submit(hold)
        if not leave.is_set():
            entered.wait()
            pipe.send("in the step")
        return future.result()

    story: dict[str, Any] = {"pid": os.getpid()}
    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            pipe.send("it gave way")
        try:
            engine.run("emp_001", workflow)
        except WorkflowBusyError as busy:
            story["busy in"] = busy.pid
        leave.set()
        eventually(lambda: engine.owner("emp_001") is None)
        story["step"] = [step.status for step in engine.steps("emp_001")]
        story["result"] = engine.run("emp_001", workflow)
    return story


def test_after_two_ctrl_c_the_id_stays_busy_until_its_last_thread_has_ended(database: Path) -> None:
    with child(interrupt_with_a_step_in_a_thread, database) as process:
        assert process.receive() == "in the step"
        signals = 0
        while signals == 0 or not process.pipe.poll(0.1):  # so that no two become one
            process.signal(signal.SIGINT)
            signals += 1
            assert signals < 50, "Ctrl+C is not heard"
        assert process.receive() == "it gave way"
        story = process.outcome()

    assert signals >= 2, "the first Ctrl+C waits for the steps in flight"
    assert story["busy in"] == story["pid"]
    assert story["step"] == ["completed"], "the step went on and was saved"
    assert story["result"] == "held"


# ---- an owner that could not begin


def out_of_memory() -> None:
    raise MemoryError("none left")


def test_an_id_is_free_again_after_a_run_whose_function_could_not_be_called(database: Path) -> None:
    with Engine(database) as engine:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "_get_running_loop", out_of_memory)  # the first that is asked once the run is there
            with pytest.raises(MemoryError):
                engine.run("emp_001", workflows.errand, "a")

        assert engine.owner("emp_001") is None
        assert [run.ended for run in engine.runs("emp_001")] == ["stopped"]
        assert engine.run("emp_001", workflows.errand, "a") == ["A"]
        assert [run.ended for run in engine.runs("emp_001")] == ["stopped", "completed"]


def test_a_run_that_could_not_read_what_is_recorded_is_no_crash(database: Path) -> None:
    def rename(old: str, new: str) -> None:
        with closing(sqlite3.connect(database)) as db, db:
            db.execute(f"alter table {old} rename to {new}")

    def quit_at_once() -> None:
        raise SystemExit

    workflows.after_effect["a"] = quit_at_once
    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflows.errand, "a")
        del workflows.after_effect["a"]
        rename("attempts", "hidden")
        with pytest.raises(StoreError):
            engine.run("emp_001", workflows.errand, "a")
        rename("hidden", "attempts")

        assert engine.owner("emp_001") is None
        assert engine.run("emp_001", workflows.errand, "a") == ["A"]
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted", "stopped", "completed"]
