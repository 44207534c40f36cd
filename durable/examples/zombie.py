"""A step that dies between its effect and its checkpoint: its row says `running`, and nobody knows whether it happened.

The next run skips the step before it, runs the zombie step again, and goes on with the step after it. To see it:
`durable run zombie z1 --crash-at zombie_step:executed`, then `durable run zombie z1`, then look at the effects log.
"""

from __future__ import annotations

from durable import Context, current_step
from durable.examples.effects import have_effect


def step_before(delay_seconds: float) -> str:
    """Completes before the crash, so it never runs again."""
    have_effect("did the step before", delay_seconds)
    return "before"


def zombie_step(delay_seconds: float) -> str:
    """Knows that it was begun before, and says so. A real one would hand `idempotency_key` to the outside world."""
    attempt = current_step().attempt
    again = f" again, attempt {attempt}: the one before may have done it too" if attempt > 1 else ""
    have_effect(f"did the zombie step{again}", delay_seconds)
    return "zombie"


def step_after(delay_seconds: float) -> str:
    """Is reached by the run that survives."""
    have_effect("did the step after", delay_seconds)
    return "after"


def zombie(ctx: Context, delay_seconds: float = 1.0) -> list[str]:
    """Each step takes `delay_seconds`."""
    return [
        ctx.step(step_before, delay_seconds),
        ctx.step(zombie_step, delay_seconds),
        ctx.step(step_after, delay_seconds),
    ]
