"""Report: the findings of a crash matrix. Words first, then a table, then a picture of steps by moments."""

from __future__ import annotations

import html
import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from durable.errors import DurableError
from durable.recovery.names import name_of_workflow, short_name
from durable.testing.matrix.case import CaseResult, crash_point
from durable.testing.matrix.judge import PROMISES, Baseline, Judgement, Repeat
from durable.testing.matrix.plan import Plan

MOMENTS = ("scheduled", "started", "executed", "part_stored", "checkpointed", "failed", "replayed", "completed")
# a cell's mark and colour, the worse later; the colours are after Okabe and Ito, and the shapes differ without them
CELLS = {
    "untried": (" ", "#ffffff", "not tried, or it never comes"),
    "survived": ("\u25cf", "#007a5a", "survived"),
    "again": ("\u25d0", "#0072b2", "survived; the step ran twice, and reports no effects"),
    "repeated": ("\u25c6", "#a86b00", "survived; its effect happened twice"),
    "broken": ("\u2716", "#b3261e", "a promise was broken"),
}
_ORDER = list(CELLS)


class DoesNotSurviveError(DurableError, AssertionError):
    """A workflow does not survive its crashes. `report` has all findings, `judgement` the smallest case."""

    def __init__(self, message: str, *, report: Report, judgement: Judgement | None) -> None:
        super().__init__(message)
        self.report, self.judgement = report, judgement


