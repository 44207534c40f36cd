"""The command `durable`: its arguments and its exit codes. The other modules of `durable.terminal` make the output.

A command imports only the modules that it needs: `durable run` knows no table, no notebook and no Jupyter.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from durable.errors import DurableError
from durable.logs import Reporter
from durable.terminal.commands import COMMANDS
from durable.terminal.commands.options import AsJson, Database, Engine, File
from durable.terminal.output.usage import silence

WRONG_USE = 2
DEFAULT_NOTEBOOK = "README.md"  # the index: the page of the course opens

app = typer.Typer(
    name="durable",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain text is quicker, and the same in every terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """Run the command line. An error of ours is one line on stderr, never a traceback."""
    nowhere = Path(os.devnull).open("w")  # noqa: SIM115 - for streams that the caller has closed, as by `>&-`
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    Reporter.is_shown = True
    try:
        sys.exit(app(standalone_mode=False))
    except DurableError as error:
        if details := getattr(error, "details", ""):
            typer.echo(details, err=True)
        typer.echo(f"error: {error}", err=True)
        sys.exit(WRONG_USE)
    except typer.Abort:
        sys.exit(1)
    except OSError as error:  # a path that cannot be read, or no room for the output
        if error.errno is None:
            raise
        silence(sys.stdout)
        if error.errno == errno.EPIPE:  # its reader has ended
            sys.exit(1)
        what = repr(error.filename) if error.filename else "the output cannot be written"
        typer.echo(f"error: {what}: {error.strerror}", err=True)
        sys.exit(WRONG_USE)
    except _Misuse as error:
        _tell_misuse(error)
        sys.exit(error.exit_code)


_Misuse: Any = typer.BadParameter.__mro__[2]  # the base of what Typer raises; it exports only this one of them


def _tell_misuse(error: Any) -> None:
    """Say what is wrong with the arguments, in the form of our own errors; without arguments, show the help."""
    text = error.format_message().strip().removesuffix(".")
    if not text or type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    text = f"{text[0].lower()}{text[1:]}".replace(". Did you mean", "; did you mean")
    context = getattr(error, "ctx", None)
    hint = "" if context is None or text.endswith("?") else f"; see {context.command_path} --help"
    typer.echo(f"error: {text}{hint}", err=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from durable.terminal.output.versions import version_of

        typer.echo(f"durable {version_of('durable-lab')}")
        raise typer.Exit


@app.callback()
def durable(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run workflows whose steps survive a crash.

    Kill the process at any instant and run the same id again: completed steps are answered from the
    database, the rest runs.

    \b
    Start here:
      durable demo                        the crash demo, in a few seconds
      durable lab                         the same in a notebook, step by step
      durable run onboarding emp_001      a workflow by hand

    \b
    Exit codes:
      0    completed
      1    the workflow failed or was cancelled (run), something is broken (doctor, demo)
      2    wrong use; or nothing could be run: id busy, other function or arguments,
           changed code, not found, database not readable or writable
      130  interrupted by Ctrl+C
      143  terminated by SIGTERM
    """  # noqa: D301 - \b keeps the lines of a paragraph apart


@app.command()
def run(
    workflow: Annotated[
        str,
        typer.Argument(metavar="WORKFLOW", help="onboarding, approval, saga, ...; module:function; file.py:function"),
    ],
    workflow_id: Annotated[
        str, typer.Argument(metavar="ID", help="Your name for this execution. The same id resumes it.")
    ],
    input_: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="JSON", help="Arguments by name. Without it: those on record, else the defaults."
        ),
    ] = None,
    db: Database = "workflow.db",
    crash_at: Annotated[
        str | None,
        typer.Option(
            "--crash-at",
            metavar="STEP[:MOMENT]",
            help="Kill this process (SIGKILL) when a step, by name or key, is started, executed (the default: its "
            "effect done, not saved) or checkpointed.",
        ),
    ] = None,
    slow: Annotated[
        float,
        typer.Option(
            "--slow",
            metavar="SECONDS",
            min=0,
            max=86400,
            show_default=False,
            help="Add this delay to every step.",
        ),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Run a workflow, or resume it.

    [RUN] a step begins, [DONE] its result is saved, [SKIP] it was answered from the record,
    [FAIL] its error is saved, [RETRY] it will be tried again, [WAIT] for a message, a time or a child.
    A completed workflow shows its result, and nothing runs.

    \b
    Examples:
      durable run onboarding emp_001 --input '{"name": "Jane Doe"}'
      durable run onboarding emp_002 --crash-at provision_laptop:executed
      durable run onboarding emp_002
      durable run flows/billing.py:monthly 2026-11 --db billing.db

    Ctrl+C or SIGTERM lets the steps in flight end; a second one leaves at once. With --json, stdout gets the outcome
    alone, and stderr the rest.
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal.run.running import Order
    from durable.terminal.run.running import run as run_order

    raise typer.Exit(run_order(Order(workflow, workflow_id, db, input_, crash_at, slow, as_json)))


@app.command()
def demo(
    delay: Annotated[
        float, typer.Option("--delay", metavar="SECONDS", min=0, max=60, help="How long a step takes.")
    ] = 0.5,
) -> None:
    """See a workflow crash and resume, in a few seconds.

    The processes are real, and so is the SIGKILL. It works in a temporary folder and leaves nothing behind.
    """
    from durable.terminal.demo import play

    raise typer.Exit(play(delay))


for name, command in COMMANDS.items():
    app.command(name)(command)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    notebook: Annotated[
        str, typer.Argument(metavar="NOTEBOOK", help="One of the course notebooks, or a path to your own.")
    ] = DEFAULT_NOTEBOOK,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="The port of the server.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
    folder: Annotated[
        str, typer.Option("--folder", metavar="FOLDER", help="The folder for your copy of the course.")
    ] = "durable-course",
) -> None:
    """Open the course in JupyterLab.

    It is copied into a folder, where you work; files that are there already stay as they are. The server is set up so
    that kernels can crash as often as you like, and the course notebooks are trusted.
    Further options go to JupyterLab as they are, after the notebook if one is named:

    \b
      durable lab --ip 0.0.0.0 --allow-root
      durable lab my.ipynb --ServerApp.token=secret
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal.launcher import launch

    further = list(context.args)
    if notebook.startswith("-"):  # no notebook was named: this is the first of the further options
        notebook, further = DEFAULT_NOTEBOOK, [notebook, *further]
    raise typer.Exit(launch(notebook, port, browser=not no_browser, further=further, folder=folder))


@app.command()
def doctor(db: File = None, engine: Engine = None, as_json: AsJson = False) -> None:
    """Check this machine and a database.

    Versions, SQLite and its known faults, pragmas, the file system, locks, integrity, speed. With --engine, versions,
    the large values that workers share, and what was saved by pickle.
    Exit code 1 if something is broken. A warning is not a fault.
    """
    from durable.terminal.doctor import examine

    raise typer.Exit(examine(db, engine, json_wanted=as_json))


@app.command()
def gc(db: File = None, engine: Engine = None, as_json: AsJson = False) -> None:
    """Drop the large values that no row names any more, and what dead runs have left of others.

    Workflows may run meanwhile. The file keeps its size, and uses the room for what is saved next. With --engine,
    the values of a workflow that has not ended all stay, since any machine may run it.
    """
    from durable.terminal.operations import collect

    collect(db, engine, json_wanted=as_json)
