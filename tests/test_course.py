"""The exercises: each check accepts a right answer, and tells a wrong one what is wrong about it, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable import Context
from durable.examples.effects import have_effect
from durable.lab.checks import Exercise, is_missing, not_yet, right
from durable.lab.course import crash_and_resume, replay_and_keys, steps_and_checkpoints
from durable.lab.course.crashes import ask
from durable.lab.prediction import predict
from durable.testing import run_until_crash

# ---- what all exercises share


def stub(ctx, name):
    """To be written."""


@pytest.mark.parametrize("answer", [None, ..., {"a": None}, [1, None], stub])
def test_what_nobody_has_answered_is_not_yet_right_and_nothing_is_run(answer):
    exercise = Exercise("00.q1", lambda _: right("it was judged"), "think")

    assert is_missing(answer)
    assert repr(exercise.check(answer)).startswith("not yet: the answer is still empty; write yours")


@pytest.mark.parametrize("answer", [0, "", set(), {"a": 0}, lambda: 0, print])
def test_an_answer_is_an_answer_though_it_be_falsy(answer):
    assert not is_missing(answer)


def test_a_check_says_what_the_readers_code_raised_and_does_not_raise():
    exercise = Exercise("00.q1", lambda fn: fn(), "think")

    verdict = exercise.check(lambda: 1 // 0)

    assert not verdict
    assert repr(verdict) == "not yet: your code raised ZeroDivisionError: integer division or modulo by zero"


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
