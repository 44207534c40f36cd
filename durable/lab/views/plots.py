"""Rows -> matplotlib figures, without pyplot: they can be drawn in any thread, and are shown once.

Colours are after the Okabe-Ito set, which colour-blind eyes can tell apart; each kind also has a mark of its own, a
hatching or an outline.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from durable.dashboard.lanes import Bar, Life, cut_idle, lane_order, lay_out, merge
from durable.lab.views import tables
from durable.lab.views.labels import Label, place_labels, shorten

INK, FAINT = "#1f2937", "#9ca3af"
CRASH, REPLAYED = "#b3261e", "#004b75"
STYLES: dict[str, dict[str, Any]] = {
    "completed": {"facecolor": "#007a5a", "edgecolor": "#004d38"},
    "repeated": {"facecolor": "#e9c7dc", "edgecolor": "#8f3f72", "hatch": "///"},
    "lost": {"facecolor": "#fff3d6", "edgecolor": "#a86b00", "linestyle": (0, (3, 2))},
    "failed": {"facecolor": "#f6c9b0", "edgecolor": "#a63c00", "hatch": "xx"},
    "running": {"facecolor": "#ffffff", "edgecolor": "#0072b2"},
    "waited": {"facecolor": "#ffffff", "edgecolor": "#6b7280", "linestyle": (0, (1, 1.5))},
}
LEGEND = {
    "completed": "completed",
    "lost": "cut off, its effect may have happened",
    "repeated": "the same step again",
    "failed": "failed",
    "running": "running",
    "waited": "waiting",
}
FRACTIONS = {1 / 2: "a half", 1 / 3: "a third", 2 / 3: "two thirds", 1 / 4: "a quarter", 3 / 4: "three quarters"}
NEAR = 0.02  # a share so close to a fraction is called by its name
MAX_TICKS = 40  # of replayed steps

WIDTH = 11  # inches
LABEL_SIZE, LIFE_SIZE, LANE_SIZE = 11, 12, 13  # points
LETTER = 0.62  # the average width of a letter, as a part of its size
MAX_LANE, MAX_ID = 24, 48  # letters of a lane's name, and of a workflow id in the title
BAR_HEIGHT = 0.7
SHORTEST_SHARE = 0.012  # a share of the width: a bar that can still be seen
IN_MILLISECONDS = 0.5  # seconds: a shorter axis is labelled in milliseconds


class Picture(Figure):
    """A figure that a notebook shows by itself, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


class Speedup(Picture):
    """Two workflows that do the same, one step after the other and in parallel, with their durations."""

    sequential_seconds: float
    parallel_seconds: float

    @property
    def saved_share(self) -> float:
        """Return the share of the sequential time that is saved in parallel: 4 s instead of 6 s save a third, 0.33."""
        return 1 - self.parallel_seconds / self.sequential_seconds


def timeline(db: tables.Database, workflow_id: str) -> Picture:
    """Draw a bar per attempt, in lanes by thread or branch; each crash as a line across, replayed steps as ticks.

    Raises ValueError if nothing is recorded of the workflow.
    """
    rows = tables.read(db, workflow_id)
    if not rows.runs:
        raise ValueError(f"timeline of {workflow_id!r}: nothing is recorded of it; run it first")
    bars, lives, is_cut = cut_idle(*lay_out([*rows.steps, *rows.attempts], rows.runs, datetime.now(UTC)))
    length = max((life.end for life in lives), default=0.0)
    return _draw(merge(bars, SHORTEST_SHARE * length), lives, workflow_id, is_cut=is_cut)


