"""`durable report` and `durable ui`: the workflows of a database as a page, from a file or from a server."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import typer

from durable.dashboard.drawn.page import write_report
from durable.dashboard.drawn.server import Server
from durable.dashboard.source import Source, is_url, open_source
from durable.store.records import Selection
from durable.terminal.output.usage import UsageError, printable
from durable.terminal.run.progress import exit_code_of, interrupt_by
from durable.terminal.workers import fleet

TICK_SECONDS = 0.25  # so that Ctrl+C is noticed on each system


def report(database: str, output: str, most: int, *, overwrite: bool) -> None:
    """Run `durable report`. Nothing is written unless all of the page can be."""
    target, part = Path(output), Path(f"{output}.part")
    with _reading(database) as reader:
        if not reader.count(Selection()):
            raise UsageError(f"database {reader.name!r} has no workflows to report; `durable run` begins one")
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


def serve(database: str, port: int, *, browser: bool) -> int:
    """Run `durable ui` until Ctrl+C or SIGTERM and return the exit code."""
    with _reading(database) as reader, _listen(reader, port) as server:
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            typer.echo(f"dashboard of {printable(reader.name)}, read-only: {server.url}\nCtrl+C ends it")
            if browser:  # in a thread, since a browser of the terminal returns when it is closed
                threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
            while True:
                threading.Event().wait(TICK_SECONDS)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            typer.echo("the dashboard has ended")
            return exit_code_of(interrupt)
        finally:
            signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, _frame: object) -> None:
    raise interrupt_by(number)


def _listen(reader: Source, port: int) -> Server:
    try:
        return Server(reader, port)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UsageError(f"port {port}: {reason}; name another with --port, or leave it out for a free one") from error


@contextlib.contextmanager
def _reading(database: str) -> Iterator[Source]:
    if is_url(database):
        with fleet.explaining(database), contextlib.closing(open_source(database)) as source:
            yield source
        return
    if not Path(database).exists():
        raise UsageError(f"there is no database {database!r}; `durable run` makes one")
    with contextlib.closing(open_source(database)) as source:
        yield source
