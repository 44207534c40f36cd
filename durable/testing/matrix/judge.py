"""Judge: find the promises of the engine that a case breaks, and what the case shows about the workflow's own steps.

It knows no engine. It has the rows that were read between the runs, the effects that really happened, and the moments
that an observer saw.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from durable.testing.matrix.case import ENDED, EXECUTED, RETRIED, Case, CaseResult, Life, Remains, Seen, StepRow


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, in words; `promise` is one of PROMISES."""

    promise: str
    text: str


PROMISES = {
    "ends": "it can be resumed until it ends",
    "result": "its result is that of the undisturbed run",
    "keys": "its steps have the same keys",
    "arguments": "its steps get the same arguments",
    "checkpoint": "what was saved stays as it was saved",
    "once": "a saved step never runs again",
    "gap": "an effect repeats only where a crash fell between effect and save",
    "lost": "every effect of the undisturbed run happens",
    "running": "no step is left running",
    "determinism": "the code asks for what is on record",
    "owner": "one process at a time runs a workflow id",
    "interrupt": "an interrupt ends the run and is no outcome",
    "integrity": "the database is sound",
    "moment": "the moment of the fault comes",
}

COMPARED = frozenset({"result", "keys", "arguments", "lost"})  # these compare a case with the undisturbed run


@dataclass(frozen=True)
class Repeat:
    """A step that was executed more than once, as at-least-once execution allows.

    `effects` are those that therefore happened more often than in the undisturbed run, with their counts. `reports`
    says whether the step reports effects at all: if not, their number is unknown.
    """

    step_key: str
    step_name: str
    times: int
    effects: tuple[tuple[str, int], ...]
    reports: bool


@dataclass(frozen=True)
class Judgement:
    """A case and the findings about it."""

    result: CaseResult
    violations: tuple[Violation, ...] = ()
    repeats: tuple[Repeat, ...] = ()

    @property
    def case(self) -> Case:
        """Return the case."""
        return self.result.case

    @property
    def is_plain(self) -> bool:
        """Return whether the case is broken in itself, not only compared with the undisturbed run."""
        return any(found.promise not in COMPARED for found in self.violations)

    def not_idempotent(self) -> list[Repeat]:
        """Return the steps whose effects happened twice."""
        return [repeat for repeat in self.repeats if repeat.effects]


@dataclass(frozen=True)
class Baseline:
    """Several undisturbed runs. If they differ among themselves, the steps or the workflow depend on chance."""

    runs: tuple[CaseResult, ...]
    varying: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, runs: Sequence[CaseResult]) -> Baseline:
        """Find out what varies: the steps that, given the same arguments, had different outcomes."""
        varying: set[str] = set()
        first = runs[0].last.remains.steps
        for run in runs[1:]:
            for key, row in run.last.remains.steps.items():
                other = first.get(key)
                if other and other.fingerprint == row.fingerprint and _outcome(other) != _outcome(row):
                    varying.add(key)
        return cls(tuple(runs), frozenset(varying))

    def like(self, remains: Remains) -> Remains | None:
        """Return an undisturbed run with the same random outcomes as this case; None if there was none."""
        for run in self.runs:
            steps = run.last.remains.steps
            if all(_outcome(steps.get(key)) == _outcome(remains.steps.get(key)) for key in self.varying):
                return run.last.remains
        return None

    def life_of(self, remains: Remains) -> Life:
        """Return the run of the undisturbed case that left this."""
        return next(run.last for run in self.runs if run.last.remains is remains)


def judge(result: CaseResult, baseline: Baseline) -> Judgement:
    """Compare one case with the promises and with the undisturbed run."""
    found = [
        *_faults(result, baseline),
        *_ends(result),
        *_within(result),
        *_against(result, baseline),
    ]
    return Judgement(result, tuple(dict.fromkeys(found)), tuple(_repeats(result, baseline)))


# ---- how the lives ended


def _ends(result: CaseResult) -> Iterator[Violation]:
    for number, life in enumerate(result.lives, 1):
        kind, text = life.error
        if life.ended == "hung":
            yield Violation("ends", f"life {number} did not come to an end, and had to be killed")
        elif life.ended == "died":
            yield Violation("ends", f"the process of life {number} ended without a word")
        elif kind == "NonDeterminismError":
            yield Violation("determinism", text)
        elif kind == "WorkflowBusyError":
            yield Violation("owner", f"life {number} found the workflow busy, though its owner was dead: {text}")
        elif life.ended == "stopped" and not (life.fault is not None and life.fault.kind == "disk"):
            yield Violation("ends", f"life {number} was stopped by {kind}: {text}")
        elif life.ended == "stopped" and kind not in ("StoreError", "CorruptionError"):
            yield Violation("ends", f"on the failing disk it raised {kind} ({text}), and no StoreError")
        for damage in life.remains.damage:
            yield Violation("integrity", damage)
    if result.last.ended in ("killed", "interrupted"):
        yield Violation("ends", "it was not resumed to its end")


