"""The exercises: each check accepts a right answer, and tells a wrong one what is wrong about it, in words."""

from __future__ import annotations

import itertools
import re
import sqlite3
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import nbformat
import pytest

from durable import Context, Engine, Retry, WaitTimeoutError, WorkflowBusyError, current_step
from durable.examples.effects import have_effect, list_effects
from durable.lab.course import build
from durable.lab.course.crashes import ask
from durable.lab.course.lives import Told
from durable.lab.lessons import (
    agents,
    changing_code,
    crash_and_resume,
    durable_cells,
    failures,
    one_machine_and_beyond,
    parallel,
    replay_and_keys,
    steps_and_checkpoints,
    the_real_one,
    waiting,
    zombies,
)
from durable.lab.questions.checks import Exercise, is_missing, not_yet, right
from durable.lab.questions.prediction import predict
from durable.testing import run_until_crash

# ---- what all exercises share


def stub(ctx, name):
    """To be written."""


@pytest.mark.parametrize("answer", [None, ..., {"a": None}, [1, None], stub])
def test_an_exercise_without_an_answer_is_not_yet_right_and_runs_nothing(answer):
    exercise = Exercise("00.q1", lambda _: right("it was judged"), "think")

    assert is_missing(answer)
    assert repr(exercise.check(answer)).startswith("not yet: the answer is still empty; write yours")


@pytest.mark.parametrize("answer", [0, "", set(), {"a": 0}, lambda: 0, print])
def test_an_answer_is_an_answer_though_it_be_falsy(answer):
    assert not is_missing(answer)


def test_a_check_says_what_the_readers_code_raised_and_does_not_raise():
    exercise = Exercise("00.q1", lambda fn: fn(), "think")

    verdict = exercise.check(lambda: int("x"))

    assert not verdict.is_right
    assert repr(verdict) == "not yet: your code raised ValueError: invalid literal for int() with base 10: 'x'"


def test_hints_come_one_after_the_other_and_the_last_one_stays():
    exercise = Exercise("00.q1", lambda _: right("fine"), "look", "look closer")

    assert [repr(exercise.hint()) for _ in range(3)] == [
        "hint 1 of 2: look",
        "hint 2 of 2: look closer",
        "hint 2 of 2: look closer",
    ]


def test_a_verdict_escapes_what_it_quotes():
    assert "&lt;lambda&gt;" in not_yet("step '<lambda>'")._repr_html_()


def test_a_prediction_is_held_against_what_came_out():
    prediction = predict("How many?", [1, 2])
    assert repr(prediction) == "Predict: How many?\n  ( ) 1\n  ( ) 2"
    assert repr(prediction.reveal(2)) == "the answer is: 2 (no prediction was chosen above)"

    prediction.chosen = "2"
    assert repr(prediction.reveal(2)) == "right: you said: 2; and so it is"
    prediction.chosen = "1"
    assert repr(prediction.reveal(2)).startswith("you said: 1; the answer is: 2.")


def test_a_prediction_whose_answer_is_not_among_its_options_is_an_error_of_the_notebook():
    with pytest.raises(ValueError, match="the answer '3' is none of"):
        predict("How many?", [1, 2]).reveal(3)


def test_a_prediction_keeps_an_answer_that_is_found_before_the_choice():
    prediction = predict("How many?", [1, 2])
    assert prediction.find(2) is None
    assert (prediction.answer, prediction.is_found) == ("", True)

    prediction.chosen = "1"
    assert prediction.answer == "2"


# ---- 01

MEASURED = {"started": 1, "executed": 2, "checkpointed": 1}


@pytest.mark.parametrize(
    ("guess", "words"),
    [
        (MEASURED, "right: all three. Only the gap between effect and save orders twice."),
        (
            {"started": 2, "executed": 2, "checkpointed": 1},
            "not yet: 2 of 3 hold. Killed at started, 1 came out, not 2",
        ),
        (
            {"started": 1, "executed": 1, "checkpointed": 2},
            "not yet: 1 of 3 hold. Killed at executed, 2 came out, not 1",
        ),
        (dict.fromkeys(MEASURED), "not yet: the answer is still empty"),
    ],
)
def test_01_q1_which_instant_repeats_an_effect(guess, words):
    assert repr(crash_and_resume.q1.check(guess, MEASURED)).startswith(words)


def test_01_q2_which_steps_run_after_a_crash(database):
    run_until_crash(database, "emp_004", crash_and_resume.onboarding, "Ada Park", 0.6, at="setup_access:checkpointed")

    def check(*keys):
        return repr(crash_and_resume.q2.check(set(keys), database, "emp_004"))

    assert check("send_welcome_email_4") == (
        "not yet: it was resumed, and provision_laptop_2 ran too: its row said running, and running is not an outcome."
    )
    assert check("provision_laptop_2") == "not yet: it was resumed, and send_welcome_email_4 ran too: it had no row."
    assert check("setup_access_3", "provision_laptop_2", "send_welcome_email_4") == (
        "not yet: it was resumed, and setup_access_3 did not run: its row said completed, so it was answered from "
        "there."
    )
    assert check("provision_laptop") == (
        "not yet: provision_laptop: there is no such step. A key is a name and a number, as in create_record_1."
    )
    assert check("provision_laptop_2", "send_welcome_email_4").startswith("right: it was resumed")
    assert repr(crash_and_resume.q2.check("provision_laptop_2", database, "emp_004")).startswith(
        "not yet: the answer is to be a set of step keys"
    )


