"""The commands that change a recorded workflow, or delete it: their arguments."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from durable.terminal.commands.options import (
    Database,
    Engine,
    File,
    Function,
    Modules,
    Prefix,
    WorkflowId,
    check_duration,
)


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


def delete(
    workflow_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", show_default=False, help="The workflow id; or use --status.")
    ] = None,
    db: Database = "workflow.db",
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="All that are completed, failed or cancelled.")
    ] = None,
    function: Function = None,
    prefix: Prefix = "",
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="TIME", callback=check_duration, help="Of these, only older ones, as 30d or 12h."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a workflow and all its steps; or many that have ended. The effects of the steps in the world remain.

    Children are deleted with their parents. If more than half of the file is free then, it is made smaller.

    \b
    Examples:
      durable delete order_17
      durable delete --status completed --older-than 30d --yes
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.engine import Engine
    from durable.terminal.output import tables

    if workflow_id is None:
        from durable.terminal import operations

        wanted = tables.selection(status, function, prefix, older_than=older_than)
        operations.delete_ended(wanted, db, lambda question: _confirm(question, yes=yes))
        return
    with tables.reading(db) as file:
        if not file.has_workflow(workflow_id):  # a workflow whose row is damaged can be deleted too
            tables.get_workflow(file, workflow_id)
        count = len(file.steps(workflow_id))
    _confirm(f"delete workflow {workflow_id!r} and its {count} steps", yes=yes)
    with Engine(db) as engine:
        engine.delete(workflow_id)
    typer.echo(f"deleted {workflow_id!r}")


def _confirm(question: str, *, yes: bool) -> None:
    from durable.terminal.output.usage import UsageError
    from durable.terminal.run.progress import INTERRUPTED

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question}: cannot ask for confirmation without a terminal; pass --yes to delete")
    code = 1
    try:
        if typer.confirm(f"{question}?"):
            return
    except typer.Abort as abort:  # Ctrl+C, or the end of the input, in the middle of a line
        code = INTERRUPTED if isinstance(abort.__context__, KeyboardInterrupt) else code
        typer.echo()
    typer.echo("nothing was deleted")
    raise typer.Exit(code)
