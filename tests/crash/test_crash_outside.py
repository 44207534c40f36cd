"""The crash matrix over an operation from outside the package, see tests/operations/test_outside.py."""

from __future__ import annotations

import pytest

from durable.testing import Plan
from tests.operations.test_outside import prices_told


def test_it_survives_a_crash_at_every_moment(crash_matrix) -> None:
    report = crash_matrix(prices_told, plan=Plan(seconds=120))

    report.assert_survives()
    assert {"rate_of_2:executed", "rate_of_4:executed", "note_7:executed"} <= {
        str(judgement.case).removeprefix("kill at ") for judgement in report.judgements
    }


@pytest.mark.thorough
def test_it_survives_two_crashes_in_a_row_ctrl_c_and_a_second_owner(crash_matrix) -> None:
    report = crash_matrix(prices_told, plan=Plan(pairs=40, interrupts=True, second_owner=True, seconds=120))

    report.assert_survives()
