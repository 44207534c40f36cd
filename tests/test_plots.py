"""The timeline: what is drawn where, that kinds can be told apart without colour, and that a notebook shows it once."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from durable import Context, Engine, lab
from durable.examples.onboarding import onboarding
from durable.lab import tables
from durable.lab.lanes import Bar, Life, lay_out, merge
from durable.lab.plots import LEGEND, STYLES, _tell_of_share
from durable.records import RunRecord, StepRecord
from durable.testing import run_until_crash

START = datetime(2026, 1, 1, tzinfo=UTC)


def instant(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def attempt(key: str, number: int, status: str, thread: str, epoch: int, start: float, end: float | None) -> StepRecord:
    ended_at = None if end is None else instant(end)
    return StepRecord(
        "w", key, status, None, key, "step", 1, number, epoch, None, None, instant(start), ended_at, thread
    )


def life(epoch: int, ended: str | None, start: float, end: float | None) -> RunRecord:
    return RunRecord("w", epoch, 4000 + epoch, "here", instant(start), None if end is None else instant(end), ended)


CRASHED_AND_RESUMED = (
    [
        attempt("create_1", 1, "completed", "main", 1, 0, 1),
        attempt("laptop_2", 2, "completed", "worker 1", 2, 100, 102),
        attempt("email_3", 1, "completed", "main", 2, 102, 103),
        attempt("laptop_2", 1, "running", "worker 1", 1, 1, None),
    ],
    [life(1, "crashed", 0, None), life(2, "completed", 100, 103)],
)


def test_every_attempt_has_a_bar_and_the_time_between_two_lives_is_cut_short():
    bars, lives = lay_out(*CRASHED_AND_RESUMED, now=instant(200))

    gap = pytest.approx(0.09 * 6)
    assert lives == [
        Life(1, 0, 3, crashed=True, replayed=0),
        Life(2, lives[1].start, lives[1].start + 3, crashed=False, replayed=1),
    ]
    assert lives[1].start - lives[0].end == gap
    second = lives[1].start
    assert bars == [
        Bar("create_1", 1, "main", "completed", 0, 1),
        Bar("laptop_2", 1, "worker 1", "lost", 1, 3),
        Bar("laptop_2", 2, "worker 1", "repeated", second, second + 2),
        Bar("email_3", 1, "main", "completed", second + 2, second + 3),
    ]


def test_what_a_crash_cut_off_never_reaches_into_the_next_life():
    attempts, lives = CRASHED_AND_RESUMED
    lives = [lives[0], replace(lives[1], started_at=instant(2))]
    bars, _ = lay_out(attempts, lives, now=instant(200))

    assert {bar.end for bar in bars if bar.kind == "lost"} == {2}


def test_a_running_step_grows_until_now():
    attempts = [attempt("create_1", 1, "running", "main", 1, 0, None)]
    bars, lives = lay_out(attempts, [life(1, None, 0, None)], now=instant(7))

    assert bars == [Bar("create_1", 1, "main", "running", 0, 7)]
    assert not lives[0].crashed


@pytest.fixture
def resumed(database):
    run_until_crash(database, "emp_001", onboarding, "Jane Doe", 0.02, at="provision_laptop:executed")
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.02)
    return database


def test_the_figure_shows_what_the_tables_say(resumed):
    figure = lab.timeline(resumed, "emp_001")
    (axes,) = figure.axes
    bars = {patch.get_gid(): patch.get_label() for patch in axes.patches if isinstance(patch, Rectangle)}
    texts = [text.get_text() for text in axes.texts]

    history = tables.history(resumed, "emp_001")
    assert set(bars) == {f"{key}:{number}" for key, number in history.index}
    assert bars["provision_laptop_2:1"] == "lost"
    assert bars["provision_laptop_2:2"] == "repeated"
    assert [line.get_label() for line in axes.lines].count("crash") == 1
    assert "killed, about here" in texts
    assert "resumed, 2 replayed" in texts
    assert next(label.get_text() for label in axes.get_yticklabels()) == "main"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        LEGEND[kind] for kind in ("completed", "lost", "repeated")
    ]


def test_without_a_crash_there_is_no_line(database):
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)
    (axes,) = lab.timeline(database, "emp_001").axes

    assert list(axes.lines) == []


def test_kinds_can_be_told_apart_without_colour():
    marks = {
        kind: (style.get("hatch"), style.get("linestyle"), grey(style["facecolor"]) > 0.95)
        for kind, style in STYLES.items()
    }

    assert all(marks[one] != marks[other] for one, other in combinations(STYLES, 2))
    assert set(LEGEND) == set(STYLES)


def grey(colour: str) -> float:
    red, green, blue = to_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_notebook_shows_the_figure_as_one_picture_without_pyplot(resumed):
    picture = lab.timeline(resumed, "emp_001")._repr_png_()

    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 100_000


def test_nothing_recorded_is_an_error_that_says_so(database):
    Engine(database).close()

    with pytest.raises(ValueError, match="'nobody': nothing is recorded of it; run it first"):
        lab.timeline(database, "nobody")


def failing(ctx: Context) -> None:
    ctx.step(fail)


def fail() -> None:
    raise ValueError("no")


def test_a_failed_attempt_is_marked(database):
    with Engine(database) as engine, pytest.raises(ValueError, match="no"):
        engine.run("f", failing)
    (axes,) = lab.timeline(database, "f").axes

    assert [patch.get_label() for patch in axes.patches] == ["failed"]


def test_bars_too_short_to_be_seen_are_drawn_as_one_and_counted():
    bars = [Bar(f"note_{n}", 1, "main", "completed", n / 100, n / 100 + 0.01) for n in range(100)]
    failed = Bar("note_101", 1, "main", "failed", 1.0, 1.001)

    assert [bar.count for bar in merge([*bars, failed], 0.5)] == [49, 49, 2, 1]
    assert merge(bars, 0.001) == bars


# ---- sequential against parallel


def work(seconds: float) -> None:
    time.sleep(seconds)


def one_after_the_other(ctx: Context, seconds: float) -> None:
    for _ in range(6):
        ctx.step(work, seconds)


def partly_at_once(ctx: Context, seconds: float) -> None:
    for _ in range(3):
        ctx.step(work, seconds)
    for future in [ctx.submit(work, seconds) for _ in range(3)]:
        future.result()


@pytest.fixture
def measured(database):
    with Engine(database) as engine:
        engine.run("sequential", one_after_the_other, 0.1)
        engine.run("parallel", partly_at_once, 0.1)
    return database


def test_speedup_tells_the_share_that_working_in_parallel_saves(measured):
    figure = lab.speedup(measured, "sequential", "parallel")

    assert figure.saved_share == pytest.approx(1 / 3, abs=0.15)  # 2 of 6 steps' time
    assert figure.sequential_seconds >= 0.6
    assert 1 - figure.parallel_seconds / figure.sequential_seconds == figure.saved_share


def test_the_speedup_figure_shows_both_runs_on_one_axis_with_the_share_in_words(measured):
    figure = lab.speedup(measured, "sequential", "parallel")
    (axes,) = figure.axes

    assert len([patch for patch in axes.patches if patch.get_gid()]) == 12
    assert axes.get_title("left") == _tell_of_share(figure)
    figure.sequential_seconds, figure.parallel_seconds = 6.0, 4.0
    assert _tell_of_share(figure) == "in parallel 4.00 s instead of 6.00 s: 33% saved, a third"
    lanes = [label.get_text() for label in axes.get_yticklabels()]
    assert lanes[:2] == ["one after the other", "main"]
    assert len(lanes) == 5
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_what_is_slower_in_parallel_is_called_slower(measured):
    figure = lab.speedup(measured, "parallel", "sequential")

    assert figure.saved_share < 0
    assert "slower" in figure.axes[0].get_title("left")


def test_only_what_was_measured_is_compared(measured, resumed):
    with pytest.raises(ValueError, match="'nobody' is not on record, expected completed"):
        lab.speedup(measured, "sequential", "nobody")
    with pytest.raises(ValueError, match="'emp_001' took 2 lives; run it in one"):
        lab.speedup(resumed, "sequential", "emp_001")
