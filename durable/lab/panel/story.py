"""The past and the next step of a workflow, and the consequence of a crash, in sentences.

All of it follows from the rows of the database (and the effects log of the examples), except for the knowledge of a
living process, see `Now`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from durable.dashboard.rows import Now, Rows, state_of
from durable.dashboard.timeline import tell_seconds
from durable.lab.panel.cards import times
from durable.lab.panel.guess import Guess

WHERE = {
    "started": "before the effect of {}",
    "executed": "after the effect of {} and before its checkpoint",
    "checkpointed": "after the checkpoint of {}",
}
CONSEQUENCE = {
    "started": "Its row will say running, and nothing will have happened: the resume runs it, for the first time.",
    "executed": "The effect will have happened, and its row will still say running: the resume runs it a second time.",
    "checkpointed": "It is saved by then: the resume answers it from its row, and nothing is done again.",
}
PLAINLY = {
    "KeyboardInterrupt": "Ctrl+C was pressed, or the kernel's stop button",
    "SystemExit": "a step ended the process",
}
_FEW = 3  # names in a sentence


@dataclass(frozen=True, slots=True)
class Sentence:
    """A headline and a text. `tone` is calm, good, crash, twice or problem."""

    tone: str
    head: str
    text: str


def tell(rows: Rows, now: Now, guesses: Sequence[Guess]) -> Sentence:
    """Say what happened and what comes next: two or three short sentences."""
    if now.problem is not None:
        return Sentence("problem", *now.problem)
    if rows.owner is not None and rows.owner != now.pid:
        head = f"Process {rows.owner} is already running this workflow."
        return Sentence("problem", head, "Only one process can at a time: wait until it ends.")
    told = (
        _tell_of_twice(rows) or _tell_of_outcome(rows, now) or _tell_of_zombie(rows, now) or _tell_of_replay(rows, now)
    )
    told = told or _tell_of_progress(rows, now)
    text = [told.text, _tell_of_last_end(rows), _tell_of_awaited(rows, now), _tell_of_future(rows, now, guesses)]
    return Sentence(told.tone, told.head, " ".join(filter(None, text)))


def _tell_of_twice(rows: Rows) -> Sentence | None:
    """Describe a step that was tried again after a crash, and is completed now."""
    again = [step for step in rows.steps if step.status == "completed" and rows.lost_attempts(step.step_key)]
    if not again:
        return None
    step = again[-1]
    effects = rows.effects.get(step.step_key, ())
    because = (
        "The crash fell after the effect and before its checkpoint: there was no record that it was done, so it ran "
        "again."
    )
    if len(effects) > 1:
        head = f"{step.step_key} ran {times(len(effects))}."
        return Sentence(
            "twice", head, f"The effects log says '{effects[0]}' {times(len(effects))}. {because}{_saved(rows)}"
        )
    if effects:
        text = "The effects log has its effect once: the crash fell before the effect, so nothing was repeated."
        return Sentence("good", f"{step.step_key} was begun twice and ran once.", text + _saved(rows))
    text = "A crash left its row at running, with no record of whether its effect happened, so it ran again."
    return Sentence("twice", f"{step.step_key} may have run twice.", text + _saved(rows))


def _tell_of_outcome(rows: Rows, now: Now) -> Sentence | None:
    workflow = rows.workflow
    if workflow is None or workflow.status == "running":
        return None
    if workflow.status == "cancelled":
        return Sentence("calm", "Cancelled.", "That is final. What had completed stays on record.")
    if workflow.status == "failed":
        step = next((step for step in rows.steps if step.status == "failed"), None)
        who = step.step_key if step else "The workflow"
        anew = "Run all tries it anew and keeps all that is completed."
        undone = "What was to be undone is undone, and that is final."
        return Sentence("crash", f"{who} failed.", f"Its error is on record. {undone if rows.is_final else anew}")
    replayed = sum(state_of(step, rows, now) == "replayed" for step in rows.steps)
    if not replayed:
        return Sentence("good", "Completed.", f"{_count(len(rows.work), 'step')} ran, each recorded once.")
    run = len(rows.work) - replayed
    text = f"In this run, {_count(replayed, 'step')} {_were(replayed)} replayed and {run} ran. {_saved(rows).strip()}"
    return Sentence("good", "Completed.", text)


def _tell_of_zombie(rows: Rows, now: Now) -> Sentence | None:
    zombies = [step for step in rows.steps if state_of(step, rows, now) == "zombie"]
    if not zombies:
        return None
    step = zombies[0]
    pid = next((run.pid for run in rows.runs if run.epoch == step.epoch), "?")
    count = len(rows.effects.get(step.step_key, ()))
    effect = (
        "The effects log shows its effect, the table does not." if count else "Its effect may have happened, or not."
    )
    return Sentence(
        "crash",
        f"{step.step_key} is a zombie step.",
        f"Process {pid} began it and never saved it. {effect}{_saved(rows)}",
    )


def _tell_of_replay(rows: Rows, now: Now) -> Sentence | None:
    replayed = sum(state_of(step, rows, now) == "replayed" for step in rows.steps)
    if not replayed:
        return None
    return Sentence("good", f"{_count(replayed, 'step')} {_were(replayed)} replayed, not run.", _saved(rows).strip())


def _tell_of_progress(rows: Rows, now: Now) -> Sentence:
    running = [step.step_key for step in rows.steps if state_of(step, rows, now) == "running"]
    if running:
        return Sentence("calm", f"{join_some(running)} {'is' if len(running) == 1 else 'are'} running.", "")
    waiting = [step.step_key for step in rows.steps if state_of(step, rows, now) == "waiting"]
    if waiting:
        text = "The wait itself is saved, so a crash would not lose it."
        return Sentence("calm", f"{join_some(waiting)} {'is' if len(waiting) == 1 else 'are'} waiting.", text)
    completed = sum(step.status == "completed" for step in rows.work)
    if completed:
        return Sentence(
            "calm", f"{_count(completed, 'step')} {_were(completed)} completed.", "Completed steps are saved."
        )
    if rows.last_crash is not None:
        return Sentence("calm", "A crash came before the first step.", "Nothing had happened yet.")
    return Sentence("calm", "Nothing has run yet.", "")


def _tell_of_last_end(rows: Rows) -> str:
    """Say why the last run that has ended was interrupted or stopped, until the workflow has an outcome."""
    last = next((run for run in reversed(rows.runs) if run.ended is not None), None)
    if not rows.is_unfinished or last is None or last.reason is None or last.ended not in ("interrupted", "stopped"):
        return ""
    return f"Run {last.epoch} was {last.ended}: {PLAINLY.get(last.reason, last.reason)}."


def list_awaited(rows: Rows) -> list[str]:
    """Return the events that a workflow waits for, in program order."""
    events = [wait.event for wait in rows.waits.values() if wait.event is not None]
    return list(dict.fromkeys(events)) if rows.is_unfinished else []


def _tell_of_awaited(rows: Rows, now: Now) -> str:
    """Say which messages it waits for, and which have come and are not received yet."""
    come = [event for event in list_awaited(rows) if event in rows.come]
    if come:
        how = "" if now.is_running else " Run all or Next step begins a run, which receives it."
        return f"A message for {_join([repr(event) for event in come])} has come.{how}"
    missing = [repr(event) for event in list_awaited(rows)]
    return f"It needs a message for {_join(missing)}: send it below, or from any process." if missing else ""


def _tell_of_future(rows: Rows, now: Now, guesses: Sequence[Guess]) -> str:
    """Say what the buttons will do."""
    said = []
    if now.waiting and (wait := rows.waits.get(now.waiting[0])) is not None:
        what = "receives it" if wait.event in rows.come else "waits on"
        said.append(f"Next step goes on with {now.waiting[0]}, which {what}.")
    elif now.waiting:
        step = rows.find_step(now.waiting[0])
        again = " again" if step is not None and step.status == "running" else ""
        said.append(f"Next step runs {now.waiting[0]}{again}.")
    elif not now.is_running and rows.workflow is None and guesses:
        said.append(f"Next step runs {guesses[0].step_key or guesses[0].name}; Run all runs everything.")
    return " ".join(said)


def tell_progress(rows: Rows, now: Now, at: datetime) -> dict[str, Any]:
    """Return how many steps are done and running, and for how long, even if the number of steps is unknown."""
    running = [step for step in rows.steps if state_of(step, rows, now) == "running"]
    done = sum(step.status == "completed" for step in rows.work)
    failed = sum(step.status == "failed" for step in rows.steps)
    text = f"{_count(done, 'step')} completed" + (f", {failed} failed" if failed else "")
    if running:
        longest = (at - min(step.started_at for step in running)).total_seconds()
        text += f", {len(running)} running for {max(0.0, longest):.0f} s"
    waiting = sum(rows.find_step(key) is None for key in now.waiting)
    text += f", {waiting} waiting" if waiting else ""
    known = len(rows.work) + waiting
    for each in rows.progress:
        if each.is_map:
            name = each.step_key.rpartition("_")[0]
            text += f"; map of {name}: {each.value} of {each.total:g}"
            known += max(0, int(each.total or 0) - sum(step.name == name for step in rows.work))
    return {"done": done, "known": known, "is_running": bool(running), "text": text}


def count_ran(rows: Rows) -> int | None:
    """Return how many steps ran in the last run of a workflow that a crash had cut off; None until it is completed."""
    if rows.workflow is None or rows.workflow.status != "completed" or rows.last_crash is None:
        return None
    return sum(step.epoch == rows.workflow.epoch for step in rows.steps)


def foretell(rows: Rows, now: Now) -> str:
    """Say what the armed crash will do, or else a crash now. The text stands beside the controls."""
    if now.crash_in_seconds is not None:
        return (
            f"The crash comes in {now.crash_in_seconds:.0f} s. Jupyter gives up a kernel that dies six times in a row "
            f"without living for 10 s in between, so this one lives a little longer."
        )
    if now.armed is not None:
        step_key, moment = now.armed
        return f"Armed: process {now.pid} will be killed {WHERE[moment].format(step_key)}. {CONSEQUENCE[moment]}"
    running = [step.step_key for step in rows.steps if state_of(step, rows, now) == "running"]
    if running:
        return f"Crash now would cut off {join_some(running)}: it becomes a zombie step. Saved results stay."
    if rows.workflow is not None and rows.workflow.status == "completed":
        return f"Crash now would kill process {now.pid}: the workflow is already completed and stays that way."
    return f"Crash now would kill process {now.pid} between two steps: no completed step would run again."


def tell_saved(rows: Rows) -> str:
    """Return `Replay saved 2 steps and 3.1 s`, the work that the latest run did not repeat; empty if there was none."""
    kept, seconds = rows.kept
    return f"Replay saved {_count(kept, 'step')} and {tell_seconds(seconds)}" if kept else ""


def tell_stop(rows: Rows) -> str:
    """Return the headline of a run that ended by no outcome of the workflow, such as changed code."""
    completed = sum(step.status == "completed" for step in rows.work)
    where = f"after {_count(completed, 'completed step')}" if completed else "before its first step"
    return f"It stopped {where}."


def _saved(rows: Rows) -> str:
    return f" {tell_saved(rows)}." if rows.kept[0] else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def join_some(names: Sequence[str]) -> str:
    """Return the first few names as text."""
    some = names[:_FEW]
    return _join(some) if len(names) <= _FEW else f"{', '.join(some)} and {len(names) - _FEW} more"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
