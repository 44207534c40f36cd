"""The example workflows: their results, their keys, what they do to the world, and the story that each is to tell."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime

import pytest

from durable import Engine
from durable.clock import ManualClock
from durable.examples import conditional as conditional_module
from durable.examples.approval import Approval, approval
from durable.examples.conditional import conditional
from durable.examples.effects import list_effects
from durable.examples.loop import loop
from durable.examples.onboarding import Employee, onboarding
from durable.examples.saga import BadgeError, saga
from durable.examples.zombie import zombie
from durable.terminal.run.target import EXAMPLES, find_target
from durable.testing import run_until_crash
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually


@pytest.fixture
def db(tmp_path):
    return tmp_path / "workflow.db"


def run(db, workflow, **arguments):
    with Engine(db) as engine:
        return engine.run("w", workflow, delay_seconds=0.0, **arguments)


def steps(db):
    with Engine(db) as engine:
        return [(step.step_key, step.status, step.attempt) for step in engine.steps("w")]


def keys(db):
    return [key for key, _, _ in steps(db)]


PLAIN = [
    (
        onboarding,
        {"name": "Jane Doe"},
        Employee("w", "Jane Doe", "MacBook Pro", "w@company.com"),
        ["create_record_1", "provision_laptop_2", "setup_access_3", "send_welcome_email_4"],
        [
            "created a record for Jane Doe",
            "ordered a laptop for Jane Doe",
            "opened accounts for Jane Doe",
            "sent a welcome to w@company.com",
        ],
    ),
    (
        loop,
        {},
        [10, 20, 30],
        ["loop_step_1", "loop_step_2", "loop_step_3"],
        ["made turn 1", "made turn 2", "made turn 3"],
    ),
    (
        conditional,
        {"chance": 1.0},
        "tomorrow",
        ["check_stock_1", "take_from_shelf_2", "notify_customer_3"],
        ["looked at the shelf: one left", "took it from the shelf", "told the customer: tomorrow"],
    ),
    (
        conditional,
        {"chance": 0.0},
        "in a week",
        ["check_stock_1", "order_from_supplier_2", "notify_customer_3"],
        ["looked at the shelf: empty", "ordered it from the supplier", "told the customer: in a week"],
    ),
    (
        zombie,
        {},
        ["before", "zombie", "after"],
        ["step_before_1", "zombie_step_2", "step_after_3"],
        ["did the step before", "did the zombie step", "did the step after"],
    ),
    (
        approval,
        {"price": 1500},
        "MacBook Pro is on its way",
        ["order_laptop_1", "tell_2"],
        ["ordered a MacBook Pro", "told the employee: MacBook Pro is on its way"],
    ),
    (
        saga,
        {"office_is_open": True},
        "badge of John Doe",
        ["create_record_1", "remove_record_2", "order_laptop_3", "return_laptop_4", "print_badge_5"],
        ["created a record for John Doe", "ordered a laptop for John Doe", "asked for a badge for John Doe"],
    ),
]


@pytest.mark.parametrize(("workflow", "arguments", "result", "expected_keys", "effects"), PLAIN)
def test_an_undisturbed_run_gives_its_result_and_has_each_effect_once(
    db, workflow, arguments, result, expected_keys, effects
):
    assert run(db, workflow, **arguments) == result

    assert keys(db) == expected_keys
    assert sorted(list_effects(db, "w")) == sorted(effects)  # two of onboarding's are parallel


@pytest.mark.parametrize(("workflow", "arguments", "result", "expected_keys", "effects"), PLAIN)
def test_a_completed_example_run_again_has_no_effect(db, workflow, arguments, result, expected_keys, effects):
    run(db, workflow, **arguments)

    assert run(db, workflow, **arguments) == result
    assert len(list_effects(db)) == len(effects)


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_found_by_its_name_takes_a_second_a_step_and_explains_itself(name):
    module = importlib.import_module(f"durable.examples.{name}")
    workflow = getattr(module, name)

    assert find_target(name).fn is workflow
    assert workflow.__defaults__[-1] == 1.0
    assert workflow.__code__.co_varnames[workflow.__code__.co_argcount - 1] == "delay_seconds"
    assert "durable run" in module.__doc__


# ---- the loop resumes in the middle


def test_after_a_crash_in_the_third_turn_the_loop_makes_only_that_one(db):
    run_until_crash(db, "w", loop, at="loop_step_3:started", delay_seconds=0.0)
    assert list_effects(db) == ["made turn 1", "made turn 2"]

    assert run(db, loop) == [10, 20, 30]
    assert list_effects(db) == ["made turn 1", "made turn 2", "made turn 3"]
    assert steps(db) == [
        ("loop_step_1", "completed", 1),
        ("loop_step_2", "completed", 1),
        ("loop_step_3", "completed", 2),
    ]


# ---- a branch taken stays taken


class Interrupt:
    """An observer that ends the run, as Ctrl+C would, when a step is about to have its effect."""

    def __init__(self, step_name):
        self.step_name = step_name

    def __call__(self, moment):
        if moment.name == "step.started" and moment.step_name == self.step_name:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("draws", "arrival"), [([0.0, 0.9], "tomorrow"), ([0.9, 0.0], "in a week")])
def test_a_branch_stays_taken_though_the_world_would_answer_otherwise_by_now(db, monkeypatch, draws, arrival):
    answers = iter(draws)
    monkeypatch.setattr(conditional_module.random, "random", lambda: next(answers))
    with pytest.raises(KeyboardInterrupt), Engine(db, observers=[Interrupt("notify_customer")]) as engine:
        engine.run("w", conditional, delay_seconds=0.0)
    taken = keys(db)

    assert run(db, conditional) == arrival
    assert keys(db) == taken
    assert list(answers) == draws[1:]  # the world was not asked again
    assert sum("shelf: " in effect for effect in list_effects(db)) == 1


def test_a_branch_taken_by_chance_stays_taken_after_sigkill_inside_it(db):
    for number in range(4):
        run_until_crash(db, f"c{number}", conditional, at="notify_customer:started", delay_seconds=0.0)

    with Engine(db) as engine:
        for number in range(4):
            before = [step.step_key for step in engine.steps(f"c{number}")]
            arrival = engine.run(f"c{number}", conditional, delay_seconds=0.0)
            assert [step.step_key for step in engine.steps(f"c{number}")] == before
            assert arrival == {"take_from_shelf_2": "tomorrow", "order_from_supplier_2": "in a week"}[before[1]]
            assert len(list_effects(db, f"c{number}")) == 3


# ---- the zombie says so


def test_a_zombie_step_runs_again_and_says_so_between_a_skipped_step_and_one_that_runs(db):
    run_until_crash(db, "w", zombie, at="zombie_step:executed", delay_seconds=0.0)
    assert steps(db) == [("step_before_1", "completed", 1), ("zombie_step_2", "running", 1)]

    assert run(db, zombie) == ["before", "zombie", "after"]
    assert steps(db) == [
        ("step_before_1", "completed", 1),
        ("zombie_step_2", "completed", 2),
        ("step_after_3", "completed", 1),
    ]
    assert list_effects(db) == [
        "did the step before",
        "did the zombie step",
        "did the zombie step again, attempt 2: the one before may have done it too",
        "did the step after",
    ]


# ---- the approval waits, and not for ever


ASKED = "asked the manager for a MacBook Pro at 3000"
ASKED_AGAIN = "asked the director for a MacBook Pro at 3000"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            [Approval("Ann", granted=True)],
            [ASKED, "ordered a MacBook Pro", "told the employee: MacBook Pro is on its way"],
        ),
        ([Approval("Ann", granted=False)], [ASKED, "told the employee: rejected by Ann"]),
        ([], [ASKED, ASKED_AGAIN, "told the employee: rejected, since no answer came in time"]),
    ],
    ids=["granted", "rejected", "nobody answers"],
)
def test_what_a_person_answers_while_the_process_is_dead_is_not_lost(db, answers, expected):
    run_until_crash(db, "w", approval, at="approval:started", delay_seconds=0.0)
    with Engine(db, clock=ManualClock(datetime.now(UTC))) as engine:
        for answer in answers:
            engine.send("w", "approval", answer)
        engine.run("w", approval, delay_seconds=0.0)

    assert list_effects(db) == expected


def test_the_director_is_asked_only_when_the_manager_s_time_is_over(db):
    clock = ManualClock(skip=False)
    with Engine(db, clock=clock) as engine:
        handle = engine.start("w", approval, delay_seconds=0.0)
        eventually(lambda: keys(db) == ["request_approval_1", "approval_2"])
        clock.advance(60)
        eventually(lambda: keys(db)[2:] == ["request_approval_3", "approval_4"])
        engine.send("w", "approval", Approval("the director", granted=True))

        assert handle.result(PATIENCE_SECONDS) == "MacBook Pro is on its way"
        assert list_effects(db)[:2] == [ASKED, ASKED_AGAIN]
        assert [status for _, status, _ in steps(db)[:4]] == ["completed", "failed", "completed", "completed"]


# ---- the saga gives the laptop back


SAGA = [
    "created a record for John Doe",
    "ordered a laptop for John Doe",
    "asked for a badge for John Doe",
    "gave the MacBook Pro back",
    "removed the record of John Doe",
]


def test_the_saga_leaves_nothing_behind_when_the_badge_cannot_be_had(db):
    with pytest.raises(BadgeError, match="the office is closed"):
        run(db, saga)

    assert list_effects(db) == SAGA


@pytest.mark.parametrize(
    "at", ["return_laptop:started", "return_laptop:checkpointed", "remove_record_2/remove_record_1"]
)
def test_a_saga_that_is_killed_while_it_is_undone_goes_on_undoing(db, at):
    run_until_crash(db, "w", saga, at=at, delay_seconds=0.0)
    with pytest.raises(BadgeError):
        run(db, saga)

    assert list(dict.fromkeys(list_effects(db))) == SAGA
    assert len(list_effects(db)) == len(SAGA) + (at == "remove_record_2/remove_record_1")  # killed after its effect


# ---- the effects log


def test_the_effects_log_can_be_read_by_workflow_and_by_step(db):
    with Engine(db) as engine:
        for workflow_id in ("a", "b", "a/b"):
            engine.run(workflow_id, loop, delay_seconds=0.0)

    assert len(list_effects(db)) == 9
    assert list_effects(db, "b") == ["made turn 1", "made turn 2", "made turn 3"]
    assert list_effects(db, "b", "loop_step_2") == ["made turn 2"]
    assert list_effects(db, "c") == []


def test_the_effects_of_an_id_that_begins_like_another_are_kept_apart(db):
    with Engine(db) as engine:
        for workflow_id in ("a", "a/b", "a\n", "a\tb"):
            engine.run(workflow_id, loop, delay_seconds=0.0)

    assert [len(list_effects(db, workflow_id)) for workflow_id in ("a", "a/b", "a\n", "a\tb")] == [3, 3, 3, 3]


def test_laptop_and_accounts_are_set_up_at_the_same_time(db):
    with Engine(db) as engine:
        engine.run("w", onboarding, delay_seconds=0.1)
        laptop, access = engine.steps("w")[1:3]

    assert max(laptop.started_at, access.started_at) < min(laptop.ended_at, access.ended_at)
