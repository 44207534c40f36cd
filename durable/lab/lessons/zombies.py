"""The exercises of notebook 05: a shop that knows keys, a step that hands one over, a step whose effect is its row."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durable import Context, Engine, current_step
from durable.examples.effects import effects_log, have_effect, list_effects
from durable.lab.course.crashes import crash_everywhere, effects_of, find_fault
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right
from durable.testing import run_until_crash

__all__ = ["crash_everywhere", "equip", "place_order", "q1", "q2", "q3", "run_until_crash"]

# ---- the world of this notebook


def place_order(key: str, item: str) -> str:
    """A remote shop, which answers a known key with the order that it has. For use in steps.

    Its book is beside the database of the step, and no engine reads it.
    """
    book = current_step().database.with_suffix(".shop.txt")
    orders = book.read_text(encoding="utf-8").splitlines() if book.exists() else []
    if key not in orders:
        with book.open("a", encoding="utf-8") as file:
            file.write(f"{key}\n")
        have_effect(f"ordered a {item}")
        orders.append(key)
    return f"order {orders.index(key) + 1}"


def order_chair(name: str) -> str:
    """Order from a shop that knows no keys."""
    have_effect(f"ordered a chair for {name}")
    return "chair"


def order_desk(name: str) -> str:
    """Order from a shop that knows the key. Its book is the effects log, in which each line ends with a key."""
    step = current_step()
    book = effects_log(step.database).read_text(encoding="utf-8")
    if not any(line.endswith(f"\t{step.idempotency_key}") for line in book.splitlines()):
        have_effect(f"ordered a desk for {name}")
    return "desk"


def equip(ctx: Context, name: str) -> None:
    """Order one thing without a key, and one with it."""
    ctx.step(order_chair, name)
    ctx.step(order_desk, name)


# ---- q1


def judge_shop(make_shop: Callable[[], Any]) -> Verdict:
    """Judge the shop: ask it twice with one key, and once with another."""
    shop = make_shop()
    first = shop.place("emp_1/order_2", "laptop")
    again = shop.place("emp_1/order_2", "laptop")
    if len(shop.orders) != 1:
        return not_yet(
            f"the same request came twice, under one key, as after a crash: the shop has {len(shop.orders)} orders."
        )
    if again != first:
        return not_yet(
            f"the second time it answered {again!r}, and {first!r} the first time; the caller needs the same."
        )
    if first is None:
        return not_yet("place returned None; the caller wants the number of the order.")
    other = shop.place("emp_2/order_2", "laptop")
    if len(shop.orders) != 2 or other == first:
        return not_yet(
            f"a second colleague, with a key of her own, wants a laptop too: the shop has {len(shop.orders)} order(s). "
            "Two people are not one request."
        )
    return right("one key, one order, one answer, however often it is asked.")


q1 = Exercise(
    "05.q1",
    judge_shop,
    "Keep the answers by their key, in a dictionary.",
    "If the key is known, return what was returned then. Else make the order, remember the answer, return it.",
)

# ---- q2


def judge_step(order_laptop: Callable[[str], Any]) -> Verdict:
    """Judge a step: crash it at every moment; then call it twice, and in two workflows."""

    def hire(ctx: Context, name: str) -> None:
        ctx.step(order_laptop, name)

    def hire_twice(ctx: Context, name: str) -> None:
        ctx.step(order_laptop, name)
        ctx.step(order_laptop, name)

    report = crash_everywhere(hire, "Jane")
    if effects_of(report) != ["ordered a laptop"]:
        return not_yet(f"undisturbed it did {effects_of(report)}; expected is one laptop, from place_order.")
    if report.not_idempotent:
        judgement, _ = next(iter(report.not_idempotent.values()))
        return not_yet(
            f"{judgement.case}, then resumed: two laptops. The key was another one at the second attempt, so the shop "
            "took it for another order.",
            report._repr_html_(),
        )
    if fault := find_fault(report):
        return fault
    db = Path(tempfile.mkdtemp()) / "course.db"
    with Engine(db) as engine:
        engine.run("emp_1", hire_twice, "Jane")
        if (count := len(list_effects(db))) != 2:
            return not_yet(f"one workflow, two steps that order for Jane: {count} laptop. Both steps had the same key.")
        engine.run("emp_2", hire, "Jane")
        if len(list_effects(db)) != 3:
            return not_yet("another workflow, for another Jane: no laptop. It had the key of the first Jane's order.")
    return right(
        f"{report.kills} kills, one laptop each. The step runs twice, and the world changes once.", report._repr_html_()
    )


q2 = Exercise(
    "05.q2",
    judge_step,
    "The key has to be the same on each attempt, and another for each step of each workflow. Who knows both?",
    "current_step().idempotency_key is the workflow id and the step key.",
)

# ---- q3


def judge_bonus(bonus: Callable[..., Any]) -> Verdict:
    """Judge a workflow that returns the number of bonuses in the ledger: crashed at any moment, it has to be one."""
    report = crash_everywhere(bonus, "Jane")
    undisturbed = report.baseline.runs[0].last.remains
    if undisturbed.output != "1":
        return not_yet(f"undisturbed it returned {undisturbed.output}; expected is 1, the rows in the ledger.")
    return find_fault(report) or right(
        f"{report.kills} kills, and one bonus after each. Row and checkpoint are one commit, with no gap.",
        report._repr_html_(),
    )


q3 = Exercise(
    "05.q3",
    judge_bonus,
    "The ledger is a table in the engine's own file. So one commit can hold both, if the engine makes it.",
    "ctx.transaction(pay, name) calls pay(ledger, name) with a connection, and commits it with the checkpoint.",
)
