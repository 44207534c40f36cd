"""The command `durable crash`: its arguments."""

from __future__ import annotations

from typing import Annotated

import typer

from durable.terminal.commands.options import AsJson

SOAK_KILLS, SOAK_SECONDS = 2000, 900.0


# Long because each option is a parameter with its help; the work is in the last lines.
def crash(
    workflow: Annotated[
        str,
        typer.Argument(metavar="WORKFLOW", help="onboarding, approval, saga, ...; module:function; file.py:function"),
    ],
    input_: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="JSON", help="Arguments by name. Without it: the defaults; examples take no time."
        ),
    ] = None,
    every_moment: Annotated[
        bool,
        typer.Option(
            "--every-moment", help="SIGKILL at each moment of each step. The default, unless others are named."
        ),
    ] = False,
    random: Annotated[
        int, typer.Option("--random", metavar="N", min=0, show_default=False, help="SIGKILL at N random instants.")
    ] = 0,
    pairs: Annotated[
        int, typer.Option("--pairs", metavar="N", min=0, show_default=False, help="N times two SIGKILLs in a row.")
    ] = 0,
    interrupts: Annotated[
        bool, typer.Option("--interrupts", help="Ctrl+C at each moment, and the same process runs on.")
    ] = False,
    second_owner: Annotated[
        bool, typer.Option("--second-owner", help="At each moment another process tries to run the same id.")
    ] = False,
    soak: Annotated[
        bool,
        typer.Option("--soak", help="A long run: every moment, 2,000 random instants, 100 pairs; up to 15 minutes."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed, to reproduce a run.")] = 0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Start no new case after this time.")] = 60.0,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, show_default=False, help="Cases to run in parallel (default: one per core)."),
    ] = None,
    idempotent: Annotated[
        bool, typer.Option("--idempotent", help="An effect that happens twice counts as a failure too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Crash a workflow at every moment, and see whether it survives.

    Each case has a fresh database and a process that is killed at a different place, then resumed until it ends.
    Nothing is left behind, except the effects of your steps: let them act on a test system.

    \b
    Examples:
      durable crash onboarding
      durable crash onboarding --random 200 --seed 7
      durable crash onboarding --soak
      durable crash flows/billing.py:monthly --pairs 50 --second-owner

    Exit code 1 if it does not survive, with the smallest failing case and how to replay it by hand.
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from durable.terminal.crash import Order
    from durable.terminal.crash import run as run_order
    from durable.testing import Plan

    if soak:
        every_moment, random, pairs, seconds = True, random or SOAK_KILLS, pairs or 100, max(seconds, SOAK_SECONDS)
    plan = Plan(
        every_moment=every_moment or not (random or pairs or interrupts or second_owner),
        random=random,
        pairs=pairs,
        interrupts=interrupts,
        second_owner=second_owner,
        seed=seed,
        seconds=seconds,
        workers=workers,
    )
    raise typer.Exit(run_order(Order(workflow, input_, plan, idempotent, as_json)))
