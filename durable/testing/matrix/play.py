"""The crash matrix: kill a workflow at every moment of every step, resume it, and report what that shows.

report = crash_matrix(onboarding, "Jane Doe")
print(report)  # in words, then a table; in a notebook, a picture too
report.assert_survives()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from durable.limits.payload import dump
from durable.recovery.names import name_of_workflow
from durable.testing.matrix.case import Case, CaseResult, Job, Surroundings
from durable.testing.matrix.judge import COMPARED, Baseline, Judgement, judge
from durable.testing.matrix.plan import FLUSHING, WRITING, Plan, disk_case
from durable.testing.matrix.pool import MatrixError, Pool
from durable.testing.matrix.report import Report

Progress: TypeAlias = Callable[[int, int], object]
"""Gets how many cases are done, of how many."""

UNDISTURBED_RUNS = 2
ROUNDS = 6  # a kill at an instant that came too late is tried again at half the time
MORE_UNDISTURBED_RUNS = 10  # if a step's outcome differs: to see whether it does so by itself
_NEVER = 1_000_000_000  # the number of a call on the disk that no run reaches
PATIENCE_SECONDS = 10.0  # for a run, beyond twenty times the duration of an undisturbed one


def crash_matrix(
    workflow: Callable[..., Any],
    /,
    *args: Any,
    plan: Plan = Plan(),  # noqa: B008 - it is frozen
    pool: Pool | None = None,
    progress: Progress | None = None,
    **kwargs: Any,
) -> Report:
    """Run a workflow in fresh databases and child processes, each killed at a different place, and resume it each time.

    The undisturbed run comes first and shows the moments. See `Plan` for the faults, `Report` for the findings. The
    workflow can be defined in a notebook or a function, and be a closure over plain data. Without `progress`, a bar is
    shown in a terminal. A given `pool` is used and left open.

    Raises PayloadError if the workflow cannot be sent to another process, and MatrixError if it does not end when it
    runs undisturbed.
    """
    name_of_workflow(workflow)  # raises if it is no workflow
    payload = dump(workflow, args, kwargs, plan.setup)
    began = time.monotonic()
    own = pool or Pool(plan.workers, preload=plan.preload)
    try:
        matrix = _Matrix(own, plan, payload)
        if progress is not None:
            judgements = matrix.play(progress)
        else:
            from durable.testing.matrix.progress import progress_bar

            with progress_bar() as shown:
                judgements = matrix.play(shown)
    finally:
        if pool is None:
            own.close()
    return Report(
        workflow=workflow,
        args=args,
        kwargs=kwargs,
        plan=plan,
        baseline=matrix.baseline,
        judgements=tuple(judgements),
        planned=matrix.planned,
        seconds=time.monotonic() - began,
    )


class _Matrix:
    """One workflow's cases, played in a pool."""

    def __init__(self, pool: Pool, plan: Plan, payload: bytes) -> None:
        self._pool, self._plan, self._payload = pool, plan, payload
        self._surroundings = Surroundings.here()
        self._give_up_at = time.monotonic() + plan.seconds
        self._life_seconds = max(PATIENCE_SECONDS, plan.seconds)
        undisturbed = list(self._play([Case()] * UNDISTURBED_RUNS))
        self.baseline = Baseline.of(self._check(undisturbed))
        usual = min(run.last.seconds for run in undisturbed)
        self._life_seconds = PATIENCE_SECONDS + 20 * usual
        self._cases = plan.cases(undisturbed[0], usual)
        if plan.disk is not None:
            self._cases += self._disk_cases()
        self.planned = len(self._cases)

    def play(self, progress: Progress) -> list[Judgement]:
        """Play all cases and return their judgements, in the order of the cases."""
        results: list[CaseResult] = []
        progress(0, self.planned)
        cases = self._cases
        for round_ in range(ROUNDS):
            missed: list[Case] = []
            for result in self._play(cases, self._give_up_at):
                if _came_too_late(result) and round_ < ROUNDS - 1:
                    missed.append(_earlier(result.case))
                    continue
                results.append(result)
                progress(len(results), self.planned)
            cases = missed
        order = {case: number for number, case in enumerate(self._cases)}
        results.sort(key=lambda result: order.get(result.case, len(order)))
        return self._judge(results)

    def _judge(self, results: Sequence[CaseResult]) -> list[Judgement]:
        """Judge the results. If an outcome differs from the undisturbed run, first see whether it varies by itself."""
        judgements = [judge(result, self.baseline) for result in results]
        if any(found.promise in COMPARED for judgement in judgements for found in judgement.violations):
            more = self._check(list(self._play([Case()] * MORE_UNDISTURBED_RUNS)))
            self.baseline = Baseline.of([*self.baseline.runs, *more])
            if self.baseline.varying:
                judgements = [judge(result, self.baseline) for result in results]
        return judgements

    def _disk_cases(self) -> list[Case]:
        """Return a case for each call on the disk that an undisturbed run makes."""
        cases: list[Case] = []
        for kind in (WRITING, FLUSHING):
            (counted,) = self._play([disk_case(_NEVER, kind)])
            cases += [disk_case(call, kind) for call in range(1, counted.lives[0].disk_calls[0] + 1)]
        return cases

    def _play(self, cases: Sequence[Case], give_up_at: float = float("inf")) -> Iterator[CaseResult]:
        return self._pool.play(cases, self._make_job, give_up_at=give_up_at)

    def _make_job(self, case: Case, folder: str) -> Job:
        return Job(case, self._surroundings, self._payload, folder, self._life_seconds, self._plan.level)

    @staticmethod
    def _check(runs: list[CaseResult]) -> list[CaseResult]:
        """Raise MatrixError if the undisturbed run does not end: then it shows nothing about crashes."""
        for run in runs:
            life = run.last
            if life.ended not in ("completed", "failed"):
                text = ": ".join(filter(None, life.error))
                raise MatrixError(
                    f"undisturbed, the workflow {_ENDS[life.ended]}{text and f' ({text})'}; correct that first"
                )
        return runs


def _came_too_late(result: CaseResult) -> bool:
    """Return whether a kill at a random instant came after the workflow had completed."""
    return any(life.fault is not None and life.fault.seconds is not None and not life.was_hit for life in result.lives)


def _earlier(case: Case) -> Case:
    faults = [fault if fault.seconds is None else replace(fault, seconds=fault.seconds / 2) for fault in case.faults]
    return Case(tuple(faults))


_ENDS = {
    "stopped": "is stopped by an error",
    "died": "ends its process",
    "hung": "does not come to an end",
    "interrupted": "interrupts itself",
    "killed": "is killed",
}
