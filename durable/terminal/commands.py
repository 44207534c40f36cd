"""The commands that act on recorded workflows: their arguments. The work is in `operations` and `worker`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from durable.terminal.output.usage import UsageError
from durable.values.instants import duration_of


def _for_programs(is_wanted: bool) -> bool:
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
    """Refuse what is no duration."""
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
AsJson = Annotated[bool, typer.Option("--json", callback=_for_programs, help="JSON on stdout, for programs.")]
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


def send(
    workflow_id: WorkflowId,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The name that the workflow waits for.")],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="JSON of the type that the workflow waits for.", show_default="null")
    ] = "null",
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="K", help="Deduplication key: of several messages with it, only the first counts."
        ),
    ] = None,
    db: File = None,
    engine: Engine = None,
) -> None:
    """Send a message to a workflow, from any process.

    It is received by ctx.wait_event(EVENT), now or when the workflow comes to it. First sent, first received.

    \b
    Examples:
      durable send order_17 approval '{"approved": true, "by": "Ann"}'
      durable send order_17 paid --key invoice-4711
      durable send order_17 approval true --engine postgresql://me@host/flows
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal import operations

    operations.send(workflow_id, event, value, key, db, engine)


def read(
    workflow_id: WorkflowId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in ctx.publish(NAME, value).")],
    db: File = None,
    engine: Engine = None,
    as_json: AsJson = False,
) -> None:
    """Show the latest value that a workflow has published under a name."""
    from durable.terminal import operations

    operations.read(workflow_id, name, db, engine, json_wanted=as_json)


def watch(workflow_id: WorkflowId, db: File = None, engine: Engine = None, as_json: AsJson = False) -> None:
    """Show what a workflow publishes, and the progress of its steps and maps, live, until it ends.

    With --json, one JSON object per line. Exit code 1 if the workflow failed or was cancelled.
    """
    from durable.terminal import operations

    raise typer.Exit(operations.watch(workflow_id, db, engine, json_wanted=as_json))


def cancel(workflow_id: WorkflowId, modules: Modules = None, db: Database = "workflow.db") -> None:
    """Cancel a workflow and its children, whichever process runs them.

    A step in flight ends first, then the compensations run. If no process runs the workflow, they run here.
    """
    from durable.terminal import operations

    operations.cancel(workflow_id, modules or [], db)


def rewind(
    workflow_id: WorkflowId,
    to: Annotated[str | None, typer.Option("--to", metavar="STEP", help="The key of a step or a branch.")] = None,
    failed_only: Annotated[
        bool, typer.Option("--failed-only", help="Only the failed steps, and what came after their fan-out.")
    ] = False,
    db: Database = "workflow.db",
) -> None:
    """Take back the records from a step on; the next run continues from there.

    The rows become superseded attempts (durable steps ID --attempts). The effects of the steps in the world remain.
    """
    from durable.terminal import operations

    operations.rewind(workflow_id, to, db, failed_only=failed_only)


def fork(
    workflow_id: WorkflowId,
    new_id: Annotated[str, typer.Argument(metavar="NEW_ID", help="The id of the fork.")],
    at: Annotated[str, typer.Option("--at", metavar="STEP", help="The key of a step or a branch.")],
    db: Database = "workflow.db",
) -> None:
    """Make a new workflow with the checkpoints before a step. The original stays as it is."""
    from durable.terminal import operations

    operations.fork(workflow_id, new_id, at, db)


def recover(modules: Modules = None, db: Database = "workflow.db", max_crashes: MaxCrashes = 3) -> None:
    """Resume every workflow that a dead process has left.

    It ends when each of them has ended or only waits. Exit code 1 if one failed or was set aside.
    """
    from durable.terminal.workers import worker as workers

    raise typer.Exit(workers.recover(modules or [], db, max_crashes))