# ---- 02


def reserve(item: str) -> None:
    have_effect(f"reserved {item}")


def charge(euros: int) -> None:
    have_effect(f"charged {euros} euros")


def ship(item: str) -> None:
    have_effect(f"shipped {item}")


def pay_and_ship(item: str) -> None:
    charge(40)
    ship(item)


def two_steps(ctx: Context, item: str = "lamp") -> None:
    ctx.step(charge, 40)
    ctx.step(ship, item)


def one_step(ctx: Context, item: str = "lamp") -> None:
    ctx.step(pay_and_ship, item)


def shipped_first(ctx: Context, item: str = "lamp") -> None:
    ctx.step(ship, item)
    ctx.step(charge, 40)


def charged_outside_of_a_step(ctx: Context, item: str = "lamp") -> None:
    charge(40)
    ctx.step(ship, item)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("safe", "words"),
    [
        ({"scheduled", "started", "checkpointed"}, "right: three instants are safe, and one is not"),
        (
            {"scheduled", "started", "executed", "checkpointed"},
            "not yet: killed at executed and resumed, the shop had 'charged 40 euros' twice.",
        ),
        (
            {"checkpointed"},
            "not yet: killed at scheduled and resumed, nothing happened twice: that instant is safe too.",
        ),
        ({"saved"}, "not yet: the answer is to be a set of some of these: scheduled, started, executed, checkpointed"),
    ],
)
def test_02_q1_which_moments_are_safe(safe, words):
    assert repr(steps_and_checkpoints.q1.check(safe, two_steps, "charge_1")).startswith(words)


def find_by(where):
    return lambda db, workflow_id: {key for (key,) in ask(db, f"select step_key from steps where {where}", workflow_id)}


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("workflow_id = ? and status = 'completed'", "right: on all three databases."),
        (
            "workflow_id = ?",
            "not yet: killed at zombie_step:executed, with the rows below, you named zombie_step_2; the resume",
        ),
        (
            "status = 'completed' and workflow_id != ?",
            "not yet: killed at zombie_step:checkpointed, with the rows below, you named step_after_3;",
        ),
        (
            "workflow_id = ? and status = 'completed' and position = 1",
            "not yet: killed at zombie_step:checkpointed, with the rows below, you left out zombie_step_2; it",
        ),
    ],
)
def test_02_q2_which_rows_are_checkpoints(where, words):
    assert repr(steps_and_checkpoints.q2.check(find_by(where))).startswith(words)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("order", "words"),
    [
        (two_steps, "right: a crash repeats one of the two at most."),
        (
            one_step,
            "not yet: kill at pay_and_ship_1:executed, then resumed: charged 40 euros and shipped lamp, both twice.",
        ),
        (shipped_first, "not yet: undisturbed it did ['shipped lamp', 'charged 40 euros']; expected is to charge"),
        (charged_outside_of_a_step, "not yet: your code raised"),
    ],
)
def test_02_q3_how_large_a_step_is(order, words):
    assert repr(steps_and_checkpoints.q3.check(order)).startswith(words)


# ---- 03


@pytest.mark.parametrize(
    ("draw_keys", "words"),
    [
        (lambda names: [f"{name}_{n}" for n, name in enumerate(names, 1)], "right: on 5 programs."),
        (
            lambda names: [f"{name}_{names[: n + 1].count(name)}" for n, name in enumerate(names)],
            "not yet: for the calls ['pack', 'send'] the engine records ['pack_1', 'send_2'], and yours gives",
        ),
        (
            lambda names: [f"{name}_{n}" for n, name in enumerate(names)],
            "not yet: for the calls ['pack'] the engine records ['pack_1'], and yours gives ['pack_0'].",
        ),
        (lambda names: names[0] + "_1", "not yet: for ['pack'] it gave 'pack_1'; a list of keys is wanted."),
    ],
)
def test_03_q1_the_rule_of_keys(draw_keys, words):
    assert repr(replay_and_keys.q1.check(draw_keys)).startswith(words)


def look_at(shelf: str) -> int:
    return int(Path(shelf).read_text())


def finish(ctx, way):
    ctx.step(way, have_effect, {"take": "took it from the shelf", "buy": "ordered it from the supplier"}[way])
    ctx.step("tell", have_effect, "told the customer")


def looked_in_a_step(ctx: Context, shelf: str) -> None:
    finish(ctx, "take" if ctx.step(look_at, shelf) else "buy")


def looked_outside(ctx: Context, shelf: str) -> None:
    finish(ctx, "take" if look_at(shelf) else "buy")


def looked_at_both(ctx: Context, shelf: str) -> None:
    ctx.step(look_at, shelf)
    finish(ctx, "take" if look_at(shelf) else "buy")


def always_takes(ctx: Context, shelf: str) -> None:
    finish(ctx, "take")


DIVERGED = (
    "not yet: with 1 on the shelf it took it from the shelf, then died; with 0 on the shelf, the resume said: workf"
)


