"""Fork: a new workflow with the checkpoints before a step, which goes its own way; the original is untouched."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, WorkflowBusyError, WorkflowConflictError, lab
from durable.errors import InvalidNameError, StepNotFoundError, WorkflowNotFoundError
from durable.observer import crash_at
from durable.replay.keys import program_order
from durable.testing import wait_for_change
from tests.support import workflows
from tests.support.processes import crash_in_child, eventually
from tests.support.workflows import act, effects, errand, journey

TABLES = ("workflows", "runs", "steps", "waits", "messages", "attempts")


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    with Engine(database) as opened:
        yield opened


def rows_of(database: Path, workflow_id: str) -> list[list[tuple[Any, ...]]]:
    """All that is stored of a workflow."""
    with closing(sqlite3.connect(database)) as db:
        return [
            db.execute(
                f"select * from {table} where {'id' if table == 'workflows' else 'workflow_id'} = ? order by 1, 2",
                (workflow_id,),
            ).fetchall()
            for table in TABLES
        ]


def two_letters(ctx: Context) -> list[str]:
    return [ctx.wait_event("letter", type=str), ctx.wait_event("letter", type=str)]


def parent(ctx: Context, *what: str) -> list[str]:
    ctx.step(act, "before")
    result: list[str] = ctx.child(errand, *what).result()
    ctx.step(act, "after")
    return result


class Door:
    """A step that fails as long as it is shut."""

    def __init__(self) -> None:
        self.is_shut = True

    def enter(self) -> str:
        if self.is_shut:
            raise ConnectionError("it is shut")
        return "in"

    def visit(self, ctx: Context) -> str:
        """On a failure it has something to do that it has not on a success."""
        entered = ctx.submit(self.enter)
        other = ctx.submit(act, "beside")
        other.result()
        try:
            return entered.result()
        except ConnectionError:
            ctx.step(act, "go home")
            raise
        finally:
            ctx.step(act, "close the day")


# ---- what comes along


def test_a_fork_goes_on_from_its_step_and_the_original_is_untouched(engine: Engine, database: Path) -> None:
    engine.run("emp_001", errand, "a", "b", "c")
    before = rows_of(database, "emp_001")
    engine.fork("emp_001", "emp_002", at="act_3")

    forked, original = engine.workflow("emp_002"), engine.workflow("emp_001")
    assert (forked.function, forked.arguments) == (original.function, original.arguments)
    assert (forked.status, forked.output, forked.parent_id) == ("running", None, None)
    assert [(row.step_key, row.value) for row in engine.steps("emp_002")] == [("act_1", "A"), ("act_2", "B")]
    assert engine.runs("emp_002") == []
    assert engine.resume("emp_002").result() == ["A", "B", "C"]
    assert rows_of(database, "emp_001") == before
    assert effects(database, "emp_002") == ["act_3"]
    assert workflows.list_faults(engine.path) == []


@pytest.mark.thorough
def test_a_rich_workflow_can_be_forked_at_every_step(engine: Engine, database: Path) -> None:
    result = engine.run("emp_001", journey, 2)
    all_keys = [row.step_key for row in engine.steps("emp_001")]
    for number, key in enumerate(all_keys):
        engine.fork("emp_001", f"fork_{number}", at=key)

        kept = [row.step_key for row in engine.steps(f"fork_{number}")]
        assert kept == [each for each in all_keys if program_order(each) < program_order(key)]
        assert engine.run(f"fork_{number}", journey, 2) == result
        assert sorted(effects(database, f"fork_{number}")) == sorted(set(all_keys) - set(kept))


def test_finished_parallel_siblings_before_the_step_are_kept(engine: Engine, database: Path) -> None:
    workflows.after_effect["c"] = lambda: (_ for _ in ()).throw(ConnectionError("no c"))
    with pytest.raises(ConnectionError):
        engine.run("emp_001", workflows.side_by_side, "a", "b", "c", "d")
    del workflows.after_effect["c"]
    engine.fork("emp_001", "emp_002", at="act_3")

    assert engine.resume("emp_002").result() == ["A", "B", "C", "D"]
    assert sorted(effects(database, "emp_002")) == ["act_3", "act_4"]


def test_messages_that_the_kept_steps_received_stay_received(engine: Engine) -> None:
    handle = engine.start("emp_001", two_letters)
    for text in ("first", "second", "third"):
        engine.send("emp_001", "letter", text, key=text)
    assert handle.result() == ["first", "second"]
    engine.fork("emp_001", "emp_002", at="letter_2")
    engine.send("emp_002", "letter", "another")

    assert not engine.send("emp_002", "letter", "first again", key="first")
    assert engine.run("emp_002", two_letters) == ["first", "another"]


def test_a_kept_child_keeps_its_outcome_and_one_after_the_step_is_a_new_one(engine: Engine, database: Path) -> None:
    engine.run("emp_001", parent, "x")
    engine.fork("emp_001", "kept", at="act_3")
    engine.fork("emp_001", "anew", at="errand_2")

    assert engine.run("kept", parent, "x") == engine.run("anew", parent, "x") == ["X"]
    assert [record.workflow_id for record in engine.workflows() if "/" in record.workflow_id] == [
        "emp_001/errand_2",
        "anew/errand_2",
    ]


def test_what_is_published_before_the_step_can_be_read_of_the_fork_in_order(engine: Engine) -> None:
    def telling(ctx: Context) -> None:
        for number in range(12):
            ctx.publish("progress", number)

    engine.run("emp_001", telling)
    engine.fork("emp_001", "emp_002", at="progress_12")

    assert engine.read("emp_002", "progress") == 10


# ---- what does not


def test_a_step_that_is_running_or_waits_is_begun_by_the_fork_itself(engine: Engine, database: Path) -> None:
    def day(ctx: Context, what: str) -> str:
        letter, done = ctx.event("letter", type=str), ctx.submit(act, what)
        ctx.step(act, f"{done.result()} and on")
        return letter.result()

    handle = engine.start("emp_001", day, "a")
    while len(engine.steps("emp_001")) < 3 or engine.steps("emp_001")[2].status == "running":
        wait_for_change(engine)
    engine.fork("emp_001", "emp_002", at="act_3")
    kept = [row.step_key for row in engine.steps("emp_002")]
    other = engine.start("emp_002", day, "a")
    engine.send("emp_002", "letter", "to the fork")
    engine.send("emp_001", "letter", "to the original")

    assert kept == ["act_2"]
    assert other.result() == "to the fork"
    assert handle.result() == "to the original"
    assert effects(database, "emp_002") == ["act_3"]


def test_a_step_that_runs_in_the_original_is_a_first_try_in_the_fork(engine: Engine, database: Path) -> None:
    leave = threading.Event()
    workflows.after_effect["a"] = leave.wait
    try:
        handle = engine.start("emp_001", workflows.side_by_side, "a", "b", "c")
        eventually(lambda: [row.status for row in engine.steps("emp_001")] == ["running", "completed", "completed"])
        engine.fork("emp_001", "emp_002", at="act_3")
        kept = [(row.step_key, row.status) for row in engine.steps("emp_002")]
    finally:
        leave.set()
    handle.result()

    assert kept == [("act_2", "completed")]
    assert engine.resume("emp_002").result() == ["A", "B", "C"]
    assert [row.attempt for row in engine.steps("emp_002")] == [1, 1, 1]
    del workflows.after_effect["a"]


def test_a_wait_that_was_given_up_as_the_original_ended_is_waited_for_by_the_fork(engine: Engine) -> None:
    def race_with_a_day(ctx: Context) -> str:
        day, fast = ctx.timer(86400), ctx.submit(act, "fast")
        return ctx.step(act, f"then {ctx.first(day, fast).result().result()}")

    assert engine.run("emp_001", race_with_a_day) == "THEN FAST"
    engine.fork("emp_001", "emp_002", at="act_4")

    assert [row.step_key for row in engine.steps("emp_002")] == ["act_2", "first_3"]
    assert engine.run("emp_002", race_with_a_day) == "THEN FAST"


def test_the_failure_that_ended_the_original_is_tried_again_and_may_lead_another_way(engine: Engine) -> None:
    door = Door()
    with pytest.raises(ConnectionError):
        engine.run("emp_001", door.visit)
    assert [row.name for row in engine.steps("emp_001")] == ["enter", "act", "act", "act"]
    engine.fork("emp_001", "emp_002", at="act_4")
    door.is_shut = False

    assert engine.run("emp_002", door.visit) == "in"
    assert [(row.step_key, row.attempt) for row in engine.steps("emp_002")] == [
        ("enter_1", 2),
        ("act_2", 1),
        ("act_3", 2),
    ]


def test_a_failure_that_was_handled_comes_along(engine: Engine) -> None:
    door = Door()

    def look_in(ctx: Context) -> str:
        try:
            return ctx.step(door.enter)
        except ConnectionError:
            return ctx.step(act, "tomorrow")

    engine.run("emp_001", look_in)
    engine.fork("emp_001", "emp_002", at="act_2")
    door.is_shut = False

    assert engine.run("emp_002", look_in) == "TOMORROW"


def test_rows_that_a_retried_failure_left_behind_are_no_divergence_in_the_fork(engine: Engine, database: Path) -> None:
    # run 1: the door is shut, "go home" and "close the day" are recorded after it
    # run 2: the door is open; a crash before the code has shown that it goes another way; then the fork
    door = Door()
    with pytest.raises(ConnectionError):
        engine.run("emp_001", door.visit)
    crash_in_child(visit_and_crash, database)
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("update workflows set function = ?", (f"{__name__}:Door.visit",))
    door.is_shut = False
    engine.fork("emp_001", "emp_002", at="act_4")

    assert engine.run("emp_002", door.visit) == "in"


def visit_and_crash(pipe: Any, database: Path) -> None:
    door = Door()
    door.is_shut = False
    with Engine(database, observers=[crash_at("enter", "checkpointed")]) as engine:
        engine.run("emp_001", door.visit)


def test_compensations_do_not_come_along(engine: Engine, database: Path) -> None:
    door = Door()

    def saga(ctx: Context) -> str:
        ctx.on_failure(act, "undo")
        ctx.step(act, "do")
        return ctx.step(door.enter)

    with pytest.raises(ConnectionError):
        engine.run("emp_001", saga)
    door.is_shut = False
    engine.fork("emp_001", "emp_002", at="enter_3")

    assert [row.kind for row in engine.steps("emp_002")] == ["on_failure", "step"]
    assert engine.run("emp_002", saga) == "in"
    assert effects(database, "emp_002") == []


def test_a_fork_can_be_rewound_and_forked_again(engine: Engine, database: Path) -> None:
    engine.run("emp_001", errand, "a", "b", "c")
    engine.fork("emp_001", "emp_002", at="act_3")
    engine.rewind("emp_002", to="act_2")
    engine.resume("emp_002").result()
    engine.fork("emp_002", "emp_003", at="act_2")

    assert engine.resume("emp_003").result() == ["A", "B", "C"]
    assert effects(database, "emp_003") == ["act_2", "act_3"]


# ---- refusals


def test_an_id_that_is_taken_is_refused(engine: Engine, database: Path) -> None:
    engine.run("emp_001", errand, "a")
    engine.run("emp_002", errand, "b")
    before = rows_of(database, "emp_002")
    with pytest.raises(WorkflowConflictError, match=r"'emp_002' is .*errand with .* and was to become a fork") as taken:
        engine.fork("emp_001", "emp_002", at="act_1")
    with pytest.raises(WorkflowConflictError):
        engine.fork("emp_001", "emp_001", at="act_1")

    assert (taken.value.workflow_id, taken.value.called) == ("emp_002", "a fork of 'emp_001'")
    assert rows_of(database, "emp_002") == before


def test_an_id_that_another_thread_is_beginning_is_busy(engine: Engine) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        leave.wait()

    def hold(ctx: Context) -> None:
        ctx.step(wait)

    engine.run("emp_001", errand, "a")
    handle = engine.start("emp_002", hold)
    entered.wait()
    try:
        with pytest.raises(WorkflowBusyError):
            engine.fork("emp_001", "emp_002", at="act_1")
    finally:
        leave.set()
    handle.result()


def test_unknown_steps_ids_and_workflows_are_refused_and_nothing_is_made(engine: Engine) -> None:
    engine.run("emp_001", errand, "a")
    with pytest.raises(StepNotFoundError, match="did you mean 'act_1'"):
        engine.fork("emp_001", "emp_002", at="act1")
    with pytest.raises(WorkflowNotFoundError):
        engine.fork("emp_009", "emp_002", at="act_1")
    with pytest.raises(InvalidNameError):
        engine.fork("emp_001", "", at="act_1")

    assert [record.workflow_id for record in engine.workflows()] == ["emp_001"]


def test_a_run_of_a_deleted_workflow_cannot_write_into_a_fork_of_its_id(engine: Engine) -> None:
    for _ in range(3):
        engine.run("emp_002", errand, "a")
        engine.rewind("emp_002", to="act_1")
    last = engine.workflow("emp_002").epoch
    engine.delete("emp_002")
    engine.run("emp_001", errand, "a")
    engine.fork("emp_001", "emp_002", at="act_1")

    assert engine.workflow("emp_002").epoch == last + 1


# ---- seen by others


def test_the_lab_shows_a_fork_before_and_after_its_run(engine: Engine, database: Path) -> None:
    engine.run("emp_001", errand, "a", "b", "c")
    engine.fork("emp_001", "emp_002", at="act_3")

    assert list(lab.steps(database, "emp_002").index) == ["act_1", "act_2"]
    assert list(lab.workflows(database).index) == ["emp_001", "emp_002"]
    with pytest.raises(ValueError, match="emp_002"):
        lab.timeline(database, "emp_002")
    engine.resume("emp_002").result()
    assert list(lab.steps(database, "emp_002").output) == ["A", "B", "C"]
    assert [text.get_text() for text in lab.timeline(database, "emp_002").axes[0].get_yticklabels()] == ["main"]
