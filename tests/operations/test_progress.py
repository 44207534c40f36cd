"""Progress out of a step: what may be published, how often a row is written, and what it costs a step without any."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, current_step, step
from durable.errors import InvalidNameError, NotSupportedError, SerializationError
from durable.limits import progress
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually


def rows(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("select step_key, name, value, total from step_progress order by step_key").fetchall()


def run_step(path: Path, fn: Any) -> Any:
    def one(ctx: Context) -> Any:
        return ctx.step("it", fn)

    with Engine(path) as engine:
        return engine.run("wf", one)


class Held:
    """A step that goes on once the test has looked."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self) -> None:
        self.go.wait(PATIENCE_SECONDS)


def test_a_step_that_publishes_often_writes_a_few_rows_a_second(database: Path) -> None:
    count, seconds = 0, 5 * progress.INTERVAL_SECONDS

    def busy() -> int:
        nonlocal count
        me, give_up_at = current_step(), time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            me.publish("count", count := count + 1)
        return count

    def one(ctx: Context) -> int:
        return ctx.step(busy)

    with Engine(database) as engine:
        handle, seen = engine.start("wf", one), set()
        while not handle.done():
            seen |= {each.value for each in engine.progress("wf")}
        assert handle.result() == count

    assert 1 <= len(seen) <= 1 + seconds / progress.INTERVAL_SECONDS
    assert count > 100 * len(seen)
    assert rows(database) == []


def test_what_has_ended_is_dropped_while_others_publish_on(database: Path) -> None:
    held = Held()

    def item(number: int) -> None:
        me = current_step()
        me.publish("item", number)
        while number == 0 and not held.go.is_set():
            me.publish("item", number)

    def many(ctx: Context) -> None:
        futures = [ctx.submit(item, number) for number in range(20)]
        [future.result() for future in futures]

    with Engine(database) as engine:
        handle = engine.start("wf", many)
        eventually(lambda: sum(each.status == "completed" for each in engine.steps("wf")) == 19)
        eventually(lambda: rows(database) == [("item_1", "item", "0", None)])
        held.go.set()
        handle.result()


def test_a_step_without_progress_begins_no_thread_and_writes_nothing(database: Path) -> None:
    names: set[str] = set()

    def quiet() -> None:
        current_step()
        names.update(thread.name for thread in threading.enumerate())

    run_step(database, quiet)

    assert "progress" not in names
    assert rows(database) == []


def test_a_map_that_ends_at_once_writes_nothing(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr("durable.store.log.FileLog.save_progress", lambda *what: written.append(what))

    def both(ctx: Context) -> list[int]:
        return ctx.map(len, ["a", "bb"])

    with Engine(database) as engine:
        assert engine.run("wf", both) == [1, 2]

    assert written == []


def test_a_step_publishes_from_a_process_of_its_own(database: Path) -> None:
    held = database.with_name("go")

    @step(isolate=True)
    def away(path: str) -> str:
        current_step().publish("rows", 4, total=10)
        while not Path(path).exists():
            time.sleep(0.01)
        return "done"

    def one(ctx: Context) -> str:
        return ctx.step(away, str(held))

    with Engine(database) as engine:
        handle = engine.start("wf", one)
        eventually(lambda: rows(database) == [("away_1", "rows", "4", 10.0)])
        held.touch()

        assert handle.result() == "done"


def test_a_value_is_plain_json_or_a_number_of_a_library(database: Path) -> None:
    class Scalar:
        def item(self) -> float:
            return 0.5

    held, seen = Held(), list[Any]()

    def say() -> None:
        current_step().publish("loss", {"train": Scalar(), "at": [1, None]})
        held()

    def one(ctx: Context) -> None:
        ctx.step(say)

    with Engine(database) as engine:
        handle = engine.start("wf", one)
        eventually(lambda: seen.extend(engine.progress("wf")) or seen)
        held.go.set()
        handle.result()
    assert seen[0].value == {"train": 0.5, "at": [1, None]}
    assert seen[0].text == 'loss {"train":0.5,"at":[1,null]}'


@pytest.mark.parametrize(
    ("name", "value", "total", "kind", "words"),
    [
        ("a/b", 1, None, InvalidNameError, "without '/'"),
        ("x", object(), None, SerializationError, "publish a number or a short text"),
        ("x", "y" * 20_000, None, SerializationError, "it takes 20,002 bytes"),
        ("x", "half", 2, TypeError, "leave total out"),
        ("x", 1, "2", TypeError, "leave total out"),
    ],
)
def test_what_cannot_be_published_is_refused(
    database: Path, name: str, value: object, total: float | None, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run_step(database, lambda: current_step().publish(name, value, total=total))


def test_a_copy_of_the_facts_in_another_process_cannot_publish(database: Path) -> None:
    def look() -> list[bool]:
        me, again = current_step(), current_step()
        away = pickle.loads(pickle.dumps(me))
        assert copy.copy(me).key == "it_1"
        with pytest.raises(NotSupportedError, match="publish in the step itself"):
            away.publish("x", 1)
        return [me == again, away.key == me.key, "reporter" not in repr(me)]

    assert run_step(database, look) == [True, True, True]


def test_the_run_goes_on_if_progress_cannot_be_written(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotSupportedError("no", operation="progress")

    monkeypatch.setattr("durable.store.log.FileLog.save_progress", refuse)

    def say() -> str:
        for number in range(3):
            current_step().publish("x", number)
            time.sleep(progress.INTERVAL_SECONDS)
        return "done"

    assert run_step(database, say) == "done"


def test_nothing_of_a_run_that_was_taken_over_is_seen(database: Path) -> None:
    """A run that was believed dead says something after its successor has begun: only the successor is seen."""
    held, said = Held(), []

    def say() -> None:
        me = current_step()
        said.append(me)
        me.publish("run", me.run)
        held()

    def one(ctx: Context) -> None:
        ctx.step(say)

    with Engine(database) as engine:
        handle = engine.start("wf", one)
        eventually(lambda: rows(database) == [("say_1", "run", "1", None)])
        with closing(sqlite3.connect(database)) as db:
            db.execute("update runs set ended = 'crashed'")
            db.execute("update workflows set epoch = 2")
            db.commit()

        assert engine.progress("wf") == []
        said[0].publish("run", "late")
        time.sleep(3 * progress.INTERVAL_SECONDS)
        assert rows(database) == [("say_1", "run", "1", None)]
        held.go.set()
        with pytest.raises(Exception, match="newer run"):
            handle.result()
