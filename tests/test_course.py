"""The exercises: each check accepts a right answer, and tells a wrong one what is wrong about it, in words."""

from __future__ import annotations

import pytest

from durable.lab.checks import Exercise, is_missing, not_yet, right
from durable.lab.course import crash_and_resume
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
    assert repr(prediction.reveal(2)) == "it is 2. You have not predicted; next time choose first, it is worth it."

    prediction.chosen = "2"
    assert repr(prediction.reveal(2)) == "right: you said 2, and so it is"
    prediction.chosen = "1"
    assert repr(prediction.reveal(2)).startswith("you said 1, and it is 2.")


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
