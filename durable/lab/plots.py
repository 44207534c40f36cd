"""Rows -> matplotlib figures, without pyplot: they can be drawn in any thread, and are shown once.

Colours are after the Okabe-Ito set, which colour-blind eyes can tell apart; each kind also has a mark of its own, a
hatching or an outline.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from durable.lab import tables
from durable.lab.lanes import Bar, Life, lane_order, lay_out, merge

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
FRACTIONS = {1 / 2: "a half", 1 / 3: "a third", 2 / 3: "two thirds", 1 / 4: "a quarter", 3 / 4: "three quarters"}
NEAR = 0.02  # a share so close to a fraction is called by its name
MAX_TICKS = 40  # of replayed steps

BAR_HEIGHT = 0.7
SHORTEST_SHARE = 0.012  # of the width: a bar that can still be seen


class Picture(Figure):
    """A figure that a notebook shows by itself, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


class Speedup(Picture):
    """Two workflows that do the same, one step after the other and in parallel, with what was measured."""

    sequential_seconds: float
    parallel_seconds: float

    @property
    def saved_share(self) -> float:
        """Which part of the sequential time the parallel one saves: 4 s instead of 6 s save a third, 0.33."""
        return 1 - self.parallel_seconds / self.sequential_seconds


def timeline(db: tables.Database, workflow_id: str) -> Picture:
    """A bar per attempt, in lanes by thread or branch; each crash as a line across, what was replayed as ticks.

    Raises ValueError where nothing is recorded of the workflow.
    """
    rows = tables.read(db, workflow_id)
    if not rows.runs:
        raise ValueError(f"timeline of {workflow_id!r}: nothing is recorded of it; run it first")
    bars, lives = lay_out([*rows.steps, *rows.attempts], rows.runs, datetime.now(UTC))
    length = max((life.end for life in lives), default=0.0)
    return _draw(merge(bars, SHORTEST_SHARE * length / 2), lives, workflow_id)


def speedup(db: tables.Database, sequential_id: str, parallel_id: str) -> Speedup:
    """Two completed workflows on one axis of time, and the share that the second saves of the first: `saved_share`.

    What is compared is measured, from the start of the run to its end. Raises ValueError for a workflow that is not
    completed, or that was completed in more than one life: its time has a hole that nobody measured.
    """
    spans = [_measure(db, workflow_id) for workflow_id in (sequential_id, parallel_id)]
    return _draw_speedup(spans, (sequential_id, parallel_id))


def _measure(db: tables.Database, workflow_id: str) -> tuple[list[Bar], float]:
    rows = tables.read(db, workflow_id)
    if rows.workflow is None or rows.workflow.status != "completed":
        status = rows.workflow.status if rows.workflow is not None else "not on record"
        raise ValueError(f"speedup: {workflow_id!r} is {status}, expected completed; run it to its end first")
    if len(rows.runs) > 1:
        raise ValueError(f"speedup: {workflow_id!r} took {len(rows.runs)} lives; run it in one, under a new id")
    bars, (life,) = lay_out(rows.steps, rows.runs, datetime.now(UTC))
    return bars, life.end


# ---- how it looks


def _draw(bars: list[Bar], lives: list[Life], workflow_id: str) -> Picture:
    lanes = list(dict.fromkeys(bar.lane for bar in sorted(bars, key=lane_order))) or ["main"]
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
    if bar.count > 1:
        return f"{bar.count} steps", True
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
        for tick in range(min(life.replayed, MAX_TICKS)):
            axes.plot(life.start + 0.008 * width * (tick + 1), -0.5, marker="|", markersize=9, color="#004b75")
    if life.crashed:
        axes.axvline(life.end, color=CRASH, linewidth=2.5, linestyle=(0, (4, 2)), label="crash")
        axes.text(
            life.end - 0.005 * width, -0.85, "killed, about here", fontsize=13, color=CRASH, va="center", ha="right"
        )


def _draw_speedup(spans: Sequence[tuple[list[Bar], float]], names: Sequence[str]) -> Speedup:
    """Sequential above, parallel below; what is saved stands to the right of the shorter one."""
    (_, sequential), (_, parallel) = spans
    groups = [
        (bar.lane if row else "one after the other", bar, row) for row, (bars, _) in enumerate(spans) for bar in bars
    ]
    lanes = list(dict.fromkeys((row, lane) for lane, _, row in sorted(groups, key=lambda g: (g[2], *lane_order(g[1])))))
    figure = Speedup(figsize=(11, 2.2 + 0.6 * len(lanes)), layout="constrained")
    figure.sequential_seconds, figure.parallel_seconds = sequential, parallel
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = max(sequential, parallel) or 1.0
    for lane, bar, row in groups:
        _draw_bar(axes, bar, lanes.index((row, lane)), width)
    for row, seconds in enumerate((sequential, parallel)):
        own = [place for place, (of, _) in enumerate(lanes) if of == row]
        axes.vlines(seconds, min(own) - 0.5, max(own) + 0.5, color=INK, linewidth=2.5, label=names[row])
        text = f" {names[row]}: {seconds:.2f} s"
        axes.text(seconds, min(own) - 0.5, text, fontsize=13, color=INK, va="center", ha="left")
    if parallel < sequential:
        axes.axvspan(parallel, sequential, facecolor="none", edgecolor=FAINT, hatch="..", label="saved")
    axes.set_yticks(range(len(lanes)), [lane for _, lane in lanes], fontsize=13, color=INK)
    axes.set_ylim(len(lanes) - 0.4, -0.9)
    axes.set_xlim(-0.01 * width, 1.24 * width)
    axes.set_xlabel("seconds, measured", fontsize=12)
    axes.set_title(_tell_of_share(figure), fontsize=14, loc="left", color=INK)
    axes.tick_params(axis="x", labelsize=12, colors=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _tell_of_share(figure: Speedup) -> str:
    share = figure.saved_share
    times = f"{figure.parallel_seconds:.2f} s instead of {figure.sequential_seconds:.2f} s"
    if share < 0:
        return f"in parallel {times}: {-share:.0%} slower"
    name = next((name for part, name in FRACTIONS.items() if abs(part - share) < NEAR), None)
    return f"in parallel {times}: {share:.0%} saved{f', {name}' if name else ''}"
