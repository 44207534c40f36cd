"""A step that changes an argument in place is refused by name on the first run: a replay would not see the change."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from durable import Context, Engine, NonDeterminismError, Retry, step
from durable.store.transaction import Transaction

effects: list[str] = []


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    effects.clear()
    with Engine(tmp_path / "workflow.db") as engine:
        yield engine


def add_tax(order: dict[str, int]) -> None:
    effects.append("add_tax")
    order["tax"] = 19


async def add_later(order: dict[str, int]) -> None:
    add_tax(order)


def add_all(*orders: dict[str, int]) -> None:
    add_tax(orders[-1])


def add_in_database(_: Transaction, order: dict[str, int]) -> None:
    add_tax(order)


def add_and_fail(order: dict[str, int]) -> None:
    add_tax(order)
    raise ValueError("no")


@step(retry=Retry(attempts=3))
def add_and_retry(order: dict[str, int]) -> None:
    add_and_fail(order)


def add_for(rate: int, order: dict[str, int]) -> None:
    effects.append(str(rate))
    add_tax(order)


class Till:
    def add(self, order: dict[str, int]) -> None:
        add_tax(order)


def undo(ctx: Context, order: dict[str, int]) -> None:
    ctx.on_failure(add_tax, order)
    raise ValueError("no")


@dataclass
class Order:
    net: int
    notes: list[str] = field(default_factory=list)


def note(order: Order) -> None:
    order.notes.append("seen")


def fill(numbers: Any) -> None:
    numbers[:] = 1


def add_column(frame: pd.DataFrame) -> None:
    frame["tax"] = 19


WAYS: list[tuple[str, Callable[[Context, Any], Any], str, str]] = [
    ("a step", lambda ctx, order: ctx.step(add_tax, order), "add_tax_1", "'order'"),
    ("a keyword", lambda ctx, order: ctx.step(add_tax, order=order), "add_tax_1", "'order'"),
    ("one of several", lambda ctx, order: ctx.step(add_all, {}, order), "add_all_1", "2"),
    ("a coroutine", lambda ctx, order: ctx.step(add_later, order), "add_later_1", "'order'"),
    ("a submitted step", lambda ctx, order: ctx.submit(add_tax, order).result(), "add_tax_1", "'order'"),
    ("a coroutine submitted", lambda ctx, order: ctx.submit(add_later, order).result(), "add_later_1", "'order'"),
    ("a map", lambda ctx, order: ctx.map(add_tax, [order]), "add_tax_1", "'order'"),
    ("a transaction", lambda ctx, order: ctx.transaction(add_in_database, order), "add_in_database_1", "'order'"),
    ("a compensation", undo, "add_tax_1/add_tax_1", "'order'"),
    ("a failed step", lambda ctx, order: ctx.step(add_and_fail, order), "add_and_fail_1", "'order'"),
    ("a failed attempt", lambda ctx, order: ctx.step(add_and_retry, order), "add_and_retry_1", "'order'"),
    ("a partial", lambda ctx, order: ctx.step(partial(add_for, 5, order)), "add_for_1", "'order'"),
    ("a method", lambda ctx, order: ctx.step(Till().add, order), "add_1", "'order'"),
]  # fmt: skip


@pytest.mark.parametrize(("way", "key", "name"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS])
@pytest.mark.parametrize("is_watched", [False, True])
def test_a_change_is_refused_with_its_step_and_its_argument_in_each_run(
    tmp_path: Path, way: Callable[[Context, Any], Any], key: str, name: str, is_watched: bool
) -> None:
    effects.clear()

    def workflow(ctx: Context) -> None:
        way(ctx, {"net": 100})
        effects.append("went on")

    with Engine(tmp_path / "workflow.db", observers=[lambda _: None] if is_watched else []) as engine:
        for _ in range(2):
            with pytest.raises(NonDeterminismError) as caught:
                engine.run("wf", workflow)

            assert caught.value.step_key == key
            assert caught.value.workflow_id == "wf"
            assert f'its argument {name} was changed in place while it ran, from {{"net":100}} to' in str(caught.value)
            assert '{"net":100,"tax":19}' in str(caught.value)
            assert "return it" in str(caught.value)

        assert engine.workflow("wf").status == "running"
        assert [run.ended for run in engine.runs("wf")] == ["stopped", "stopped"]
    assert effects.count("add_tax") == 2
    assert "went on" not in effects


def test_an_async_workflow_is_refused_too(engine: Engine) -> None:
    async def workflow(ctx: Context) -> None:
        await ctx.submit(add_later, {"net": 100})

    with pytest.raises(NonDeterminismError, match="'order' was changed in place"):
        engine.run("wf", workflow)


@pytest.mark.parametrize(
    ("fn", "argument"),
    [
        (note, Order(1)),
        (list.clear, [0, 0]),
        (fill, np.zeros(2)),
        (add_column, pd.DataFrame({"net": [100]})),
        (set.pop, {1, 2}),
        (add_tax, {"net": 100, "notes": "x" * 500}),
        (bytearray.clear, bytearray(b"a")),
        (lambda keys: keys.append("\ud800"), ["a"]),
    ],
    ids=["dataclass", "list", "array", "frame", "set", "long", "bytearray", "no JSON form any more"],
)
def test_a_change_of_any_kind_of_value_is_refused(engine: Engine, fn: Any, argument: Any) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step("change", fn, argument)

    with pytest.raises(NonDeterminismError, match=r"its argument .* was changed in place"):
        engine.run("wf", workflow)


def test_what_the_step_returns_instead_goes_on(engine: Engine) -> None:
    def with_tax(order: dict[str, int]) -> dict[str, int]:
        return order | {"tax": 19}

    def workflow(ctx: Context) -> int:
        return sum(ctx.step(with_tax, {"net": 100}).values())

    assert engine.run("wf", workflow) == 119


class Counter:
    """An object without content."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, n: int) -> int:
        self.count += n
        return self.count


