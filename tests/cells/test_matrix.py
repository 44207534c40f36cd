"""The kernel-kill matrix: no notebook ends with anything else, and the matrix catches cells that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import durable.cells.magics  # noqa: F401 - here, so that a forked life need not import it
from tests.cells import mutants
from tests.cells.matrix import MAX_KILLS, cases


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(5))
def test_killed_notebooks_end_as_they_would_have(tmp_path: Path, part: int) -> None:
    ended = list(cases(tmp_path, kills=10, seed=1000 * part))

    assert [case for case in ended if case.wrong] == []
    assert sum(case.kills for case in ended) >= 10


@pytest.mark.thorough
@pytest.mark.parametrize("mutant", mutants.EVERY, ids=lambda mutant: mutant.__name__)
def test_the_matrix_catches_cells_that_are_wrong(tmp_path: Path, mutant: Callable[[], None]) -> None:
    for case in cases(tmp_path, kills=20 * MAX_KILLS, seed=0, mutant=mutant):
        if case.wrong:
            return

    pytest.fail("no case was wrong")
