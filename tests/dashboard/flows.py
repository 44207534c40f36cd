"""Workflows in every state, with names and texts that a careless page would run."""

from __future__ import annotations

import contextlib
from pathlib import Path

from durable import Context, Engine, Retry, step
from durable.examples.onboarding import onboarding
from durable.testing import run_until_crash

ATTACK = '<img src=x onerror="window.hurt=1">\'</script><script>window.hurt=1</script>\u2028&amp;'
HOSTILE_ID = f"zz {ATTACK}"
LONG = 10_000


def pack(item: str) -> str:
    return f"packed {item}"


def charge(price: int) -> str:
    raise ValueError(f"no money: {ATTACK}")


def refund() -> str:
    return "refunded"


@step(retry=Retry(attempts=3, delay_seconds=0.001))
def knock(place: str) -> str:
    knocked.append(place)
    if len(knocked) < 3:
        raise ConnectionError(f"no answer {len(knocked)}")
    return "opened"


knocked: list[str] = []


def order(ctx: Context, item: str = "a lamp") -> dict[str, str]:
    """Pack, publish, knock until somebody opens, and run a child."""
    ctx.publish("progress", {"packed": 0.5})
    packed = ctx.step(pack, item)
    door = ctx.step(knock, "front")
    return {"packed": packed, "door": door, "child": ctx.child(parcel, item).result()}


def parcel(ctx: Context, item: str) -> str:
    return ctx.step(pack, item)


def hostile(ctx: Context) -> str:
    return ctx.step(ATTACK.replace("/", "&sol;"), pack, ATTACK)


def unpaid(ctx: Context, price: int) -> str:
    ctx.step(pack, "a bill")
    return ctx.step(charge, price)


def undone(ctx: Context) -> str:
    ctx.on_failure(refund)
    return ctx.step(charge, 7)


def approved(ctx: Context) -> str:
    return ctx.wait_event("approval", type=str, timeout_seconds=86400)


def lengthy(ctx: Context) -> str:
    return ctx.step(pack, "x" * LONG)


def many(ctx: Context, count: int) -> int:
    return len(ctx.map(pack, [str(number) for number in range(count)]))


def make_world(path: Path) -> Path:
    """One workflow, or a few, in each state; the ids say which."""
    knocked.clear()
    run_until_crash(path, "crashed_1", onboarding, delay_seconds=0.0, at="provision_laptop:executed")
    with Engine(path) as engine:
        engine.run("order_1", order)
        engine.run("order_2", onboarding, delay_seconds=0.0)
        for workflow_id, fn, args in (("failed_1", unpaid, (12,)), ("undone_1", undone, ())):
            with contextlib.suppress(ValueError):
                engine.run(workflow_id, fn, *args)
        engine.run(HOSTILE_ID, hostile)
        engine.run("long_1", lengthy)
        engine.run("many_1", many, 230)
        engine.fork("order_1", "forked_1", at="knock_3")
    with Engine(path, suspend=True) as engine:
        for workflow_id in ("waiting_1", "cancelled_1"):
            engine.start(workflow_id, approved)
        engine.send("waiting_1", "other", {"text": ATTACK})
        engine.cancel("cancelled_1")
        engine.stop()
    return path