def speedup(db: tables.Database, sequential_id: str, parallel_id: str) -> Speedup:
    """Draw two completed workflows on one axis of time, and the share of time that the second saves: `saved_share`.

    The times are measured, from the start of the run to its end. Raises ValueError for a workflow that is not
    completed, or took more than one run: its time has an unmeasured hole.
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


class _Chart:
    """A figure with lanes from top to bottom and one axis of time. It knows how many letters fit."""

    def __init__(self, figure: Picture, lanes: Sequence[str], length: float, room: float) -> None:
        names = [shorten(lane, MAX_LANE) for lane in lanes]
        self.figure, self.length = figure, length
        self.end = room * length
        lane_points = LETTER * LANE_SIZE * max(map(len, names)) + 20
        self.letter = self.end * LETTER * LABEL_SIZE / (72 * WIDTH - lane_points)  # on the time axis
        FigureCanvasAgg(figure)
        self.axes = axes = figure.subplots()
        axes.set_yticks(range(len(names)), names, fontsize=LANE_SIZE, color=INK, parse_math=False)
        axes.set_xlim(-0.01 * length, self.end)
        axes.tick_params(axis="x", labelsize=12, colors=INK)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        if length < IN_MILLISECONDS:
            axes.xaxis.set_major_formatter(lambda seconds, _: f"{1000 * seconds:g}")
        self.unit = "milliseconds" if length < IN_MILLISECONDS else "seconds"

    def draw_lane(self, bars: Sequence[Bar], lane: int, walls: Sequence[float]) -> None:
        """Draw the bars of one lane, with their names if there is room."""
        seen = [self._lengthen(bar) for bar in bars]
        for bar, label in zip(seen, place_labels(seen, walls, self.letter), strict=True):
            corner, length = (bar.start, lane - BAR_HEIGHT / 2), bar.end - bar.start
            patch = Rectangle(
                corner, length, BAR_HEIGHT, linewidth=1.5, label=bar.kind, gid=f"{bar.step_key}:{bar.attempt}"
            )
            patch.set(**STYLES[bar.kind])
            self.axes.add_patch(patch)
            if label is not None:
                self._write(label, lane, bar.kind)

    def _lengthen(self, bar: Bar) -> Bar:
        """Widen a bar so that it can be seen; one that a crash cut off still ends at the crash."""
        missing = max(0.0, SHORTEST_SHARE * self.length - (bar.end - bar.start))
        is_cut = bar.kind == "lost"
        return replace(bar, start=bar.start - missing * is_cut, end=bar.end + missing * (not is_cut))

    def _write(self, label: Label, lane: int, kind: str) -> None:
        colour = "white" if label.is_inside and kind == "completed" else INK
        back = STYLES[kind]["facecolor"] if label.is_inside else "none"  # so that no hatching crosses the letters
        box = {"facecolor": back, "edgecolor": "none", "pad": 1.0}
        align = "center" if label.is_inside else "left"
        text = self.axes.text(label.at, lane, label.text, ha=align, va="center", fontsize=LABEL_SIZE, zorder=3)
        text.set(color=colour, bbox=box, parse_math=False)  # a dollar sign in a name begins no formula

    def tell(self, places: Sequence[tuple[float, float, str]], y: float, choices: Iterable[str], colour: str) -> None:
        """Write the first of these words for which one of the places (x, room, alignment) has room; or none."""
        letter = self.letter * LIFE_SIZE / LABEL_SIZE
        for text in choices:
            for x, room, align in places:
                if letter * len(text) <= room:
                    self.axes.text(x, y, text, fontsize=LIFE_SIZE, va="center", ha=align, color=colour)
                    return


def _draw(bars: Sequence[Bar], lives: Sequence[Life], workflow_id: str, *, is_cut: bool) -> Picture:
    lanes = list(dict.fromkeys(bar.lane for bar in sorted(bars, key=lane_order))) or ["main"]
    length = max((life.end for life in lives), default=0.0) or 1.0
    figure = Picture(figsize=(WIDTH, 2.1 + 0.66 * len(lanes)), layout="constrained")
    chart = _Chart(figure, lanes, length, room=1.09)
    walls = [
        chart.end,
        *(instant for life in lives for instant in (life.start, life.end) if instant < length or life.crashed),
    ]
    for lane, name in enumerate(lanes):
        chart.draw_lane([bar for bar in bars if bar.lane == name], lane, walls)
    _draw_lives(chart, lives)
    chart.axes.set_ylim(len(lanes) - 0.4, -1.5 if len(lives) > 1 or any(life.crashed for life in lives) else -0.6)
    cut = " of work (idle time compressed)" if is_cut or len(lives) > 1 else ""
    chart.axes.set_xlabel(f"{chart.unit}{cut}", fontsize=12)
    title = f"attempts of {shorten(workflow_id, MAX_ID)}"
    chart.axes.set_title(title, fontsize=14, loc="left", color=INK, parse_math=False)
    kinds = [kind for kind in LEGEND if any(bar.kind == kind for bar in bars)]
    handles = [Patch(**STYLES[kind], linewidth=1.5, label=LEGEND[kind]) for kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds) or 1, fontsize=12, frameon=False)
    return figure


def _draw_lives(chart: _Chart, lives: Sequence[Life]) -> None:
    """Draw each resume and each crash as a line across; a resume has its words to the right, a crash to the left."""
    space = 0.006 * chart.length
    for life, following in zip(lives, [*lives[1:], None], strict=True):
        until = following.start if following else chart.end
        if life.start > 0:
            _draw_resume(chart, life, until - life.start - 2 * space, space)
        if life.crashed:
            chart.axes.axvline(life.end, color=CRASH, linewidth=2.5, linestyle=(0, (4, 2)), label="crash")
            chart.tell(
                [
                    (life.end - space, life.end - life.start - space, "right"),
                    (life.end + space, until - life.end, "left"),
                ],
                -1.2,
                ["killed, about here", "killed", "✝"],
                CRASH,
            )


def _draw_resume(chart: _Chart, life: Life, room: float, space: float) -> None:
    chart.axes.axvline(life.start, color=FAINT, linewidth=1.5)
    told = [f"resumed, {life.replayed} replayed", f"{life.replayed} replayed"] if life.replayed else ["resumed"]
    chart.tell([(life.start + space, room, "left")], -0.85, told, REPLAYED)
    for tick in range(min(life.replayed, MAX_TICKS, int(room / (1.4 * space)))):
        place = life.start + 1.4 * space * (tick + 1)
        chart.axes.plot(place, -0.5, marker="|", markersize=9, color=REPLAYED)


def _draw_speedup(spans: Sequence[tuple[list[Bar], float]], names: Sequence[str]) -> Speedup:
    """Draw the sequential workflow above, the parallel one below, and the saved time to the right of the shorter."""
    (first, sequential), (second, parallel) = spans
    inner = list(dict.fromkeys(bar.lane for bar in sorted(second, key=lane_order))) or ["main"]
    length = max(sequential, parallel) or 1.0
    figure = Speedup(figsize=(WIDTH, 2.2 + 0.6 * (1 + len(inner))), layout="constrained")
    figure.sequential_seconds, figure.parallel_seconds = sequential, parallel
    letters = max(len(names[0]) if sequential >= parallel else 0, len(names[1]) if parallel >= sequential else 0)
    chart = _Chart(figure, ["one after the other", *inner], length, room=1.12 + 0.011 * min(letters, MAX_LANE))
    shortest = SHORTEST_SHARE * length / 2
    chart.draw_lane(merge([replace(bar, lane="") for bar in first], shortest), 0, [sequential])
    for lane, name in enumerate(inner, start=1):
        chart.draw_lane(merge([bar for bar in second if bar.lane == name], shortest), lane, [parallel])
    last = len(inner)
    for seconds, name, top, bottom in ((sequential, names[0], 0, 0), (parallel, names[1], 1, last)):
        chart.axes.vlines(seconds, top - 0.45, bottom + 0.45, color=INK, linewidth=2.5, label=name)
        text = f" {shorten(name, MAX_LANE)}: {seconds:.2f} s"
        chart.axes.text(seconds, top, text, fontsize=13, color=INK, va="center", ha="left", zorder=4, parse_math=False)
    if parallel < sequential:
        _draw_saved(chart, (parallel, sequential), last)
    chart.axes.set_ylim(last + 0.6, -0.7)
    chart.axes.set_xlabel(f"{chart.unit}, measured", fontsize=12)
    chart.axes.set_title(_tell_of_share(figure), fontsize=14, loc="left", color=INK)
    return figure


def _draw_saved(chart: _Chart, span: tuple[float, float], last: int) -> None:
    """Draw the saved time, which the parallel workflow leaves free, below the bars of the other."""
    start, end = span
    corner = (start, 0.55)
    patch = Rectangle(corner, end - start, last - 0.1, facecolor="#eaf1f8", edgecolor=REPLAYED, label="saved")
    patch.set(linestyle=(0, (3, 2)), linewidth=1.5, zorder=0.5)
    chart.axes.add_patch(patch)
    words = [f"{end - start:.2f} s saved", "saved"]
    chart.tell([((start + end) / 2, end - start, "center")], last + 0.2, words, REPLAYED)


def _tell_of_share(figure: Speedup) -> str:
    share = figure.saved_share
    times = f"{figure.parallel_seconds:.2f} s instead of {figure.sequential_seconds:.2f} s"
    if share < 0:
        return f"in parallel {times}: {-share:.0%} slower"
    name = next((name for part, name in FRACTIONS.items() if abs(part - share) < NEAR), None)
    return f"in parallel {times}: {share:.0%} saved{f', {name}' if name else ''}"