@pytest.mark.parametrize(
    ("deliver", "words"),
    [
        (looked_in_a_step, "right: whatever happens to the shelf in between"),
        (looked_outside, DIVERGED),
        (looked_at_both, DIVERGED),
        (
            always_takes,
            "not yet: with 0 on the shelf it did ['took it from the shelf']; expected is that it ordered it",
        ),
    ],
)
def test_03_q2_a_decision_that_is_on_record(deliver, words):
    assert repr(replay_and_keys.q2.check(deliver)).startswith(words)


STEPS = {
    "reserve": (replay_and_keys.reserve, "lamp"),
    "charge": (replay_and_keys.charge, 40),
    "wrap": (replay_and_keys.wrap, "lamp"),
    "ship": (replay_and_keys.ship, "lamp"),
}


def order_of(*names):
    def order(ctx: Context, item: str) -> None:
        for name in names:
            ctx.step(*STEPS[name])

    return order


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("reserve charge wrap ship", "right: orders that were under way go on, and new ones are wrapped too."),
        ("wrap reserve charge ship", "not yet: a running order of the old code could not go on: workflow 'old order'"),
        ("reserve wrap charge ship", "not yet: a running order of the old code could not go on: workflow 'old order'"),
        ("reserve charge ship wrap", "not yet: the old order did this: ['reserved lamp', 'charged 40 euros', 'shipped"),
    ],
)
def test_03_q3_where_a_new_step_may_stand(names, words):
    assert repr(replay_and_keys.q3.check(order_of(*names.split()))).startswith(words)


# ---- 04


class Locked:
    """The faulty counter, with a lock."""

    def __init__(self):
        self.numbers, self.lock = itertools.count(1), threading.Lock()

    def draw(self, branch, name):
        with self.lock:
            return f"{branch}/{name}_{next(self.numbers)}"


class NameAlone:
    def draw(self, branch, name):
        return f"{branch}/{name}"


class PerBranchWithoutItsName:
    def __init__(self):
        self.numbers = {}

    def draw(self, branch, name):
        self.numbers[branch] = self.numbers.get(branch, 0) + 1
        return f"{name}_{self.numbers[branch]}"


class PerBranch(PerBranchWithoutItsName):
    def draw(self, branch, name):
        return f"{branch}/{super().draw(branch, name)}"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (PerBranch, "right: in all 6 orders in which the two branches can come: every call has its own key"),
        (
            Locked,
            "not yet: the key of 'engrave' in the branch laptop moves: 'laptop/engrave_2' when the branches come in",
        ),
        (
            NameAlone,
            "not yet: 'order' of the branch desk and 'order' of the branch desk are two calls and got one key, 'd",
        ),
        (
            PerBranchWithoutItsName,
            "not yet: 'order' of the branch laptop and 'order' of the branch desk are two calls and",
        ),
    ],
)
def test_04_q1_keys_that_do_not_move(keys, words):
    assert repr(parallel.q1.check(keys)).startswith(words)


def evening(ctx: Context) -> None:
    ctx.step("greet", str)
    desk = ctx.branch("desk", lambda inner: inner.step("order", str))
    light = ctx.submit("light", str)
    desk.result(), light.result()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["greet_1", "desk_2/order_1", "light_3"], "right: greet_1, desk_2/order_1, light_3: in this run and in every"),
        (["greet_1", "order_2", "light_3"], "not yet: 2 of 3 are right. Among those you have not: desk_2/order_1."),
        (["greet_1", "desk_2", "desk_2/order_1", "light_3"], "not yet: all 3 are there, and one too many: desk_2."),
        ("greet_1", "not yet: the answer is to be a list or a set of keys"),
    ],
)
def test_04_q2_which_keys_there_will_be(keys, words):
    assert repr(parallel.q2.check(keys, evening)).startswith(words)


def wrap(item: str) -> str:
    have_effect(f"wrapped {item}", 0.1)
    return f"{item} is wrapped"


def submit_all_then_ask(ctx: Context, items: list[str]) -> list[str]:
    return [future.result() for future in [ctx.submit(wrap, item) for item in items]]


def ask_each_at_once(ctx: Context, items: list[str]) -> list[str]:
    return [ctx.submit(wrap, item).result() for item in items]


def map_backwards(ctx: Context, items: list[str]) -> list[str]:
    return ctx.map(wrap, items[::-1])


def in_a_pool_of_threads(ctx: Context, items: list[str]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda item: ctx.step(wrap, item), items))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("fast", "words"),
    [
        (submit_all_then_ask, "right: the steps overlap, and 14 kills changed nothing about the result."),
        (ask_each_at_once, "not yet: the result is right, and no two steps ran at the same time."),
        (map_backwards, "not yet: it returned ['chair is wrapped', 'desk is wrapped', 'lamp is wrapped']; expected is"),
        (in_a_pool_of_threads, "not yet: your code raised ScopeError: workflow 'fast': operation 'wrap' was called in"),
    ],
)
def test_04_q3_futures_that_are_asked_at_the_right_time(fast, words):
    assert repr(parallel.q3.check(fast)).startswith(words)


# ---- 05


class Shop:
    def __init__(self):
        self.orders, self.answers = [], {}

    def place(self, key, item):
        if self.known(key, item) not in self.answers:
            self.orders.append(item)
            self.answers[self.known(key, item)] = len(self.orders)
        return self.answers[self.known(key, item)]

    def known(self, key, item):
        return key


class ShopByItem(Shop):
    def known(self, key, item):
        return item


