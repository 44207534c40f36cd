"""The timeline of a workflow as numbers to draw: bars in percent of its width, and the same in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from durable.dashboard.lanes import Bar, cut_idle, lane_order, lay_out, merge
from durable.dashboard.rows import Rows
from durable.store.records import RunRecord, StepRecord

MAX_LANES = 12  # lanes of the timeline; all further ones share the last
SECOND_WORDS = 0.1  # from here on a duration is given in seconds
SHORTEST_SHARE = 0.003  # a share of the width: shorter neighbours are drawn as one


def draw_timeline(rows: Rows, now: datetime) -> dict[str, Any] | None:
    """Return the bars in percent of the width, and the same in words. None while nothing has begun."""
    runs = rows.runs or infer_runs(rows)
    bars, lives, is_cut = cut_idle(*lay_out([*rows.steps, *rows.spans, *rows.attempts], runs, now))
    length = max((life.end for life in lives), default=0.0)
    if not bars or length <= 0:
        return None
    names = list(dict.fromkeys(bar.lane for bar in sorted(bars, key=lane_order)))
    lanes = names[: MAX_LANES - 1] + ([f"{len(names) - MAX_LANES + 1} more"] if len(names) >= MAX_LANES else [])
    shown = merge([_in_lane(bar, lanes) for bar in bars], SHORTEST_SHARE * length)
    return {
        "lanes": lanes,
        "bars": [_bar(bar, lanes, length) for bar in shown],
        "lives": [
            {
                "start": 100 * life.start / length,
                "end": 100 * life.end / length,
                "crashed": life.crashed,
                "replayed": life.replayed,
            }
            for life in lives
        ],
        "took": tell_seconds(length),
        "is_cut": is_cut or len(lives) > 1,
        "summary": _summarize(bars, lives),
    }


def infer_runs(rows: Rows) -> list[RunRecord]:
    """Return the runs as far as the steps tell of them, for a database that keeps no list of runs.

    A run that saved no step is missing. Which runs a crash ended is not known.
    """
    tries: dict[int, list[StepRecord]] = {}
    for row in (*rows.steps, *rows.attempts):
        tries.setdefault(row.epoch, []).append(row)
    last = max(tries, default=0)
    return [
        RunRecord(
            workflow_id=each[0].workflow_id,
            epoch=epoch,
            pid=0,
            host="",
            started_at=min(row.started_at for row in each),
            ended_at=None if (is_alive := epoch == last and rows.is_unfinished) else max(map(_last_instant, each)),
            ended=None if is_alive else "stopped",
        )
        for epoch, each in sorted(tries.items())
    ]


def _last_instant(row: StepRecord) -> datetime:
    return row.ended_at or row.started_at


def _in_lane(bar: Bar, lanes: Sequence[str]) -> Bar:
    return bar if bar.lane in lanes else replace(bar, lane=lanes[-1])


def _bar(bar: Bar, lanes: Sequence[str], length: float) -> dict[str, Any]:
    return {
        "key": bar.step_key,
        "attempt": bar.attempt,
        "count": bar.count,
        "kind": bar.kind,
        "lane": lanes.index(bar.lane),
        "start": 100 * bar.start / length,
        "width": 100 * (bar.end - bar.start) / length,
    }


def _summarize(bars: Sequence[Bar], lives: Sequence[Any]) -> str:
    """Describe the timeline for a reader without sight."""
    crashes, replayed = sum(life.crashed for life in lives), lives[-1].replayed
    counts: Mapping[str, int] = {kind: sum(bar.count for bar in bars if bar.kind == kind) for kind in _KINDS}
    tries = ", ".join(f"{count} {_KINDS[kind]}" for kind, count in counts.items() if count)
    total = sum(counts.values())
    return f"Timeline of {total} attempts: {tries}. Crashes: {crashes}. Replayed in the last run: {replayed}."


_KINDS = {
    "completed": "completed",
    "repeated": "repeated after a crash",
    "lost": "cut off by a crash",
    "failed": "failed",
    "running": "running",
    "waited": "waiting",
}


def tell_seconds(seconds: float) -> str:
    """Return `1.25 s`, or `12 ms` if that would be next to nothing."""
    if seconds >= SECOND_WORDS:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - four characters either way
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "< 1 ms"  # noqa: PLR2004 - a millisecond
