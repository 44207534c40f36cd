"""Plan: the faults that a matrix tries, and its cases, once an undisturbed run has shown the moments."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from durable.testing.matrix.case import Case, CaseResult, Fault

WRITING, FLUSHING = 1, 2  # kinds of calls of tests/faults/failing_disk.c


@dataclass(frozen=True)
class Plan:
    """The faults to try.

    `every_moment`: a SIGKILL at each moment of each step, one per case. `pairs`: the number of cases with two kills in
    a row. `random`: the number of kills at random instants. `interrupts`: SIGINT at each moment, and the same process
    runs the id again at once. `second_owner`: at each moment another process tries to run the same id. `disk`: the
    shared library of tests/faults/failing_disk.c; each write, then each flush to disk, fails once. `power_cuts`: that
    of power_cut.c; at each moment the power fails, and unflushed data is lost, or (two more cases) partly there and
    torn.

    `seed` reproduces pairs and instants. After `seconds` no new case is started. `setup` is called in each process
    before anything else: to stand in for the outside world, or to make the engine wrong on purpose.
    """

    every_moment: bool = True
    pairs: int = 0
    random: int = 0
    interrupts: bool = False
    second_owner: bool = False
    disk: Path | None = None
    power_cuts: Path | None = None
    seed: int = 0
    seconds: float = 60.0
    workers: int | None = None
    synchronous: Literal["full", "normal", "off"] | None = None  # None: "full" for power cuts, else "normal"
    setup: Callable[[], object] | None = None

    @property
    def level(self) -> Literal["full", "normal", "off"]:
        """Return how the engine flushes. SIGKILL takes nothing from the operating system, so `full` only takes time."""
        return self.synchronous or ("normal" if self.power_cuts is None else "full")

    @property
    def preload(self) -> list[Path]:
        """Return the shared libraries that are loaded before the C library in every run."""
        return [library for library in (self.disk, self.power_cuts) if library is not None]

    def cases(self, undisturbed: CaseResult, seconds: float) -> list[Case]:
        """Return all cases, given an undisturbed run and its duration."""
        points = undisturbed.points()
        steps = [point for point in points if point.partition(":")[0].rpartition("/")[2] != "workflow"]
        chance = random.Random(self.seed)
        cases: list[Case] = []
        if self.every_moment:
            cases += [Case((Fault("kill", point),)) for point in points]
        cases += [Case(pair) for pair in _pairs(points, chance, self.pairs)]
        cases += [Case((Fault("kill", seconds=chance.uniform(0, seconds)),)) for _ in range(self.random)]
        if self.interrupts:
            cases += [Case((Fault("interrupt", point),)) for point in steps]
        if self.power_cuts is not None:
            cases += [Case((Fault("power cut", point, kept=kept),)) for kept in range(3) for point in points]
        if self.second_owner:
            cases += [Case((Fault("second owner", point),)) for point in points]
        return cases


def disk_case(call: int, kind: int) -> Case:
    """Return the case in which the nth call of one kind on the disk fails: a write as the disk is full, or a flush."""
    number = errno.ENOSPC if kind == WRITING else errno.EIO
    return Case((Fault("disk", call=call, disk_calls=kind, error_number=number),))


def _pairs(points: list[str], chance: random.Random, count: int) -> Iterator[tuple[Fault, Fault]]:
    """Draw two kills in a row: the second at the same moment, at a later one, or as a saved step is replayed."""
    for _ in range(count):
        first = chance.randrange(len(points))
        key, _, moment = points[first].partition(":")
        later = points[first:] + (
            [f"{key}:replayed"] if moment in ("checkpointed", "failed") and key != "workflow" else []
        )
        yield Fault("kill", points[first]), Fault("kill", chance.choice(later))
