"""The places of attempts and runs on one axis of time, across crashes. It draws nothing itself."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from typing import TypeAlias

from durable.dashboard.rows import WAITS
from durable.store.records import RunRecord, Span, StepRecord

GAP_SHARE = 0.09  # as a share of the work: the time between a crash and the next run, however long it was
IDLE_SHARE = 0.06  # as a share of the work: the longest time within a run in which nothing runs
Try: TypeAlias = "StepRecord | Span"
KINDS = ("waited", "completed", "repeated", "lost", "failed", "running")


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt on the time axis, in seconds of work. `count` is more than 1 if several are drawn as one.

    `kind` is completed, repeated (completed after a crash had cut off an earlier attempt), lost, failed, running, or
    waited, which is not work.
    """

    step_key: str
    attempt: int
    lane: str
    kind: str
    start: float
    end: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Life:
    """A run on the time axis. The instant of `crashed` exists only in the drawing: no process could record it."""

    epoch: int
    start: float
    end: float
    crashed: bool
    replayed: int


def lay_out(tries: Sequence[Try], runs: Sequence[RunRecord], now: datetime) -> tuple[list[Bar], list[Life]]:
    """Return bars and runs on one axis, with the time between two runs cut short. `now` ends the bars of running steps.

    The instant of a crash is unknown. An attempt that it cut off is drawn up to the last recorded instant of its run,
    and if need be as long as the attempt that repeated it.
    """
    if not runs:
        return [], []
    by_epoch: dict[int, list[Try]] = {run.epoch: [] for run in runs}
    for row in tries:
        by_epoch.setdefault(row.epoch, []).append(row)
    usual, first_lost = _Usual(tries), _first_lost(tries, runs)
    completed = [row for row in tries if row.status == "completed"]
    completed_in = sorted(epoch for row in completed for epoch in [row.epoch] * _count(row))
    taken_back_in = sorted(row.superseded_by for row in completed if row.superseded_by is not None)
    ends = [
        _end_of(run, following, by_epoch[run.epoch], usual, now)
        for run, following in zip(runs, [*runs[1:], None], strict=True)
    ]
    gap = GAP_SHARE * sum((end - run.started_at).total_seconds() for run, end in zip(runs, ends, strict=True))
    lives, offset = list[Life](), 0.0
    for run, end in zip(runs, ends, strict=True):
        length = (end - run.started_at).total_seconds()
        replayed = bisect_left(completed_in, run.epoch) - bisect_right(taken_back_in, run.epoch)
        lives.append(Life(run.epoch, offset, offset + length, run.ended == "crashed", replayed))
        offset += length + gap
    begun = [run.started_at for run in runs]

    def place(instant: datetime, find: Callable[[Sequence[datetime], datetime], int]) -> float:
        index = max(0, find(begun, instant) - 1)  # a wait can begin in one run and end in another
        return min(lives[index].start + max(0.0, (instant - begun[index]).total_seconds()), lives[index].end)

    bars = [
        Bar(
            row.step_key,
            row.attempt,
            row.thread,
            kind,
            place(row.started_at, bisect_right),
            place(row.ended_at or end, bisect_left),
            _count(row),
        )
        for run, end in zip(runs, ends, strict=True)
        for row in by_epoch[run.epoch]
        for kind in [_kind(row, run, first_lost)]
    ]
    return bars, lives


def cut_idle(bars: Sequence[Bar], lives: Sequence[Life]) -> tuple[list[Bar], list[Life], bool]:
    """Return the same with idle time cut short, such as the time in which a step waits for a click.

    Also return whether any was cut within a run; the time between two runs is always cut.
    """
    busy, within = _union(bar for bar in bars if bar.kind != "waited"), [(life.start, life.end) for life in lives]
    work = sum(end - start for start, end in busy)
    waits = [(bar.start, bar.end) for bar in bars if bar.kind == "waited"]
    instants = sorted({instant for span in (*busy, *within, *waits) for instant in span})
    cuts, is_cut = [], False
    long_enough = [(start, end) for start, end in pairwise(instants) if end - start > IDLE_SHARE * work > 0]
    for start, end in long_enough:
        is_within = _holds(within, start, end)
        longest = (IDLE_SHARE if is_within else GAP_SHARE) * work
        if longest < end - start and not _holds(busy, start, end):
            cuts.append((end, end - start - longest))
            is_cut = is_cut or is_within
    places, removed = [end for end, _ in cuts], [0.0, *accumulate(length for _, length in cuts)]

    def place(instant: float) -> float:
        return instant - removed[bisect_right(places, instant)]

    return (
        [replace(bar, start=place(bar.start), end=place(bar.end)) for bar in bars],
        [replace(life, start=place(life.start), end=place(life.end)) for life in lives],
        is_cut,
    )