def retry(
    modules: Modules = None,
    status: Annotated[str, typer.Option("--status", metavar="STATUS", help="The status: failed.")] = "failed",
    function: Function = None,
    prefix: Prefix = "",
    since: Since = None,
    db: File = None,
    engine: Engine = None,
) -> None:
    """Try failed workflows again. Their completed steps stay completed.

    On a file they run here, several at once, and the command ends when each has ended or only waits; exit code 1 if
    one failed again. With --engine, they go back into their queues, for workers to run them.

    \b
    Examples:
      durable retry --status failed --since 2d flows.orders
      durable retry --function flows:order --engine postgresql://me@host/flows
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal.output import tables

    if status != "failed":
        raise UsageError(f"--status {status}: only failed workflows can be tried again")
    wanted = tables.selection(status, function, prefix, since=since)
    if engine is not None and db is None:
        from durable.terminal.workers import fleet

        fleet.retry(wanted, engine)
        return
    from durable.terminal.workers import worker as workers

    raise typer.Exit(workers.retry(modules or [], db or "workflow.db", wanted))


def worker(
    modules: Modules = None,
    db: File = None,
    engine: Engine = None,
    queue: Queue = "default",
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", metavar="N", min=1, max=1000, help="Workflows that run at once, also children."),
    ] = 32,
    max_crashes: MaxCrashes = 3,
    retention: Annotated[
        str | None,
        typer.Option(
            "--retention",
            metavar="TIME",
            callback=check_duration,
            help="Delete what was completed or cancelled so long ago, as 30d.",
        ),
    ] = None,
) -> None:
    """Run until Ctrl+C or SIGTERM: wake workflows that wait, and resume those that dead processes left.

    On a file, any number of workflows can wait; only running ones take a thread. Both signals let the steps in flight
    end.

    With --engine, run what `durable submit` has put into a queue, together with other workers on as many machines as
    you like. If a worker is killed, the others take over its workflows within three seconds. A waiting workflow counts
    as a running one there, and the worker that started last sets N for the whole queue.

    \b
    Examples:
      durable worker
      durable worker flows/billing.py flows.orders --db billing.db --concurrency 8
      durable worker --engine postgresql://me@host/flows flows.orders
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    if engine is not None and db is None:
        from durable.terminal.workers import fleet

        raise typer.Exit(fleet.work(modules or [], engine, queue, concurrency, max_crashes, retention))
    from durable.terminal.workers import worker as workers

    raise typer.Exit(workers.work(modules or [], db or "workflow.db", concurrency, max_crashes, retention))


def submit(
    workflow: Annotated[
        str,
        typer.Argument(metavar="WORKFLOW", help="onboarding, approval, saga, ...; module:function; file.py:function"),
    ],
    workflow_id: Annotated[str, typer.Argument(metavar="ID", help="Your name for this execution.")],
    engine: Engine = None,
    input_: Annotated[
        str | None, typer.Option("--input", metavar="JSON", help="Arguments by name. Without it: the defaults.")
    ] = None,
    queue: Queue = "default",
    as_json: AsJson = False,
) -> None:
    """Put a workflow into a queue, for a worker to run it.

    The same id again starts nothing twice; it shows the state of the workflow. A failed workflow is tried again and
    keeps its completed steps.

    \b
    Examples:
      durable submit onboarding emp_001 --engine postgresql://me@host/flows
      durable submit flows.orders:order order_17 --input '{"item": "laptop"}'
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal.output.usage import UsageError
    from durable.terminal.workers import fleet

    if engine is None:
        raise UsageError("submit needs the database of the workers: --engine postgresql://user@host/database")
    fleet.submit(fleet.Order(workflow, workflow_id, input_, engine, queue, as_json))


def report(
    database: Source = "workflow.db",
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")] = "report.html",
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="The number of workflows in it, the latest.")
    ] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a page that shows the workflows of a database, to send or to keep.

    It is one file without links: a browser opens it anywhere and asks no server for anything. It lists the workflows
    with filters, and shows the steps, attempts, values, messages, children and runs of each. Long values are cut, and
    the page says so.

    \b
    Examples:
      durable report
      durable report billing.db -o billing.html --limit 200
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal import dashboard

    dashboard.report(database, output, limit, overwrite=overwrite)


def ui(
    database: Source = "workflow.db",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, show_default=False, help="The port. Default: a free one.")
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
) -> None:
    """Show the workflows of a database in a browser, live, until Ctrl+C or SIGTERM.

    It changes nothing. It listens on this machine alone, 127.0.0.1, and answers only to the address that it prints,
    which has a secret in it.

    \b
    Examples:
      durable ui
      durable ui billing.db --port 8080 --no-browser
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal import dashboard

    raise typer.Exit(dashboard.serve(database, port, browser=not no_browser))


def export(
    workflow_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", show_default=False, help="Workflow ids. Without one, all of the database."),
    ] = None,
    db: Database = "workflow.db",
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="Only running, completed, failed or cancelled ones."),
    ] = None,
) -> None:
    """Write the records of workflows as JSON, one workflow per line.

    Each line has the workflow, its runs, steps, attempts, waits and messages, as the tables have them. Nothing is
    changed, and other processes can continue meanwhile. A large database takes time, not memory.

    \b
    Examples:
      durable export > all.jsonl
      durable export order_17 --db billing.db | jq .steps
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal import export as exports

    _for_programs(True)
    raise typer.Exit(exports.write(workflow_ids or [], db, status))


COMMANDS = (send, read, watch, cancel, rewind, fork, recover, retry, worker, submit, export, report, ui)