class SilentShop(Shop):
    def place(self, key, item):
        return None if key in self.answers else super().place(key, item)


@pytest.mark.parametrize(
    ("shop", "words"),
    [
        (Shop, "right: one key, one order, one answer, however often it is asked."),
        (
            ShopByItem,
            "not yet: a second colleague, with a key of her own, wants a laptop too: the shop has 1 order(s).",
        ),
        (SilentShop, "not yet: the second time it answered None, and 1 the first time; the caller needs the same."),
    ],
)
def test_05_q1_a_shop_that_knows_keys(shop, words):
    assert repr(zombies.q1.check(shop)).startswith(words)


def test_05_by_hand_a_crash_in_the_gap_orders_two_chairs_and_one_desk(tmp_path):
    db = tmp_path / "shop.db"
    for step in ("order_chair", "order_desk"):
        run_until_crash(db, "equip_1", zombies.equip, "Jane", at=f"{step}:executed")
    with Engine(db) as engine:
        engine.run("equip_1", zombies.equip, "Jane")

    assert list_effects(db) == ["ordered a chair for Jane"] * 2 + ["ordered a desk for Jane"]


def test_05_q1_a_shop_that_knows_none():
    class Naive(Shop):
        def place(self, key, item):
            self.orders.append(item)
            return len(self.orders)

    assert repr(zombies.q1.check(Naive)).startswith("not yet: the same request came twice, under one key, as after a")


def with_the_steps_key(name: str) -> str:
    return zombies.place_order(current_step().idempotency_key, "laptop")


def with_a_new_key(name: str) -> str:
    return zombies.place_order(str(uuid.uuid4()), "laptop")


def with_the_name(name: str) -> str:
    return zombies.place_order(name, "laptop")


def with_the_workflow_and_the_attempt(name: str) -> str:
    return zombies.place_order(f"{current_step().idempotency_key} {current_step().attempt}", "laptop")


def with_the_step_key_alone(name: str) -> str:
    return zombies.place_order(current_step().key, "laptop")


TWO_LAPTOPS = "not yet: kill at {}_1:executed, then resumed: two laptops. The key was another one at the second attempt"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (with_the_steps_key, "right: 6 kills, one laptop each."),
        (with_a_new_key, TWO_LAPTOPS.format("with_a_new_key")),
        (with_the_workflow_and_the_attempt, TWO_LAPTOPS.format("with_the_workflow_and_the_attempt")),
        (with_the_name, "not yet: one workflow, two steps that order for Jane: 1 laptop. Both steps had the same key."),
        (with_the_step_key_alone, "not yet: another workflow, for another Jane: no laptop."),
    ],
)
def test_05_q2_a_step_that_hands_over_a_key(step, words):
    assert repr(zombies.q2.check(step)).startswith(words)


def pay(ledger, name: str) -> int:
    ledger.execute("create table if not exists bonus (name text)")
    ledger.execute("insert into bonus values (?)", (name,))
    return ledger.execute("select count(*) from bonus").fetchone()[0]


def pay_on_its_own(name: str) -> int:
    with closing(sqlite3.connect(current_step().database)) as ledger, ledger:
        return pay(ledger, name)


def in_a_step(ctx: Context, name: str) -> int:
    return ctx.step(pay_on_its_own, name)


def in_a_transaction(ctx: Context, name: str) -> int:
    return ctx.transaction(pay, name)


def twice_in_transactions(ctx: Context, name: str) -> int:
    ctx.transaction(pay, name)
    return ctx.transaction(pay, name)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("bonus", "words"),
    [
        (in_a_transaction, "right: 5 kills, and one bonus after each."),
        (
            in_a_step,
            "not yet: kill at pay_on_its_own_1:executed, then resumed: it ended as completed 2, undisturbed as",
        ),
        (twice_in_transactions, "not yet: undisturbed it returned 2; expected is 1, the rows in the ledger."),
    ],
)
def test_05_q3_an_effect_and_its_checkpoint_in_one_commit(bonus, words):
    assert repr(zombies.q3.check(bonus)).startswith(words)


# ---- 07


def wait_for_answer(ctx, days):
    try:
        return ctx.wait_event("answer", type=bool, timeout_seconds=days * waiting.DAY)
    except WaitTimeoutError:
        return None


def in_words(granted):
    return {True: "granted", False: "refused", None: "no answer"}[granted]


def asks_twice(ctx: Context) -> str:
    ctx.step("ask", have_effect, "asked the manager")
    granted = wait_for_answer(ctx, 3)
    if granted is None:
        ctx.step("remind", have_effect, "reminded the manager")
        granted = wait_for_answer(ctx, 4)
    return in_words(granted)


def waits_for_ever(ctx: Context) -> str:
    ctx.step("ask", have_effect, "asked the manager")
    return in_words(ctx.wait_event("answer", type=bool))


def sleeps_and_then_looks(ctx: Context) -> str:
    ctx.step("ask", have_effect, "asked the manager")
    ctx.sleep(3 * waiting.DAY)
    return in_words(ctx.wait_event("answer", type=bool, timeout_seconds=4 * waiting.DAY))


def takes_a_no_for_silence(ctx: Context) -> str:
    ctx.step("ask", have_effect, "asked the manager")
    if not (granted := wait_for_answer(ctx, 3)):
        ctx.step("remind", have_effect, "reminded the manager")
        granted = wait_for_answer(ctx, 4)
    return in_words(granted)


