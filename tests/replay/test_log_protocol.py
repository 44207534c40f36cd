"""The protocol of a log, asked of each of them: of the SQLite file and of the one in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from msgspec.structs import replace

from durable.errors import CancelRequested, FencedError
from durable.replay.call import Operation
from durable.replay.keys import Scope
from durable.replay.log import Checkpoint, Message, Wait, WaitingLog
from durable.replay.step import Outcome, Step
from durable.store.database.connection import Connection
from durable.store.log import FileLog
from durable.store.reader import Reader
from durable.store.rows.waits import Waits
from durable.store.rows.workflows import Workflows
from durable.testing.memory import Memory, MemoryLog
from durable.values import codec

NOW, LATER = "2026-11-23T12:00:00.000000+00:00", "2026-11-23T13:00:00.000000+00:00"
COMPLETED = Outcome("completed", '"done"', None, NOW)
FAILED = Outcome("failed", None, '{"type":"builtins:ValueError","message":"no","arguments":null}', NOW)
MANY = 70  # more than two statements of 32 rows, and some that are left


class World(Protocol):
    """One workflow, on a log of a kind."""

    def begin_run(self) -> WaitingLog:
        """Begin the next run, which fences the one before."""
        ...

    def request_cancel(self) -> None:
        """Ask the workflow to end."""
        ...

    def send(self, event: str, value: str) -> None:
        """Leave a message."""
        ...

    def list_attempts(self) -> list[tuple[str, str, int]]:
        """Return the superseded attempts: key, status and number."""
        ...

    def list_ends(self) -> list[tuple[str | None, str | None]]:
        """Return how each run ended, and why."""
        ...


class FileWorld:
    """A workflow in a SQLite file."""

    def __init__(self, path: Path) -> None:
        self.store = Workflows(Connection(path))
        self.reader = Reader(path, self.store.connection)

    def begin_run(self) -> FileLog:
        state = self.store.find_state("wf")
        epoch = self.store.begin_run("wf", "shop:order", "{}", state, 1, "host", NOW)
        assert epoch is not None
        return FileLog(self.store.connection, "wf", epoch, "{}", lambda: NOW)

    def request_cancel(self) -> None:
        assert self.store.request_cancel("wf", NOW) == ["wf"]

    def send(self, event: str, value: str) -> None:
        assert Waits(self.store.connection).send("wf", event, value, None, NOW)

    def list_attempts(self) -> list[tuple[str, str, int]]:
        return [(step.step_key, step.status, step.attempt) for step in self.reader.attempts("wf")]

    def list_ends(self) -> list[tuple[str | None, str | None]]:
        return [(run.ended, run.reason) for run in self.reader.runs("wf")]


class MemoryWorld:
    """A workflow in memory."""

    def __init__(self) -> None:
        self.memory = Memory()

    def begin_run(self) -> MemoryLog:
        return MemoryLog("wf", self.memory)

    def request_cancel(self) -> None:
        self.memory.is_cancel_requested = True

    def send(self, event: str, value: str) -> None:
        self.memory.messages.append((event, Message(len(self.memory.messages), value)))

    def list_attempts(self) -> list[tuple[str, str, int]]:
        return [(step.step_key, step.status, step.attempt) for step in self.memory.attempts]

    def list_ends(self) -> list[tuple[str | None, str | None]]:
        ended = [self.memory.ends.get(epoch, (None, None, None)) for epoch in range(1, self.memory.epoch + 1)]
        return [(each, reason) for each, _, reason in ended]


@pytest.fixture(params=["file", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    made = FileWorld(tmp_path / "workflow.db")
    yield made
    made.store.close()


def step(name: str, position: int = 1, attempt: int = 1, kind: str = "step") -> Step:
    made = Step(Operation(kind, name, codec.PLAIN, "laptop"), f"{name}_{position}", position, Scope("wf"))
    made.attempt, made.started_at, made.thread = attempt, NOW, "main"
    return made


def ended(made: Step, outcome: Outcome = COMPLETED) -> Step:
    made.outcome = outcome
    return made


def history(log: WaitingLog) -> list[tuple[str, str, int, int]]:
    """Return key, status, attempt and epoch of each recorded step."""
    found = [Checkpoint.of(row) for page in log.read() for row in page]
    assert all(each.is_intact() for each in found)
    return [(each.step_key, each.status, each.attempt, each.epoch) for each in found]


def test_a_step_is_running_until_its_outcome_is_saved(world: World) -> None:
    log, charge = world.begin_run(), step("charge")
    log.begin([charge])
    begun = history(log)
    log.end([ended(charge)])

    assert begun == [("charge_1", "running", 1, 1)]
    assert history(log) == [("charge_1", "completed", 1, 1)]


def test_the_next_run_reads_what_was_recorded(world: World) -> None:
    log, charge, ship = world.begin_run(), step("charge"), step("ship", 2)
    log.begin([charge])
    log.end([ended(charge)])
    log.begin([ship])
    log.end([ended(ship, FAILED)])

    [page] = world.begin_run().read()

    assert [Checkpoint.of(row) for row in page] == [
        Checkpoint(
            "charge_1", "completed", '"done"', "step", 1, 1, '["laptop"]', None,
            codec.checksum("charge_1", "completed", '"done"', None),
        ),
        Checkpoint(
            "ship_2", "failed", None, "step", 1, 1, '["laptop"]', FAILED.error,
            codec.checksum("ship_2", "failed", None, FAILED.error),
        ),
    ]  # fmt: skip


def test_many_steps_are_begun_and_ended_together(world: World) -> None:
    log, steps = world.begin_run(), [step("item", position) for position in range(1, MANY + 1)]
    log.begin(steps)
    for position, each in enumerate(steps):
        each.outcome = FAILED if position % 10 == 0 else COMPLETED
    log.end(steps)

    assert sorted(history(log)) == sorted(
        (f"item_{position + 1}", "failed" if position % 10 == 0 else "completed", 1, 1) for position in range(MANY)
    )


def test_a_recorded_value_is_a_row_with_its_outcome(world: World) -> None:
    log = world.begin_run()
    log.record(ended(step("now", kind="now")))

    assert history(log) == [("now_1", "completed", 1, 1)]


def test_a_further_attempt_supersedes_the_earlier_one(world: World) -> None:
    world.begin_run().begin([step("charge")])
    log = world.begin_run()
    log.begin([step("charge", attempt=2), step("ship", 2)])

    assert sorted(history(log)) == [("charge_1", "running", 2, 2), ("ship_2", "running", 1, 2)]
    assert world.list_attempts() == [("charge_1", "running", 1)]
    assert [tuple(each) for each in log.list_tries()] == [("charge_1", 1, False, 0)]


def test_a_failure_with_a_further_attempt_due_leaves_a_wait(world: World) -> None:
    log, charge, ship = world.begin_run(), step("charge"), step("ship", 2)
    log.begin([charge, ship])
    log.end([ended(charge, replace(FAILED, wake_at=LATER)), ended(ship)])
    waiting = world.begin_run().list_waiting()
    again = world.begin_run()
    again.begin([step("charge", attempt=2)])

    assert waiting == {"charge_1": LATER}
    assert again.list_waiting() == {}
    assert [tuple(each) for each in again.list_tries()] == [("charge_1", 1, True, 0)]


def test_a_single_failure_with_a_further_attempt_due_leaves_a_wait(world: World) -> None:
    log, charge = world.begin_run(), step("charge")
    log.begin([charge])
    log.end([ended(charge, replace(FAILED, wake_at=LATER))])

    assert log.list_waiting() == {"charge_1": LATER}


def test_the_failed_step_that_ended_a_workflow_is_tried_anew(world: World) -> None:
    log, charge = world.begin_run(), step("charge")
    log.begin([charge])
    log.end([ended(charge, FAILED)])
    log.close("failed", replace(FAILED, error='{"type":"ValueError","steps":["charge_1"]}'), "ValueError")
    log = world.begin_run()

    assert history(log) == []
    assert [tuple(each) for each in log.list_tries()] == [("charge_1", 1, True, 1)]
    assert world.list_ends() == [("failed", "ValueError"), (None, None)]


def test_superseded_steps_move_to_the_attempts(world: World) -> None:
    log, charge, ship = world.begin_run(), step("charge"), step("ship", 2)
    log.begin([charge, ship])
    log.end([ended(charge), ended(ship)])
    log.supersede(["ship_2"])

    assert history(log) == [("charge_1", "completed", 1, 1)]
    assert world.list_attempts() == [("ship_2", "completed", 1)]


def test_a_run_that_was_taken_over_saves_nothing(world: World) -> None:
    log, charge = world.begin_run(), step("charge")
    log.begin([charge])
    current = world.begin_run()
    wait = step("approval", 2, kind="event")
    saves: list[Callable[[], object]] = [
        lambda: log.begin([step("ship", 2)]),
        lambda: log.begin([step("ship", 2), step("pack", 3)]),
        lambda: log.begin([step("charge", attempt=2)]),
        lambda: log.end([ended(charge)]),
        lambda: log.end([ended(charge, replace(FAILED, wake_at=LATER))]),
        lambda: log.record(ended(step("now", 3))),
        lambda: log.supersede(["charge_1"]),
        lambda: log.begin_wait(wait, Wait(LATER)),
        lambda: log.end_wait(ended(wait)),
        log.check,
        lambda: log.close("completed", COMPLETED),
    ]
    for save in saves:
        with pytest.raises(FencedError) as caught:
            save()
        assert (caught.value.workflow_id, caught.value.epoch) == ("wf", 1)

    assert history(current) == [("charge_1", "running", 1, 1)]
    assert (current.list_waiting(), world.list_attempts()) == ({}, [])
    current.check()


def test_a_workflow_that_is_to_be_cancelled_begins_nothing_more(world: World) -> None:
    log, charge = world.begin_run(), step("charge")
    log.begin([charge])
    log.end([ended(charge, replace(FAILED, wake_at=LATER))])
    world.request_cancel()
    begins: list[Callable[[], object]] = [
        lambda: log.begin([step("ship", 2)]),
        lambda: log.begin([step("charge", attempt=2)]),
        lambda: log.record(ended(step("now", 2))),
        lambda: log.begin_wait(step("approval", 2, kind="event"), Wait(LATER)),
        log.check,
    ]
    for begin in begins:
        with pytest.raises(CancelRequested):
            begin()

    assert history(log) == [("charge_1", "failed", 1, 1)]
    assert (log.list_waiting(), world.list_attempts()) == ({"charge_1": LATER}, [])


def test_a_workflow_that_is_to_be_cancelled_still_ends_what_has_begun_and_undoes_it(world: World) -> None:
    log, charge, refund = world.begin_run(), step("charge"), step("refund", 2, kind="compensation")
    log.begin([charge])
    world.request_cancel()
    log.end([ended(charge)])
    log.begin([refund])
    log.end([ended(refund)])
    log.close("cancelled", FAILED, "cancelled")

    assert history(log) == [("charge_1", "completed", 1, 1), ("refund_2", "completed", 1, 1)]
    assert world.list_ends() == [("cancelled", "cancelled")]


@pytest.mark.parametrize(("ended_as", "outcome"), [("completed", COMPLETED), ("failed", FAILED), ("suspended", None)])
def test_a_run_ends_once(world: World, ended_as: str, outcome: Outcome | None) -> None:
    log = world.begin_run()
    log.close(ended_as, outcome, "a reason")
    log.close("interrupted", None, "another reason")

    assert world.list_ends() == [(ended_as, "a reason")]


def test_a_wait_is_taken_over_by_the_next_run_with_its_instant(world: World) -> None:
    approval = step("approval", kind="event")
    first = world.begin_run().begin_wait(approval, Wait(NOW, "approved"))
    log = world.begin_run()
    second = log.begin_wait(approval, Wait(LATER, "approved"))

    assert (first, second) == ((NOW, True), (NOW, False))
    assert history(log) == [("approval_1", "running", 1, 2)]
    assert log.list_waiting() == {"approval_1": NOW}


def test_a_message_is_received_by_one_wait(world: World) -> None:
    log, approval, other = world.begin_run(), step("approval", kind="event"), step("approval", 2, kind="event")
    log.begin_wait(approval, Wait(event="approved"))
    log.begin_wait(other, Wait(event="approved"))
    assert log.find_message("approved") is None
    world.send("approved", '"yes"')
    world.send("approved", '"no"')
    message = log.find_message("approved")
    assert message is not None
    received = replace(COMPLETED, output=message.value, message=message.id)

    assert message.value == '"yes"'
    assert log.end_wait(ended(approval, received))
    assert not log.end_wait(ended(other, received))
    left = log.find_message("approved")
    assert left is not None
    assert left.value == '"no"'
    assert history(log) == [("approval_1", "completed", 1, 1), ("approval_2", "running", 1, 1)]
    assert log.list_waiting() == {"approval_2": None}


def test_a_wait_that_is_over_is_no_longer_waited_for(world: World) -> None:
    log, timer = world.begin_run(), step("timer", kind="timer")
    log.begin_wait(timer, Wait(LATER))

    assert log.end_wait(ended(timer))
    assert log.list_waiting() == {}
    assert history(log) == [("timer_1", "completed", 1, 1)]


def test_a_database_is_named_for_messages(world: World) -> None:
    assert isinstance(world.begin_run().path, Path)


# ---- transactions, which the file alone has


@pytest.fixture
def file_world(tmp_path: Path) -> Iterator[FileWorld]:
    made = FileWorld(tmp_path / "workflow.db")
    made.store.connection.write(("create table orders (item)", ()))
    yield made
    made.store.close()


def orders(world: FileWorld) -> list[str]:
    return [row[0] for row in world.store.connection.read("select item from orders")]


@pytest.mark.parametrize(("outcome", "left"), [(COMPLETED, ["laptop"]), (FAILED, [])])
def test_a_transaction_saves_effect_and_outcome_or_the_failure_alone(
    file_world: FileWorld, outcome: Outcome, left: list[str]
) -> None:
    def work(db: sqlite3.Connection) -> Outcome:
        db.execute("insert into orders values ('laptop')")
        return outcome

    log = file_world.begin_run()

    assert log.transact(step("order", kind="transaction"), work) == outcome
    assert history(log) == [("order_1", outcome.status, 1, 1)]
    assert orders(file_world) == left


def test_an_interrupt_within_a_transaction_undoes_all_of_it(file_world: FileWorld) -> None:
    def work(db: sqlite3.Connection) -> Outcome:
        db.execute("insert into orders values ('laptop')")
        raise KeyboardInterrupt

    log = file_world.begin_run()
    with pytest.raises(KeyboardInterrupt):
        log.transact(step("order", kind="transaction"), work)

    assert (history(log), orders(file_world)) == ([], [])


def test_a_transaction_of_a_run_that_may_begin_nothing_is_not_called(file_world: FileWorld) -> None:
    calls: list[object] = []

    def work(db: sqlite3.Connection) -> Outcome:
        calls.append(db)
        return COMPLETED

    log, current = file_world.begin_run(), file_world.begin_run()
    file_world.request_cancel()
    with pytest.raises(FencedError):
        log.transact(step("order", kind="transaction"), work)
    with pytest.raises(CancelRequested):
        current.transact(step("order", kind="transaction"), work)

    assert (calls, history(current)) == ([], [])
