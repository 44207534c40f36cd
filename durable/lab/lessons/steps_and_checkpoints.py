"""The exercises of notebook 02: safe instants, rows that are checkpoints, and the right size of a step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durable import Engine
from durable.examples.zombie import zombie
from durable.lab.course.crashes import ask, crash_everywhere, effects_of, find_fault, repeated, table
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right
from durable.testing import run_until_crash

MOMENTS = ("scheduled", "started", "executed", "checkpointed")

# ---- q1


def judge_moments(safe: Any, workflow: Callable[..., Any], step_key: str) -> Verdict:
    """Kill the workflow at each of the moments, and see which effects happened twice."""
    if isinstance(safe, str) or not set(safe) <= set(MOMENTS):
        return not_yet(f"the answer is to be a set of some of these: {', '.join(MOMENTS)}")
    report = crash_everywhere(workflow)
    usual = effects_of(report)
    twice = {
        judgement.case.faults[0].at.partition(":")[2]: repeated(judgement.result, usual)
        for judgement in report.judgements
        if judgement.case.faults[0].at.startswith(f"{step_key}:")
    }
    picture = report._repr_html_()
    for moment in MOMENTS:
        if moment in safe and twice[moment]:
            return not_yet(f"killed at {moment} and resumed, the shop had {twice[moment][0]!r} twice.", picture)
        if moment not in safe and not twice[moment]:
            return not_yet(
                f"killed at {moment} and resumed, nothing happened twice: that instant is safe too.", picture
            )
    return right("three instants are safe, and one is not: the effect is done, and there is no record of it.", picture)


q1 = Exercise(
    "02.q1",
    judge_moments,
    "Look at the table of moments: in which line had the card been charged while the row did not say completed?",
    "A death is harmful only if the resume charges again, and the card had been charged already.",
)

# ---- q2


def judge_safe_steps(find_safe_steps: Callable[[Path, str], set[str]]) -> Verdict:
    """Judge on databases of several crashes; each is then resumed, to see which steps truly never ran again."""
    folder = Path(tempfile.mkdtemp())
    for at in ("zombie_step:checkpointed", "zombie_step:executed", "step_before:started"):
        db = folder / f"{at.replace(':', '-')}.db"
        with Engine(db) as engine:
            engine.run("another", zombie, 0.0)
        run_until_crash(db, "mine", zombie, 0.0, at=at)
        said = set(find_safe_steps(db, "mine"))
        rows = ask(db, "select workflow_id, step_key, status from steps order by rowid")
        with Engine(db) as engine:
            engine.run("mine", zombie, 0.0)
            truth = {step.step_key for step in engine.steps("mine") if step.epoch == 1}
        picture = table(("workflow_id", "step_key", "status"), rows)
        if said != truth:
            return _tell(at, said, truth, picture)
    return right("on all three databases. completed is the word that counts, and each id has rows of its own.")


def _tell(at: str, said: set[str], truth: set[str], picture: str) -> Verdict:
    """Say what is wrong with the keys that were named."""
    where = f"killed at {at}, with the rows below,"
    if not all(isinstance(key, str) for key in said):
        return not_yet(f"{where} you named {said}; the keys alone are wanted, as strings.", picture)
    if extra := sorted(said - truth):
        return not_yet(f"{where} you named {extra[0]}; the resume of 'mine' ran it all the same.", picture)
    return not_yet(f"{where} you left out {min(truth - said)}; it never ran again.", picture)


q2 = Exercise(
    "02.q2",
    judge_safe_steps,
    "A step never runs again once its row is a checkpoint. Which status is that?",
    "Another workflow has its rows in the same table: put both conditions into the `where` clause.",
    "db.execute(query, (workflow_id,)) gives rows; the key is the first column of each.",
)

# ---- q3


def judge_order(careful_order: Callable[..., Any]) -> Verdict:
    """Judge that no crash repeats more than one effect, and that nothing is sent without payment."""
    report = crash_everywhere(careful_order)
    if fault := find_fault(report):
        return fault
    usual = effects_of(report)
    if usual != ["charged 40 euros", "shipped lamp"]:
        return not_yet(f"undisturbed it did {usual}; expected is to charge 40 euros, then to ship the lamp.")
    for judgement in report.judgements:
        twice = repeated(judgement.result, usual)
        if len(twice) > 1:
            return not_yet(
                f"{judgement.case}, then resumed: {' and '.join(twice)}, both twice. They are still one step.",
                report._repr_html_(),
            )
    return right(
        "a crash repeats one of the two at most. The customer who got the lamp is not charged again for it.",
        report._repr_html_(),
    )


q3 = Exercise(
    "02.q3",
    judge_order,
    "A checkpoint is written after each step. Where would you want one?",
    "Give charge and ship a ctx.step each, in the order in which a shop does them.",
)