def _faults(result: CaseResult, baseline: Baseline) -> Iterator[Violation]:
    """Check that each fault happened, and that the run ended as the fault demands."""
    for number, life in enumerate(result.lives, 1):
        fault = life.fault
        if fault is None or life.ended in ("hung", "died"):
            continue
        if fault.kind == "interrupt" and not life.interrupted and _came(result, number, fault.at):
            yield Violation("interrupt", f"SIGINT at {fault.at} was swallowed: the workflow went on as if nothing were")
        elif fault.kind == "second owner" and life.second_owner not in (
            "WorkflowBusyError",
            "got the recorded result",
            None,
        ):
            yield Violation("owner", f"at {fault.at} a second process was let in: {_let_in(life.second_owner)}")
        elif number == 1 and fault.at and not life.was_hit and not baseline.varying:
            yield Violation("moment", f"it never came to {fault.at}")


def _let_in(second: str | None) -> str:
    return f"it got {second}" if second and second.endswith("Error") else f"it {second}"


def _came(result: CaseResult, life: int, at: str) -> bool:
    return any(seen.life == life and f"{seen.step_key}:{seen.name.partition('.')[2]}" == at for seen in result.trace)


# ---- one life held against the next


def _within(result: CaseResult) -> Iterator[Violation]:
    end = result.last.remains
    for seen in result.trace:
        is_saved = seen.name in ("step.checkpointed", "step.failed") and seen.life <= len(result.lives)
        if is_saved and not _is_saved(seen, result.lives[seen.life - 1].remains):
            yield Violation("checkpoint", f"{seen.step_key} was reported as saved in life {seen.life}, and was not")
    for number, life in enumerate(result.lives[:-1], 1):
        for key, saved in life.remains.saved().items():
            row = end.steps.get(key)
            if row is None:
                yield Violation("checkpoint", f"{key} was saved by life {number}, and is gone")
            elif _outcome(row) != _outcome(saved):
                yield Violation("checkpoint", f"{key} was saved as {_show(saved)}, and is {_show(row)} in the end")
            if any(s.life > number and s.step_key == key and s.name == "step.started" for s in result.trace):
                yield Violation("once", f"{key} was saved by life {number}, and was begun again later")
            again = _count(end, key) - _count(life.remains, key)
            if again:
                yield Violation("once", f"{key} was saved by life {number}, and had its effect again later")
        for key, left in life.remains.steps.items():
            row = end.steps.get(key)
            if row is not None and row.fingerprint != left.fingerprint:
                yield Violation(
                    "arguments", f"{key} was called with {left.fingerprint}, and after the crash with {row.fingerprint}"
                )
    if end.status == "completed":
        for key, row in end.steps.items():
            if row.status == "running":
                yield Violation("running", f"{key} is left running in a completed workflow")
    for key in end.steps:
        tries, chances = _count_tries(result, key) - _retries(end, key), 1 + _times_left(result, key)
        if tries > chances:
            yield Violation("gap", f"{key} was begun {tries} times, and only {chances - 1} crashes explain that")


def _is_saved(seen: Seen, remains: Remains) -> bool:
    """Return whether the outcome that a moment announced is there; for an attempt that is retried, its failure."""
    row = remains.steps.get(seen.step_key)
    return (row is not None and row.status in (*ENDED, RETRIED)) or any(
        (row.key, row.attempt, row.status) == (seen.step_key, seen.attempt, "failed") for row in remains.attempts
    )


def _outcome(row: StepRow | Remains | None) -> tuple[object, ...] | None:
    if row is None:
        return None
    return row.status, row.output, _plain_error(row.error)


def _plain_error(error: str | None) -> tuple[str, str] | None:
    """Return class and message: traceback and notes differ from run to run."""
    if error is None:
        return None
    record = json.loads(error)
    return record["type"], record["message"]


def _show(row: StepRow | Remains) -> str:
    status, output, error = _outcome(row) or ("", "", None)
    return f"{status} {error or output}"


def _count(remains: Remains, key: str) -> int:
    return sum(effect.step_key == key for effect in remains.effects)


def _count_tries(result: CaseResult, key: str) -> int:
    return sum(seen.step_key == key and seen.name == "step.started" for seen in result.trace)


