"""The exercises of notebook 09: new code for orders in progress, and how far to rewind an order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from durable import Context, Engine, NonDeterminismError
from durable.examples.effects import have_effect, list_effects
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right
from durable.testing import history, replay

__all__ = ["charge", "q1", "q2", "reserve", "run_until", "ship", "wrap"]

# ---- the world of this notebook


def reserve(item: str) -> None:
    """Take the item from the shelf."""
    have_effect(f"reserved {item}")


def charge(euros: int) -> int:
    """Take the money."""
    have_effect(f"charged {euros} euros")
    return euros


def wrap(item: str) -> None:
    """Be the new step."""
    have_effect(f"wrapped {item}")


def ship(item: str) -> None:
    """Send the item."""
    have_effect(f"shipped {item}")


def run_until(engine: Engine, workflow_id: str, workflow: Callable[..., Any], *args: Any, step: str) -> None:
    """Run an order, and interrupt it when a step of this name is about to begin, as at night when the shop is shut."""

    def shut(moment: Any) -> None:
        if moment.name == "step.scheduled" and moment.step_name == step:
            raise KeyboardInterrupt

    with Engine(engine.path, observers=[shut]) as until, suppress(KeyboardInterrupt):
        until.run(workflow_id, workflow, *args)


# ---- q1

DONE = {"reserve": "reserved lamp", "charge": "charged 40 euros", "wrap": "wrapped lamp", "ship": "shipped lamp"}
STOPPED = ("reserve", "charge", "ship", "tell")


def judge_change(order: Callable[..., Any]) -> Verdict:
    """Judge new code on orders of the old code, stopped before each of its steps or finished; then on a new order."""

    def old(ctx: Context, item: str) -> None:
        ctx.step(reserve, item)
        ctx.step(charge, 40)
        ctx.step(ship, item)
        ctx.step("tell", have_effect, "told the customer")

    old.__module__, old.__qualname__ = order.__module__, order.__qualname__
    with Engine(Path(tempfile.mkdtemp()) / "course.db") as engine:
        for stopped_at in STOPPED:
            run_until(engine, f"stopped at {stopped_at}", old, "lamp", step=stopped_at)
            try:
                engine.run(f"stopped at {stopped_at}", order, "lamp")
            except NonDeterminismError as error:
                return not_yet(f"an old order that had stopped before its step {stopped_at!r} cannot go on: {error}")
        engine.run("finished", old, "lamp")
        try:
            replay(history(engine, "finished"), order)
        except NonDeterminismError as error:
            return not_yet(f"the history of a finished old order does not fit the code any more: {error}")
        engine.run("new", order, "lamp")
        wrapped = [*DONE.values(), "told the customer"]
        if (done := list_effects(engine.path, "new")) != wrapped:
            return not_yet(f"a new order did {done}; expected: {wrapped}.")
        if "wrapped lamp" not in (done := list_effects(engine.path, "stopped at charge")):
            return not_yet(f"an old order that had not been shipped could still have been wrapped, and did {done}.")
        unwrapped = [what for what in wrapped if what != "wrapped lamp"]
        if (done := list_effects(engine.path, "stopped at tell")) != unwrapped:
            return not_yet(f"an old order that was shipped already did {done}; expected: {unwrapped}.")
    return right("old orders go on wherever they had stopped, finished ones can be replayed, and new ones are wrapped.")


q1 = Exercise(
    "09.q1",
    judge_change,
    'if ctx.patched("wrap"): says whether this execution may take the new way.',
    "Put the if where the new step belongs: between charge and ship.",
)

# ---- q2


def judge_rewind(to: Any, engine: Engine, workflow_id: str, repaired: Callable[..., Any]) -> Verdict:
    """Rewind a fork, which leaves the reader's own workflow as it is, and let the repaired code continue.

    The reader's engine may be closed by now, at the end of the notebook.
    """
    with Engine(engine.path) as own:
        keys = [step.step_key for step in own.steps(workflow_id)]
        if to not in keys:
            return not_yet(f"there is no step {to!r}; there are {', '.join(keys)}")
        new_id = f"{workflow_id}, from {to}, try {len(own.workflows())}"
        own.fork(workflow_id, new_id, at=to)
        own.run(new_id, repaired, "lamp")
        done = list_effects(own.path, new_id)
    if not any(what.startswith("charged") for what in done):
        return not_yet(f"from {to} on it did {done}: the wrong price is still on record, and no new charge was made.")
    if "reserved lamp" in done:
        return not_yet(
            f"from {to} on it did {done}: a second lamp was reserved, though the first reservation was right."
        )
    if "charged 40 euros" not in done:
        return not_yet(f"from {to} on it did {done}: it charged the price on record, and that is the wrong one.")
    return right(
        f"from {to} on it did {done}. What was right stays on record, and all that follows from the mistake is new."
    )


q2 = Exercise(
    "09.q2",
    judge_rewind,
    "Which is the first row that is wrong? All before it may stay.",
    "The charge is wrong because of what it was given. Who gave it that?",
)
