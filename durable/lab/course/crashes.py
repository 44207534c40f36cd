"""Functions for the checks: crash a reader's workflow at every moment, and show the smallest case that goes wrong."""

from __future__ import annotations

import html
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from durable.lab.questions.checks import Verdict, not_yet
from durable.testing import Plan, Report, crash_matrix
from durable.testing.matrix.case import CaseResult


def crash_everywhere(workflow: Callable[..., Any], *args: Any, pairs: int = 0) -> Report:
    """Return the crash matrix of a workflow, without a progress bar."""
    return crash_matrix(workflow, *args, plan=Plan(pairs=pairs, seconds=90), progress=_say_nothing)


def _say_nothing(_: int, __: int) -> None:
    """Show no bar."""


def find_fault(report: Report) -> Verdict | None:
    """Return the verdict on a workflow that breaks a promise; None if it survives."""
    if report.broken:
        judgement = report.broken[0]
        found = judgement.violations[0]
        return not_yet(f"{judgement.case}, then resumed: {found.text}.", report._repr_html_())
    if not report.is_complete:
        return not_yet("the crashes took too long to be tried all; make the steps quicker, and check again")
    return None


def effects_of(report: Report) -> list[str]:
    """Return the effects of an undisturbed run, in order."""
    return [effect.what for effect in report.baseline.runs[0].last.remains.effects]


def repeated(result: CaseResult, usual: Sequence[str]) -> list[str]:
    """Return the effects that happened more often in a case than usual."""
    here = [effect.what for effect in result.last.remains.effects]
    return [what for what in dict.fromkeys(usual) if here.count(what) > usual.count(what)]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a small table as HTML. A cell that begins with an exclamation mark is marked as the one to look at."""

    def cell(value: object) -> str:
        text = str(value)
        look = text.startswith("!")
        style = "text-align:left" + (";background:rgba(176,80,140,.24);font-weight:bold" if look else "")
        return f"<td style='{style}'>{html.escape(text.removeprefix('!'))}</td>"

    top = "".join(f"<th style='text-align:left'>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def ask(db: Path, question: str, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(question, values).fetchall()
