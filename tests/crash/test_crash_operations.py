"""The crash matrix over every durable operation: killed at every moment, twice, interrupted, asked for twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from durable.testing import Plan
from tests.support import mutants, operations
from tests.support.selection import first_alone

PLAN = Plan(pairs=12, random=6, seed=11, seconds=120)


@pytest.mark.parametrize("workflow", first_alone([*operations.EVERY, *operations.SLOW]), ids=lambda fn: fn.__name__)
def test_every_operation_survives_a_crash_at_every_moment_and_two_in_a_row(
    crash_matrix, workflow: Callable[..., Any]
) -> None:
    report = crash_matrix(workflow, plan=PLAN)

    report.assert_survives()
    run = report.baseline.runs[0]
    assert {str(judgement.case) for judgement in report.judgements} >= {f"kill at {point}" for point in run.points()}
    assert report.kills > len(run.points())


# after Ctrl+C the slow runner may end before the fast one has begun, and then it rightly wins
IN_ANY_ORDER = [workflow for workflow in operations.EVERY if workflow is not operations.contest]


@pytest.mark.thorough
@pytest.mark.parametrize("workflow", IN_ANY_ORDER, ids=lambda fn: fn.__name__)
def test_every_operation_survives_ctrl_c_and_a_second_owner(crash_matrix, workflow: Callable[..., Any]) -> None:
    report = crash_matrix(workflow, plan=Plan(every_moment=False, interrupts=True, second_owner=True, seconds=120))

    report.assert_survives()
    assert report.kills == 0


@pytest.mark.thorough
def test_the_steps_of_children_are_killed_and_counted_too(crash_matrix) -> None:
    report = crash_matrix(operations.family, plan=Plan(seconds=120))

    run = report.baseline.runs[0].last.remains
    expected = {"kid_1/do_1", "kid_1/grandkid_2/do_1", "kid_1/grandkid_2/workflow", "kid_async_2/sleep_1"}
    assert expected <= run.steps.keys()
    assert run.steps["bad_kid_4/workflow"].status == "failed"
    assert "kill at kid_1/grandkid_2/do_1:executed" in {str(judgement.case) for judgement in report.judgements}
    assert {"kid_1/do_1", "kid_1/grandkid_2/do_1", "bad_kid_4/refuse_1"} <= report.not_idempotent.keys()
    assert "DURABLE_CRASH_AT=case/kid_1/do_1:executed" in "\n".join(
        report.replay(report.not_idempotent["kid_1/do_1"][0].result)
    )
    assert "kid_1/grandkid_2/do_1" in report.table()


@pytest.mark.thorough
def test_what_only_waits_or_is_recorded_is_not_said_to_have_run_twice(crash_matrix) -> None:
    report = crash_matrix(operations.naps, plan=Plan(seconds=120))

    assert report.not_idempotent.keys() == {"do_1", "do_4", "do_5"}
    assert "sleep" not in report.verdict()


class Catch(NamedTuple):
    """How a mutant is caught: in which workflow, and by which broken promise."""

    mutant: Callable[[], None]
    workflow: Callable[..., Any]
    promises: set[str]


CATCHES = [
    Catch(mutants.race_not_recorded, operations.contest, {"determinism", "result", "arguments"}),
    Catch(mutants.hosted_tasks_of_one_scope, operations.hosts, {"keys", "arguments", "result", "ends"}),
    Catch(mutants.message_taken_before_it_is_saved, operations.letters, {"result", "keys", "arguments", "ends"}),
    Catch(mutants.compensations_of_this_life_alone, operations.saga, {"lost", "keys"}),
    Catch(mutants.child_begun_anew, operations.family, {"once", "gap", "keys"}),
    Catch(mutants.value_drawn_anew, operations.helpers, {"determinism", "arguments"}),
    Catch(mutants.retries_forgotten, operations.persistence, {"checkpoint", "once", "result", "gap"}),
]


@pytest.mark.parametrize("catch", first_alone(CATCHES), ids=lambda catch: catch.mutant.__name__)
def test_each_wrong_operation_is_caught(crash_matrix, catch: Catch) -> None:
    report = crash_matrix(catch.workflow, plan=replace(PLAN, setup=catch.mutant))

    assert {v.promise for found in report.broken for v in found.violations} & catch.promises, report.verdict()
