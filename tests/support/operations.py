"""Workflows that use every durable operation, for the crash matrix: effects are counted, nothing is left to chance."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import Any

from durable import Context, Engine, Retry, Transaction, WaitTimeoutError, current_step, hosted_step, step
from durable.testing import effect
from tests.support.processes import eventually

SOON = 0.003


def do(what: str) -> str:
    effect("do", what)
    return what.upper()


async def do_async(what: str) -> str:
    effect("do", what)
    return what.upper()


def refuse(what: str) -> str:
    effect("refuse", what)
    raise ValueError(f"no {what} today")


# ---- timers


def naps(ctx: Context) -> list[str]:
    told = [ctx.step(do, "before")]
    ctx.sleep(SOON)
    timer = ctx.timer(SOON)
    told.append(ctx.step(do, "beside"))
    timer.result()
    return [*told, ctx.step(do, "after")]


async def naps_async(ctx: Context) -> list[str]:
    told = [await ctx.submit(do_async, "before")]
    await asyncio.gather(ctx.timer(SOON), ctx.timer(2 * SOON))
    return [*told, await ctx.submit(do, "after")]


# ---- blocks of the workflow's own code


def blocks(ctx: Context) -> list[str]:
    told = []
    for what in ("a", "b"):
        with ctx.open_step("block", what) as opened:
            if not opened.is_recorded:
                opened.complete(do(what))
        told.append(opened.value)
    try:
        with ctx.open_step("block", "c"):
            refuse("c")
    except ValueError as error:
        told.append(ctx.step(do, f"{error}"))
    return told


# ---- messages, sent before by a step of its own


def post(what: str, name: str = "news") -> None:
    """Leave a message for one's own workflow, once however often it is tried."""
    me = current_step()
    with Engine(me.database, synchronous="normal") as engine:
        engine.send(me.workflow_id, name, what, key=me.idempotency_key)


def letters(ctx: Context) -> list[str]:
    for what in ("a", "b", "c", "d"):
        ctx.step(post, what)
    told: list[str] = [ctx.wait_event("news", type=str)]
    told += [future.result() for future in [ctx.event("news"), ctx.event("news")]]
    told.append(ctx.step(do, " ".join(told)))
    try:
        ctx.wait_event("never", timeout_seconds=SOON)
    except WaitTimeoutError:
        told.append(ctx.step(do, "no more"))
    told.append(ctx.wait_event("news", timeout_seconds=0.05))
    return told


# ---- races


def slow(what: str) -> str:
    """Let the other win: it waits until that is on record, on a machine that is however busy."""
    time.sleep(0.04)
    me = current_step()
    if me.database.is_file():
        with closing(sqlite3.connect(me.database)) as db:
            is_won = "select 1 from steps where workflow_id = ? and step_key = 'do_2' and status = 'completed'"
            eventually(lambda: db.execute(is_won, [me.workflow_id]).fetchone())
    return do(what)


def contest(ctx: Context) -> list[str]:
    """The second wins, and by the end both have ended, so that a replay could see it the other way round."""
    runners = [ctx.submit(slow, "slow"), ctx.submit(do, "fast")]
    told = [f"{runners.index(ctx.first(*runners).result())} wins"]
    told += [runner.result() for runner in runners]
    told.append(ctx.step(do, told[0]))
    told += [ended.result() for ended in ctx.as_completed([ctx.submit(do, "alone")])]
    event = ctx.event("never")
    told.append(ctx.first(event, ctx.branch(leg, "branch")).result().result())
    return [*told, ctx.step(do, "end")]


def leg(ctx: Context, what: str) -> str:
    ctx.sleep(SOON)
    return ctx.step(do, what)


# ---- children


def family(ctx: Context) -> list[str]:
    children = [ctx.child(kid, "ann"), ctx.child(kid_async, "bob")]
    told = [ctx.step(do, "parent")]
    told += [child.result() for child in children]
    try:
        ctx.child(bad_kid).result()
    except ValueError as error:
        told.append(ctx.step(do, f"despite {error}"))
    return told


def kid(ctx: Context, name: str) -> str:
    ctx.step(do, f"{name} is born")
    return ctx.child(grandkid, name).result()


async def kid_async(ctx: Context, name: str) -> str:
    await ctx.timer(SOON)
    return await ctx.submit(do_async, f"{name} is born")


def grandkid(ctx: Context, name: str) -> str:
    return ctx.step(do, f"child of {name}")


def bad_kid(ctx: Context) -> str:
    return ctx.step(refuse, "school")


# ---- sagas


def saga(ctx: Context) -> None:
    ctx.step(do, "train")
    ctx.on_failure(do, "undo train")
    ctx.branch(book, "hotel").result()
    ctx.step(do, "boat")
    ctx.on_failure(refuse, "undo boat")
    ctx.step(refuse, "visa")


def book(ctx: Context, what: str) -> str:
    ctx.on_failure(do_async, f"undo {what}")
    return ctx.step(do, what)


def lucky_saga(ctx: Context) -> str:
    ctx.on_failure(do, "undo train")
    return ctx.step(do, "train")


