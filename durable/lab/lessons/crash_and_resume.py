"""The exercises of notebook 01: the steps that a crash repeats, and the next run as the table foretells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from durable import Engine
from durable.examples.onboarding import onboarding
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right

__all__ = ["onboarding", "q1", "q2"]

WHY = {
    "started": "the row said running, and nothing had happened yet: the resume ordered the first laptop",
    "executed": "the laptop was ordered and there was no record of it: the resume ordered another",
    "checkpointed": "the order was on record: the resume read it from the row",
}


def judge_guess(guess: dict[str, int], measured: dict[str, int]) -> Verdict:
    """Compare with the real effects at each moment."""
    wrong = [moment for moment in measured if guess.get(moment) != measured[moment]]
    if not wrong:
        return right("all three. Only the gap between effect and save orders twice.")
    first = wrong[0]
    return not_yet(
        f"{len(measured) - len(wrong)} of {len(measured)} hold. Killed at {first}, {measured[first]} came out, "
        f"not {guess.get(first)}: {WHY[first]}."
    )


def judge_will_run(will_run: Any, db: Path, workflow_id: str) -> Verdict:
    """Resume the workflow, and see which steps ran after the crash."""
    if isinstance(will_run, str) or not all(isinstance(key, str) for key in will_run):
        return not_yet('the answer is to be a set of step keys, as in {"create_record_1"}')
    with Engine(db) as engine:
        before = {step.step_key: step.status for step in engine.steps(workflow_id) if step.epoch == 1}
        engine.resume(workflow_id).result()
        ran = {step.step_key for step in engine.steps(workflow_id) if step.epoch > 1}
        known = {step.step_key for step in engine.steps(workflow_id)}
    if unknown := set(will_run) - known:
        return not_yet(f"{_name(unknown)}: there is no such step. A key is a name and a number, as in create_record_1.")
    if extra := set(will_run) - ran:
        key = min(extra)
        return not_yet(
            f"it was resumed, and {key} did not run: its row said {before[key]}, so it was answered from there."
        )
    if missing := ran - set(will_run):
        key = min(missing)
        row = "its row said running, and running is not an outcome" if key.startswith("provision") else "it had no row"
        return not_yet(f"it was resumed, and {key} ran too: {row}.")
    return right(f"it was resumed, and {_name(ran)} ran. What is completed is replayed; all else is run.")


def _name(keys: set[str]) -> str:
    return " and ".join(sorted(keys))


q1 = Exercise(
    "01.q1",
    judge_guess,
    "Ask two questions for each instant: has the effect happened, and is there a row that says completed?",
    "The resume runs a step again unless its row is completed. So where the effect has happened and the row says "
    "running, it happens again.",
)
q2 = Exercise(
    "01.q2",
    judge_will_run,
    "Replayed is what has a checkpoint. Which rows have one, and which steps of onboarding have no row at all?",
    "running means begun, not done. And send_welcome_email_4 was never reached.",
)