def never_reminds(ctx: Context) -> str:
    ctx.step("ask", have_effect, "asked the manager")
    return in_words(wait_for_answer(ctx, 7))


@pytest.mark.parametrize(
    ("approve", "words"),
    [
        (asks_twice, "right: a yes and a no at once, a reminder after 3 days, an end after 7;"),
        (waits_for_ever, "not yet: no answer comes, and it waits forever."),
        (sleeps_and_then_looks, "not yet: the answer is yes: it took 3 days, and should take 0."),
        (
            takes_a_no_for_silence,
            "not yet: the answer is no: it returned 'no answer' and did ['asked the manager', 'remi",
        ),
        (never_reminds, "not yet: no answer comes: it returned 'no answer' and did ['asked the manager']; expected:"),
    ],
)
def test_07_q1_a_patient_workflow(approve, words):
    assert repr(waiting.q1.check(approve)).startswith(words)


def two_timers(ctx: Context) -> None:
    short, long = ctx.timer(2 * waiting.DAY), ctx.timer(5 * waiting.DAY)
    short.result(), long.result()


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (5, "right: 5 days: the two run beside each other"),
        (7, "not yet: 5 days passed, not 7. A timer runs from where it was started"),
        (3, "not yet: 5 days passed, not 3."),
    ],
)
def test_07_q2_timers_beside_each_other(days, words):
    assert repr(waiting.q2.check(days, two_timers)).startswith(words)


# ---- 08

LONG = {"delay_seconds": 30, "max_delay_seconds": 600, "jitter": 0}


@pytest.mark.parametrize(
    ("retry", "words"),
    [
        (Retry(6, **LONG, on=(ConnectionError,)), "right: patient where waiting helps"),
        (
            Retry(6, delay_seconds=1, jitter=0),
            "not yet: after 6 calls and 31 s it gave up, and the office was down for",
        ),
        (
            Retry(99, delay_seconds=10, jitter=0),
            "not yet: it got through, with 13 calls. The office asks for 6 at most",
        ),
        (
            Retry(3, delay_seconds=900, max_delay_seconds=9000, backoff=2, jitter=0),
            "not yet: the office said 'no such employee', and was called 3 times all the same.",
        ),
        (
            Retry(3, delay_seconds=500, max_delay_seconds=9000, backoff=3, jitter=0),
            "not yet: it got through after 2000 s, and 1200 s is the latest.",
        ),
        (Retry(6, **LONG), "not yet: the office said 'no such employee', and was called 6 times all the same."),
        (6, "not yet: the answer is to be a Retry(...), and is 6"),
    ],
)
def test_08_q1_a_retry_that_is_patient_and_not_blind(retry, words):
    assert repr(failures.q1.check(retry)).startswith(words)


def trip_with_compensations(ctx: Context) -> None:
    ctx.step(failures.book, "flight")
    ctx.on_failure(failures.cancel, "flight")
    ctx.step(failures.book, "hotel")
    ctx.on_failure(failures.cancel, "hotel")
    ctx.step(failures.rent_car)


def trip_that_forgets_the_flight(ctx: Context) -> None:
    ctx.step(failures.book, "flight")
    ctx.step(failures.book, "hotel")
    ctx.on_failure(failures.cancel, "hotel")
    ctx.step(failures.rent_car)


def trip_registered_in_the_wrong_order(ctx: Context) -> None:
    ctx.step(failures.book, "flight")
    ctx.step(failures.book, "hotel")
    ctx.on_failure(failures.cancel, "hotel")
    ctx.on_failure(failures.cancel, "flight")
    ctx.step(failures.rent_car)


def trip_that_swallows_the_error(ctx: Context) -> None:
    ctx.step(failures.book, "flight")
    ctx.step(failures.book, "hotel")
    try:
        ctx.step(failures.rent_car)
    except LookupError:
        ctx.step(failures.cancel, "hotel")
        ctx.step(failures.cancel, "flight")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("trip", "words"),
    [
        (trip_with_compensations, "right: 28 kills, also in the middle of undoing, and nothing stays booked."),
        (
            trip_that_forgets_the_flight,
            "not yet: there is no car, and the flight is still booked. It did: booked the fl",
        ),
        (
            trip_registered_in_the_wrong_order,
            "not yet: it did: booked the flight, booked the hotel, cancelled the flight",
        ),
        (trip_that_swallows_the_error, "not yet: all is undone, and the workflow says it completed."),
    ],
)
def test_08_q2_a_trip_that_is_undone(trip, words):
    assert repr(failures.q2.check(trip)).startswith(words)


# ---- 09


