"""Which cases of a test run in the ordinary selection, and which only with `pytest -m thorough`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thorough(value: object) -> Any:
    """Mark one case of a parametrized test: its value, or the tuple of its values."""
    values = value if type(value) is tuple else (value,)
    return pytest.param(*values, marks=pytest.mark.thorough)


def first_alone(values: Iterable[object]) -> list[Any]:
    """Leave the first case in the ordinary selection and mark the others."""
    first, *others = values
    return [first, *map(thorough, others)]
