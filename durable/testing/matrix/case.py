"""Case: one fresh database, the faults that its workflow meets there, and all observations. Plain values."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from durable.testing.effects import Effect

FaultKind = Literal["kill", "interrupt", "second owner", "disk", "power cut"]
WORKFLOW_ID = "case"
RETRIED = "failed, to be tried again"
EXECUTED = ("step", "compensation", "transaction")  # the kinds of steps that have an effect of their own
ENDED = ("completed", "failed")


@dataclass(frozen=True)
class Fault:
    """The fault of one run of the workflow: at a moment `STEP:MOMENT`, after some seconds, or at the nth disk call.

    `disk_calls` and `error_number` are those of tests/faults/failing_disk.c, and for a disk only. `kept` says how much
    unflushed data a power cut leaves, see power.py.
    """

    kind: FaultKind
    at: str = ""
    seconds: float | None = None
    call: int = 0
    disk_calls: int = 0
    error_number: int = 0
    kept: int = 0

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"{self.kind} after {self.seconds * 1000:.1f} ms"
        if self.kind == "power cut":
            left = f"some of the unflushed writes kept, seed {self.kept}" if self.kept else "unflushed writes lost"
            return f"power cut at {self.at} ({left})"
        return f"{self.kind} at {self.at}" if self.at else f"disk error {self.error_number} at call {self.call}"


@dataclass(frozen=True)
class Case:
    """The faults of the runs, in order. After the last fault the workflow is resumed, without faults, until it ends."""

    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        return ", then ".join(map(str, self.faults)) or "undisturbed"

    @property
    def size(self) -> tuple[int, bool]:
        """Return the key that finds the smallest case: fewer faults first, and a named moment before an instant."""
        return len(self.faults), any(fault.seconds is not None for fault in self.faults)


class StepRow(NamedTuple):
    """The row of a step, or of a superseded attempt."""

    key: str
    name: str
    status: str
    attempt: int
    fingerprint: str | None
    output: str | None
    error: str | None
    kind: str = "step"


class Seen(NamedTuple):
    """A moment, as the observer of a run saw it."""

    life: int
    name: str
    step_key: str
    attempt: int


def name_in_case(workflow_id: str, step_key: str | None) -> str:
    """Return the name that tells a step from those of the case's other workflows; `workflow` is the workflow itself.

    It is the step's key, `equip_2/order_1` for one of the child `case/equip_2`, and `/id/key` for any other workflow's.
    """
    full = f"{workflow_id}/{step_key or 'workflow'}"
    return full.removeprefix(f"{WORKFLOW_ID}/") if full.startswith(f"{WORKFLOW_ID}/") else f"/{full}"


def crash_point(at: str) -> str:
    """Return a crash point of the case as `crash_at` takes it, with the id of the workflow."""
    return at[1:] if at.startswith("/") else f"{WORKFLOW_ID}/{at}"


@dataclass(frozen=True)
class Remains:
    """The database and the world between two runs, as any other program would read them."""

    status: str | None = None
    output: str | None = None
    error: str | None = None
    steps: dict[str, StepRow] = field(default_factory=dict)
    attempts: tuple[StepRow, ...] = ()
    lives: tuple[str | None, ...] = ()
    effects: tuple[Effect, ...] = ()
    damage: tuple[str, ...] = ()

    def saved(self) -> dict[str, StepRow]:
        """Return the steps with an outcome on record."""
        return {key: row for key, row in self.steps.items() if row.status in ENDED}


@dataclass(frozen=True)
class Life:
    """One process: its fault, its end, and the rows and effects that it left.

    `ended` is completed or failed as the engine has it, killed, interrupted (then the same process went on), stopped
    (an error of the engine's), died (without having been killed), or hung (until it was killed).
    """

    fault: Fault | None
    ended: str
    remains: Remains
    error: tuple[str, str] = ("", "")
    result: str = ""  # as Python shows it
    compared: str | None = None  # the same as text in which sets have one order
    seconds: float = 0.0
    interrupted: bool = False
    second_owner: str | None = None  # the result of the second owner, if there was one
    disk_calls: tuple[int, ...] = ()

    @property
    def was_hit(self) -> bool:
        """Return whether the fault happened."""
        return (
            self.ended == "killed"
            or self.interrupted
            or self.second_owner is not None
            or (self.fault is not None and self.fault.kind == "disk" and self.ended == "stopped")
        )


@dataclass(frozen=True)
class CaseResult:
    """All observations of a case."""

    case: Case
    lives: tuple[Life, ...]
    trace: tuple[Seen, ...]

    @property
    def last(self) -> Life:
        """Return the run in which the workflow ended."""
        return self.lives[-1]

    @property
    def kills(self) -> int:
        """Return how many of the processes were killed."""
        return sum(life.ended == "killed" for life in self.lives)

    def points(self) -> list[str]:
        """Return the moments of the runs as crash points, `STEP:MOMENT`, each once and in order."""
        return list(dict.fromkeys(f"{seen.step_key}:{seen.name.partition('.')[2]}" for seen in self.trace))

    def last_point(self, life: int) -> str:
        """Return the last moment that a run reached, or an empty string."""
        return next(
            (f"{seen.step_key}:{seen.name.partition('.')[2]}" for seen in reversed(self.trace) if seen.life == life), ""
        )


class Surroundings(NamedTuple):
    """The surroundings of a process. A pool can be older than the matrix, and a test can change its own."""

    folder: str
    environment: dict[str, str]
    path: list[str]

    @classmethod
    def here(cls) -> Surroundings:
        """Return those of this process, without a crash that is meant for it alone."""
        environment = {name: value for name, value in os.environ.items() if name != "DURABLE_CRASH_AT"}
        path = [os.path.abspath(entry or ".") for entry in sys.path]  # noqa: PTH100 - "" is the current folder
        return cls(str(Path.cwd()), environment, path)

    def enter(self) -> None:
        """Apply them to this process."""
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.path[:] = self.path


@dataclass(frozen=True)
class Job:
    """The order to a host: the next run of a case. `payload` is workflow and arguments, see payload.py."""

    case: Case
    surroundings: Surroundings
    payload: bytes
    folder: str
    life_seconds: float
    synchronous: Literal["full", "normal", "off"]
    lives: tuple[Life, ...] = ()  # the runs so far
