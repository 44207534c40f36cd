"""DataFrames -> matplotlib figures, without pyplot: they can be drawn in any thread, and are shown once.

Colours are after the Okabe-Ito set, which colour-blind eyes can tell apart; each kind also has a mark of its own, a
hatching or an outline.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from durable.lab import tables

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # imported where it is used

INK, FAINT = "#1f2937", "#9ca3af"
CRASH = "#b3261e"
STYLES: dict[str, dict[str, Any]] = {
    "completed": {"facecolor": "#007a5a", "edgecolor": "#004d38"},
    "repeated": {"facecolor": "#e9c7dc", "edgecolor": "#8f3f72", "hatch": "///"},
    "lost": {"facecolor": "#fff3d6", "edgecolor": "#a86b00", "linestyle": (0, (3, 2))},
    "failed": {"facecolor": "#f6c9b0", "edgecolor": "#a63c00", "hatch": "xx"},
    "running": {"facecolor": "#ffffff", "edgecolor": "#0072b2"},
}
LEGEND = {
    "completed": "completed",
    "lost": "cut off, its effect may have happened",
    "repeated": "the same step again",
    "failed": "failed",
    "running": "running",
}
_Row = dict[str, Any]

BAR_HEIGHT = 0.7
GAP_SHARE = 0.09  # of the width: what lies between a crash and the next life, however long it was
SHORTEST_SHARE = 0.012  # of the width: a bar that can still be seen


class Picture(Figure):
    """A figure that a notebook shows by itself, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt on the time axis, in seconds of work: the time between two lives is cut out."""

    step_key: str
    attempt: int
    lane: str
    kind: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Life:
    """A run on the time axis. `crashed` has an instant only on the drawing: nobody wrote it down."""

    epoch: int
    start: float
    end: float
    crashed: bool
    replayed: int


def timeline(db: tables.Database, workflow_id: str) -> Picture:
    """A bar per attempt, in lanes by thread; each crash as a line across, what was replayed as a number after it.

    Raises ValueError where nothing is recorded of the workflow.
    """
    import pandas as pd

    attempts, lives = tables.history(db, workflow_id), tables.lives(db, workflow_id)
    if lives.empty:
        raise ValueError(f"timeline of {workflow_id!r}: nothing is recorded of it; run it first")
    bars, spans = lay_out(attempts, lives, pd.Timestamp.now("UTC"))
    return _draw(bars, spans, workflow_id)


# ---- where everything goes


def lay_out(attempts: pd.DataFrame, lives: pd.DataFrame, now: pd.Timestamp) -> tuple[list[Bar], list[Life]]:
    """Bars and lives on one axis, the time between two lives cut short. `now` ends the bars of what is running.

    Of a crash nobody knows the instant: what it cut off is drawn up to the last instant recorded of its life, and if
    need be as long as the attempt that repeated it.
    """
    tries = attempts.reset_index().to_dict("records")
    runs = lives.reset_index().to_dict("records")
    ends = [_end_of(run, following, tries, now) for run, following in zip(runs, [*runs[1:], None], strict=True)]
    lengths = [(end - run["started_at"]).total_seconds() for run, end in zip(runs, ends, strict=True)]
    gap = GAP_SHARE * sum(lengths)
    spans, bars, offset = list[Life](), list[Bar](), 0.0
    for run, end, length in zip(runs, ends, lengths, strict=True):
        replayed = sum(row["epoch"] < run["epoch"] and row["status"] == "completed" for row in tries)
        spans.append(Life(run["epoch"], offset, offset + length, run["ended"] == "crashed", replayed))
        for row in tries:
            if row["epoch"] == run["epoch"]:
                bars.append(_bar(row, run, offset, end, tries))
        offset += length + gap
    return bars, spans


def _end_of(run: _Row, following: _Row | None, tries: list[_Row], now: pd.Timestamp) -> pd.Timestamp:
    """When a life ended, or the best guess of it."""
    import pandas as pd

    if not pd.isna(run["ended_at"]):
        return run["ended_at"]
    if pd.isna(run["ended"]):
        return now
    own = [row for row in tries if row["epoch"] == run["epoch"]]
    known = [run["started_at"], *(row[column] for row in own for column in ("started_at", "ended_at"))]
    known += [row["started_at"] + _usual_duration(row, tries) for row in own if pd.isna(row["ended_at"])]
    guess = max(instant for instant in known if not pd.isna(instant))
    return guess if following is None else min(guess, following["started_at"])


def _usual_duration(row: _Row, tries: list[_Row]) -> Any:
    """How long a step that was cut off may have run: as long as its repetition, or else as the longest other step."""
    import pandas as pd

    ended = [other for other in tries if not pd.isna(other["ended_at"])]
    same = [other["duration"] for other in ended if other["step_key"] == row["step_key"]]
    return max(same or [other["duration"] for other in ended] or [pd.Timedelta(seconds=1)])


def _bar(row: _Row, run: _Row, offset: float, end_of_life: pd.Timestamp, tries: list[_Row]) -> Bar:
    import pandas as pd

    def at(instant: pd.Timestamp) -> float:
        return offset + float((instant - run["started_at"]).total_seconds())

    end = end_of_life if pd.isna(row["ended_at"]) else row["ended_at"]
    return Bar(row["step_key"], row["attempt"], row["thread"], _kind(row, run, tries), at(row["started_at"]), at(end))


def _kind(row: _Row, run: _Row, tries: list[_Row]) -> str:
    import pandas as pd

    if row["status"] == "running":
        return "running" if pd.isna(run["ended"]) else "lost"
    earlier = (other for other in tries if other["step_key"] == row["step_key"] and other["attempt"] < row["attempt"])
    repeats = any(other["status"] == "running" for other in earlier)
    return "repeated" if repeats and row["status"] == "completed" else str(row["status"])


# ---- how it looks


def _draw(bars: list[Bar], lives: list[Life], workflow_id: str) -> Picture:
    lanes = list(dict.fromkeys(bar.lane for bar in sorted(bars, key=_lane_order))) or ["main"]
    width = max((life.end for life in lives), default=0.0) or 1.0
    figure = Picture(figsize=(11, 1.9 + 0.66 * len(lanes)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for bar in bars:
        _draw_bar(axes, bar, lanes.index(bar.lane), width)
    for life in lives:
        _draw_life(axes, life, width)
    axes.set_yticks(range(len(lanes)), lanes, fontsize=13, color=INK)
    axes.set_ylim(len(lanes) - 0.4, -1.15)
    axes.set_xlim(-0.01 * width, 1.06 * width)
    axes.set_xlabel(
        "seconds of work (the time between two lives is cut short)" if len(lives) > 1 else "seconds", fontsize=12
    )
    axes.set_title(f"attempts of {workflow_id}", fontsize=14, loc="left", color=INK)
    axes.tick_params(axis="x", labelsize=12, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    kinds = [kind for kind in LEGEND if any(bar.kind == kind for bar in bars)]
    handles = [Patch(**STYLES[kind], linewidth=1.5, label=LEGEND[kind]) for kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds) or 1, fontsize=12, frameon=False)
    return figure


def _lane_order(bar: Bar) -> tuple[bool, str]:
    return (bar.lane != "main", bar.lane)


def _draw_bar(axes: Axes, bar: Bar, lane: int, width: float) -> None:
    length = max(bar.end - bar.start, SHORTEST_SHARE * width)
    corner = (bar.start, lane - BAR_HEIGHT / 2)
    patch = Rectangle(corner, length, BAR_HEIGHT, linewidth=1.5, label=bar.kind, gid=f"{bar.step_key}:{bar.attempt}")
    patch.set(**STYLES[bar.kind])
    axes.add_patch(patch)
    text, fits = _label(bar, letters=100 * length / width)
    x, align = (bar.start + length / 2, "center") if fits else (bar.start + length + 0.004 * width, "left")
    back = STYLES[bar.kind]["facecolor"] if fits else "white"  # so that neither hatching nor a line crosses the letters
    colour = "white" if fits and bar.kind == "completed" else INK
    box = {"facecolor": back, "edgecolor": "none", "pad": 1.5}
    axes.text(x, lane, text, ha=align, va="center", fontsize=11, color=colour, bbox=box, zorder=3)


def _label(bar: Bar, letters: float) -> tuple[str, bool]:
    """What stands in a bar, in one line or two, and whether it fits into so many letters."""
    if bar.attempt > 1:
        return f"{bar.step_key}\nattempt {bar.attempt}", len(bar.step_key) <= letters
    if len(bar.step_key) <= letters:
        return bar.step_key, True
    first, _, rest = bar.step_key.partition("_")
    return (f"{first}_\n{rest}", True) if max(len(first) + 1, len(rest)) <= letters else (bar.step_key, False)


def _draw_life(axes: Axes, life: Life, width: float) -> None:
    if life.start > 0:
        axes.axvline(life.start, color=FAINT, linewidth=1.5)
        said = f"resumed, {life.replayed} replayed" if life.replayed else "resumed"
        axes.text(life.start + 0.005 * width, -0.85, said, fontsize=12, color="#004b75", va="center")
        for tick in range(life.replayed):
            axes.plot(life.start + 0.008 * width * (tick + 1), -0.5, marker="|", markersize=9, color="#004b75")
    if life.crashed:
        axes.axvline(life.end, color=CRASH, linewidth=2.5, linestyle=(0, (4, 2)), label="crash")
        axes.text(
            life.end - 0.005 * width, -0.85, "killed, about here", fontsize=13, color=CRASH, va="center", ha="right"
        )
