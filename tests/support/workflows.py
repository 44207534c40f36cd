"""Workflows that several tests, and their child processes, run. Their effects are lines in a file, to be counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

from durable import Context, current_step
from durable.examples.effects import effects_log, have_effect
from durable.store.reader import Reader

after_effect: dict[str, Callable[[], object]] = {}  # what a test wants done right after an effect, in this process


def effects(database: Path, workflow_id: str | None = None) -> list[str]:
    """The step keys of all effects that really happened, in order."""
    log = effects_log(database)
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    keys = [line.rpartition("\t")[2] for line in lines]
    mine = [key.partition("/") for key in keys]
    return [key for owner, _, key in mine if workflow_id in (None, owner)]


def list_faults(database: Path) -> list[str]:
    """Return what SQLite and the checksums find wrong with a file."""
    with Reader(database) as reader:
        return reader.check_integrity()


# ---- steps


def act(what: str) -> str:
    """Have an effect; the result shows that it went well."""
    have_effect(what)
    if what in after_effect:
        after_effect[what]()
    return what.upper()


async def act_async(what: str) -> str:
    """The same as a coroutine that lets others run on both sides of its effect."""
    await asyncio.sleep(0)
    have_effect(what)
    await asyncio.sleep(0)
    return what.upper()


def refuse(what: str) -> str:
    """Have an effect, and fail."""
    have_effect(what)
    raise ValueError(f"no {what} today")


def count_up(total: int, number: int) -> int:
    """Something to loop over."""
    have_effect(f"{total} + {number}")
    return total + number


def wait_a_moment(seed: int, place: str) -> str:
    """Take a random time, another one in each place and run, so that threads are scheduled differently each time."""
    time.sleep(random.Random(f"{seed}/{place}/{current_step().attempt}").uniform(0, 0.001))
    return f"{place} is done"


async def wait_a_moment_async(seed: int, place: str) -> str:
    """The same as a coroutine."""
    await asyncio.sleep(random.Random(f"{seed}/{place}").uniform(0, 0.001))
    return f"{place} is done"


# ---- workflows


def errand(ctx: Context, *what: str) -> list[str]:
    """One step after the other."""
    return [ctx.step(act, one) for one in what]


def errand_of_five(ctx: Context) -> list[str]:
    """Nothing but steps."""
    return errand(ctx, *"abcde")


def side_by_side(ctx: Context, *what: str) -> list[str]:
    """All steps at once."""
    return [future.result() for future in [ctx.submit(act, one) for one in what]]


def two_branches(ctx: Context, seed: int) -> list[str]:
    """Two parallel branches of two steps each, with random delays."""
    return [future.result() for future in [ctx.branch(leg_of_two, seed, side) for side in ("left", "right")]][0:2]


def leg_of_two(ctx: Context, seed: int, side: str) -> str:
    """One of the two branches."""
    first = ctx.step(wait_a_moment, seed, f"{side} first")
    return ctx.step(wait_a_moment, seed, f"{side} second, {first}")


async def two_branches_async(ctx: Context, seed: int) -> list[str]:
    """The same as an asyncio workflow."""
    return list(await asyncio.gather(*[ctx.branch(leg_of_two_async, seed, side) for side in ("left", "right")]))


async def leg_of_two_async(ctx: Context, seed: int, side: str) -> str:
    """One of the two branches."""
    first = await ctx.submit(wait_a_moment_async, seed, f"{side} first")
    return await ctx.submit(wait_a_moment_async, seed, f"{side} second, {first}")


def journey(ctx: Context, days: int = 2) -> list[str]:
    """A loop, parallel steps, branches within branches, a map, an async step, a failure that is caught, a decision."""
    total = 0
    for day in range(days):
        total = ctx.step(count_up, total, day)
    parcel, letter = ctx.submit(act, "parcel"), ctx.submit(act_async, "letter")
    legs = [ctx.branch(leg, side) for side in ("north", "south")]
    try:
        news = ctx.step(refuse, "boat")
    except ValueError as error:
        news = ctx.step(act, f"train, since {error}")
    arrived = [line for future in legs for line in future.result()]
    last = ctx.step(act, "festival") if total > 0 else ctx.step(act, "rest")
    return [parcel.result(), letter.result(), *arrived, news, last]


def leg(ctx: Context, side: str) -> list[str]:
    """A branch with a branch in it."""
    inner = ctx.branch(detour, side)
    stops = ctx.map(act, [f"{side} {number}" for number in range(3)], max_concurrent=2)
    return [*stops, inner.result(), ctx.step(act, f"{side} end")]


def detour(ctx: Context, side: str) -> str:
    """The inner branch."""
    return ctx.step(act, f"{side} bridge") + ctx.step(act, f"{side} hill")


async def journey_async(ctx: Context, days: int = 2) -> list[str]:
    """Much the same as an asyncio workflow."""
    total = 0
    for day in range(days):
        total = await ctx.submit(count_up, total, day)
    parcel, letter = ctx.submit(act, "parcel"), ctx.submit(act_async, "letter")
    legs = [ctx.branch(leg_async, side) for side in ("north", "south")]
    try:
        news = await ctx.submit(refuse, "boat")
    except ValueError as error:
        news = ctx.step(act, f"train, since {error}")
    arrived = await asyncio.gather(*legs)
    return [await parcel, await letter, *arrived, news, ctx.step(act, "festival")]


async def leg_async(ctx: Context, side: str) -> str:
    """A branch with a branch in it, and one in a thread."""
    inner = ctx.branch(detour, side)
    stops = await asyncio.gather(*[ctx.submit(act_async, f"{side} {number}") for number in range(2)])
    return "".join(stops) + await inner


def wait_for_news(ctx: Context) -> str:
    """Wait for one message, and return it."""
    return ctx.wait_event("news", type=str)
