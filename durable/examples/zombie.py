"""A step that dies between its effect and its checkpoint: its row says `running`, whether the effect happened or not.

The next run skips the step before it, runs the zombie step again, and continues with the step after it. To see it:
`durable run zombie z1 --crash-at zombie_step:executed`, then `durable run zombie z1`, then look at the effects log.
"""

from __future__ import annotations

from durable import Context, current_step
from durable.examples.effects import have_effect


def step_before(delay_seconds: float) -> str:
    """Complete before the crash, so that this step never runs again."""
    have_effect("did the step before", delay_seconds)
    return "before"


def zombie_step(delay_seconds: float) -> str:
    """Have an effect that says whether it is a repetition. A real step would pass `idempotency_key` to the world."""
    attempt = current_step().attempt
    again = f" again, attempt {attempt}: the one before may have done it too" if attempt > 1 else ""
    have_effect(f"did the zombie step{again}", delay_seconds)
    return "zombie"


def step_after(delay_seconds: float) -> str:
    """Run after the zombie step, in the run that survives."""
    have_effect("did the step after", delay_seconds)
    return "after"


def zombie(ctx: Context, delay_seconds: float = 1.0) -> list[str]:
    """Run the three steps, of `delay_seconds` each."""
    return [
        ctx.step(step_before, delay_seconds),
        ctx.step(zombie_step, delay_seconds),
        ctx.step(step_after, delay_seconds),
    ]