@dataclass
class Tally:
    """An object with content, whose method changes it."""

    count: int = 0

    def add(self, n: int) -> int:
        self.count += n
        return self.count


@pytest.mark.parametrize("make", [Counter, Tally])
def test_the_object_of_a_method_and_objects_without_content_may_change(engine: Engine, make: Callable[[], Any]) -> None:
    seen: list[int] = []

    def count(counter: Counter) -> int:
        seen.append(1)  # a closure
        return counter.add(1)

    def workflow(ctx: Context) -> int:
        other = Counter()
        return ctx.step(make().add, 2) + ctx.step(count, other) + ctx.step(count, other)

    assert engine.run("wf", workflow) == 5
    assert seen == [1, 1]


def test_a_step_on_record_may_change_what_it_likes(engine: Engine) -> None:
    def last() -> None:
        if not effects:
            effects.append("last")
            raise KeyboardInterrupt

    def change(order: dict[str, int], *, is_new: bool) -> None:
        if is_new:
            order["tax"] = 19

    def workflow(ctx: Context) -> None:
        ctx.step(partial(change, {"net": 100}), is_new=False)
        ctx.step(last)

    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", workflow)
    engine.run("wf", workflow)

    assert [step.status for step in engine.steps("wf")] == ["completed"] * 2


def test_the_workflow_may_change_what_it_has_registered_to_be_undone(engine: Engine) -> None:
    def release(seats: list[int]) -> None:
        effects.append(f"release {seats}")

    def reserve(seat: int) -> int:
        return seat

    def workflow(ctx: Context) -> None:
        seats: list[int] = []
        ctx.on_failure(release, seats)
        seats.append(ctx.step(reserve, 1))
        seats.append(ctx.step(reserve, 2))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        engine.run("wf", workflow)

    assert effects == ["release [1, 2]"]
    assert engine.workflow("wf").status == "failed"
