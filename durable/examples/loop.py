"""The same step three times, each call with a key of its own: `loop_step_1` to `loop_step_3`.

So a loop resumes in the middle: after a crash in its third turn, the first two are answered from their rows. To see it:
`durable run loop l1 --crash-at loop_step_3:started`, then `durable run loop l1`.
"""

from __future__ import annotations

from durable import Context
from durable.examples.effects import have_effect


def loop_step(number: int, delay_seconds: float) -> int:
    """Work for one turn of the loop."""
    have_effect(f"made turn {number}", delay_seconds)
    return number * 10


def loop(ctx: Context, delay_seconds: float = 1.0) -> list[int]:
    """Make three turns of `delay_seconds` each and return their results."""
    return [ctx.step(loop_step, number, delay_seconds) for number in (1, 2, 3)]