def _union(bars: Iterable[Bar]) -> list[tuple[float, float]]:
    """Return the spans of time in which at least one attempt ran."""
    spans: list[tuple[float, float]] = []
    for bar in sorted(bars, key=lambda bar: bar.start):
        if spans and bar.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], bar.end))
        else:
            spans.append((bar.start, bar.end))
    return spans


def _holds(spans: Sequence[tuple[float, float]], start: float, end: float) -> bool:
    """Return whether one of these spans, which are in order, holds this one."""
    place = bisect_right(spans, start, key=lambda span: span[0]) - 1
    return place >= 0 and spans[place][1] >= end


def merge(bars: Sequence[Bar], shortest: float) -> list[Bar]:
    """Join neighbours of one lane and kind that are too short to be seen, so that all fit.

    Attempts that ran in one go and have one span of time, as quick parallel steps of a worker, are joined too, so that
    they do not hide one another. The order is that of drawing: completed ones lie below.
    """
    kinds = {kind: place for place, kind in enumerate(KINDS)}
    merged: list[Bar] = []
    for bar in sorted(bars, key=lambda bar: (kinds[bar.kind], *lane_order(bar), bar.start)):
        last = merged[-1] if merged else None
        if (
            last is not None
            and (last.lane, last.kind) == (bar.lane, bar.kind)
            and (_is_one_go(last, bar) or _are_short(last, bar, shortest))
        ):
            merged[-1] = replace(last, end=max(last.end, bar.end), count=last.count + bar.count)
        else:
            merged.append(bar)
    return merged


def _is_one_go(last: Bar, bar: Bar) -> bool:
    """Return whether two attempts overlap for most of the shorter one. Waits do not count: many can wait at once."""
    shorter = min(bar.end - bar.start, last.end - last.start)
    return bar.kind != "waited" and last.end - bar.start > shorter / 2


def _are_short(last: Bar, bar: Bar, shortest: float) -> bool:
    return (
        (bar.count > 1 or bar.end - bar.start < shortest)
        and (last.count > 1 or last.end - last.start < shortest)
        and bar.start - last.end < shortest
    )


def lane_order(bar: Bar) -> tuple[bool, int, str]:
    """Return the place of a lane from top to bottom: the workflow's own, then the workers, then the branches."""
    word, _, number = bar.lane.partition(" ")
    return (bar.lane != "main", int(number) if word == "worker" and number.isdigit() else 1_000_000, bar.lane)


class _Usual:
    """Guess how long a cut-off step ran: as long as its repetition, or else as the longest other step."""

    def __init__(self, tries: Sequence[Try]) -> None:
        self._longest: dict[str, timedelta] = {}
        for row in tries:
            if row.ended_at is not None:
                duration = (row.ended_at - row.started_at) / _count(row)
                self._longest[row.step_key] = max(duration, self._longest.get(row.step_key, duration))
        self._any = max(self._longest.values(), default=timedelta(seconds=1))

    def duration_of(self, step_key: str) -> timedelta:
        return self._longest.get(step_key, self._any)


def _end_of(run: RunRecord, following: RunRecord | None, own: Sequence[Try], usual: _Usual, now: datetime) -> datetime:
    """Return when a run ended, or the best guess of it."""
    if run.ended_at is not None:
        return run.ended_at
    if run.ended is None:
        return now
    known = [run.started_at]
    known += [row.ended_at or row.started_at + usual.duration_of(row.step_key) for row in own]
    return max(known) if following is None else min(max(known), following.started_at)


def _first_lost(tries: Sequence[Try], runs: Sequence[RunRecord]) -> dict[str, int]:
    """Return the first attempt of each step that ended without an outcome."""
    alive = {run.epoch for run in runs if run.ended is None}
    first: dict[str, int] = {}
    for row in tries:
        if row.status == "running" and row.epoch not in alive and row.kind not in WAITS:
            first[row.step_key] = min(row.attempt, first.get(row.step_key, row.attempt))
    return first


def _kind(row: Try, run: RunRecord, first_lost: dict[str, int]) -> str:
    if row.kind in WAITS and row.status != "failed":
        return "waited"
    if row.status == "running":
        return "running" if run.ended is None else "lost"
    repeats = first_lost.get(row.step_key, row.attempt) < row.attempt
    return "repeated" if repeats and row.status == "completed" else row.status


def _count(row: Try) -> int:
    return row.count if isinstance(row, Span) else 1