# ---- retries


@step(retry=Retry(attempts=8, delay_seconds=SOON, max_delay_seconds=SOON, jitter=0))
def third_time(what: str) -> str:
    """It counts its tries across crashes, so it succeeds once it has been begun often enough."""
    if current_step().attempt < 3:
        raise ConnectionError("not yet")
    return do(what)


@step(retry=Retry(attempts=8, delay_seconds=SOON, max_delay_seconds=SOON, jitter=0))
async def third_time_async(what: str) -> str:
    return third_time(what)


@step(retry=Retry(attempts=2, delay_seconds=SOON, on=(ConnectionError,)))
def not_again(what: str) -> str:
    return refuse(what)


def persistence(ctx: Context) -> list[str]:
    beside = ctx.submit(third_time, "beside")
    told = [ctx.step(third_time, "here"), ctx.step(third_time_async, "async"), *ctx.map(third_time, ["a", "b"])]
    try:
        ctx.step(not_again, "boat")
    except ValueError as error:
        told.append(str(error))
    return [*told, beside.result(), ctx.step(do, "end")]


# ---- what would else differ from run to run


def helpers(ctx: Context) -> str:
    """What each gave goes into an argument, so that a crash that changed it would be seen."""
    ctx.step(do, str(ctx.now()))
    ctx.publish("progress", 0.5)
    ctx.step(do, str(ctx.uuid4()))
    ctx.step(do, str(ctx.random()))
    return ctx.step(do, "new" if ctx.patched("with-badge") else "old")


# ---- transactions, and steps with limits


def enter(db: Transaction, what: str) -> int:
    """A row of the user's own, in the transaction of the checkpoint: it is there once, whatever happens."""
    db.execute("create table if not exists entries (what text)")
    db.execute("insert into entries values (?)", (what,))
    return int(db.execute("select count(*) from entries where what = ?", (what,)).fetchone()[0])


def refuse_entry(db: Transaction, what: str) -> None:
    """Its row goes with its failure."""
    enter(db, what)
    raise ValueError(f"{what} is refused")


@step(timeout_seconds=60)
def in_time(what: str) -> str:
    """In a thread of its own."""
    return do(what)


@step(isolate=True, timeout_seconds=60)
def apart(what: str) -> str:
    """In a process of its own, where the matrix sees no effects."""
    return what.upper()


def ledger(ctx: Context) -> list[Any]:
    """The counts say how often each row was entered, in all the lives together."""
    opened, held = ctx.transaction(enter, "open"), ctx.submit(in_time, "hold")
    try:
        ctx.transaction(refuse_entry, "refused")
    except ValueError as error:
        ctx.step(do, f"note {str(error).rpartition(' ')[2]}")
    refused = ctx.transaction(enter, "refused")
    return [opened, held.result(), refused, ctx.step(apart, "count"), ctx.transaction(enter, "close")]


# ---- hosted code


async def errand(what: str, seconds: float) -> list[str]:
    """A task of hosted code with several steps. What it waits for besides them makes the tasks overtake each other."""
    told = []
    for number in (1, 2):
        await asyncio.sleep(seconds)
        told.append(await hosted_step("do", do_async, f"{what}{number}"))
        seconds = SOON - seconds
    return told


async def errands() -> list[Any]:
    """Tasks beside each other, one of which creates another; and the last word."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(errand(what, seconds)) for what, seconds in (("a", SOON), ("b", 0.0))]
        told = await hosted_step("do", do, "beside")
        nested = group.create_task(asyncio.wait_for(errand("c", 0.0), timeout=60))
    try:
        await hosted_step("refuse", refuse, "boat")
    except ValueError as error:
        return [*[task.result() for task in tasks], told, nested.result(), str(error)]
    raise AssertionError


def hosts(ctx: Context) -> list[Any]:
    hosted = ctx.host(errands())
    return [ctx.step(do, "before"), hosted.result(), ctx.step(do, "after")]


# ---- rates and progress


def step_in_child(ctx: Context, what: str) -> str:
    return ctx.step(do, what)


def paced(ctx: Context) -> list[str]:
    """Steps, coroutines and children at a rate. After a crash the first of each map waits a second."""
    steps = ctx.map(do, ["a", "b"], per_second=50, max_concurrent=1)
    return [*steps, *ctx.map(do_async, ["c"], per_second=50), *ctx.map(step_in_child, ["d"], per_second=50)]


def report(what: str) -> str:
    """Publish, and stay until it is written: a kill may come before, within and after the transaction."""
    me = current_step()
    for number in range(3):
        me.publish("part", number, total=3)
        time.sleep(0.1)
    return do(what)


def reported(ctx: Context) -> list[str]:
    return [ctx.step(report, "a"), *ctx.map(report, ["b", "c"], max_concurrent=1)]


EVERY = [naps, naps_async, blocks, letters, contest, family, saga, lucky_saga, persistence, helpers, ledger, hosts]
SLOW = [paced, reported]  # as above, and each case takes a second
