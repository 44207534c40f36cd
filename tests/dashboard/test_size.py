"""Many workflows: the first picture takes about as long as for few, and looking slows no workflow down."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from statistics import median

import pytest

from durable import Context, Engine
from durable.dashboard.snapshot import Question, take
from durable.store.reader import Reader
from tests.browser.conftest import browser  # noqa: F401 - a fixture
from tests.dashboard.flows import pack

FEW, MANY = 100, 10_000
ROUNDS = 7


def short(ctx: Context) -> list[str]:
    return [ctx.step(pack, str(number)) for number in range(3)]


def make(path, count: int):
    """A database with so many workflows of three steps: one is run, the others are copies of its rows."""
    with Engine(path) as engine:
        engine.run("w00000", short)
    with closing(sqlite3.connect(path)) as db:
        for table, key in (("workflows", "id"), ("runs", "workflow_id"), ("steps", "workflow_id")):
            columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
            values = ", ".join("printf('w%05d', n)" if name == key else name for name in columns)
            db.execute(
                f"with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < {count - 1})"
                f" insert into {table} select {values} from {table} join numbers where {key} = 'w00000'"
            )
        db.commit()
    return path


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    return make(folder / "few.db", FEW), make(folder / "many.db", MANY)


def test_the_copies_are_workflows(databases) -> None:
    with Reader(databases[1]) as reader:
        answer = take(reader, Question())
        assert reader.check_integrity() == []

    assert (answer["total"], len(answer["rows"])) == (MANY, 50)


@pytest.mark.browser
@pytest.mark.thorough
def test_the_first_picture_of_ten_thousand_takes_at_most_twice_as_long_as_of_a_hundred(databases, browser) -> None:  # noqa: F811
    from durable.dashboard.drawn.server import Server

    took: dict[int, list[float]] = {0: [], 1: []}
    with Reader(databases[0]) as few, Reader(databases[1]) as many, Server(few) as one, Server(many) as other:
        for _ in range(ROUNDS):  # in alternation, so that a busy machine is busy for both
            for place, server in enumerate((one, other)):
                page = browser.new_page()
                begin = time.perf_counter()
                page.goto(server.url)
                page.locator(".durable-open").nth(49).wait_for()
                took[place].append(time.perf_counter() - begin)
                page.close()
    ratio = median(took[1]) / median(took[0])
    print(f"first picture: {median(took[0]):.3f} s of {FEW}, {median(took[1]):.3f} s of {MANY}, ratio {ratio:.2f}")

    assert ratio <= 2


def test_a_look_at_ten_thousand_workflows_asks_for_a_pause_of_a_hundred_times_its_length(databases) -> None:
    with Reader(databases[1]) as reader:
        begin = time.perf_counter()
        answer = take(reader, Question())
        took = time.perf_counter() - begin

    assert answer["pause"] >= 1
    assert answer["pause"] <= max(1, 100 * took)
