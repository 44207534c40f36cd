"""The exercises of notebook 03: the rule of keys, a decision on record, code that changes under a running workflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from durable import Context, Engine, NonDeterminismError
from durable.examples.effects import have_effect, list_effects
from durable.lab.course.crashes import table
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right

# ---- q1

PROGRAMS = (["pack"], ["pack", "send"], ["pack", "pack"], ["pack", "send", "pack"], ["a", "b", "a", "b", "a"])


def judge_keys(draw_keys: Callable[[list[str]], Sequence[str]]) -> Verdict:
    """Compare with the keys that the engine records, the shortest program first."""
    with Engine(_new_database(), synchronous="off") as engine:
        for number, names in enumerate(PROGRAMS):
            engine.run(f"program {number}", _call_all, names)
            truth = [step.step_key for step in engine.steps(f"program {number}")]
            said = draw_keys(list(names))
            if not isinstance(said, list):
                return not_yet(f"for {names} it gave {said!r}; a list of keys is wanted.")
            if said != truth:
                rows = [
                    (n, t, s if s == t else f"!{s}") for n, t, s in zip(names, truth, _fill(said, truth), strict=True)
                ]
                return not_yet(
                    f"for the calls {names} the engine records {truth}, and yours gives {said}.",
                    table(("call", "the engine", "yours"), rows),
                )
    return right(f"on {len(PROGRAMS)} programs. One counter for all calls of the workflow, in the order of the calls.")


def _call_all(ctx: Context, names: list[str]) -> None:
    for name in names:
        ctx.step(name, _do_nothing)


def _do_nothing() -> None:
    """Do nothing: this step only has a key."""


def _fill(said: Sequence[str], truth: Sequence[str]) -> list[str]:
    return [*said, *[""] * len(truth)][: len(truth)]


q1 = Exercise(
    "03.q1",
    judge_keys,
    "enumerate(names, 1) gives each name with a number.",
    "Look at the table above: is the number that of this name, or that of the call?",
)

# ---- q2


def judge_delivery(deliver: Callable[..., Any]) -> Verdict:
    """Judge on a full shelf: the process dies, another customer empties the shelf, the workflow is resumed."""
    db, shelf = _new_database(), Path(tempfile.mkdtemp()) / "shelf.txt"
    with Engine(db) as engine:
        for before, after in ((1, 0), (0, 1)):
            workflow_id, way = (
                f"delivery {before}",
                "took it from the shelf" if before else "ordered it from the supplier",
            )
            shelf.write_text(str(before))
            _run_and_interrupt(engine, workflow_id, deliver, str(shelf), at="tell")
            done = list_effects(db, workflow_id)
            if way not in done:
                return not_yet(f"with {before} on the shelf it did {done}; expected is that it {way}.")
            shelf.write_text(str(after))
            try:
                engine.run(workflow_id, deliver, str(shelf))
            except NonDeterminismError as error:
                return not_yet(
                    f"with {before} on the shelf it {way}, then died; with {after} on the shelf, the resume said: "
                    f"{error}"
                )
            if list_effects(db, workflow_id) != [*done, "told the customer"]:
                return not_yet(
                    f"it died before it told the customer, and was resumed: {list_effects(db, workflow_id)}. Expected "
                    f"is what was done, and then one message to the customer."
                )
    return right("whatever happens to the shelf in between, a delivery that has begun one way ends that way.")


q2 = Exercise(
    "03.q2",
    judge_delivery,
    "A replay answers steps from their rows. What is not in a step is asked anew each time.",
    "Let `ctx.step(look_at, shelf)` look, and decide by what it returns.",
)

# ---- q3


def reserve(item: str) -> None:
    """Be the first step of the order."""
    have_effect(f"reserved {item}")


def charge(euros: int) -> None:
    """Be the second step."""
    have_effect(f"charged {euros} euros")


def wrap(item: str) -> None:
    """Be the new step."""
    have_effect(f"wrapped {item}")


def ship(item: str) -> None:
    """Be the last step."""
    have_effect(f"shipped {item}")


def judge_change(order: Callable[..., Any]) -> Verdict:
    """Judge on an execution of the old code that was stopped at its charge: the new code has to take it over."""
    db = _new_database()

    def old(ctx: Context, item: str) -> None:
        ctx.step(reserve, item)
        ctx.step(charge, 40)
        raise KeyboardInterrupt

    old.__module__, old.__qualname__ = order.__module__, order.__qualname__
    with Engine(db) as engine:
        with suppress(KeyboardInterrupt):
            engine.run("old order", old, "lamp")
        try:
            engine.run("old order", order, "lamp")
        except NonDeterminismError as error:
            return not_yet(f"a running order of the old code could not go on: {error}")
        engine.run("new order", order, "lamp")
    wanted = ["reserved lamp", "charged 40 euros", "wrapped lamp", "shipped lamp"]
    for workflow_id in ("old order", "new order"):
        done = list_effects(db, workflow_id)
        if done != wanted:
            return not_yet(f"the {workflow_id} did this: {done}. Expected: {wanted}.")
    return right("orders that were under way go on, and new ones are wrapped too. What is on record kept its place.")


q3 = Exercise(
    "03.q3",
    judge_change,
    "The rows reserve_1 and charge_2 are there already. Where may a new call stand, so that both keep their numbers?",
    "And a parcel is wrapped before it leaves.",
)

# ---- functions that the checks share


def _new_database() -> Path:
    return Path(tempfile.mkdtemp()) / "course.db"


def _run_and_interrupt(engine: Engine, workflow_id: str, workflow: Callable[..., Any], *args: Any, at: str) -> None:
    """Run a workflow, and press Ctrl+C as the step of this name begins: a step in flight leaves no outcome."""
    path = engine.path

    def press(moment: Any) -> None:
        if moment.name == "step.scheduled" and moment.step_name == at:
            raise KeyboardInterrupt

    with Engine(path, observers=[press]) as other, suppress(KeyboardInterrupt):
        other.run(workflow_id, workflow, *args)
