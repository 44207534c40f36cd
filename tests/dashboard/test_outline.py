"""A workflow of many steps is read in part, and looks as if all of it had been read."""

from __future__ import annotations

import cProfile
import pstats

import pytest

from durable import Context, Engine
from durable.dashboard import snapshot
from durable.dashboard.snapshot import PAGE_STEPS, REPORT_STEPS, Question, show, take
from durable.store.reader import Reader
from durable.testing import run_until_crash
from tests.dashboard.flows import pack, refund

MANY = 240


def long(ctx: Context) -> None:
    """Undo, publish, 240 steps side by side, a step in the middle of which the process dies, and 240 in branches."""
    ctx.on_failure(refund)
    ctx.publish("progress", 1)
    ctx.map(pack, [str(number) for number in range(MANY)])
    ctx.step("ship", pack, "a lamp")
    for future in [ctx.branch("side", side, number) for number in range(4)]:
        future.result()


def side(ctx: Context, number: int) -> None:
    for _ in range(MANY // 4):
        ctx.step(pack, str(number))


def one_by_one(ctx: Context, count: int) -> None:
    for number in range(count):
        ctx.step(pack, str(number))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.db"
    with Engine(path, synchronous="off") as engine:
        engine.run("thousand", one_by_one, 1_000)
        engine.run("ten_thousand", one_by_one, 10_000)
    run_until_crash(path, "resumed", long, at="ship:executed", synchronous="off")
    run_until_crash(path, "crashed", long, at="ship:executed", synchronous="off")
    with Engine(path, synchronous="off") as engine:
        engine.run("resumed", long)
    with Reader(path) as reader:
        yield reader


def counted(timeline):
    """How many attempts there are of each kind in each lane."""
    counts = {}
    for bar in timeline["bars"]:
        place = timeline["lanes"][bar["lane"]], bar["kind"]
        counts[place] = counts.get(place, 0) + bar["count"]
    return counts


def lives_of(timeline):
    """Where they begin and end differs a little: a short time without work is left out of a span."""
    return [(life["crashed"], life["replayed"]) for life in timeline["lives"]]


@pytest.mark.parametrize("first", [0, 100, 300])
@pytest.mark.parametrize("workflow_id", ["resumed", "crashed", "thousand"])
def test_a_part_of_it_shows_what_the_whole_of_it_does(reader, monkeypatch, workflow_id, first) -> None:
    part = show(reader, workflow_id, first, PAGE_STEPS)
    monkeypatch.setattr(snapshot, "WHOLE_STEPS", 1_000_000)
    whole = show(reader, workflow_id, first, PAGE_STEPS)
    drawn, expected = part.pop("timeline"), whole.pop("timeline")

    assert part == whole
    assert (drawn["lanes"], drawn["summary"]) == (expected["lanes"], expected["summary"])
    assert (lives_of(drawn), counted(drawn)) == (lives_of(expected), counted(expected))


def test_steps_that_follow_one_another_at_once_are_one_bar(reader) -> None:
    timeline = show(reader, "thousand", 0, PAGE_STEPS)["timeline"]

    assert max(bar["count"] for bar in timeline["bars"]) > PAGE_STEPS


def test_a_report_has_its_steps_in_program_order(reader) -> None:
    steps = show(reader, "resumed", 0, REPORT_STEPS)["steps"]

    assert [step["key"] for step in steps] == [step.step_key for step in reader.steps("resumed")]


def test_a_look_at_ten_thousand_steps_is_a_small_part_of_reading_them_all(reader, monkeypatch) -> None:
    def calls() -> int:
        profile = cProfile.Profile()
        profile.runcall(take, reader, Question(open="ten_thousand"))
        return pstats.Stats(profile).total_calls

    part = calls()
    monkeypatch.setattr(snapshot, "WHOLE_STEPS", 1_000_000)

    assert part < calls() / 4