def new_order(*names, guarded=False):
    def order(ctx: Context, item: str) -> None:
        for name in names:
            if name == "tell":
                ctx.step("tell", have_effect, "told the customer")
            elif name != "wrap" or not guarded or ctx.patched("wrap"):
                ctx.step(getattr(changing_code, name), 40 if name == "charge" else item)

    return order


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (new_order("reserve", "charge", "wrap", "ship", "tell", guarded=True), "right: old orders go on wherever they"),
        (
            new_order("reserve", "charge", "wrap", "ship", "tell"),
            "not yet: an old order that had stopped before its step 'tell' cannot go on: workflow 'stopped at tell'",
        ),
        (
            new_order("reserve", "charge", "ship", "tell"),
            "not yet: a new order did ['reserved lamp', 'charged 40 euros', 'shipped lamp', 'told the customer']",
        ),
        (
            new_order("wrap", "reserve", "charge", "ship", "tell", guarded=True),
            "not yet: a new order did ['wrapped lamp', 'reserved lamp'",
        ),
    ],
)
def test_09_q1_new_code_for_orders_under_way(order, words):
    assert repr(changing_code.q1.check(order)).startswith(words)


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("look_up_2", "right: from look_up_2 on it did ['charged 40 euros', 'shipped lamp']."),
        (
            "charge_3",
            "not yet: from charge_3 on it did ['charged 4000 euros', 'shipped lamp']: it charged the price on rec",
        ),
        ("ship_4", "not yet: from ship_4 on it did ['shipped lamp']: the wrong price is still on record"),
        (
            "reserve_1",
            "not yet: from reserve_1 on it did ['reserved lamp', 'charged 40 euros', 'shipped lamp']: a second",
        ),
        ("charge", "not yet: there is no step 'charge'; there are reserve_1, look_up_2, charge_3, ship_4"),
    ],
)
def test_09_q2_how_far_an_order_is_taken_back(to, words, database):
    prices = [4000]

    def look_up(item: str) -> int:
        return prices[-1]

    def sale(ctx: Context, item: str) -> None:
        ctx.step(changing_code.reserve, item)
        price = ctx.step(look_up, item)
        ctx.step(changing_code.charge, price)
        ctx.step(changing_code.ship, item)

    with Engine(database) as engine:
        engine.run("sale 1", sale, "lamp")
        prices.append(40)

        assert repr(changing_code.q2.check(to, engine, "sale 1", sale)).startswith(words)
        assert [step.value for step in engine.steps("sale 1") if step.step_key == "look_up_2"] == [4000]

    assert repr(changing_code.q2.check(to, engine, "sale 1", sale)).startswith(words)  # the notebook ends by closing it


# ---- 10


@pytest.mark.thorough
def test_10_a_process_that_does_not_come_to_its_moment_is_an_error_of_the_notebook(database):
    with pytest.raises(RuntimeError, match=r"did not come to 'greet:failed': completed: greeted Ann"):
        one_machine_and_beyond.Process(database, "emp_001", one_machine_and_beyond.greet, "Ann", hold_at="greet:failed")


@pytest.mark.thorough
def test_10_a_process_that_sleeps_can_be_woken_and_goes_on_or_be_killed(database):
    first, second = (
        one_machine_and_beyond.Process(database, name, one_machine_and_beyond.greet, name, hold_at="greet:started")
        for name in ("Ann", "Bob")
    )
    first.sleep()
    second.sleep()
    second.kill()
    first.wake()

    assert first.finish() == "completed: greeted Ann"
    assert list_effects(database) == ["greeted Ann"]


@pytest.mark.thorough
def test_10_a_worker_goes_on_with_what_a_dead_process_has_left_and_tells_of_it(database):
    run_until_crash(database, "emp_001", crash_and_resume.onboarding, "Ann", 0.0, at="send_welcome_email:executed")
    worker = one_machine_and_beyond.Worker(database)
    lines = worker.read_until("emp_001 completed")
    worker.stop()

    assert [line for line in lines if line.startswith("[DONE]")] == [
        "[DONE] emp_001: send_welcome_email (key: send_welcome_email_4)",
        "[DONE] workflow emp_001 completed",
    ]
    assert worker.wait() == 130


def test_10_a_worker_that_ends_before_it_says_what_is_waited_for_is_an_error_of_the_notebook(tmp_path):
    with pytest.raises(RuntimeError, match="the worker did not write 'completed'"):
        one_machine_and_beyond.Worker(tmp_path).read_until("completed")


def runs_and_sees_who_is_refused(engine, workflow_id, workflow, *args):
    try:
        return engine.run(workflow_id, workflow, *args)
    except WorkflowBusyError as busy:
        return f"busy: {busy.pid}"


def asks_the_row(engine, workflow_id, workflow, *args):
    found = engine.find_workflow(workflow_id)
    if found is not None and found.status == "running":
        return f"busy: {engine.owner(workflow_id)}"
    return engine.run(workflow_id, workflow, *args)


def looks_for_the_owner_first(engine, workflow_id, workflow, *args):
    pid = engine.owner(workflow_id)
    return f"busy: {pid}" if pid else engine.run(workflow_id, workflow, *args)


def takes_every_error_for_busy(engine, workflow_id, workflow, *args):
    try:
        return engine.run(workflow_id, workflow, *args)
    except Exception as error:
        return f"busy: {getattr(error, 'pid', None)}"


