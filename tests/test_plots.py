"""The timeline: what is drawn where, that kinds can be told apart without colour, and that a notebook shows it once."""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from durable import Context, Engine, lab
from durable.examples.onboarding import onboarding
from durable.lab import tables
from durable.lab.plots import LEGEND, STYLES, Bar, Life, lay_out
from durable.testing import run_until_crash

START = pd.Timestamp("2026-01-01", tz="UTC")


def instant(seconds: float | None) -> pd.Timestamp:
    return pd.NaT if seconds is None else START + pd.Timedelta(seconds=seconds)


def attempt(key: str, number: int, status: str, thread: str, epoch: int, start: float, end: float | None) -> dict:
    times = {"started_at": instant(start), "ended_at": instant(end)}
    duration = times["ended_at"] - times["started_at"]
    return {
        "step_key": key,
        "attempt": number,
        "status": status,
        "thread": thread,
        "epoch": epoch,
        **times,
        "duration": duration,
    }


def life(epoch: int, ended: str | None, start: float, end: float | None) -> dict:
    return {"epoch": epoch, "ended": ended, "started_at": instant(start), "ended_at": instant(end)}


def frame(rows: list[dict], keys: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows).set_index(keys)


CRASHED_AND_RESUMED = (
    frame(
        [
            attempt("create_1", 1, "completed", "main", 1, 0, 1),
            attempt("laptop_2", 1, "running", "worker 1", 1, 1, None),
            attempt("laptop_2", 2, "completed", "worker 1", 2, 100, 102),
            attempt("email_3", 1, "completed", "main", 2, 102, 103),
        ],
        ["step_key", "attempt"],
    ),
    frame([life(1, "crashed", 0, None), life(2, "completed", 100, 103)], ["epoch"]),
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
    lives = lives.assign(started_at=[instant(0), instant(2)])
    bars, _ = lay_out(attempts, lives, now=instant(200))

    assert bars[1].end == 2


def test_a_running_step_grows_until_now():
    attempts = frame([attempt("create_1", 1, "running", "main", 1, 0, None)], ["step_key", "attempt"])
    bars, lives = lay_out(attempts, frame([life(1, None, 0, None)], ["epoch"]), now=instant(7))

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
