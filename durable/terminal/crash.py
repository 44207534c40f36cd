"""`durable crash`: the crash matrix of a workflow, from the command line to its exit code."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from durable.terminal.output.tables import make_console
from durable.terminal.output.usage import UsageError
from durable.terminal.run.target import EXAMPLES, Target, find_target
from durable.testing import MatrixError, PayloadError, Plan, Report, crash_matrix
from durable.testing.matrix.report import CELLS

SURVIVES, DOES_NOT = 0, 1


@dataclass(frozen=True)
class Order:
    """The arguments of `durable crash`."""

    workflow: str
    input: str | None
    plan: Plan
    idempotent: bool
    as_json: bool


def run(order: Order) -> int:
    """Play the matrix, print its report and return the exit code. Raises DurableError if it could not be played."""
    target = find_target(order.workflow)
    args, kwargs = _arguments(order, target)
    try:
        report = crash_matrix(target.fn, *args, plan=order.plan, **kwargs)
    except TypeError as error:
        if isinstance(error, PayloadError):
            raise
        raise UsageError(f"{error}; give it with --input") from None
    except MatrixError as error:
        raise UsageError(f"{order.workflow}: {error}") from None
    if order.as_json:
        typer.echo(report.as_json())
    else:
        _show(report, make_console(), idempotent=order.idempotent)
    return SURVIVES if report.survives(idempotent=order.idempotent) else DOES_NOT


def _arguments(order: Order, target: Target) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the workflow. Without --input, an example gets delays of zero."""
    if order.input is not None:
        return target.arguments(order.input)
    if order.workflow not in EXAMPLES:
        return (), {}
    return (), {name: 0.0 for name in inspect.signature(target.fn).parameters if name.endswith("_seconds")}


def _show(report: Report, console: Console, *, idempotent: bool) -> None:
    console.print(report.verdict(), soft_wrap=not sys.stdout.isatty())
    console.print()
    console.print(_coloured(report.table()), soft_wrap=True)
    if not report.survives(idempotent=idempotent):
        try:
            report.assert_survives(idempotent=idempotent)
        except AssertionError as error:
            details = str(error).removeprefix(report.verdict()).strip()
            console.print(f"\n{details}", soft_wrap=True)


def _coloured(table: str) -> Text:
    text = Text(table)
    for kind, (mark, colour, _) in CELLS.items():
        if kind != "untried":
            text.highlight_words([mark], colour)
    return text
