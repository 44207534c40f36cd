"""A laptop over a price needs a person's approval. The workflow waits for it, without a thread, and not forever.

Without an answer in time it asks the next person up, and then rejects the wish. To see it: `durable run approval a1` in
one terminal and `durable send a1 approval '{"by": "Ann", "granted": true}'` in another. Or kill the first while it
waits, send the answer, and run it again: a message that was sent meanwhile is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from durable import Context, WaitTimeoutError
from durable.examples.effects import have_effect


@dataclass(frozen=True)
class Approval:
    """A person's answer."""

    by: str
    granted: bool


def request_approval(person: str, laptop: str, price: int, delay_seconds: float) -> None:
    """Write to the person who decides."""
    have_effect(f"asked {person} for a {laptop} at {price}", delay_seconds)


def order_laptop(laptop: str, delay_seconds: float) -> str:
    """Buy the laptop."""
    have_effect(f"ordered a {laptop}", delay_seconds)
    return f"{laptop} is on its way"


def tell(verdict: str, delay_seconds: float) -> str:
    """Write to the person who asked."""
    have_effect(f"told the employee: {verdict}", delay_seconds)
    return verdict


def approval(
    ctx: Context,
    laptop: str = "MacBook Pro",
    price: int = 3000,
    limit: int = 2000,
    patience_seconds: float = 60.0,
    delay_seconds: float = 1.0,
) -> str:
    """Return what became of the wish. Each step takes `delay_seconds`; each person has `patience_seconds` to answer."""
    if price > limit:
        answer = ask(ctx, "the manager", laptop, price, patience_seconds, delay_seconds)
        if answer is None:
            answer = ask(ctx, "the director", laptop, price, patience_seconds, delay_seconds)
        if answer is None:
            return ctx.step(tell, "rejected, since no answer came in time", delay_seconds)
        if not answer.granted:
            return ctx.step(tell, f"rejected by {answer.by}", delay_seconds)
    return ctx.step(tell, ctx.step(order_laptop, laptop, delay_seconds), delay_seconds)


def ask(
    ctx: Context, person: str, laptop: str, price: int, patience_seconds: float, delay_seconds: float
) -> Approval | None:
    """Return the answer, or None if there is none in time."""
    ctx.step(request_approval, person, laptop, price, delay_seconds)
    try:
        return ctx.wait_event("approval", type=Approval, timeout_seconds=patience_seconds)
    except WaitTimeoutError:
        return None
