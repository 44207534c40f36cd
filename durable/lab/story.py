"""What the rows of a workflow tell: the state of each step, its lives, the table at the last crash, one sentence.

Everything here is read from the database (and the effects log of the examples), except for what only a living process
knows: which steps wait at its gate, and which were replayed in this run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from durable.engine import Engine
from durable.errors import WorkflowNotFoundError
from durable.examples.effects import list_effects
from durable.lab.guess import Guess
from durable.records import RunRecord, StepRecord, WorkflowRecord, program_order

RESULT_LENGTH = 60

WHERE = {
    "started": "before the effect of {}",
    "executed": "after the effect of {} and before its checkpoint",
    "checkpointed": "after the checkpoint of {}",
}


@dataclass(frozen=True, slots=True)
class Rows:
    """All that is recorded of a workflow at one instant, and which process runs it.

    `effects` holds what the effects log of the examples says of steps that were begun and not saved, by step key: what
    really happened, as often as it did.
    """

    workflow: WorkflowRecord | None = None
    steps: Sequence[StepRecord] = ()
    attempts: Sequence[StepRecord] = ()
    runs: Sequence[RunRecord] = ()
    owner: int | None = None
    effects: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_unfinished(self) -> bool:
        """Whether a run began it and none completed or failed it."""
        return self.workflow is not None and self.workflow.status == "running"

    def find_step(self, step_key: str) -> StepRecord | None:
        """The row of a step, if it has one."""
        return next((step for step in self.steps if step.step_key == step_key), None)

    def lost_attempts(self, step_key: str) -> int:
        """How many earlier tries of a step ended without an outcome: their effect may have happened, or not."""
        return sum(try_.step_key == step_key and try_.status == "running" for try_ in self.attempts)


@dataclass(frozen=True, slots=True)
class Now:
    """What the living process knows: its id, the keys at its gate, those replayed in this run, the armed crash."""

    pid: int
    waiting: Sequence[str] = ()
    replayed: Collection[str] = ()
    armed: tuple[str, str] | None = None
    problem: str | None = None
    is_running: bool = False


@dataclass(frozen=True, slots=True)
class Sentence:
    """What happened and what will happen. `tone` is calm, good, crash, twice or problem."""

    tone: str
    head: str
    text: str


def read_rows(engine: Engine, workflow_id: str) -> Rows:
    """The rows as they are now. A workflow that was never run has none."""
    try:
        workflow = engine.workflow(workflow_id)
        steps, attempts = engine.steps(workflow_id), engine.attempts(workflow_id)
        runs, owner = engine.runs(workflow_id), engine.owner(workflow_id)
        return Rows(workflow, steps, attempts, runs, owner, _read_effects(engine, workflow_id, [*steps, *attempts]))
    except WorkflowNotFoundError:  # also where it is deleted between two of the lines
        return Rows()


def _read_effects(engine: Engine, workflow_id: str, rows: Iterable[StepRecord]) -> dict[str, list[str]]:
    """The effects of those steps of which the table does not know how often they ran."""
    keys = {row.step_key for row in rows if row.status == "running"}
    return {key: list_effects(engine.path, workflow_id, key) for key in keys}


def as_it_stood(steps: Iterable[StepRecord], attempts: Iterable[StepRecord], epoch: int) -> list[StepRecord]:
    """The steps table at the end of a run: what it and earlier runs had written, and later ones had not yet moved."""
    left_later = [row for row in attempts if row.superseded_by is None or row.superseded_by > epoch]
    rows = [row for row in (*steps, *left_later) if row.epoch <= epoch]
    return sorted(rows, key=lambda row: program_order(row.step_key))


def last_crash(rows: Rows) -> RunRecord | None:
    """The latest life that ended without a word, if there is one."""
    dead = [run for run in rows.runs if run.ended == "crashed"]
    if rows.runs and rows.runs[-1].ended is None and rows.owner is None:
        dead.append(rows.runs[-1])
    return dead[-1] if dead else None


# ---- the steps


def state_of(step: StepRecord, rows: Rows, now: Now) -> str:
    """One of running, completed, replayed, zombie, failed."""
    workflow = rows.workflow
    if step.status == "running":
        lives = rows.owner is not None and workflow is not None and step.epoch == workflow.epoch
        return "running" if lives else "zombie"
    earlier = workflow is not None and step.epoch < workflow.epoch
    done = workflow is not None and workflow.status == "completed"
    if step.step_key in now.replayed or (earlier and done):
        return "replayed"
    return step.status


def list_cards(rows: Rows, now: Now, guesses: Sequence[Guess]) -> list[list[dict[str, Any]]]:
    """The steps as the panel draws them: a list of columns, each with the steps that go side by side."""
    parallel = {guess.step_key: guess.is_parallel for guess in guesses}
    entries: list[tuple[tuple[float, ...], bool, dict[str, Any]]] = []
    for step in rows.steps:
        beside = parallel.get(step.step_key, "/" in step.step_key or step.thread != "main")
        entries.append((program_order(step.step_key), beside, _card(step, rows, now)))
    for guess in _upcoming(rows, guesses):
        key = guess.step_key
        order = program_order(key) if key else (float("inf"),)
        entries.append(
            (order, guess.is_parallel, _upcoming_card(key or guess.name, now, is_certain=key in now.waiting))
        )
    known = {card["key"] for _, _, card in entries}
    unknown = [key for key in now.waiting if key not in known]
    entries += [(program_order(key), "/" in key, _upcoming_card(key, now, is_certain=True)) for key in unknown]
    columns: list[list[dict[str, Any]]] = []
    was_parallel = False
    for _, is_parallel, card in sorted(entries, key=lambda entry: entry[0]):
        if not (is_parallel and was_parallel):
            columns.append([])
        columns[-1].append(card)
        was_parallel = is_parallel
    return columns


def _upcoming(rows: Rows, guesses: Sequence[Guess]) -> list[Guess]:
    """The guesses that have not come true yet."""
    if rows.workflow is not None and rows.workflow.status == "completed":
        return []
    keys = {key for step in rows.steps for key in (step.step_key, step.step_key.partition("/")[0])}
    names = {key.rpartition("_")[0] for key in keys}
    return [guess for guess in guesses if (guess.step_key not in keys if guess.step_key else guess.name not in names)]


def _card(step: StepRecord, rows: Rows, now: Now) -> dict[str, Any]:
    state = state_of(step, rows, now)
    seconds = None if step.ended_at is None else (step.ended_at - step.started_at).total_seconds()
    return {
        "key": step.step_key,
        "state": state,
        "word": _word(step, state, rows),
        "twice": bool(rows.lost_attempts(step.step_key)),
        "attempt": step.attempt,
        "seconds": seconds,
        "result": _shorten(message_of(step.error) if step.output in (None, "null") else step.output),
        "next": step.step_key in now.waiting[:1],
    }


def _upcoming_card(key: str, now: Now, *, is_certain: bool) -> dict[str, Any]:
    is_next = key in now.waiting[:1]
    return {
        "key": key,
        "state": "upcoming",
        "word": "next" if is_next else "waits" if is_certain else "upcoming, a guess",
        "twice": False,
        "attempt": None,
        "seconds": None,
        "result": "",
        "next": is_next,
    }


def _word(step: StepRecord, state: str, rows: Rows) -> str:
    """The state in words. Of a step that was tried again it says how often it ran, where that is known."""
    word = {"replayed": "replayed, not run", "zombie": "zombie, never saved"}.get(state, state)
    if not rows.lost_attempts(step.step_key) or state in ("zombie", "failed"):
        return word
    if state == "running":
        return "running again"
    count = len(rows.effects.get(step.step_key, ()))
    again = {0: "may have run twice", 1: "ran once"}.get(count, f"ran {_times(count)}")
    return again if state == "completed" else f"{word}; {again}"


def message_of(error: str | None) -> str | None:
    """`ValueError: what it said`, from the JSON of a recorded error."""
    if error is None:
        return None
    record = json.loads(error)
    return f"{record['type'].rpartition(':')[2]}: {record['message']}"


def _shorten(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= RESULT_LENGTH else f"{text[: RESULT_LENGTH - 3]}..."


def list_rows(steps: Iterable[StepRecord]) -> list[dict[str, Any]]:
    """Rows of the steps table, in its classic shape."""
    return [
        {"step_key": row.step_key, "status": row.status, "attempt": row.attempt, "output": _shorten(row.output)}
        for row in steps
    ]


def list_lives(rows: Rows, pid: int) -> list[dict[str, Any]]:
    """One entry a run: the process that it was in, and what became of it."""
    lives = []
    for run in rows.runs:
        is_latest = run is rows.runs[-1]
        ended = run.ended or ("alive" if is_latest and rows.owner is not None else "crashed")
        lives.append({"pid": run.pid, "ended": ended})
    if not lives or (lives[-1]["ended"] != "alive" and lives[-1]["pid"] != pid):
        lives.append({"pid": pid, "ended": "ready"})
    return lives


# ---- the sentence


def tell(rows: Rows, now: Now, guesses: Sequence[Guess]) -> Sentence:
    """What happened, and what will: two or three short sentences."""
    if now.problem is not None:
        return Sentence("problem", "It did not run.", now.problem)
    if rows.owner is not None and rows.owner != now.pid:
        return Sentence(
            "problem", f"Process {rows.owner} runs this workflow.", "Only one process may; it has to end first."
        )
    told = (
        _tell_of_twice(rows) or _tell_of_outcome(rows, now) or _tell_of_zombie(rows, now) or _tell_of_replay(rows, now)
    )
    told = told or _tell_of_progress(rows, now)
    return Sentence(told.tone, told.head, " ".join(filter(None, [told.text, _tell_of_future(rows, now, guesses)])))


def _tell_of_twice(rows: Rows) -> Sentence | None:
    """A step that was tried again after a crash, and is completed now."""
    again = [step for step in rows.steps if step.status == "completed" and rows.lost_attempts(step.step_key)]
    if not again:
        return None
    step = again[-1]
    effects = rows.effects.get(step.step_key, ())
    because = (
        "The crash fell after the effect and before its checkpoint: nobody had written down that it was done, so it "
        "ran again."
    )
    if len(effects) > 1:
        head = f"{step.step_key} ran {_times(len(effects))}."
        return Sentence(
            "twice", head, f"The effects log says '{effects[0]}' {_times(len(effects))}. {because}{_saved(rows)}"
        )
    if effects:
        text = "The effects log has its effect once: the crash fell before the effect, so nothing was repeated."
        return Sentence("good", f"{step.step_key} was begun twice and ran once.", text + _saved(rows))
    text = "A crash left it running, without a word about its effect, so it ran again."
    return Sentence("twice", f"{step.step_key} may have run twice.", text + _saved(rows))


def _tell_of_outcome(rows: Rows, now: Now) -> Sentence | None:
    workflow = rows.workflow
    if workflow is None or workflow.status not in ("completed", "failed"):
        return None
    if workflow.status == "failed":
        step = next((step for step in rows.steps if step.status == "failed"), None)
        who = step.step_key if step else "The workflow"
        return Sentence(
            "crash", f"{who} failed.", "Its error is on record. Run all tries it anew and keeps all that is completed."
        )
    replayed = sum(state_of(step, rows, now) == "replayed" for step in rows.steps)
    if not replayed:
        return Sentence("good", "Completed.", f"{_count(len(rows.steps), 'step')} ran, each recorded once.")
    run = len(rows.steps) - replayed
    text = (
        f"In the last life {_count(replayed, 'step')} {_were(replayed)} replayed and {run} run. {_seconds_saved(rows)}"
    )
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
    return Sentence("good", f"{_count(replayed, 'step')} {_were(replayed)} replayed, not run.", _seconds_saved(rows))


def _tell_of_progress(rows: Rows, now: Now) -> Sentence:
    running = [step.step_key for step in rows.steps if state_of(step, rows, now) == "running"]
    if running:
        return Sentence("calm", f"{_join(running)} {'is' if len(running) == 1 else 'are'} running.", "")
    completed = sum(step.status == "completed" for step in rows.steps)
    if completed:
        return Sentence(
            "calm", f"{_count(completed, 'step')} {_were(completed)} completed.", "What is completed is saved."
        )
    if last_crash(rows) is not None:
        return Sentence("calm", "A crash came before the first step.", "Nothing had happened yet.")
    return Sentence("calm", "Nothing has run yet.", "")


def _tell_of_future(rows: Rows, now: Now, guesses: Sequence[Guess]) -> str:
    """What the buttons will do, and what is armed."""
    said = []
    if now.waiting:
        step = rows.find_step(now.waiting[0])
        again = " again" if step is not None and step.status == "running" else ""
        said.append(f"Next step runs {now.waiting[0]}{again}.")
    elif not now.is_running and rows.workflow is None and guesses:
        said.append(f"Next step runs {guesses[0].step_key or guesses[0].name}, Run all everything.")
    if now.armed is not None:
        step_key, moment = now.armed
        said.append(f"Armed: process {now.pid} will be killed {WHERE[moment].format(step_key)}.")
    return " ".join(said)


def _saved(rows: Rows) -> str:
    kept, seconds = _kept(rows)
    return f" {_count(kept, 'step')}, {seconds:.1f} s of work, {_were(kept)} not repeated." if kept else ""


def _seconds_saved(rows: Rows) -> str:
    kept, seconds = _kept(rows)
    return f"{seconds:.1f} s of work were not repeated." if kept else ""


def _kept(rows: Rows) -> tuple[int, float]:
    """How many completed steps the latest life found on record, and how long they had taken."""
    epoch = rows.workflow.epoch if rows.workflow is not None else 0
    durations = [
        (step.ended_at - step.started_at).total_seconds()
        for step in rows.steps
        if step.status == "completed" and step.epoch < epoch and step.ended_at is not None
    ]
    return len(durations), sum(durations)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _times(number: int) -> str:
    return "twice" if number == 2 else f"{number} times"  # noqa: PLR2004 - English has a word for it


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
