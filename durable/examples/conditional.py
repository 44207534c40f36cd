"""A branch taken stays taken: the question that decides is asked in a step, so its answer is on record.

After a crash inside the branch the workflow continues in the same branch, even if the world would now give a different
answer. To see it: `durable run conditional c1 --crash-at notify_customer:started`, then `durable run conditional c1`.
"""

from __future__ import annotations

import random

from durable import Context
from durable.examples.effects import have_effect


def check_stock(chance: float, delay_seconds: float) -> bool:
    """Ask the warehouse. Other customers buy too, so with probability 1 - `chance` the shelf is empty."""
    in_stock = random.random() < chance
    have_effect(f"looked at the shelf: {'one left' if in_stock else 'empty'}", delay_seconds)
    return in_stock


def take_from_shelf(delay_seconds: float) -> str:
    """Take the item from the shelf: one of the two branches."""
    have_effect("took it from the shelf", delay_seconds)
    return "tomorrow"


def order_from_supplier(delay_seconds: float) -> str:
    """Order the item from the supplier: the other branch."""
    have_effect("ordered it from the supplier", delay_seconds)
    return "in a week"


def notify_customer(arrival: str, delay_seconds: float) -> None:
    """Tell the customer, at the end of either branch."""
    have_effect(f"told the customer: {arrival}", delay_seconds)


def conditional(ctx: Context, chance: float = 0.5, delay_seconds: float = 1.0) -> str:
    """Return when the parcel arrives. Each step takes `delay_seconds`; a `chance` of 1 or 0 decides beforehand."""
    if ctx.step(check_stock, chance, delay_seconds):
        arrival = ctx.step(take_from_shelf, delay_seconds)
    else:
        arrival = ctx.step(order_from_supplier, delay_seconds)
    ctx.step(notify_customer, arrival, delay_seconds)
    return arrival
