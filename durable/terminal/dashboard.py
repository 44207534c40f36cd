"""`durable report`: the workflows of a database as a page."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from durable.dashboard.page import write_report
from durable.store.reader import Reader
from durable.store.records import Selection
from durable.terminal.usage import UsageError


def report(database: str, output: str, most: int, *, overwrite: bool) -> None:
    """Run `durable report`. Nothing is written unless all of the page can be."""
    target, part = Path(output), Path(f"{output}.part")
    with _reading(database) as reader:
        if not reader.count(Selection()):
            raise UsageError(f"database {database!r} has no workflows to report; `durable run` begins one")
        if target.exists() and not overwrite:
            raise UsageError(f"{output!r} exists; name another file with -o, or pass --overwrite")
        try:
            with part.open("w", encoding="utf-8", newline="\n") as out:
                count, total = write_report(reader, out, most)
            part.replace(target)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
    size = target.stat().st_size / 1000
    which, more = f"{count} workflow{'' if count == 1 else 's'}", ""
    if count < total:
        which, more = f"the latest {count} of {total} workflows", f"; --limit {total} takes all"
    typer.echo(f"wrote {output}: {which}, {size:.0f} kB{more}")


def _reading(database: str) -> Reader:
    if not Path(database).exists():
        raise UsageError(f"there is no database {database!r}; `durable run` makes one")
    return Reader(database)