def does_not_say_who(engine, workflow_id, workflow, *args):
    try:
        return engine.run(workflow_id, workflow, *args)
    except WorkflowBusyError:
        return "busy"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("run_once", "words"),
    [
        (runs_and_sees_who_is_refused, r"right: free, owned, left behind, contended, failing: five cases"),
        (
            asks_the_row,
            r"not yet: process \d+ was killed, and its workflow should go on; it returned 'busy: None'. A row that",
        ),
        (
            looks_for_the_owner_first,
            (
                r"not yet: 'contended' had no owner when you looked; a moment later, process \d+ had it, "
                r"and your run raised"
            ),
        ),
        (
            takes_every_error_for_busy,
            r"not yet: a workflow that fails is not busy: it raised LookupError, and you returned 'busy: None'\.",
        ),
        (does_not_say_who, r"not yet: process (\d+) runs 'owned', and it returned 'busy'; expected: 'busy: \1'\."),
        (
            lambda *_: "done",
            r"not yet: no process runs 'free', and it returned 'done'; expected is the result, 'greeted",
        ),
    ],
)
def test_10_q1_run_it_unless_somebody_else_does(run_once, words):
    assert re.match(words, repr(one_machine_and_beyond.q1.check(run_once)))


class Fence:
    """Right; the others differ from it in one thing."""

    def __init__(self):
        self.rows, self.epoch, self.saved_by = {}, 0, 0

    def begin(self):
        self.epoch += 1
        return self.epoch

    def refuses(self, epoch):
        return epoch != self.epoch

    def save(self, epoch, key, value):
        if self.refuses(epoch):
            raise one_machine_and_beyond.FencedError(epoch)
        self.rows[key], self.saved_by = value, epoch


class NoFence(Fence):
    def refuses(self, epoch):
        return False


class ComparesWithTheLastSave(Fence):
    def refuses(self, epoch):
        return epoch < self.saved_by


class SameEpochForAll(Fence):
    def begin(self):
        return 0


class RefusesTheNewOne(Fence):
    def refuses(self, epoch):
        return epoch > 1


class DropsInSilence(Fence):
    def save(self, epoch, key, value):
        if not self.refuses(epoch):
            self.rows[key] = value


LET_IN = "not yet: owner one saved: the rows are {'create_record': 'by one', 'order_laptop': 'by one'}; expected: {'c"


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (Fence, "right: the owner that was replaced can save nothing, and gets an error; the new one can."),
        (NoFence, LET_IN),
        (ComparesWithTheLastSave, LET_IN),
        (SameEpochForAll, LET_IN),
        (RefusesTheNewOne, LET_IN),
        (DropsInSilence, "not yet: owner one was replaced, and its save was dropped without a word."),
    ],
)
def test_10_q2_a_fence(store, words):
    assert repr(one_machine_and_beyond.q2.check(store)).startswith(words)


HOLDS = {claim: holds for claim, (holds, _) in one_machine_and_beyond.PROMISES.items()}
NETWORK, UNDONE = "the file may lie on a network drive", "a superseded process can do nothing to the world"


@pytest.mark.parametrize(
    ("promised", "words"),
    [
        (HOLDS, "right: three promises, and four hopes."),
        (
            HOLDS | {NETWORK: True},
            "not yet: 6 of 7 hold. 'the file may lie on a network drive' is not promised: neither the lock nor SQLite",
        ),
        (
            HOLDS | {UNDONE: True, NETWORK: True},
            "not yet: 5 of 7 hold. 'a superseded process can do nothing to the world' is not promised: its mail was",
        ),
        ({"it is all magic": True}, "not yet: the claims are to stay as they are;"),
    ],
)
def test_10_q3_what_is_promised(promised, words):
    assert repr(one_machine_and_beyond.q3.check(promised)).startswith(words)


# ---- 11

BEGIN = """import durable
from durable.lab.lessons.durable_cells import ask_price, q1, q3"""
LOOP = "%%durable mine\nasked = []\nfor shop in {}:\n    asked.append(ask_price(shop))"
NUMBERS = "[900, 937, 974, 1011, 1048, 1085]"


def verdicts_of(folder: Path, check: str, *cells: str) -> list[str]:
    """Run each cell in one kernel, and what the check says of it."""
    sources = [BEGIN, '%load_ext durable\n%durable file "mine.durable.db"']
    sources += [source for cell in cells for source in (cell, check)]
    ran = build.execute(nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, sources)]), folder)
    return [cell.outputs[0].data["text/plain"] for cell in ran.cells if cell.source == check]


@pytest.mark.thorough
def test_11_q1_a_loop_that_is_killed_in_each_of_its_calls(tmp_path):
    calls = [
        LOOP.format("range(6)"),
        LOOP.format("durable.each(range(6))"),
        LOOP.format("durable.each(range(5), every_seconds=0)"),
        "%%durable mine\nasked = durable.map(ask_price, range(6), max_concurrent=1)",
        LOOP.format("durable.each(range(6), every_seconds=0)"),
    ]

    said = verdicts_of(tmp_path, 'q1.check("mine")', *calls)

    expected = [
        "not yet: killed in call 2 and run again: 8 calls for 6 prices. The loop leaves nothing on record before its",
        "not yet: killed in call 2 and run again: 8 calls for 6 prices. The passes are quicker than a second, and",
        f"not yet: undisturbed, asked is {NUMBERS.replace(', 1085', '')}; expected is {NUMBERS}",
        "right: 6 kills, and after each only the call is made again",
        "right: 6 kills, and after each only the call is made again",
    ]
    assert [line[: len(words)] for line, words in zip(said, expected, strict=True)] == expected


