"""The page about the engines, made from the suite: what its tests promise of both, and where they differ."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.conformance.differences import DIFFERENCES

PATH = Path(__file__).parents[2] / "docs" / "engines.md"
_MODULES = [  # in the order of the page
    *("steps", "divergence", "parallel", "waiting", "workflows", "concurrency", "context_variables", "progress"),
    *("bulk", "logs", "crashes", "large_values", "alike"),
]
_SPELLED = {"ones own": "one's own", "json": "JSON", "the callers": "the caller's", "each others": "each other's"}
_HEAD = """\
# One file, or DBOS and PostgreSQL

Made by `python -m tests.conformance` from the suite that runs the same tests on both engines
(`pytest tests/conformance`). A workflow function moves as it is. `durable list`, `steps`, `send`, `read` and `watch`
work on either: `--db FILE`, or `--engine postgresql://user@host/database`.

A file is trusted to choose among the workflow functions that the code of its recovering process vouches for: passed to
the engine, in one of its `modules`, or annotated `ctx: Context` in an imported module. A queue is trusted with the same
choice for each of its workers. `engine.resume(id)` alone imports whatever name is on record.
"""


def page() -> str:
    """The text."""
    return "\n".join([_HEAD, *_differences(), "", *_promises()])


def modules() -> list[ModuleType]:
    """The tests."""
    return [importlib.import_module(f"tests.conformance.test_{name}") for name in _MODULES]


def list_tests(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Those that are run each time, in the order of the file."""
    for name, test in vars(module).items():
        is_soak = any(mark.name == "soak" for mark in getattr(test, "pytestmark", []))
        if name.startswith("test_") and inspect.isfunction(test) and test.__module__ == module.__name__ and not is_soak:
            yield name, test


def _differences() -> list[str]:
    rows = [
        f"| {subject} | {each.sqlite} | {each.dbos} | {each.why} |" for subject, each in sorted(DIFFERENCES.items())
    ]
    return [
        "## Where they differ",
        "",
        "| | `Engine`, one SQLite file | `DBOSEngine`, PostgreSQL | why |",
        "|---|---|---|---|",
        *rows,
    ]


def _promises() -> list[str]:
    lines = ["## What holds on both", ""]
    for module in modules():
        heading = (module.__doc__ or "").partition("\n")[0].rstrip(".")
        lines += [f"**{heading}**", ""]
        lines += [f"- {_sentence(name)}" for name, test in list_tests(module) if not hasattr(test, "differs")]
        lines.append("")
    return lines


def _sentence(name: str) -> str:
    words = name.removeprefix("test_").replace("_", " ")
    for plain, spelled in _SPELLED.items():
        words = words.replace(plain, spelled)
    return words[0].upper() + words[1:]