@dataclass(frozen=True, repr=False)
class Report:
    """All cases of a matrix with their findings. Print it; in a notebook, make it the last line of a cell."""

    workflow: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    plan: Plan
    baseline: Baseline
    judgements: tuple[Judgement, ...]
    planned: int
    seconds: float

    # ---- the verdict

    @property
    def name(self) -> str:
        """Return the workflow's own name."""
        return short_name(name_of_workflow(self.workflow))

    @property
    def kills(self) -> int:
        """Return how many processes were killed."""
        return sum(judgement.result.kills for judgement in self.judgements)

    @cached_property
    def broken(self) -> list[Judgement]:
        """Return the cases in which a promise was broken, the smallest first."""
        found = [judgement for judgement in self.judgements if judgement.violations]
        return sorted(found, key=lambda judgement: (*judgement.case.size, not judgement.is_plain))

    @cached_property
    def not_idempotent(self) -> dict[str, tuple[Judgement, Repeat]]:
        """Return the steps whose effect happened twice, by key, each with its smallest case."""
        found: dict[str, tuple[Judgement, Repeat]] = {}
        for judgement in sorted(self.judgements, key=lambda judgement: judgement.case.size):
            for repeat in judgement.not_idempotent():
                found.setdefault(repeat.step_key, (judgement, repeat))
        return dict(sorted(found.items(), key=lambda item: _order(item[0])))

    @property
    def is_complete(self) -> bool:
        """Return whether all cases were tried within the time limit."""
        return len(self.judgements) == self.planned

    def survives(self, *, idempotent: bool = False) -> bool:
        """Return whether every case kept every promise, see `PROMISES` in judge.py, and none was left out.

        A step is executed at least once, so an effect that repeats because of a crash between effect and save breaks no
        promise of the engine; with `idempotent=True` it counts too.
        """
        return bool(
            self.is_complete and self.judgements and not self.broken and not (idempotent and self.not_idempotent)
        )

    def assert_survives(self, *, idempotent: bool = False) -> None:
        """Raise DoesNotSurviveError, which names the smallest failing case and how to replay it by hand."""
        if self.survives(idempotent=idempotent):
            return
        judgement = self.broken[0] if self.broken else None
        if judgement is None and idempotent and self.not_idempotent:
            judgement = next(iter(self.not_idempotent.values()))[0]
        lines = [self.verdict()]
        if judgement is not None:
            lines += ["", f"smallest failing case: {judgement.case}"]
            lines += [f"  {found.promise}: {found.text}" for found in judgement.violations]
            lines += ["to replay it by hand:", *(f"  {line}" for line in self.replay(judgement.result))]
        raise DoesNotSurviveError("\n".join(lines), report=self, judgement=judgement)

    def verdict(self) -> str:
        """Yield the findings in words."""
        return "\n".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        tried = f"{_count(len(self.judgements), 'case')}, {_count(self.kills, 'kill')}, {self.seconds:.1f} s"
        if self.broken:
            yield f"{self.name} does not survive: {len(self.broken)} of {tried} broke a promise."
            promises = Counter(promise for found in self.broken for promise in {v.promise for v in found.violations})
            for promise, times in promises.most_common():
                first = next(v for found in self.broken for v in found.violations if v.promise == promise)
                yield f"  broken {_times(times)}: {PROMISES[promise]}. For example, {first.text}."
        elif not self.judgements:
            yield f"{self.name}: nothing was tried."
        elif self.is_complete:
            yield f"{self.name} survives: however it was disturbed, it ended as undisturbed ({tried})."
        if not self.is_complete:
            yield (
                f"The time limit of {self.plan.seconds:g} s came after {len(self.judgements)} of {self.planned} cases; "
                f"give it more seconds, or a smaller plan."
            )
        if error := self.baseline.runs[0].last.remains.error:
            failed = json.loads(error)
            yield f"Undisturbed, it fails: {failed['type'].rpartition(':')[2]}: {failed['message']}."
        by_name = {repeat.step_name: repeat for _, repeat in reversed(self.not_idempotent.values())}
        for repeat in reversed(by_name.values()):  # the first of several calls of a step
            what, times = repeat.effects[0]
            yield (
                f"{repeat.step_name} is not idempotent: killed between effect and save, it had its effect "
                f"{_times(times)} ({what})."
            )
        if unknown := self._ran_again_unreported():
            yield (
                f"Killed between effect and save, {', '.join(unknown)} ran twice; whether that does harm is not known, "
                f"since {'it reports' if len(unknown) == 1 else 'they report'} no effects (durable.testing.effect)."
            )
        if self.baseline.varying:
            yield (
                f"Undisturbed, {', '.join(sorted(self.baseline.varying))} had different outcomes for the same "
                f"arguments, so a case is compared with the undisturbed runs in which chance fell the same way."
            )

    def _ran_again_unreported(self) -> list[str]:
        repeats = [repeat for judgement in self.judgements for repeat in judgement.repeats if not repeat.reports]
        return list(dict.fromkeys(repeat.step_name for repeat in sorted(repeats, key=_place)))

    def replay(self, result: CaseResult) -> list[str]:
        """Yield shell commands that do the same by hand, as nearly as possible."""
        command = f"durable run {shlex.quote(self._target())} case{self._input()} --db case.db"
        lines = []
        for number, fault in enumerate(result.case.faults, 1):
            point = fault.at or result.last_point(number)
            if "/" in point:  # it may be a child's, and then its id belongs to it
                point = crash_point(point)
            if fault.kind == "kill" and point:
                near = "" if fault.at else "  # the last moment before that instant"
                lines.append(f"DURABLE_CRASH_AT={shlex.quote(point)} {command}{near}")
            elif fault.kind == "kill":
                lines.append(f"{command}  # and kill it before its first moment")
            elif fault.kind == "interrupt":
                lines.append(f"{command}  # and press Ctrl+C at {point}")
            elif fault.kind == "second owner":
                lines.append(f"{command}  # and at {point} the same command in another terminal")
            else:
                lines.append(f"{command}  # with the {fault}")
        return [*lines, command]

    def _target(self) -> str:
        name = name_of_workflow(self.workflow)
        module, _, qualname = name.partition(":")
        if module == f"durable.examples.{qualname}":
            return qualname
        file = Path(getattr(sys.modules.get(self.workflow.__module__), "__file__", None) or "")
        if file.stem != module or file.parent == Path.cwd():
            return name
        return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{qualname}"

    def _input(self) -> str:
        from durable.values import codec

        if not self.args and not self.kwargs:
            return ""
        return f" --input {shlex.quote(codec.encode_arguments(self.workflow, self.args, self.kwargs, 'input'))}"

    # ---- the table

    @cached_property
    def cells(self) -> dict[tuple[str, str], str]:
        """Return the worst result per step and moment: survived, again, repeated or broken. Random kills count too."""
        cells: dict[tuple[str, str], str] = {}
        for judgement in self.judgements:
            for number, fault in enumerate(judgement.case.faults, 1):
                key, _, moment = (fault.at or judgement.result.last_point(number)).partition(":")
                if key:
                    kind = max(cells.get((key, moment), "untried"), _kind(judgement, key), key=_ORDER.index)
                    cells[key, moment] = kind
        return cells

    def rows(self) -> list[dict[str, Any]]:
        """Yield one row per step, in program order: how often it was executed at most, and its cells by moment."""
        runs: Counter[str] = Counter()
        for judgement in self.judgements:
            for repeat in judgement.repeats:
                runs[repeat.step_key] = max(runs[repeat.step_key], repeat.times)
        keys = {key for key, _ in self.cells if key != "workflow"} | set(self.baseline.runs[0].last.remains.steps)
        rows = [
            {"step": key, "runs_at_most": runs.get(key, 1)} | {m: self.cells.get((key, m), "untried") for m in MOMENTS}
            for key in sorted(keys, key=_order)
        ]
        return [*rows, {"step": "workflow", "runs_at_most": 1} | self._workflow_cells()]

    def _workflow_cells(self) -> dict[str, str]:
        return {moment: self.cells.get(("workflow", moment), "untried") for moment in MOMENTS}

    def table(self) -> str:
        """Return the rows as text, each cell by its mark."""
        rows, moments = self.rows(), self._moments()
        width = max(len(str(row["step"])) for row in rows)
        lines = [f"{'step'.ljust(width)}  {'  '.join(moments)}  runs"]
        for row in rows:
            marks = "  ".join(CELLS[row[moment]][0].center(len(moment)) for moment in moments)
            lines.append(f"{str(row['step']).ljust(width)}  {marks}  {str(row['runs_at_most']).rjust(4)}")
        used = {row[moment] for row in rows for moment in moments} - {"untried"}
        return "\n".join([*lines, *(f"{CELLS[kind][0]} {CELLS[kind][2]}" for kind in _ORDER if kind in used)])

    def _moments(self) -> list[str]:
        used = {moment for _, moment in self.cells}
        return [moment for moment in MOMENTS if moment in used]

    def __str__(self) -> str:
        return f"{self.verdict()}\n\n{self.table()}" if self.judgements else self.verdict()

    __repr__ = __str__  # in a notebook's plain text, too, the words and not thousands of fields

    # ---- for programs and notebooks

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "workflow": name_of_workflow(self.workflow),
            "survives": self.survives(),
            "cases": len(self.judgements),
            "planned": self.planned,
            "kills": self.kills,
            "seconds": round(self.seconds, 3),
            "verdict": self.verdict().splitlines(),
            "not_idempotent": [
                {
                    "step": key,
                    "effect": repeat.effects[0][0],
                    "times": repeat.effects[0][1],
                    "case": str(judgement.case),
                }
                for key, (judgement, repeat) in self.not_idempotent.items()
            ],
            "broken": [
                {
                    "case": str(judgement.case),
                    "violations": [{"promise": v.promise, "text": v.text} for v in judgement.violations],
                    "replay": self.replay(judgement.result),
                }
                for judgement in self.broken
            ],
            "steps": self.rows(),
        }

    def as_json(self) -> str:
        """Return the same as text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=2)

    def _repr_html_(self) -> str:
        words = "<br>".join(html.escape(line) for line in self._sentences())
        if not self.judgements:
            return f"<p>{words}</p>"
        moments = self._moments()
        head = "".join(f"<th style='text-align:center'>{moment}</th>" for moment in moments)
        body = "".join(
            f"<tr><th style='text-align:left'><code>{html.escape(str(row['step']))}</code></th>"
            f"{''.join(_cell(row[moment]) for moment in moments)}<td>{row['runs_at_most']}</td></tr>"
            for row in self.rows()
        )
        used = {row[moment] for row in self.rows() for moment in moments} - {"untried"}
        legend = " &nbsp; ".join(
            f"<span style='color:{CELLS[kind][1]}'>{CELLS[kind][0]}</span> {CELLS[kind][2]}"
            for kind in _ORDER
            if kind in used
        )
        return (
            f"<div><p>{words}</p><table><thead><tr><th>step</th>{head}<th>runs at most</th></tr></thead>"
            f"<tbody>{body}</tbody></table><p>{legend}</p></div>"
        )


def _cell(kind: str) -> str:
    mark, colour, meaning = CELLS[kind]
    return f"<td style='text-align:center;font-size:140%;color:{colour}' title='{meaning}'>{mark}</td>"


def _kind(judgement: Judgement, key: str) -> str:
    if judgement.violations:
        return "broken"
    mine = [repeat for repeat in judgement.repeats if repeat.step_key == key]
    if any(repeat.effects for repeat in mine):
        return "repeated"
    return "again" if any(not repeat.reports for repeat in mine) else "survived"


def _place(repeat: Repeat) -> tuple[int, ...]:
    return _order(repeat.step_key)


def _order(key: str) -> tuple[int, ...]:
    """Return the sort key for program order; a part can be the id of a workflow, or stand for the workflow itself."""
    numbers = [part.rpartition("_")[2] for part in key.split("/")]
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)


def _times(times: int) -> str:
    return {1: "once", 2: "twice"}.get(times, f"{times} times")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
