"""`durable export`: the records as JSON on stdout, one line per workflow."""

from __future__ import annotations

import sys

import typer

from durable.store.reader import Reader
from durable.terminal.output import tables
from durable.terminal.output.usage import UsageError, silence, suggest
from durable.terminal.run.progress import INTERRUPTED


def write(workflow_ids: list[str], database: str, status: str | None) -> int:
    """Write these workflows, or all of the database, and return the exit code."""
    if status is not None and status not in tables.STATUSES:
        raise UsageError(f"--status {status}: expected {', '.join(tables.STATUSES)}{suggest(status, tables.STATUSES)}")
    if status is not None and workflow_ids:
        raise UsageError(f"--status {status}: name workflows or a status, not both")
    count = 0
    with tables.reading(database) as file:
        for workflow_id in workflow_ids:
            tables.get_workflow(file, workflow_id)
        try:
            for each in workflow_ids or file.list_ids(status):
                count += _write_one(file, each)
            sys.stdout.flush()
        except KeyboardInterrupt:
            typer.echo(f"\n[STOP] Ctrl+C: {count} workflows were written; a line after them is incomplete", err=True)
            return INTERRUPTED
        except BrokenPipeError:  # `| head` has seen enough
            silence(sys.stdout)
    return 0


def _write_one(file: Reader, workflow_id: str) -> int:
    is_there = 0  # it may have been deleted meanwhile
    for piece in file.export(workflow_id):
        sys.stdout.write(piece)
        is_there = 1
    return is_there
