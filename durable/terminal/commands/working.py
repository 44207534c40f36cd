"""The commands that run what is recorded or queued: their arguments."""

from __future__ import annotations

from typing import Annotated

import typer

from durable.terminal.commands.options import (
    AsJson,
    Database,
    Engine,
    File,
    Function,
    MaxCrashes,
    Modules,
    Prefix,
    Queue,
    Since,
    check_duration,
)
from durable.terminal.output.usage import UsageError


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
    from durable.terminal.workers import fleet

    if engine is None:
        raise UsageError("submit needs the database of the workers: --engine postgresql://user@host/database")
    fleet.submit(fleet.Order(workflow, workflow_id, input_, engine, queue, as_json))
