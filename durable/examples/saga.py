"""Onboarding that gives the laptop back: when a later step fails, the completed steps are undone in reverse order.

Each compensation is a step of its own, so it survives a crash in the middle. To see it:
`durable run saga s1 --crash-at return_laptop:executed`, then `durable run saga s1`, then `durable steps s1`.
"""

from __future__ import annotations

from durable import Context
from durable.examples.effects import have_effect


class BadgeError(Exception):
    """The badge office said no."""


def create_record(name: str, delay_seconds: float) -> str:
    """Enter the employee into the personnel system."""
    have_effect(f"created a record for {name}", delay_seconds)
    return name


def remove_record(name: str, delay_seconds: float) -> None:
    """Undoes it."""
    have_effect(f"removed the record of {name}", delay_seconds)


def order_laptop(name: str, delay_seconds: float) -> str:
    """Buy a laptop."""
    have_effect(f"ordered a laptop for {name}", delay_seconds)
    return "MacBook Pro"


def return_laptop(laptop: str, delay_seconds: float) -> None:
    """Undoes it."""
    have_effect(f"gave the {laptop} back", delay_seconds)


def print_badge(name: str, office_is_open: bool, delay_seconds: float) -> str:
    """Order a badge: the step that can fail, after the others are done."""
    have_effect(f"asked for a badge for {name}", delay_seconds)
    if not office_is_open:
        raise BadgeError(f"no badge for {name}: the office is closed")
    return f"badge of {name}"


def saga(ctx: Context, name: str = "John Doe", office_is_open: bool = False, delay_seconds: float = 1.0) -> str:
    """Return the badge, or raise BadgeError and leave nothing behind. Each step takes `delay_seconds`."""
    ctx.step(create_record, name, delay_seconds)
    ctx.on_failure(remove_record, name, delay_seconds)
    laptop = ctx.step(order_laptop, name, delay_seconds)
    ctx.on_failure(return_laptop, laptop, delay_seconds)
    return ctx.step(print_badge, name, office_is_open, delay_seconds)
