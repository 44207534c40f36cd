"""The timeline: what is drawn where, that kinds can be told apart without colour, and that a notebook shows it once."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from msgspec import structs

from durable import Context, Engine, lab
from durable.clock import ManualClock
from durable.dashboard.lanes import Bar, Life, cut_idle, lay_out, merge
from durable.examples.onboarding import onboarding
from durable.lab.views import tables
from durable.lab.views.labels import Label, place_labels, shorten
from durable.lab.views.plots import LEGEND, STYLES, _draw, _draw_speedup, _tell_of_share
from durable.store.records import RunRecord, StepRecord
from durable.testing import run_until_crash
from tests.support.patience import PATIENCE_SECONDS
from tests.support.workflows import journey

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


def test_what_was_taken_back_by_a_rewind_is_replayed_no_more():
    old = [
        attempt("create_1", 1, "completed", "main", 1, 0, 1),
        structs.replace(attempt("laptop_2", 1, "completed", "main", 1, 1, 2), superseded_by=3),
        structs.replace(attempt("email_3", 1, "completed", "main", 2, 3, 4), superseded_by=3),
    ]
    runs = [
        life(1, "crashed", 0, None),
        life(2, "completed", 3, 4),
        life(3, "completed", 5, 6),
        life(5, "failed", 7, 8),
    ]
    _, lives = lay_out([*old, attempt("laptop_2", 2, "completed", "main", 3, 5, 6)], runs, now=instant(200))

    assert [life.replayed for life in lives] == [0, 2, 1, 2]


def test_what_a_crash_cut_off_never_reaches_into_the_next_life():
    attempts, lives = CRASHED_AND_RESUMED
    lives = [lives[0], structs.replace(lives[1], started_at=instant(2))]
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

    history = tables.history(resumed, "emp_001")
    assert set(bars) == {f"{key}:{number}" for key, number in history.index}
    assert bars["provision_laptop_2:1"] == "lost"
    assert bars["provision_laptop_2:2"] == "repeated"
    assert [line.get_label() for line in axes.lines].count("crash") == 1
    assert next(label.get_text() for label in axes.get_yticklabels()) == "main"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        LEGEND[kind] for kind in ("completed", "lost", "repeated")
    ]


def test_crash_and_resume_are_told_in_words_and_each_replayed_step_is_a_tick():
    bars, lives = lay_out(*CRASHED_AND_RESUMED, now=instant(200))
    (axes,) = _draw(bars, lives, "w", is_cut=False).axes

    assert {text.get_text() for text in axes.texts} == {
        "killed, about here",
        "resumed, 1 replayed",
        "create_1",
        "laptop_2",
        "laptop_2\nattempt 2",
        "email_3",
    }
    assert [line.get_marker() for line in axes.lines].count("|") == 1
    assert axes.get_xlabel() == "seconds of work (idle time compressed)"


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

    assert [(bar.kind, bar.count) for bar in merge([failed, *bars], 0.5)] == [("completed", 100), ("failed", 1)]
    assert merge(bars, 0.001) == bars


def test_a_long_bar_keeps_its_own_name_among_short_ones():
    short = [Bar(f"note_{n}", 1, "main", "completed", n / 100, n / 100 + 0.01) for n in range(10)]
    long = Bar("work_11", 1, "main", "completed", 0.1, 1.1)

    assert [bar.count for bar in merge([*short, long], 0.05)] == [10, 1]


def test_what_a_worker_ran_in_one_go_is_drawn_as_one_and_waits_are_not():
    quick = [Bar(f"note_{n}", 1, "worker 1", "completed", 1.0, 3.0 + n / 100) for n in range(32)]
    after = Bar("note_33", 1, "worker 1", "completed", 3.31, 5.0)
    waits = [Bar(f"sleep_{n}", 1, "main", "waited", 0.0, float(n)) for n in (34, 35)]

    assert merge([*quick, after, *waits], 0.1) == [*waits, replace(quick[0], end=3.31, count=32), after]


def test_a_failure_among_many_does_not_make_as_many_bars():
    bars = [Bar(f"n_{n}", 1, "main", ("completed", "failed")[n % 2], n / 1000, (n + 1) / 1000) for n in range(1000)]

    assert [(bar.kind, bar.count) for bar in merge(bars, 0.01)] == [("completed", 500), ("failed", 500)]


# ---- waiting for a click


def test_the_time_in_which_no_attempt_ran_is_cut_short():
    attempts = [
        attempt("create_1", 1, "completed", "main", 1, 0, 1),
        attempt("laptop_2", 1, "completed", "worker 1", 1, 601, 602),
        attempt("email_3", 1, "running", "worker 2", 1, 601.5, None),
        attempt("email_3", 2, "completed", "worker 2", 2, 5000, 5001),
    ]
    lives = [life(1, "crashed", 0, None), life(2, "completed", 5000, 5001)]
    bars, drawn, is_cut = cut_idle(*lay_out(attempts, lives, now=instant(9000)))

    assert is_cut
    idle, between = pytest.approx(0.06 * 3.5), pytest.approx(0.09 * 3.5)
    create, laptop, lost, email = bars
    assert (create.start, create.end) == (0, 1)
    assert laptop.start - create.end == idle
    assert (lost.start - laptop.start, lost.end - lost.start) == (pytest.approx(0.5), pytest.approx(1))
    assert drawn[0].end == lost.end
    assert drawn[1].start - drawn[0].end == between
    assert (email.start, email.end) == (drawn[1].start, drawn[1].end)


def test_a_wait_is_no_work_and_goes_from_the_life_in_which_it_began_to_the_one_in_which_it_ended():
    note = attempt("note_1", 1, "completed", "main", 1, 0, 2)
    sleep = structs.replace(attempt("sleep_2", 1, "completed", "main", 2, 1, 1000), kind="sleep")
    work = attempt("work_3", 1, "completed", "main", 2, 1000, 1002)
    lives = [life(1, "crashed", 0, None), life(2, "completed", 990, 1002)]
    bars, drawn, is_cut = cut_idle(*lay_out([note, sleep, work], lives, now=instant(2000)))

    _, waited, worked = bars
    assert (waited.kind, worked.kind) == ("waited", "completed")
    assert waited.start < drawn[0].end < drawn[1].start < waited.end == worked.start
    assert worked.end - worked.start == pytest.approx(2)
    assert is_cut


def test_where_nothing_waits_nothing_is_cut():
    laid_out = lay_out(*CRASHED_AND_RESUMED, now=instant(200))
    bars, lives, is_cut = cut_idle(*laid_out)

    assert not is_cut
    assert [bar.end - bar.start for bar in bars] == [pytest.approx(bar.end - bar.start) for bar in laid_out[0]]
    assert len(lives) == 2


# ---- names


def names_in(bars: list[Bar], walls: list[float], letter: float = 1.0) -> list[tuple[str, bool] | None]:
    return [label and (label.text, label.is_inside) for label in place_labels(bars, walls, letter)]


def test_a_name_stands_in_its_bar_or_beside_it_or_is_shortened_and_never_crosses_another_bar():
    first = Bar("write_1", 1, "main", "completed", 0, 10)
    second = Bar("write_it_down_2", 1, "main", "completed", 10, 20)
    third = Bar("act_3", 1, "main", "completed", 20, 21)
    fourth = Bar("reconcile_4", 1, "main", "completed", 30, 31)

    assert names_in([first, second, third, fourth], [40]) == [
        ("write_1", True),
        ("write_\nit_down_2", True),
        ("act_3", False),
        ("recon…_4", False),
    ]
    assert names_in([third], [24]) == [None]


def test_the_lane_of_a_branch_says_where_its_steps_are_and_a_second_attempt_says_so():
    bar = Bar("leg_5/act_1", 2, "leg_5", "repeated", 0, 12)

    assert names_in([bar], [40]) == [("act_1\nattempt 2", True)]


def test_steps_drawn_as_one_are_counted_where_nothing_lies_over_them():
    many = Bar("note_1", 1, "main", "completed", 0, 40, count=80)
    failed = Bar("note_9", 1, "main", "failed", 5, 6)

    (label, none) = place_labels([many, failed], [50], 1.0)
    assert label == Label("80 steps", (6 + 40) / 2, is_inside=True)
    assert none is None


@pytest.mark.parametrize(("letters", "short"), [(40, "reconcile_the_ledger_5"), (12, "reconcile…_5"), (5, "re…_5")])
def test_a_shortened_name_keeps_its_number(letters, short):
    assert shorten("reconcile_the_ledger_5", letters) == short


def work_with_an_extraordinarily_long_name_that_no_bar_has_room_for(seconds: float) -> None:
    time.sleep(seconds)


def long_names(ctx: Context) -> None:
    ctx.step(work_with_an_extraordinarily_long_name_that_no_bar_has_room_for, 0.02)
    ctx.step(work, 0.2)
    ctx.step(work_with_an_extraordinarily_long_name_that_no_bar_has_room_for, 0.02)


def note(number: int) -> int:
    return number


def noting(ctx: Context, count: int) -> None:
    for number in range(count):
        ctx.step(note, number)


@pytest.fixture(params=["journey", "noting", "long_names"])
def drawn(request, database):
    """The timeline of a workflow with nested branches, of one with 200 steps and a crash, of one with long names."""
    workflow, arguments = {"journey": (journey, ()), "noting": (noting, (200,)), "long_names": (long_names, ())}[
        request.param
    ]
    if workflow is not long_names:
        at = "leg_5/detour_1/act_2:executed" if workflow is journey else "note_100:executed"
        run_until_crash(database, "w", workflow, *arguments, at=at)
    with Engine(database) as engine:
        engine.run("w", workflow, *arguments)
    return lab.timeline(database, "w")


def test_no_words_overlap_and_none_are_cut_off(drawn):
    drawn.canvas.draw()
    (axes,) = drawn.axes
    texts = [text for text in [*axes.texts, *axes.get_yticklabels()] if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    page = drawn.bbox

    assert [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)] == []
    assert [word for word, box in boxes if box.x0 < page.x0 or box.x1 > page.x1] == []
    assert axes.get_window_extent().width > 0.6 * page.width  # the names leave room for the bars


def test_names_are_written_as_they_are_and_a_long_id_leaves_room_for_the_bars():
    name = r"pay $5_of $6 $\nosuch$"
    bars, lives = (
        [Bar(f"{name}_1", 1, "main", "completed", 0, 3), Bar("b_1", 1, name, "completed", 3, 4)],
        [Life(1, 0, 4, crashed=False, replayed=0)],
    )
    for figure in (_draw(bars, lives, name * 10, is_cut=False), _draw_speedup([(bars, 4), (bars, 3)], (name, name))):
        assert figure._repr_png_().startswith(b"\x89PNG")  # no formula is looked for, and none is found to be wrong
        assert f"{name}_1" in [text.get_text() for text in figure.axes[0].texts]
        assert figure.axes[0].get_window_extent().width > 0.6 * figure.bbox.width


# ---- sequential against parallel


def work(seconds: float) -> None:
    time.sleep(seconds)


@pytest.fixture
def measured(database):
    """Six steps of 0.1 s, one after the other; and three in turn, then three at once. No real time counts."""
    clock = ManualClock()
    at_once = threading.Barrier(3, action=lambda: clock.advance(0.1))

    def one_after_the_other(ctx: Context) -> None:
        for _ in range(6):
            ctx.step("work", lambda: clock.advance(0.1))

    def partly_at_once(ctx: Context) -> None:
        for _ in range(3):
            ctx.step("work", lambda: clock.advance(0.1))
        for future in [ctx.submit("work", lambda: at_once.wait(PATIENCE_SECONDS) * 0) for _ in range(3)]:
            future.result()

    with Engine(database, clock=clock) as engine:
        engine.run("sequential", one_after_the_other)
        engine.run("parallel", partly_at_once)
    return database


def test_speedup_tells_the_share_that_working_in_parallel_saves(measured):
    figure = lab.speedup(measured, "sequential", "parallel")

    assert figure.saved_share == pytest.approx(1 / 3)  # 2 of 6 steps' time
    assert (figure.sequential_seconds, figure.parallel_seconds) == pytest.approx((0.6, 0.4))


def test_the_speedup_figure_shows_both_runs_on_one_axis_with_the_share_in_words(measured):
    figure = lab.speedup(measured, "sequential", "parallel")
    (axes,) = figure.axes

    assert len([patch for patch in axes.patches if patch.get_gid()]) == 12
    assert axes.get_title("left") == _tell_of_share(figure)
    assert _tell_of_share(figure) == "in parallel 0.40 s instead of 0.60 s: 33% saved, a third"
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
