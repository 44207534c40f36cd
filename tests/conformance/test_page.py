"""The page about the engines says what the suite shows."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.differences import DIFFERENCES
from tests.conformance.page import PATH, list_tests, modules, page


def test_the_committed_page_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == page(), "run: python -m tests.conformance"


def test_each_module_of_the_suite_is_on_the_page() -> None:
    there = {path.stem for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).stem}

    assert {module.__name__.rpartition(".")[2] for module in modules()} == there


def test_each_difference_is_shown_by_a_test() -> None:
    shown = [
        subject for module in modules() for _, test in list_tests(module) for subject in getattr(test, "differs", ())
    ]

    assert sorted(shown) == sorted(DIFFERENCES)
