"""The rows of one workflow, read at one instant, and the facts that follow from them: states, the last crash."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from msgspec import structs

from durable.dashboard.source import Source
from durable.examples.effects import list_effects
from durable.replay.keys import program_order
from durable.store.reader import Reader
from durable.store.records import ProgressRecord, RunRecord, Span, StepRecord, WaitRecord, WorkflowRecord

WAITS = ("sleep", "event", "child")  # kinds of steps that do nothing but wait
REGISTERED = "on_failure"  # the kind of a step that only registers a compensation


@dataclass(frozen=True)
class Rows:
    """All records of a workflow, and the process that runs it.

    `effects` holds, by step key, the lines of the examples' effects log about steps that were begun and not saved:
    these effects really happened. `waits` holds the steps that wait for an instant, a message or a child, and those
    that failed and will be tried again: a crash changes nothing about them. `come` holds the events that a step waits
    for and that have a message on record, which no step has received. If the rows were read in part, `spans` stands for
    the steps that just ran and completed.
    """

    workflow: WorkflowRecord | None = None
    steps: Sequence[StepRecord] = ()
    attempts: Sequence[StepRecord] = ()
    runs: Sequence[RunRecord] = ()
    owner: int | str | None = None
    effects: Mapping[str, Sequence[str]] = field(default_factory=dict)
    waits: Mapping[str, WaitRecord] = field(default_factory=dict)
    come: Collection[str] = ()
    progress: Sequence[ProgressRecord] = ()
    spans: Sequence[Span] = ()

    @property
    def is_unfinished(self) -> bool:
        """Return whether a run began the workflow and none completed or failed it."""
        return self.workflow is not None and self.workflow.status == "running"

    @property
    def is_final(self) -> bool:
        """Return whether another run would only return the same outcome: a failure is final after its compensations."""
        status = self.workflow.status if self.workflow is not None else "new"
        has_compensated = any(step.kind == "compensation" for step in self.steps)
        return status in ("completed", "cancelled") or (status == "failed" and has_compensated)

    @property
    def epoch(self) -> int:
        """Return the number of the latest run; 0 before the first."""
        return self.workflow.epoch if self.workflow is not None else 0

    def find_step(self, step_key: str) -> StepRecord | None:
        """Return the row of a step, if it has one."""
        return self._by_key.get(step_key)

    def lost_attempts(self, step_key: str) -> int:
        """Return how many earlier attempts of a step have no outcome: their effect may have happened, or not."""
        return self._lost[step_key]

    def earlier_attempts(self, step_key: str) -> Sequence[StepRecord]:
        """Return the superseded attempts of a step, the older first."""
        return self._earlier.get(step_key, ())

    def said_by(self, step: StepRecord) -> list[ProgressRecord]:
        """Return what a step that has not ended says of its progress."""
        if step.ended_at is not None:
            return []
        return [each for each in self.progress if each.step_key == step.step_key and not each.is_map]

    @cached_property
    def work(self) -> Sequence[StepRecord]:
        """Return the steps without those that only register a compensation."""
        return [step for step in self.steps if step.kind != REGISTERED]

    @cached_property
    def last_crash(self) -> RunRecord | None:
        """Return the latest run that crashed, if there is one."""
        return next((run for run in reversed(self.runs) if run.ended == "crashed"), None)

    @cached_property
    def at_crash(self) -> list[StepRecord] | None:
        """Return the steps table as the last crash left it."""
        return as_it_stood(self, self.last_crash.epoch) if self.last_crash else None

    @cached_property
    def kept(self) -> tuple[int, float]:
        """Return how many completed steps the latest run found on record, and how many seconds they had taken."""
        durations = [
            (step.ended_at - step.started_at).total_seconds()
            for step in self.steps
            if step.status == "completed" and step.epoch < self.epoch and step.ended_at is not None
        ]
        return len(durations), sum(durations)

    @cached_property
    def _by_key(self) -> dict[str, StepRecord]:
        return {step.step_key: step for step in self.steps}

    @cached_property
    def _earlier(self) -> dict[str, list[StepRecord]]:
        earlier: dict[str, list[StepRecord]] = {}
        for row in self.attempts:
            earlier.setdefault(row.step_key, []).append(row)
        return earlier

    @cached_property
    def _lost(self) -> Counter[str]:
        return Counter(row.step_key for row in self.attempts if row.status == "running")


@dataclass(frozen=True, slots=True)
class Now:
    """The state of the living process: its id, the keys at its gate, those replayed in this run, the armed crash.

    `problem` is what the panel could not do and why: a headline and a text.
    """

    pid: int
    waiting: Sequence[str] = ()
    replayed: Collection[str] = ()
    armed: tuple[str, str] | None = None
    problem: tuple[str, str] | None = None
    is_running: bool = False
    crash_in_seconds: float | None = None


def read_rows(reader: Source, workflow_id: str, *, in_part: bool = False) -> Rows:
    """Return the rows as they are now, or what a dashboard of many steps needs. A workflow never run has none."""
    workflow = reader.find_workflow(workflow_id)
    if workflow is None:
        return Rows()
    spans: Sequence[Span] = ()
    if in_part and isinstance(reader, Reader):
        steps, spans = reader.outline(workflow_id)
    else:
        steps = reader.steps(workflow_id)
    attempts = reader.attempts(workflow_id)
    runs, owner = read_runs(reader, workflow_id)
    waits = {wait.step_key: wait for wait in reader.waits(workflow_id)}
    come, progress = _list_come(reader, workflow_id, waits), reader.progress(workflow_id)
    rows = Rows(workflow, steps, attempts, runs, owner, waits=waits, come=come, progress=progress, spans=spans)
    unknown = {row.step_key for row in attempts if row.status == "running"}
    unknown |= {row.step_key for row in steps if row.status == "running" and is_zombie(row, rows)}
    if reader.path is None:
        return rows
    return replace(rows, effects={key: list_effects(reader.path, workflow_id, key) for key in unknown})


def _list_come(reader: Source, workflow_id: str, waits: Mapping[str, WaitRecord]) -> set[str]:
    awaited = {wait.event for wait in waits.values() if wait.event is not None}
    if not awaited:
        return awaited
    unreceived = {message.event for message in reader.messages(workflow_id) if message.received_by is None}
    return awaited & unreceived


def read_runs(reader: Source, workflow_id: str) -> tuple[list[RunRecord], int | str | None]:
    """Return the runs of a workflow and the process that runs it now. A dead run that has no end yet is a crash."""
    runs, owner = reader.runs(workflow_id), reader.owner(workflow_id)
    if runs and runs[-1].ended is None and owner is None:
        last = runs[-1].epoch
        runs = reader.runs(workflow_id)  # it may have ended, in good order, between the two questions
        runs = [
            structs.replace(run, ended="crashed") if run.epoch == last and run.ended is None else run for run in runs
        ]
    return runs, owner


def as_it_stood(rows: Rows, epoch: int) -> list[StepRecord]:
    """Return the steps table as it stood at the end of a run."""
    left_later = [row for row in rows.attempts if row.superseded_by is None or row.superseded_by > epoch]
    stood = [row for row in (*rows.steps, *left_later) if row.epoch <= epoch]
    after = next((run.started_at for run in rows.runs if run.epoch > epoch), None)
    if after is not None:  # a later run takes a wait over as it is, under its own epoch
        taken_over = [row for row in rows.steps if row.kind in WAITS and row.epoch > epoch and row.started_at < after]
        stood += [structs.replace(row, status="running", output=None, error=None, ended_at=None) for row in taken_over]
    return sorted(stood, key=lambda row: program_order(row.step_key))


def is_zombie(step: StepRecord, rows: Rows) -> bool:
    """Return whether a row says running and its process is dead. A recorded wait needs no process."""
    return (
        step.status == "running"
        and step.step_key not in rows.waits
        and (rows.owner is None or step.epoch != rows.epoch)
    )


def state_of(step: StepRecord, rows: Rows, now: Now) -> str:
    """Return running, waiting, completed, registered, replayed, zombie or failed."""
    if step.kind == REGISTERED and step.status == "completed":
        return "registered"
    if step.step_key in rows.waits and step.status != "completed":
        return "waiting"
    if step.status == "running":
        return "zombie" if is_zombie(step, rows) else "running"
    done = rows.workflow is not None and rows.workflow.status == "completed"
    if step.step_key in now.replayed or (step.epoch < rows.epoch and done):
        return "replayed"
    return step.status


def message_of(error: str | None) -> str | None:
    """Return `ValueError: its message`, from the JSON of a recorded error."""
    if error is None:
        return None
    record = json.loads(error)
    return f"{record['type'].rpartition(':')[2]}: {record['message']}"


def change_between(before: StepRecord | None, after: StepRecord | None) -> str:
    """Say in words how a step has changed since a crash. A step that a rewind took back has no row any more."""
    if after is None:
        return "taken back"
    if before is None:
        return "new"
    if before.attempt != after.attempt:
        return "tried again"
    return "unchanged" if before.status == after.status else f"{after.status} since"