@pytest.mark.thorough
def test_11_q3_a_file_that_the_cell_names_or_does_not(tmp_path):
    said = verdicts_of(
        tmp_path,
        'q3.check("taxed")',
        "from pathlib import Path\ntax_file = Path('tax.txt')\n_ = tax_file.write_text('0.19')",
        "%%durable taxed\ntax = float(tax_file.read_text())",
        "%%durable taxed\ntax = float(durable.input(tax_file).read_text())",
    )

    assert said[0].startswith("not yet: your code raised LookupError: no cell %%durable taxed was run in this kernel")
    assert said[1:] == [
        "not yet: the file says 0.25, and in the next kernel tax is 0.19.",
        "right: the cell runs again when the file has changed, and only then.",
    ]


COMMENT, RATE, SAME, UNUSED, ROUNDS, NINTH = durable_cells.EDITS
AGAIN = {COMMENT: False, RATE: True, SAME: False, UNUSED: False, ROUNDS: True, NINTH: True}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("runs_again", "words"),
    [
        (AGAIN, "right: what counts is the content of all that the cell reads"),
        (AGAIN | {COMMENT: True}, f"not yet: {COMMENT}: the cell was brought back."),
        (AGAIN | {NINTH: False}, f"not yet: {NINTH}: the cell says: report runs again: prices changed."),
        ({"all of them": True}, "not yet: the edits are to stay as they are"),
    ],
)
def test_11_q2_the_edits_after_which_a_cell_runs_again(runs_again, words):
    assert repr(durable_cells.q2.check(runs_again)).startswith(words)


def test_the_edits_of_notebook_11_are_edits_of_its_own_cells():
    sources = {cell.id: cell.source for cell in build.read(build.SOLVED / "11_durable_cells.ipynb").cells}

    assert (sources["helpers"], sources["report"]) == (durable_cells.HELPERS, durable_cells.REPORT)


def test_a_notebook_that_ends_with_other_values_is_said_to():
    whole, killed, resumed = (Told([text], [1], is_killed=text == "") for text in ("[900]", "", "[901]"))
    story = durable_cells.Story(whole, killed, resumed)

    assert not story.is_same
    assert repr(story).endswith("second: 1; at its end, with other values")


# ---- 12

MOVES = "self.number += 1 + __import__('os').getpid() % 9"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("self.number += 1", "not yet: the line is as it was"),
        ("self.number += 3", "not yet: the tour survives: every process still draws the same numbers."),
        ("self.number = 0", "not yet: it breaks something else: "),
        ("self.number += ", "not yet: it breaks something else: SyntaxError"),
        (MOVES, "right: each process numbers its steps in its own way"),
    ],
)
def test_12_q1_a_line_that_moves_keys(line, words):
    assert repr(the_real_one.q1.check(line)).startswith(words)


TOO_EAGER, TOO_TRUSTING = the_real_one.RULE


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        ({TOO_EAGER: "once", TOO_TRUSTING: "ends"}, "right: one line too eager, one too trusting."),
        ({TOO_EAGER: "lost", TOO_TRUSTING: "ends"}, f"not yet: {TOO_EAGER} keeps the promise 'lost': a row that says"),
        ({TOO_EAGER: "magic", TOO_TRUSTING: "ends"}, "not yet: 'magic' is none of once, ends, lost."),
    ],
)
def test_12_q2_which_promise_a_line_breaks(breaks, words):
    assert repr(the_real_one.q2.check(breaks)).startswith(words)


def test_a_line_that_is_not_there_is_named_and_nothing_runs():
    with pytest.raises(LookupError, match=r"step\.py: 'yield \"never\"' is there 0 times, and should be there once"):
        the_real_one.break_line("replay/step.py", 'yield "never"', "pass")


# ---- 13


def pay_by_chance(euros: int) -> str:
    return agents.transfer(uuid.uuid4().hex, euros)


def pay_by_amount(euros: int) -> str:
    return agents.transfer(str(euros), euros)


def pay_without_a_bank(euros: int) -> str:
    return f"{euros} euros"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("pay", "words"),
    [
        (pay_by_chance, r"not yet: kill at .*, then resumed: 250 euros were sent twice\."),
        (pay_by_amount, r"not yet: a second purchase, under another id: its 250 euros were not sent\."),
        (pay_without_a_bank, r"not yet: undisturbed it did .*; expected is one transfer of 250 euros\."),
    ],
)
def test_13_q1_a_payment_with_a_key_that_moves_or_is_shared(pay, words):
    assert re.match(words, repr(agents.q1.check(pay)))


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("approve pay_3", "right: the fork has the conversation up to the question"),
        ("approvals_4", "not yet: the fork answers 'The answer to the payment: 250 euros are on their way': the"),
        ("approvals_2", "right: the fork has the conversation up to the question"),
        ("pay_9", "not yet: there is no step 'pay_9'; the keys are in the table above"),
    ],
)
def test_13_q2_the_step_at_which_an_answer_can_still_be_another_one(at, words):
    assert repr(agents.q2.check(at)).startswith(words)


def test_13_q2_a_fork_at_the_first_request_asks_it_again(tmp_path):
    with Engine(tmp_path / "keys.db") as engine:
        handle = engine.start("p1", agents.purchase, "a desk")
        engine.send("p1", "approve pay", False)
        handle.result()
        first, *_ = engine.steps("p1")

    said = repr(agents.q2.check(first.step_key))

    assert said.startswith("not yet: it is refused, and more than the last request was made again: model request 1,")
