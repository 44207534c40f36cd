"""The plugin that pytest finds by itself: the fixture `crash_matrix`.

def test_onboarding_survives(crash_matrix):
    crash_matrix(onboarding, "Jane").assert_survives()
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from durable.testing.matrix.pool import Pool


@pytest.fixture(scope="session")
def crash_matrix_pool() -> Iterator[Pool]:
    """Return the processes that all matrices of a test session share."""
    from durable.testing.matrix.pool import Pool

    with Pool() as pool:
        yield pool


@pytest.fixture
def crash_matrix(crash_matrix_pool: Pool) -> Any:
    """Return `durable.testing.crash_matrix`, with processes that are warm already."""
    import functools

    from durable.testing import crash_matrix
    from durable.testing.matrix.progress import be_silent

    return functools.partial(crash_matrix, pool=crash_matrix_pool, progress=be_silent)
