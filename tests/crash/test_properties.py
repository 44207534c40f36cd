"""Any workflow under any crashes: generated workflows, generated crash plans, and the promises of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from durable.limits.payload import dump
from durable.testing.matrix.case import Case, CaseResult, Fault, FaultKind, Job, Surroundings
from durable.testing.matrix.judge import Baseline, Judgement, judge
from durable.testing.matrix.pool import Pool
from tests.support import mutants
from tests.support.programs import Program, programs, programs_in_turn, run_program

PLANS_PER_PROGRAM = 4
kinds: st.SearchStrategy[FaultKind] = st.sampled_from(["kill", "kill", "kill", "interrupt", "second owner"])
faults = st.tuples(kinds, st.integers(0, 9), st.integers(0, 3))  # at the mth moment of the nth step, round and round
crash_plans = st.lists(st.lists(faults, min_size=1, max_size=3), min_size=1, max_size=PLANS_PER_PROGRAM)
quietly = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as started:
        yield started


def play(pool: Pool, program: Program, plans: list[Any], setup: Callable[[], object] | None = None) -> list[Judgement]:
    """The program undisturbed, then under each crash plan; what was found."""
    payload = dump(run_program, (program,), {}, setup)

    def play_cases(cases: list[Case]) -> list[CaseResult]:
        here = Surroundings.here()
        return list(pool.play(cases, lambda case, folder: Job(case, here, payload, folder, 20.0, "normal")))

    undisturbed = play_cases([Case()])
    points: dict[str, list[str]] = {}
    for at in undisturbed[0].points():
        key = at.partition(":")[0]
        if key.rpartition("/")[2] != "workflow":  # without those of the workflows themselves
            points.setdefault(key, []).append(at)
    steps = list(points.values())

    def point(n: int, m: int) -> str:
        moments = steps[n % len(steps)]
        return moments[m % len(moments)]

    cases = [Case(tuple(Fault(kind, point(n, m)) for kind, n, m in plan)) for plan in plans]
    return [judge(result, Baseline.of(undisturbed)) for result in play_cases(cases)]


@pytest.mark.thorough
@settings(quietly, max_examples=40)
@given(program=programs, plans=crash_plans)
def test_any_workflow_ends_as_undisturbed_however_it_is_crashed(pool: Pool, program: Program, plans: list[Any]) -> None:
    for judgement in play(pool, program, plans):
        assert judgement.violations == (), judgement.case


@pytest.mark.thorough
@pytest.mark.parametrize(
    "mutant", [mutants.forgotten_checkpoint, mutants.running_taken_for_completed], ids=lambda mutant: mutant.__name__
)
def test_a_wrong_engine_is_found_and_the_example_shrinks(pool: Pool, mutant: Callable[[], None]) -> None:
    def is_wrong(example: tuple[Program, list[Any]]) -> bool:
        program, plans = example
        return any(judgement.violations for judgement in play(pool, program, plans, setup=mutant))

    phases = [Phase.generate, Phase.shrink]
    program, plans = find(
        st.tuples(programs_in_turn, crash_plans), is_wrong, settings=settings(quietly, max_examples=100, phases=phases)
    )

    assert [len(program), *map(len, plans)] == [1, 1], (program, plans)  # one node, one case of one fault
    assert program[0][0] in ("do", "do async", "fail")
