"""The panel without a browser: its gate, its guesses, its controller with every button, and the widget on top."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from durable import Context, Engine, Retry, current_step, step
from durable.dashboard.rows import Now, state_of
from durable.examples.conditional import conditional
from durable.examples.effects import effects_log, list_effects
from durable.examples.onboarding import onboarding
from durable.lab.panel.controller import Controller
from durable.lab.panel.gate import Gate
from durable.lab.panel.guess import Guess, guess_steps
from durable.lab.panel.restarts import Restarts
from durable.lab.panel.widget import Panel, panel
from durable.lab.views import tables
from durable.observer import Moment
from durable.testing import run_until_crash
from tests.support.patience import patient

WAIT_SECONDS = patient(20)
QUICK = {"name": "Jane Doe", "delay_seconds": 0.0}
ALL_ONCE = [
    "created a record for Jane Doe",
    "ordered a laptop for Jane Doe",
    "opened accounts for Jane Doe",
    "sent a welcome to emp_001@company.com",
]


class Watched:
    """A controller, and the states that it announced."""

    def __init__(self, db: Path, workflow=onboarding, workflow_id="emp_001", kwargs=QUICK, **options) -> None:
        self.states: list[dict] = []
        self._changed = threading.Condition()
        self.controller = Controller(
            workflow, workflow_id, db=db, kwargs=kwargs, on_change=self._take, notice_seconds=0.0, **options
        )
        self.controller.open()

    def _take(self, state: dict) -> None:
        with self._changed:
            self.states.append(json.loads(json.dumps(state)))
            self._changed.notify_all()

    @property
    def state(self) -> dict:
        return self.states[-1]

    def wait_for(self, what) -> dict:
        with self._changed:
            assert self._changed.wait_for(lambda: what(self.state), WAIT_SECONDS), self.state
            return self.state

    def wait_for_steps(self, **states: str) -> dict:
        return self.wait_for(lambda state: states.items() <= steps_of(state).items())

    def wait_until_next(self, key: str) -> dict:
        return self.wait_for(lambda state: any(card["next"] and card["key"] == key for card in cards_of(state)))

    def wait_for_status(self, status: str) -> dict:
        return self.wait_for(lambda state: state["status"] == status)

    def wait_for_sentence(self, text: str) -> dict:
        return self.wait_for(lambda state: text in said(state))

    def step(self, key: str, *, then: str | None = None) -> None:
        """Click Next step, and wait until that step is completed and the following one waits at the gate."""
        self.controller.next_step()
        self.wait_for_steps(**{key: "completed"})
        if then is not None:
            self.wait_until_next(then)


def cards_of(state: dict) -> list[dict]:
    return list(walk(state["columns"]))


def walk(columns):
    """The cards of all columns, those in branches too."""
    for item in (item for column in columns for item in column):
        if "columns" in item:
            yield from walk(item["columns"])
        else:
            yield item


def steps_of(state: dict) -> dict[str, str]:
    return {card["key"]: card["state"] for card in cards_of(state)}


def words_of(state: dict) -> dict[str, str]:
    return {card["key"]: card["word"] for card in cards_of(state)}


def said(state: dict) -> str:
    return f"{state['sentence']['head']} {state['sentence']['text']}"


@pytest.fixture
def watch(database):
    """Makes watched controllers, and closes them."""
    made: list[Watched] = []

    def make(*args, **options) -> Watched:
        made.append(Watched(database, *args, **options))
        return made[-1]

    yield make
    for watched in made:
        watched.controller.close()


def run_in_child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )


# ---- workflows of these tests


def write_down(text: str) -> str:
    return text


def refuse(path: str) -> str:
    if not Path(path).exists():
        raise ValueError("no permit")
    return "permitted"


def two_steps(ctx: Context, path: str) -> None:
    ctx.step(write_down, "first")
    ctx.step(refuse, path)


def many_steps(ctx: Context, count: int) -> None:
    for number in range(count):
        ctx.step(write_down, str(number))


def idle(ctx: Context) -> str:
    return "a branch without a step"


def with_an_idle_branch(ctx: Context) -> None:
    branch = ctx.branch(idle)
    ctx.step(write_down, "after")
    branch.result()


def with_a_busy_branch(ctx: Context) -> None:
    branch = ctx.branch(inner)
    later = ctx.submit(write_down, "beside")
    branch.result()
    later.result()


def inner(ctx: Context) -> None:
    ctx.step(write_down, "one")
    ctx.step(write_down, "two")


def with_a_choice(ctx: Context, big: bool) -> None:
    ctx.step("open", write_down, "door")
    if big:
        ctx.submit(write_down, "big").result()
    ctx.step(write_down, "end")


# ---- the gate


def test_a_step_passes_the_gate_only_after_the_earlier_ones_have_arrived():
    gate, passed = Gate(), []

    def pass_through(key: str) -> threading.Thread:
        def walk() -> None:
            gate.arrive(key)
            gate.wait(key)
            passed.append(key)

        thread = threading.Thread(target=walk)
        thread.start()
        return thread

    gate.note("create_1")
    gate.let_one()
    gate.arrive("access_3")  # a worker was quicker than that of laptop_2
    assert gate.waiting == ["access_3"]
    laptop = pass_through("laptop_2")
    laptop.join(WAIT_SECONDS)

    assert passed == ["laptop_2"]
    assert gate.waiting == ["access_3"]


def test_an_open_gate_holds_no_step():
    gate = Gate()
    gate.open()
    gate.arrive("laptop_2")
    gate.wait("laptop_2")

    assert gate.waiting == []


# ---- guesses


def test_upcoming_steps_are_read_from_the_source():
    assert guess_steps(onboarding) == [
        Guess("create_record", "create_record_1", is_parallel=False),
        Guess("provision_laptop", "provision_laptop_2", is_parallel=True),
        Guess("setup_access", "setup_access_3", is_parallel=True),
        Guess("send_welcome_email", "send_welcome_email_4", is_parallel=False),
    ]


def test_a_condition_or_a_loop_makes_the_numbers_after_it_unknown():
    assert guess_steps(with_a_choice) == [
        Guess("open", "open_1", is_parallel=False),
        Guess("write_down", None, is_parallel=False, is_conditional=True),
        Guess("write_down", None, is_parallel=False),
    ]
    assert guess_steps(many_steps) == [Guess("write_down", None, is_parallel=False, is_repeated=True)]


async def with_all_sorts(ctx: Context) -> None:
    await ctx.submit(write_down, "awaited at once")
    later = ctx.submit(write_down, "beside")
    ctx.sleep(1)
    for text in ctx.step(list_texts):
        ctx.step(write_down, text) if text else ctx.wait_event("go")
    ctx.dream()
    await later


def list_texts() -> list[str]:
    return ["a"]


def test_what_is_awaited_at_once_runs_beside_nothing_and_unknown_operations_go_by_their_own_name():
    assert guess_steps(with_all_sorts) == [
        Guess("write_down", "write_down_1", is_parallel=False),
        Guess("write_down", "write_down_2", is_parallel=True),
        Guess("sleep", "sleep_3", is_parallel=False),
        Guess("list_texts", "list_texts_4", is_parallel=False),
        Guess("write_down", None, is_parallel=False, is_conditional=True, is_repeated=True),
        Guess("go", None, is_parallel=False, is_conditional=True, is_repeated=True),
        Guess("dream", None, is_parallel=False),
    ]


def test_the_way_that_was_not_taken_is_no_longer_upcoming(watch):
    watched = watch(conditional, kwargs={"chance": 0.0, "delay_seconds": 0.0})
    assert list(words_of(watched.state).items())[1:] == [
        ("take_from_shelf", "possible"),
        ("order_from_supplier", "possible"),
        ("notify_customer", "expected"),
    ]
    watched.step("check_stock_1", then="order_from_supplier_2")

    assert list(steps_of(watched.state)) == ["check_stock_1", "order_from_supplier_2", "notify_customer"]


def test_a_loop_may_go_on(watch):
    watched = watch(many_steps, kwargs={"count": 2})
    assert words_of(watched.state) == {"write_down": "expected, in a loop"}
    watched.step("write_down_1", then="write_down_2")
    assert list(steps_of(watched.state)) == ["write_down_1", "write_down_2", "write_down"]
    watched.step("write_down_2")

    assert list(steps_of(watched.wait_for_status("completed"))) == ["write_down_1", "write_down_2"]


def test_without_a_source_nothing_is_guessed(watch):
    names: dict = {"__name__": "nowhere"}
    exec("def made_up(ctx):\n    return ctx.step(len, [1, 2])", names)

    assert guess_steps(names["made_up"]) == []
    assert watch(names["made_up"], kwargs={}).state["columns"] == []


def with_a_slash(ctx: Context) -> None:
    ctx.step(write_down, "a")
    ctx.step("write/down", write_down, "b")


def test_a_name_that_no_step_may_have_is_refused_by_its_run_and_not_by_the_panel(watch):
    watched = watch(with_a_slash, kwargs={})
    assert list(steps_of(watched.state)) == ["write_down_1"]
    watched.step("write_down_1")

    assert "step name 'write/down': expected" in said(watched.wait_for_sentence("It stopped after 1 completed step."))


# ---- stepping


def test_nothing_runs_before_a_click(watch, database):
    watched = watch()

    assert steps_of(watched.state) == {
        "create_record_1": "upcoming",
        "provision_laptop_2": "upcoming",
        "setup_access_3": "upcoming",
        "send_welcome_email_4": "upcoming",
    }
    assert watched.state["status"] == "new"
    assert said(watched.state) == "Nothing has run yet. Next step runs create_record_1; Run all runs everything."
    assert list_effects(database) == []


def test_next_step_runs_exactly_one_step(watch, database):
    watched = watch()
    watched.step("create_record_1", then="provision_laptop_2")
    watched.step("provision_laptop_2", then="setup_access_3")

    assert steps_of(watched.state) == {
        "create_record_1": "completed",
        "provision_laptop_2": "completed",
        "setup_access_3": "upcoming",
        "send_welcome_email_4": "upcoming",
    }
    assert [row["status"] for row in watched.state["rows"]] == ["completed", "completed"]
    assert list_effects(database) == ALL_ONCE[:2]


def test_of_two_parallel_steps_the_first_of_the_program_goes_first_however_quick_the_click(watch):
    for number in range(10):
        watched = watch(workflow_id=f"emp_{number}")
        watched.step("create_record_1")
        watched.controller.next_step()  # before it is known whose thread arrives first
        watched.wait_for(lambda state: len(state["rows"]) == 2)

        assert [row["step_key"] for row in watched.state["rows"]] == ["create_record_1", "provision_laptop_2"]


def test_four_clicks_in_a_hurry_run_four_steps(watch, database):
    watched = watch()
    for _ in range(4):
        watched.controller.next_step()
    watched.wait_for_status("completed")

    assert sorted(list_effects(database)) == sorted(ALL_ONCE)


def test_parallel_steps_stand_in_one_column(watch):
    watched = watch()
    columns = [["create_record_1"], ["provision_laptop_2", "setup_access_3"], ["send_welcome_email_4"]]
    assert [[card["key"] for card in column] for column in watched.state["columns"]] == columns
    watched.controller.run_all()

    final = watched.wait_for_status("completed")
    assert [[card["key"] for card in column] for column in final["columns"]] == columns


def test_run_all_runs_everything_once(watch, database):
    watched = watch()
    watched.controller.run_all()
    watched.wait_for_status("completed")

    assert sorted(list_effects(database)) == sorted(ALL_ONCE)
    assert said(watched.state).strip() == "Completed. 4 steps ran, each recorded once."


def test_a_branch_that_makes_no_step_does_not_hold_the_others_up(watch):
    watched = watch(with_an_idle_branch, kwargs={})
    watched.controller.next_step()

    watched.wait_for_status("completed")


def test_the_steps_of_a_branch_go_before_what_was_submitted_after_it(watch):
    watched = watch(with_a_busy_branch, kwargs={})
    watched.controller.next_step()
    watched.wait_for_steps(**{"inner_1/write_down_1": "completed"})
    watched.wait_until_next("inner_1/write_down_2")
    watched.controller.next_step()
    watched.wait_for_steps(**{"inner_1/write_down_2": "completed"})

    assert watched.wait_until_next("write_down_2")["status"] == "running"


def test_a_thousand_moments_do_not_flood_the_page(watch):
    watched = watch(many_steps, kwargs={"count": 300})
    watched.controller.run_all()
    watched.wait_for_status("completed")

    assert watched.state["progress"]["text"] == "300 steps completed"
    assert len(watched.states) < 150


# ---- crashing


CRASH = """
import sys, threading
from durable.examples.onboarding import onboarding
from durable.lab.panel.controller import Controller
told = threading.Event()
def show(state):
    cards = [card for column in state["columns"] for card in column if "key" in card]
    waiting.update(card["key"] for card in cards if card["next"])
    completed.update(card["key"] for card in cards if card["state"] == "completed")
    print(state["crash"], flush=True) if state["crash"] else None
    told.set()
