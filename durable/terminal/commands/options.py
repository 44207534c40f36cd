"""The arguments that several commands share, and the checks of their values."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from durable.terminal.output.usage import UsageError
from durable.values.instants import duration_of


def for_programs(is_wanted: bool) -> bool:
    """Write UTF-8, which programs expect, whatever the locale says."""
    if is_wanted:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    return is_wanted


def _file(path: str | None) -> str | None:
    """Refuse a URL, without showing it: it may hold a password."""
    if path is not None and "://" in path:
        raise UsageError("--db names the file of a database, not a URL; a database of PostgreSQL is named by --engine")
    return path


Source = Annotated[str, typer.Argument(metavar="DATABASE", help="The database file, or the URL of a PostgreSQL.")]


def check_duration(text: str | None) -> str | None:
    """Refuse a text that is not a duration."""
    try:
        if text is not None:
            duration_of(text, "time")
    except ValueError:
        raise UsageError(f"{text!r}: expected a number with s, m, h, d or w, as in 30d or 12h") from None
    return text


Database = Annotated[str, typer.Option("--db", metavar="FILE", callback=_file, help="The database file.")]
File = Annotated[  # None if no file is named: then DURABLE_ENGINE counts
    str | None,
    typer.Option("--db", metavar="FILE", callback=_file, help="The database file.", show_default="workflow.db"),
]
AsJson = Annotated[bool, typer.Option("--json", callback=for_programs, help="JSON on stdout, for programs.")]
WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="The workflow id.")]
Modules = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODULE]...",
        show_default=False,
        help="Modules or files to import workflows from. No other recorded function is run, except our examples.",
    ),
]

Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="URL",
        envvar="DURABLE_ENGINE",
        show_default=False,
        help="postgresql://user@host/database, shared by workers on many machines.",
    ),
]
Status = Annotated[
    str | None, typer.Option("--status", metavar="STATUS", help="Only running, completed, failed or cancelled ones.")
]
Function = Annotated[
    str | None,
    typer.Option("--function", metavar="NAME", help="Only those of a function, with or without its module."),
]
Prefix = Annotated[str, typer.Option("--prefix", metavar="TEXT", help="Only those whose ids begin with it.")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", callback=check_duration, help="Only those that changed since, as 2d, 12h or 30m."
    ),
]
MaxCrashes = Annotated[
    int,
    typer.Option("--max-crashes", metavar="N", min=1, help="Set aside a workflow whose last N runs made no progress."),
]
Queue = Annotated[str, typer.Option("--queue", metavar="NAME", help="The queue, with --engine.")]
