"""Random programs of all operations under random signals: what comes of them is what an oracle in plain Python says."""

from __future__ import annotations

import pytest

from tests.programs import find_violations
from tests.support.selection import first_alone

TRIALS, TOGETHER = 300, 20


@pytest.mark.parametrize("seed", first_alone(range(0, TRIALS, TOGETHER)))
def test_random_programs_end_as_the_oracle_says(seed: int) -> None:
    assert list(find_violations(range(seed, seed + TOGETHER))) == []