waiting, completed = set(), set()
controller = Controller(onboarding, "emp_001", db=sys.argv[1], on_change=show, notice_seconds=0.0,
                        kwargs={"name": "Jane Doe", "delay_seconds": 0.0})
controller.open()
"""
CRASH_AFTER_TWO = """
for key in ("create_record_1", "provision_laptop_2"):
    controller.next_step()
    while key not in completed:
        told.wait(10); told.clear()
controller.crash_now()
"""
CRASH_ARMED = """
controller.arm("provision_laptop", sys.argv[2])
controller.run_all()
threading.Event().wait(30)
"""


def test_crash_now_kills_the_process_and_the_next_one_replays_what_was_completed(watch, database):
    child = run_in_child(CRASH + CRASH_AFTER_TWO, database)
    assert child.returncode == -9, child.stderr
    assert "while no step was running" in child.stdout

    watched = watch()
    watched.wait_until_next("setup_access_3")
    assert steps_of(watched.state) == {
        "create_record_1": "replayed",
        "provision_laptop_2": "replayed",
        "setup_access_3": "upcoming",
        "send_welcome_email_4": "upcoming",
    }
    assert watched.state["sentence"]["head"] == "2 steps were replayed, not run."
    assert watched.state["ran"] is None
    assert [life["ended"] for life in watched.state["lives"]] == ["crashed", "alive"]
    assert list_effects(database) == ALL_ONCE[:2]
    watched.controller.run_all()
    watched.wait_for_status("completed")

    assert steps_of(watched.state)["provision_laptop_2"] == "replayed"
    assert steps_of(watched.state)["setup_access_3"] == "completed"
    assert list_effects(database) == ALL_ONCE
    assert "In this run, 2 steps were replayed and 2 ran." in said(watched.state)
    assert watched.state["ran"] == 2


@pytest.mark.parametrize(
    ("moment", "where", "laptops", "status"),
    [
        ("started", "before the effect of provision_laptop_2", 0, "running"),
        ("executed", "after the effect of provision_laptop_2 and before its checkpoint", 1, "running"),
        ("checkpointed", "after the checkpoint of provision_laptop_2", 1, "completed"),
    ],
)
def test_an_armed_crash_falls_at_its_moment_and_says_so_first(database, moment, where, laptops, status):
    child = run_in_child(CRASH + CRASH_ARMED, database, moment)

    assert child.returncode == -9, child.stderr
    assert where in child.stdout
    assert len(list_effects(database, "emp_001", "provision_laptop_2")) == laptops
    with Engine(database) as engine:
        assert {step.step_key: step.status for step in engine.steps("emp_001")}["provision_laptop_2"] == status


def test_the_page_is_told_before_the_process_dies(watch):
    order = []
    watched = watch(kill=lambda: order.append(watched.state["crash"]["pid"]))
    watched.controller.crash_now()

    assert order == [os.getpid()]


def test_an_armed_crash_is_announced_and_can_be_disarmed(watch):
    watched = watch()
    watched.controller.arm("provision_laptop_2", "started")
    assert watched.state["armed"] == ["provision_laptop_2", "started"]
    assert watched.state["foretold"] == (
        f"Armed: process {os.getpid()} will be killed before the effect of provision_laptop_2. Its row will say "
        "running, and nothing will have happened: the resume runs it, for the first time."
    )
    watched.controller.arm(None)

    assert watched.state["armed"] is None
    with pytest.raises(ValueError, match="started, executed, checkpointed"):
        watched.controller.arm("provision_laptop_2", "yesterday")


def test_a_crash_can_be_armed_only_at_what_is_still_to_come(watch):
    watched = watch()
    watched.step("create_record_1", then="provision_laptop_2")

    points = [card["key"] for card in cards_of(watched.state) if card["can_crash"]]
    assert points == ["provision_laptop_2", "setup_access_3", "send_welcome_email_4"]


# ---- what is said after a crash


def test_a_zombie_step_waits_and_is_told_from_one_that_runs(watch, database):
    run_until_crash(database, "emp_001", onboarding, at="provision_laptop:executed", **QUICK)
    watched = watch()
    state = watched.wait_until_next("provision_laptop_2")

    assert steps_of(state)["provision_laptop_2"] == "zombie"
    assert state["sentence"]["head"] == "provision_laptop_2 is a zombie step."
    assert "The effects log shows its effect, the table does not." in said(state)
    assert "Next step runs provision_laptop_2 again." in said(state)


def test_ran_twice_is_said_where_the_effects_log_shows_it(watch, database):
    run_until_crash(database, "emp_001", onboarding, at="create_record:executed", **QUICK)
    watched = watch()
    watched.controller.run_all()
    state = watched.wait_for_status("completed")

    assert words_of(state)["create_record_1"] == "ran twice"
    assert state["sentence"]["head"] == "create_record_1 ran twice."
    assert [row["status"] for row in state["rows_at_crash"]] == ["running"]
    assert [row["attempt"] for row in state["rows"]] == [2, 1, 1, 1]


def test_the_table_at_the_crash_is_that_of_the_last_crash(watch, database):
    for _ in range(2):
        run_until_crash(database, "emp_001", onboarding, at="create_record:executed", **QUICK)
    state = watch().wait_until_next("create_record_1")
    assert [row["attempt"] for row in state["rows_at_crash"]] == [2]

    watched = watch()
    watched.controller.run_all()
    state = watched.wait_for_status("completed")

    assert [row["attempt"] for row in state["rows_at_crash"]] == [2]
    assert words_of(state)["create_record_1"] == "ran 3 times"


def test_ran_once_is_said_where_the_crash_fell_before_the_effect(watch, database):
    run_until_crash(database, "emp_001", onboarding, at="create_record:started", **QUICK)
    watched = watch()
    watched.controller.run_all()
    state = watched.wait_for_status("completed")

    assert words_of(state)["create_record_1"] == "ran once"
    assert state["sentence"]["head"] == "create_record_1 was begun twice and ran once."


def test_may_have_run_twice_is_said_when_the_effects_are_unknown(watch, database):
    run_until_crash(database, "many", many_steps, 2, at="write_down_1:executed")
    watched = watch(many_steps, "many", {"count": 2})
    watched.controller.run_all()
    state = watched.wait_for_status("completed")

    assert words_of(state)["write_down_1"] == "may have run twice"
    assert state["sentence"]["head"] == "write_down_1 may have run twice."


def test_a_completed_workflow_shows_what_its_last_life_replayed_also_after_a_restart(watch, database):
    run_until_crash(database, "emp_001", onboarding, at="setup_access:started", **QUICK)
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, **QUICK)

    assert steps_of(watch().state)["create_record_1"] == "replayed"


def test_a_failed_step_is_shown_with_its_error_and_tried_anew(watch, tmp_path):
    permit = tmp_path / "permit"
    watched = watch(two_steps, kwargs={"path": str(permit)})
    watched.controller.run_all()
    state = watched.wait_for_status("failed")
    assert steps_of(state) == {"write_down_1": "completed", "refuse_2": "failed"}
    assert cards_of(state)[1]["result"] == "ValueError: no permit"
    assert state["sentence"]["head"] == "refuse_2 failed."
    watched.wait_for(lambda state: state["can_run"])
    permit.touch()
    watched.controller.run_all()

    assert steps_of(watched.wait_for_status("completed")) == {"write_down_1": "replayed", "refuse_2": "completed"}


def undone(ctx: Context) -> None:
    ctx.on_failure(write_down, "undone")
    ctx.step(refuse, "nowhere")


def awaiting(ctx: Context) -> None:
    ctx.wait_event("go")


@pytest.mark.parametrize(
    ("workflow", "status", "told"),
    [
        (undone, "failed", "Its error is on record. What was to be undone is undone, and that is final."),
        (awaiting, "cancelled", "That is final. What had completed stays on record."),
    ],
)
def test_what_is_final_says_so_and_offers_no_button_that_does_nothing(watch, database, workflow, status, told):
    watched = watch(workflow, kwargs={})
    watched.controller.run_all()
    if status == "cancelled":
        watched.wait_for_sentence("go_1 is waiting.")
        with Engine(database) as engine:
            engine.cancel("emp_001")
    state = watched.wait_for(lambda state: state["status"] == status and not state["can_run"])

    assert state["sentence"]["text"] == told
    watched.controller.reset()
    assert watched.state["can_run"]


def test_a_compensation_is_shown_as_registered_until_it_runs(watch):
    watched = watch(undone, kwargs={})
    assert list(steps_of(watched.state)) == ["write_down_1", "refuse_2"]
    watched.controller.next_step()
    state = watched.wait_until_next("refuse_2")
    assert words_of(state)["write_down_1"] == "registered, runs if the workflow fails"
    assert state["progress"]["text"] == "0 steps completed, 1 waiting"
    watched.controller.run_all()
    state = watched.wait_for_status("failed")

    assert words_of(state)["write_down_1"] == "registered, and has run"
    assert steps_of(state)["write_down_1/write_down_1"] == "completed"
    assert [item["title"] for column in state["columns"] for item in column if "columns" in item] == ["compensations"]


def needless(ctx: Context) -> None:
    ctx.on_failure(write_down, "undone")
    ctx.step(write_down, "done")


def test_a_compensation_that_was_not_needed_is_no_step_that_ran(watch):
    watched = watch(needless, kwargs={})
    watched.controller.run_all()
    state = watched.wait_for_status("completed")

    assert words_of(state)["write_down_1"] == "registered, was not needed"
    assert said(state) == "Completed. 1 step ran, each recorded once."


@step(retry=Retry(attempts=4, delay_seconds=0))
def reach_the_office() -> int:
    attempt = current_step().attempt
    if attempt < 4:
        raise ConnectionError(f"line {attempt} is dead")
    return attempt


def calling(ctx: Context) -> int:
    return ctx.step(reach_the_office)


def test_the_errors_of_earlier_attempts_are_on_the_card(watch):
    watched = watch(calling, kwargs={})
    watched.controller.run_all()
    watched.wait_for_status("completed")
    watched.controller.show("reach_the_office_1")

    assert cards_of(watched.state)[0]["failures"] == [
        "1 earlier error",
        "attempt 2: ConnectionError: line 2 is dead",
        "attempt 3: ConnectionError: line 3 is dead",
    ]
    assert [tried.partition(": ConnectionError: ")[2] for tried in watched.state["value"]["tries"]] == [
        "line 1 is dead",
        "line 2 is dead",
        "line 3 is dead",
        "",
    ]


# ---- messages


def test_a_workflow_says_which_message_it_needs_and_gets_it_from_the_panel(watch):
    watched = watch(awaiting, kwargs={})
    watched.controller.next_step()
    state = watched.wait_for(lambda state: state["awaited"] == ["go"])
    assert words_of(state) == {"go_1": "waits for the event 'go'"}
    watched.wait_for_sentence("It needs a message for 'go': send it below, or from any process.")
    watched.controller.handle({"do": "send", "event": "go", "text": "yes"})
    assert watched.state["sent"].startswith("It was not sent: the value is not valid JSON")
    watched.controller.handle({"do": "send", "event": "go", "text": '"yes"'})
    state = watched.wait_for_status("completed")

    assert state["sent"] == "The message for 'go' is on record."
    assert cards_of(state)[0]["result"] == '"yes"'
    assert state["awaited"] == []


def test_a_workflow_that_is_resumed_at_an_event_shows_that_a_message_has_come(watch, database):
    first = watch(awaiting, kwargs={})
    first.controller.next_step()
    first.wait_for(lambda state: state["awaited"] == ["go"])
    first.controller.close()
    with Engine(database) as engine:
        engine.send("emp_001", "go", 7)
    second = watch(awaiting, kwargs={})
    state = second.wait_until_next("go_1")
    assert "A message for 'go' has come. Next step goes on with go_1, which receives it." in said(state)
    assert state["awaited"] == ["go"]
    second.controller.next_step()

    assert cards_of(second.wait_for_status("completed"))[0]["result"] == "7"


# ---- many steps of one name


def ring(number: int) -> int:
    if number == 13:
        raise ConnectionError("the line is dead")
    return number


def ringing(ctx: Context, numbers: list[int]) -> None:
    ctx.step(write_down, "begin")
    ctx.map(ring, numbers, max_concurrent=4, per_second=1000)


def groups_of(state: dict) -> list[dict]:
    return [card for card in cards_of(state) if "group" in card]


def test_a_map_of_many_items_is_one_card_with_its_counts_limits_and_rate(watch):
    watched = watch(ringing, kwargs={"numbers": list(range(30))})
    assert words_of(watched.state)["ring"] == "expected, at most 1000 per second, at most 4 at once"
    watched.controller.run_all()
    state = watched.wait_for_status("failed")
    [group] = groups_of(state)
    assert (group["title"], group["word"], group["state"]) == ("ring, 30 times", "29 completed, 1 failed", "failed")
    assert (group["ended"], group["count"], group["open"]) == (30, 30, False)
    assert re.fullmatch(r"[\d.e+]+ begun per second, at most 1000 per second, at most 4 at once", group["rate"])
    assert state["page"]["total"] == 2
    assert len(state["rows"]) == 31
    watched.controller.handle({"do": "open", "group": "ring_2"})
    assert groups_of(watched.state)[0]["open"]
    assert [card["key"] for card in cards_of(watched.state) if "group" not in card][1:3] == ["ring_2", "ring_3"]
    assert watched.state["page"]["total"] == 32
    watched.controller.handle({"do": "open", "group": "ring_2"})

    assert watched.state["page"]["total"] == 2


def wide(ctx: Context, count: int) -> None:
    ctx.map(ring, range(count))


def test_a_group_tells_how_many_are_to_come(watch):
    watched = watch(wide, kwargs={"count": 100})
    watched.controller.next_step()
    state = watched.wait_for(lambda state: groups_of(state) and groups_of(state)[0]["ended"] == 1)
    [group] = groups_of(state)

    assert (group["title"], group["word"]) == ("ring, 100 times", "1 completed, 99 to come")
    assert group["next"]


@pytest.mark.parametrize(
    ("source", "count", "bounds"),
    [
        ("ctx.map(ring, [1, 2, 3], per_second=0.5)", 3, "at most 0.5 per second"),
        ("ctx.map(ring, range(7), per_second=None)", 7, ""),
        ("ctx.map(ring, range(count))", 12, ""),
        ("ctx.map(ring, names, max_concurrent=limit)", 4, ""),
        ("ctx.map(ring, [n for n in names])", None, ""),
        ("ctx.map(ring, unknown)", None, ""),
    ],
)
def test_the_number_of_items_of_a_map_is_read_where_the_source_tells_it(source, count, bounds, tmp_path, monkeypatch):
    module = f"flow_{abs(hash(source))}"
    (tmp_path / f"{module}.py").write_text(f"def flow(ctx, names, count=12):\n    {source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    [guess] = guess_steps(__import__(module).flow, {"names": "abcd"})

    assert (guess.name, guess.count, guess.bounds) == ("ring", count, bounds)


# ---- what stands in the way


def test_a_workflow_with_other_arguments_is_refused_in_words(watch, database):
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, "John Doe", 0.0)
    watched = watch()
    watched.controller.run_all()

    assert watched.state["sentence"]["tone"] == "problem"
    assert watched.state["sentence"]["head"] == "It did not start."
    assert "use another workflow id" in said(watched.state)


def test_while_another_process_runs_the_workflow_its_pid_is_named(watch, database):
    code = (
        CRASH + "controller.next_step()\nwhile 'provision_laptop_2' not in waiting:\n    told.wait(10); told.clear()\n"
    )
    code += "print('ready', flush=True)\nsys.stdin.read()\ncontroller.close()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "ready\n"
        watched = watch()
        assert watched.state["sentence"]["head"] == f"Process {other.pid} is already running this workflow."
        watched.controller.next_step()

        assert f"already running in process {other.pid}" in said(watched.state)
        other.stdin.close()


def test_a_second_panel_in_the_same_process_takes_over(watch):
    first = watch()
    first.step("create_record_1", then="provision_laptop_2")
    second = watch()
    second.wait_until_next("provision_laptop_2")

    assert first.state["closed"]
    assert steps_of(second.state)["create_record_1"] == "replayed"
    assert [life["ended"] for life in second.state["lives"]] == ["interrupted", "alive"]


def test_a_panel_says_why_the_last_run_was_interrupted(watch, database):
    first = watch()
    first.step("create_record_1", then="provision_laptop_2")
    first.controller.close()

    assert "Run 1 was interrupted: its panel was closed or started anew." in watch().state["sentence"]["text"]


def test_a_panel_says_in_plain_words_that_ctrl_c_interrupted_the_last_run(watch, database):
    def press_ctrl_c(_: Moment) -> None:
        raise KeyboardInterrupt

    with Engine(database, observers=[press_ctrl_c]) as engine, pytest.raises(KeyboardInterrupt):
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)

    assert "Run 1 was interrupted: Ctrl+C was pressed" in watch().state["sentence"]["text"]


@pytest.mark.thorough
def test_a_program_can_end_while_steps_wait_at_the_gate(database):
    code = (
        CRASH + "controller.next_step()\nwhile 'provision_laptop_2' not in waiting:\n    told.wait(10); told.clear()\n"
    )
    child = run_in_child(code, database)

    assert child.returncode == 0, child.stderr
    with Engine(database) as engine:
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted"]
        assert [step.status for step in engine.steps("emp_001")] == ["completed"]


# ---- reset


def test_reset_begins_anew_and_leaves_other_workflows_alone(watch, database):
    other = watch(workflow_id="emp_001/2")
    other.controller.run_all()
    other.wait_for_status("completed")
    watched = watch()
    watched.step("create_record_1", then="provision_laptop_2")
    watched.controller.reset()

    assert watched.state["status"] == "new"
    assert set(steps_of(watched.state).values()) == {"upcoming"}
    assert watched.state["rows"] == []
    keys = [line.split("\t")[1] for line in effects_log(database).read_text().splitlines()]
    assert len(keys) == 4
    assert all(key.startswith("emp_001%2F2/") for key in keys)
    watched.controller.run_all()
    watched.wait_for_status("completed")


# ---- the widget


def test_every_button_of_the_page_reaches_the_controller(database, monkeypatch):
    widget = Panel(onboarding, "emp_001", db=database, kwargs=QUICK)
    done = []
    for name in ("next_step", "run_all", "crash_now", "arm", "send"):
        monkeypatch.setattr(widget.controller, name, lambda *args, name=name: done.append((name, *args)))
    reset = threading.Event()
    monkeypatch.setattr(widget.controller, "reset", reset.set)
    for message in (
        {"do": "next"},
        {"do": "all"},
        {"do": "crash"},
        {"do": "arm", "step": "laptop_2", "moment": "started"},
        {"do": "arm", "step": None},
        {"do": "send", "event": "go", "text": "1"},
        {"do": "something else"},
        {"do": "reset"},
    ):
        widget._handle_custom_msg(message, [])

    assert done == [
        ("next_step",),
        ("run_all",),
        ("crash_now",),
        ("arm", "laptop_2", "started"),
        ("arm", None, "executed"),
        ("send", "go", "1"),
    ]
    assert reset.wait(WAIT_SECONDS)
    widget.controller.close()


def test_the_panel_is_one_call_and_shows_the_state_of_the_database(database):
    widget = panel(onboarding, "emp_001", db=database, **QUICK)

    assert widget.state["workflow_id"] == "emp_001"
    assert widget.state["pid"] == os.getpid()
    assert repr(widget) == "panel of onboarding 'emp_001' in workflow.db: run this cell to see it"
    widget.controller.close()


def test_states_are_announced_in_the_order_of_what_happened(watch):
    watched = watch()
    watched.controller.run_all()
    watched.wait_for_status("completed")

    completed = [sum(row["status"] == "completed" for row in state["rows"]) for state in watched.states]
    assert all(before <= after for before, after in pairwise(completed))


# ---- branches, values, pages


def with_two_branches(ctx: Context) -> None:
    first, second = ctx.branch(inner), ctx.branch(inner)
    first.result()
    second.result()


def test_branches_are_nested_and_stand_side_by_side(watch):
    watched = watch(with_two_branches, kwargs={})
    watched.controller.run_all()
    columns = watched.wait_for_status("completed")["columns"]

    assert [[item["branch"] for item in column] for column in columns] == [["inner_1", "inner_2"]]
    inside = columns[0][1]["columns"]
    assert [[card["key"] for card in column] for column in inside] == [
        ["inner_2/write_down_1"],
        ["inner_2/write_down_2"],
    ]


def test_a_branch_that_is_only_guessed_is_no_place_to_crash(watch):
    (card,) = cards_of(watch(with_two_branches, kwargs={}).state)[:1]

    assert (card["key"], card["word"], card["can_crash"]) == ("inner_1", "expected branch", False)


def test_a_value_is_shown_in_full_where_it_is_asked_for(watch, database):
    run_until_crash(database, "emp_001", onboarding, at="create_record:executed", **QUICK)
    watched = watch()
    watched.controller.run_all()
    watched.wait_for_status("completed")
    watched.controller.handle({"do": "show", "step": "create_record_1"})
    value = watched.state["value"]

    assert json.loads(value["text"])["name"] == "Jane Doe"
    assert [line.partition(":")[0] for line in value["tries"]] == ["attempt 1", "attempt 2"]
    assert value["tries"][0].endswith("never saved")
    watched.controller.handle({"do": "show", "step": None})
    assert watched.state["value"] is None


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"number": range(rows), "half": 0.5})


def frames(ctx: Context) -> None:
    ctx.step(frame, 2)
    ctx.step(frame, 100_000)


def test_a_frame_is_shown_as_a_table_where_it_is_asked_for_and_is_read_once(watch, database):
    watched = watch(frames, kwargs={})
    watched.controller.run_all()
    state = watched.wait_for_status("completed")
    large = state["rows"][1]["output"]
    assert large.startswith("frame/1, ")
    assert [card["result"] for card in cards_of(state)] == [row["output"] for row in state["rows"]]
    watched.controller.handle({"do": "show", "step": "frame_1"})

    [part] = watched.state["value"]["parts"]
    assert watched.state["value"]["text"].endswith("2 rows x 2 columns: number int64, half float64")
    assert part["table"] == {
        "columns": ["", "number", "half"],
        "types": ["int64", "int64", "float64"],
        "rows": [["0", "0", "0.5"], ["1", "1", "0.5"]],
    }
    watched.controller.handle({"do": "show", "step": "frame_2"})
    table = watched.state["value"]["parts"][0]["table"]
    assert table["rows"][-1] == ["99999", "99999", "0.5"]
    with sqlite3.connect(database) as connection:
        connection.execute("delete from value_parts")
    watched.controller.tell()
    assert watched.state["value"]["parts"][0]["table"] == table  # it is not read for each state
    watched.controller.handle({"do": "show", "step": "frame_1"})
    watched.controller.handle({"do": "show", "step": "frame_2"})
    assert "missing or does not match its hash" in watched.state["value"]["parts"][0]["text"]


def test_of_many_steps_only_a_page_is_told_and_the_others_on_demand(watch):
    watched = watch(many_steps, kwargs={"count": 300})
    watched.controller.run_all()
    state = watched.wait_for_status("completed")
    assert state["page"] == {"first": 280, "count": 20, "total": 300, "size": 40, "follows": True}
    assert len(cards_of(state)) == len(state["rows"]) == 20
    watched.controller.handle({"do": "look", "first": 120})

    assert cards_of(watched.state)[0]["key"] == "write_down_121"
    assert len(json.dumps(watched.state)) < 60_000
    watched.controller.handle({"do": "look", "first": None})
    assert watched.state["page"]["first"] == 280


def test_what_was_not_repeated_is_told_as_steps_and_seconds(watch, database):
    run_until_crash(
        database, "emp_001", onboarding, at="send_welcome_email:started", name="Jane Doe", delay_seconds=0.1
    )
    watched = watch(kwargs={"name": "Jane Doe", "delay_seconds": 0.1})
    state = watched.wait_until_next("send_welcome_email_4")

    assert re.fullmatch(r"Replay saved 3 steps and 0\.[2-4]\d s", state["saved"])
    assert state["saved"] in said(state)


# ---- operations that are no steps


def waiting_around(ctx: Context) -> None:
    ctx.wait_event("approval")
    ctx.sleep(3600)


@pytest.mark.thorough
def test_a_wait_is_told_from_a_zombie_also_after_a_crash(watch, database):
    watched = watch(waiting_around, "w", {})
    watched.controller.next_step()
    state = watched.wait_for_steps(approval_1="waiting")
    card = cards_of(state)[0]
    assert (card["kind"], card["word"]) == ("event", "waits for the event 'approval'")
    assert said(state).startswith("approval_1 is waiting. The wait itself is saved")
    assert "between two steps" in state["foretold"]
    watched.controller.close()

    run_until_crash(database, "again", waiting_around, at="approval_1:started")
    rows = tables.read(database, "again")
    assert rows.last_crash is not None
    assert state_of(rows.steps[0], rows, Now(os.getpid())) == "waiting"


def test_a_sleep_says_until_when(watch):
    watched = watch(sleeping, "s", {})
    watched.controller.next_step()
    state = watched.wait_for_steps(sleep_1="waiting")

    assert re.fullmatch(r"waits until \d\d:\d\d:\d\d UTC", words_of(state)["sleep_1"])


def sleeping(ctx: Context) -> None:
    ctx.sleep(3600)


# ---- the timeline


@pytest.mark.thorough
def test_the_timeline_goes_across_the_crash_and_is_told_in_words_too(watch, database):
    run_until_crash(database, "many", many_steps, 3, at="write_down_2:executed")
    watched = watch(many_steps, "many", {"count": 3})
    watched.controller.run_all()
    timeline = watched.wait_for_status("completed")["timeline"]

    kinds = {(bar["key"], bar["attempt"]): bar["kind"] for bar in timeline["bars"]}
    assert kinds["write_down_2", 1] == "lost"
    assert kinds["write_down_2", 2] == "repeated"
    assert [(life["crashed"], life["replayed"]) for life in timeline["lives"]] == [(True, 0), (False, 1)]
    assert timeline["lives"][0]["end"] < timeline["lives"][1]["start"]
    assert timeline["summary"] == (
        "Timeline of 4 attempts: 2 completed, 1 repeated after a crash, 1 cut off by a crash. Crashes: 1. "
        "Replayed in the last run: 1."
    )


# ---- what a crash would do


@pytest.mark.parametrize(
    ("moment", "consequence"),
    [
        ("started", "the resume runs it, for the first time"),
        ("executed", "the resume runs it a second time"),
        ("checkpointed", "nothing is done again"),
    ],
)
def test_the_sentence_beside_the_choice_says_what_the_crash_will_do(watch, moment, consequence):
    watched = watch()
    watched.controller.arm("provision_laptop_2", moment)

    assert consequence in watched.state["foretold"]


# ---- Jupyter's restarter


class Kernel:
    """A kernel that is started again and again, as Jupyter does it, with an age that is set by hand."""

    def __init__(self, folder: Path, limit: int = 5) -> None:
        self.age = 1.0
        self._options = {"folder": folder, "limit": limit, "age_seconds": lambda: self.age}

    def start(self) -> Restarts:
        return Restarts("kernel-1", **self._options)


def test_five_crashes_in_a_row_come_at_once_and_the_sixth_waits_until_the_kernel_is_stable(tmp_path):
    kernel = Kernel(tmp_path)
    for _ in range(5):
        assert kernel.start().seconds_to_wait() == 0
        kernel.start().note_crash()
    assert kernel.start().seconds_to_wait() == 12
    kernel.age = 13.0

    assert kernel.start().seconds_to_wait() == 0
    kernel.start().note_crash()
    kernel.age = 1.0
    assert kernel.start().seconds_to_wait() == 0  # Jupyter counts anew


def test_a_higher_limit_is_taken_from_the_environment(tmp_path, monkeypatch):
    kernel = Kernel(tmp_path, limit=1000)
    for _ in range(100):
        kernel.start().note_crash()
    assert kernel.start().seconds_to_wait() == 0

    monkeypatch.setenv("DURABLE_RESTART_LIMIT", "1000")
    assert Restarts.of_this_kernel()._limit == 1000
    monkeypatch.setenv("DURABLE_RESTART_LIMIT", "many")
    assert Restarts.of_this_kernel()._limit == 5


class Impatient(Restarts):
    """One for which a crash always has to wait a moment."""

    def __init__(self) -> None:
        super().__init__(None)
        self.waits = [0.2, 0.2, 0.0]

    def seconds_to_wait(self) -> float:
        return self.waits.pop(0) if self.waits else 0.0


def test_a_crash_that_has_to_wait_says_so_and_comes(watch):
    killed = threading.Event()
    watched = watch(kill=killed.set, restarts=Impatient())
    watched.controller.crash_now()
    state = watched.wait_for(lambda state: state["crash_waits"])

    assert "Jupyter gives up a kernel that dies six times in a row" in state["foretold"]
    assert killed.wait(WAIT_SECONDS)
    assert watched.state["crash"]["pid"] == os.getpid()


# ---- progress


def test_a_running_step_shows_its_progress_and_a_map_how_many_have_ended(tmp_path: Path) -> None:
    go = threading.Event()

    def item(number: int) -> int:
        if number > 1:
            current_step().publish("rows", 40, total=100)
            go.wait(WAIT_SECONDS)
        return number

    def many(ctx: Context) -> list[int]:
        return ctx.map(item, range(5), max_concurrent=3)

    watched = Watched(tmp_path / "workflow.db", many, "wf", {})
    try:
        watched.controller.run_all()
        state = watched.wait_for(lambda state: "map of item: 2 of 5" in state["progress"]["text"])
        state = watched.wait_for(lambda state: [card["result"] for card in cards_of(state)][2:] == [SHOWN] * 3)
        go.set()
        ended = watched.wait_for_status("completed")
    finally:
        go.set()
        watched.controller.close()

    assert state["progress"]["known"] == 5
    assert "map" not in ended["progress"]["text"]
    assert [card["result"] for card in cards_of(ended)] == ["0", "1", "2", "3", "4"]


SHOWN = "rows 40 of 100 (40 %)"
