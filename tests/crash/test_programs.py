"""Random programs of all operations under random signals: what comes of them is what an oracle in plain Python says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.programs import find_violations
from tests.support import mutants
from tests.support.selection import first_alone

TRIALS, TOGETHER = 300, 20


@pytest.mark.parametrize("seed", first_alone(range(0, TRIALS, TOGETHER)))
def test_random_programs_end_as_the_oracle_says(seed: int) -> None:
    assert list(find_violations(range(seed, seed + TOGETHER))) == []


@pytest.mark.parametrize(
    "fault",
    first_alone(
        [mutants.running_taken_for_completed, mutants.forgotten_checkpoint, mutants.compensations_of_this_life_alone]
    ),
    ids=lambda fault: fault.__name__,
)
def test_a_wrong_engine_is_found_by_the_same_programs(fault: Callable[[], None]) -> None:
    assert next(find_violations(range(TRIALS), fault), None) is not None
