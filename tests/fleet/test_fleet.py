"""The kill test: workers killed and replaced all the time, the database restarted in between, and nothing is lost.

`pytest -m soak tests/fleet/test_fleet.py`, or `python -m tests.fleet`, for the whole of it.
"""

from __future__ import annotations

import pytest

from tests.fleet.kill_test import Effect, Outcome, judge, kill_test
from tests.support.postgres import Server


@pytest.mark.thorough
def test_every_workflow_ends_and_no_acknowledged_step_runs_again(own_postgres: Server) -> None:
    outcome = kill_test(own_postgres, workflows=30, step_seconds=0.8, kill_seconds=1, restart_every=3, max_kills=4)

    assert outcome.violations == []
    assert outcome.completed == 30
    assert len(outcome.acknowledged) == 4 * 30
    assert len(outcome.kills) >= 3, outcome.figures()
    assert outcome.restarts, outcome.figures()
    assert outcome.taken_over, outcome.figures()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_workflows_outlive_a_kill_every_two_seconds(own_postgres: Server, seed: int) -> None:
    outcome = kill_test(own_postgres, workflows=200, seed=seed, give_up_seconds=400)

    print(outcome.figures())
    assert outcome.violations == []
    assert outcome.completed == 200
    assert len(outcome.acknowledged) == 4 * 200
    assert len(outcome.kills) >= 10, outcome.figures()
    assert outcome.restarts, outcome.figures()
    assert outcome.repeats, outcome.figures()


# ---- the judge sees what is wrong


@pytest.mark.thorough
def test_a_take_over_without_the_lock_is_seen(own_postgres: Server) -> None:
    sought = "had not been killed"
    outcome = kill_test(own_postgres, workflows=12, breaks="locks", step_seconds=2, kill_seconds=99, until=sought)

    assert any(sought in violation for violation in outcome.violations)


@pytest.mark.thorough
def test_step_keys_that_are_not_the_same_in_every_run_are_seen(own_postgres: Server) -> None:
    sought = "after it was acknowledged"
    outcome = kill_test(own_postgres, workflows=60, breaks="keys", step_seconds=0.6, kill_seconds=1.5, until=sought)

    assert any(sought in violation for violation in outcome.violations)


GOOD = Outcome(
    workflows=1,
    completed=1,
    seconds=9.0,
    kills={7: 2.0},
    restarts=[],
    effects=[Effect(1.0, 7, "charge", "wf/charge_1", 1), Effect(3.0, 8, "charge", "wf/charge_1", 1)],
    acknowledged=[("wf", "charge_1", 4.0)],
    taken_over=1,
)


def changed(**parts: object) -> list[str]:
    return judge(Outcome(**{**vars(GOOD), **parts}))  # type: ignore[arg-type]


def test_an_effect_that_is_repeated_after_a_kill_is_allowed_and_counted() -> None:
    assert judge(GOOD) == []
    assert GOOD.repeats == 1
    assert GOOD.gone_on_after() == [1.0]


def test_each_violation_is_said() -> None:
    charge = ("wf", "charge")
    late = [*GOOD.effects, Effect(5.0, 9, "charge", "wf/charge_1", 1)]

    assert changed(completed=0) == ["1 workflows have not completed"]
    assert changed(kills={}) == [f"{charge} was repeated in 8, and 7 had not been killed"]
    assert changed(kills={7: 3.5}) == [f"{charge} was repeated in 8, and 7 had not been killed"]
    assert changed(acknowledged=[]) == [f"{charge} has an effect and no checkpoint"]
    assert changed(effects=[]) == [f"{charge} has a checkpoint and no effect"]
    assert changed(acknowledged=[*GOOD.acknowledged, ("wf", "charge_1", 6.0)]) == [f"{charge} was acknowledged 2 times"]
    assert changed(effects=late, kills={7: 2.0, 8: 4.5}) == [
        f"{charge} ran again in 9, 1.000 s after it was acknowledged"
    ]