def _times_left(result: CaseResult, key: str) -> int:
    """Return how many runs ended with this step begun and not saved."""
    left = sum(
        _is_open(life.remains, key)
        and any(s.life == n and s.step_key == key and s.name == "step.started" for s in result.trace)
        for n, life in enumerate(result.lives[:-1], 1)
    )
    return left + sum(life.interrupted for life in result.lives)


def _is_open(remains: Remains, key: str) -> bool:
    """Return whether an attempt of this step had no outcome."""
    row = remains.steps.get(key)
    return row is None or row.status not in (*ENDED, RETRIED)


def _retries(remains: Remains, key: str) -> int:
    """Return how many attempts failed and were followed by another."""
    return sum(row.key == key and row.status == "failed" for row in remains.attempts)


# ---- held against the undisturbed run


def _against(result: CaseResult, baseline: Baseline) -> Iterator[Violation]:
    end = result.last.remains
    expected = baseline.like(end)
    if expected is None:
        return
    has_ended = result.last.ended in ("completed", "failed")
    if has_ended:
        yield from _ended_otherwise(result, expected, baseline.life_of(expected))
    for key in expected.steps if has_ended else expected.steps.keys() & end.saved().keys():
        happened, usual = _count(end, key), _count(expected, key)
        if happened < usual:
            yield Violation("lost", f"an effect of {key} never happened: {happened} of {usual}")
        elif happened > usual * (1 + _times_left(result, key)):
            yield Violation("gap", f"{key} had {happened} effects, undisturbed {usual}, and no crash explains that")


def _ended_otherwise(result: CaseResult, expected: Remains, undisturbed: Life) -> Iterator[Violation]:
    """Return result, keys, arguments and outcomes of a workflow that has ended."""
    end, last = result.last.remains, result.last
    is_equal = last.compared is not None and last.compared == undisturbed.compared

    def differ(one: str | None, other: str | None) -> bool:
        """Return whether two texts differ. Equal sets can be written in any order."""
        return one != other and not (is_equal and sorted(one or "") == sorted(other or ""))

    if (
        end.status != expected.status
        or differ(end.output, expected.output)
        or _plain_error(end.error) != _plain_error(expected.error)
    ):
        yield Violation("result", f"it ended as {_show(end)}, undisturbed as {_show(expected)}")
    elif " at 0x" not in last.result and last.result and undisturbed.result and differ(last.result, undisturbed.result):
        yield Violation("result", f"it returned {last.result}, undisturbed {undisturbed.result}")
    if end.steps.keys() != expected.steps.keys():
        missing, extra = expected.steps.keys() - end.steps.keys(), end.steps.keys() - expected.steps.keys()
        yield Violation("keys", f"keys moved: {_list(missing)} became {_list(extra)}")
    for key in expected.steps.keys() & end.steps.keys():
        row, was = end.steps[key], expected.steps[key]
        if row.fingerprint != was.fingerprint:
            yield Violation("arguments", f"{key} was called with {row.fingerprint}, undisturbed with {was.fingerprint}")
        elif _outcome(row) != _outcome(was):
            yield Violation("result", f"{key} has {_show(row)}, undisturbed {_show(was)}")


def _list(keys: set[str]) -> str:
    return ", ".join(sorted(keys)) or "nothing"


# ---- findings about the steps


def _repeats(result: CaseResult, baseline: Baseline) -> Iterator[Repeat]:
    end = result.last.remains
    expected = baseline.like(end) or baseline.runs[0].last.remains
    for key, row in end.steps.items():
        if row.kind not in EXECUTED:
            continue
        usual = Counter(effect.what for effect in expected.effects if effect.step_key == key)
        here = Counter(effect.what for effect in end.effects if effect.step_key == key)
        times = max(_executions(result, key) - _retries(end, key), here.total() // max(1, usual.total()))
        if times > 1:
            yield Repeat(key, row.name, times, _more_often(here, usual), reports=bool(usual or here))


def _more_often(here: Counter[str], usual: Counter[str]) -> tuple[tuple[str, int], ...]:
    """Return the effects that happened too often, with their counts. An effect may have a new text each time."""
    if here.total() <= usual.total():
        return ()
    more = tuple((what, times) for what, times in here.items() if times > max(1, usual[what]))
    return more or ((next(iter(here)), here.total()),)


def _executions(result: CaseResult, key: str) -> int:
    """Return how often a step came to the end of its work. If killed before, its effect can still have happened."""
    return sum(seen.step_key == key and seen.name == "step.executed" for seen in result.trace)
