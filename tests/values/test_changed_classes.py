"""Classes that change between two runs of a workflow: what goes on, and what is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from durable import Context, Engine
from durable.store.transaction import Transaction

effects: list[str] = []


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    effects.clear()
    with Engine(tmp_path / "workflow.db") as engine:
        yield engine


# ---- two versions of a class

FIELDS: dict[str, Any] = {"number": int}
NEW_FIELDS: dict[str, tuple[Any, Any]] = {"note": (str, ""), "tags": (list[str], list)}


def with_factory(default: Any, factory: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    return factory(default) if isinstance(default, type) else plain(default)


def make_dataclass(old: dict[str, Any], new: dict[str, tuple[Any, Any]], **options: Any) -> type:
    added = [
        (name, kind, with_factory(default, lambda f: dataclasses.field(default_factory=f), lambda d: d))
        for name, (kind, default) in new.items()
    ]
    return dataclasses.make_dataclass("Order", [*old.items(), *added], **options)


def make_slotted(old: dict[str, Any], new: dict[str, tuple[Any, Any]]) -> type:
    return make_dataclass(old, new, slots=True)


def make_struct(old: dict[str, Any], new: dict[str, tuple[Any, Any]]) -> type:
    added = [
        (name, kind, with_factory(default, lambda f: msgspec.field(default_factory=f), lambda d: d))
        for name, (kind, default) in new.items()
    ]
    return msgspec.defstruct("Order", [*old.items(), *added])


def make_attrs(old: dict[str, Any], new: dict[str, tuple[Any, Any]]) -> type:
    fields = {name: attrs.field(type=kind) for name, kind in old.items()} | {
        name: with_factory(
            default, lambda f, t=kind: attrs.field(factory=f, type=t), lambda d, t=kind: attrs.field(default=d, type=t)
        )
        for name, (kind, default) in new.items()
    }
    return attrs.make_class("Order", fields)


KINDS = {"dataclass": make_dataclass, "slots": make_slotted, "Struct": make_struct, "attrs": make_attrs}


# ---- two versions of the code


def code(order: type, *, crashes: bool) -> dict[str, Callable[..., Any]]:
    """Workflow functions, each with an argument of the class, as one version of the code has them."""

    def fetch(number: int) -> order:  # type: ignore[valid-type]
        effects.append("fetch")
        return order(number)

    def charge(given: Any) -> int:
        effects.append("charge")
        return int(given.number)

    def save(_: Transaction, given: Any) -> int:
        return charge(given)

    def below(_: Context, given: order) -> int:  # type: ignore[valid-type]
        return charge(given)

    def undo(given: Any) -> None:
        effects.append(f"undo {given.number}")

    def last() -> None:
        if crashes:
            raise KeyboardInterrupt

    def step(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        ctx.step(charge, ctx.step(fetch, 7))
        ctx.step(charge, order(8))
        ctx.submit(charge, given).result()
        ctx.step(last)
        return int(given.number)

    def child(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        paid = ctx.child(below, order(8)).result() + ctx.child(below, given).result()
        ctx.step(last)
        return int(paid)

    def transaction(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        paid = ctx.transaction(save, order(8)) + ctx.transaction(save, given)
        ctx.step(last)
        return paid

    def compensation(ctx: Context, given: order) -> int:  # type: ignore[valid-type]
        ctx.on_failure(undo, order(8))
        ctx.on_failure(undo, given)
        ctx.step(last)
        raise ValueError("no")

    functions: dict[str, Callable[..., Any]] = {
        "step": step, "child": child, "transaction": transaction, "compensation": compensation,
    }  # fmt: skip
    for each in (*functions.values(), fetch, below):
        each.__annotations__ = {name: order if hint == "order" else hint for name, hint in each.__annotations__.items()}
    return functions


# ---- fields added


@pytest.mark.parametrize("how", ["step", "child", "transaction", "compensation"])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_workflow_goes_on_when_a_class_has_got_fields_with_defaults(
    engine: Engine, make: Callable[..., type], how: str
) -> None:
    old, new = make(FIELDS, {}), make(FIELDS, NEW_FIELDS)
    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", code(old, crashes=True)[how], old(7))
    before = list(effects)

    try:
        ended: Any = engine.run("wf", code(new, crashes=False)[how], new(7))
    except ValueError as error:
        ended = str(error)

    assert ended == {"step": 7, "child": 15, "transaction": 15, "compensation": "no"}[how]
    assert effects == [*before, *(["undo 7", "undo 8"] if how == "compensation" else [])]


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_call_with_a_new_field_of_its_default_is_the_same_call(engine: Engine, make: Callable[..., type]) -> None:
    old, new = make(FIELDS, {}), make(FIELDS, NEW_FIELDS)
    first = engine.run("wf", code(old, crashes=False)["transaction"], old(7))
    done = list(effects)

    assert engine.run("wf", code(new, crashes=False)["transaction"], new(7)) == first
    assert effects == done
