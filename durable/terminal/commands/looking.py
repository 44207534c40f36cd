"""The commands that show what is recorded: their arguments."""

from __future__ import annotations

from typing import Annotated

import typer

from durable.terminal.commands.options import (
    AsJson,
    Database,
    Engine,
    File,
    Function,
    Prefix,
    Since,
    Source,
    Status,
    WorkflowId,
    for_programs,
)


def steps(
    workflow_id: WorkflowId,
    db: File = None,
    engine: Engine = None,
    attempts: Annotated[bool, typer.Option("--attempts", help="Also show superseded attempts.")] = False,
    value: Annotated[
        str | None, typer.Option("--value", metavar="STEP", help="Show the value of this step; of a frame, both ends.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the steps of a workflow as they stand.

    A step whose row says running while no process runs it is a zombie: the step started, the process died, and
    the database cannot know whether the effect happened. The next run tries it again. With --engine, a step has
    a row once it has ended or is waiting.
    """
    from durable.terminal.output import tables

    with tables.looking(db, engine) as records:
        if value is not None:
            tables.show_value(records, workflow_id, value, json_wanted=as_json)
        else:
            tables.show_steps(records, workflow_id, attempts=attempts, json_wanted=as_json)


def list_workflows(
    db: File = None,
    engine: Engine = None,
    status: Status = None,
    function: Function = None,
    prefix: Prefix = "",
    since: Since = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, help="Only so many, the latest; 0 for all. Default: 100, and all with --json."),
    ] = None,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out so many, the latest.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List the workflows of a database, oldest first.

    With --engine, list the workflows that workers share, of all queues: queued, running on a living worker, crashed,
    set aside, completed, failed or cancelled.

    \b
    Examples:
      durable list --status failed --since 2d
      durable list --function flows.orders:order --limit 50 --offset 50
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from msgspec.structs import replace

    from durable.terminal.output import tables

    wanted = replace(tables.selection(status, function, prefix, since=since), offset=offset)
    with tables.looking(db, engine) as records:
        tables.show_workflows(records, wanted, limit=limit, json_wanted=as_json)


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

    for_programs(True)
    raise typer.Exit(exports.write(workflow_ids or [], db, status))


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
