"""Changed code is found before any further effect, with both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import make_dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import pytest

from durable import Context, NonDeterminismError, SerializationError
from tests.conformance import world
from tests.conformance.differences import differs
from tests.conformance.engines import Lab, also_in_memory
from tests.conformance.world import act, slow


def before(ctx: Context) -> None:
    ctx.step(act, "a")
    ctx.submit(act, "b").result()
    ctx.branch(world.bridge, "c").result()


def other_name(ctx: Context) -> None:
    ctx.step(act, "a")
    ctx.submit(slow, "b").result()


def other_arguments(ctx: Context) -> None:
    ctx.step(act, "a")
    ctx.submit(act, "x").result()


def inserted(ctx: Context) -> None:
    ctx.step(world.pack, 1)
    before(ctx)


def swapped(ctx: Context) -> None:
    ctx.step(act, "b")
    ctx.step(act, "a")


def other_kind(ctx: Context) -> None:
    ctx.step(act, "a")
    ctx.branch("act", world.bridge, "b").result()


def removed(ctx: Context) -> None:
    ctx.step(act, "a")


def in_a_branch(ctx: Context) -> None:
    ctx.step(act, "a")
    ctx.submit(act, "b").result()
    ctx.branch("bridge", world.bridge, "x").result()


@also_in_memory
@pytest.mark.parametrize(
    ("changed", "key", "sides"),
    [
        (other_name, "act_2", ('act("b")', 'slow("b")')),
        (other_arguments, "act_2", ('act("b")', 'act("x")')),
        (inserted, "act_1", ('act("a")', "pack(1)")),
        (swapped, "act_1", ('act("a")', 'act("b")')),
        (other_kind, "act_2", ('act("b")', "act as a branch")),
        (removed, "act_2", ("act_2, bridge_3/act_1", "nothing")),
        (in_a_branch, "bridge_3/act_1", ('act("c bridge")', 'act("x bridge")')),
    ],
)
def test_changed_code_is_found_before_any_effect(
    lab: Lab, changed: Callable[[Context], None], key: str, sides: tuple[str, str]
) -> None:
    world.settings["way"] = before
    with lab.open() as engine:
        with pytest.raises(ValueError, match="the end"):
            engine.run("wf", world.changing)
        world.settings.update(way=changed, repaired=True)
        with pytest.raises(NonDeterminismError) as raised:
            engine.run("wf", world.changing)

    assert (raised.value.step_key, raised.value.recorded, raised.value.called) == (key, *sides)
    assert sorted(world.effects()) == ["act_1", "act_2", "bridge_3/act_1"]


@differs("stopped")
def test_a_refused_workflow_goes_on_once_the_old_code_is_back(lab: Lab) -> None:
    world.settings["way"] = before
    with lab.open() as engine:
        with pytest.raises(ValueError, match="the end"):
            engine.run("wf", world.changing)
        world.settings.update(way=other_arguments, repaired=True)
        with pytest.raises(NonDeterminismError):
            engine.run("wf", world.changing)
        status = engine.workflow("wf").status
        world.settings["way"] = before
        engine.run("wf", world.changing)
        ended = engine.workflow("wf").status

    assert (status, ended) == ("running" if lab.name == "sqlite" else "failed", "completed")
    assert sorted(world.effects()) == ["act_1", "act_2", "bridge_3/act_1"]


@also_in_memory
def test_a_patch_lets_old_executions_go_the_old_way(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("old", world.patching)
        world.settings.update(new=True, repaired=True)
        engine.run("old", world.patching)
        engine.run("new", world.patching)
        steps = {each: [step.step_key for step in engine.steps(each)] for each in ("old", "new")}

    assert steps == {
        "old": ["act_1", "act_2", "refuse_at_first_3"],
        "new": ["act_1", "with-badge_2", "act_3", "act_4", "refuse_at_first_5"],
    }


def add_tax(order: dict[str, int]) -> None:
    world.have_effect()
    order["tax"] = 19


async def add_later(order: dict[str, int]) -> None:
    add_tax(order)


def change(ctx: Context, how: str) -> None:
    order = {"net": 100}
    if how == "step":
        ctx.step(add_tax, order)
    elif how == "partial":
        ctx.submit(partial(add_tax, order)).result()
    elif how == "coroutine":
        ctx.submit(add_later, order).result()
    else:
        ctx.on_failure(add_tax, order)
        raise ValueError(how)
    ctx.step(act, "went on")


@also_in_memory
@pytest.mark.parametrize("how", ["step", "partial", "coroutine", "compensation"])
def test_a_step_that_changes_its_argument_in_place_is_refused(lab: Lab, how: str) -> None:
    with lab.open() as engine:
        for _ in range(2):
            with pytest.raises(NonDeterminismError) as caught:
                engine.run("wf", change, how)

            assert "its argument 'order' was changed in place while it ran" in str(caught.value)
            assert caught.value.workflow_id == "wf"

    assert [key.partition("/")[0] for key in world.effects()] == [
        f"add_{'later' if how == 'coroutine' else 'tax'}_1"
    ] * 2


def bind(ctx: Context) -> None:
    ctx.step(partial(world.act, world.settings["what"]))
    ctx.on_failure(partial(world.act, world.settings["what"]))
    raise KeyboardInterrupt


@also_in_memory
def test_arguments_that_a_partial_binds_are_compared(lab: Lab) -> None:
    with lab.open() as engine:
        for what, error in (("a", KeyboardInterrupt), ("b", NonDeterminismError)):
            world.settings["what"] = what
            with pytest.raises(error):
                engine.run("wf", bind)

    assert world.effects() == ["act_1"]


def rank(ctx: Context) -> None:
    kind = world.settings["kind"]

    def make() -> Any:
        world.have_effect()
        return kind.HIGH

    make.__annotations__ = {"return": kind}
    ctx.step(make)
    raise KeyboardInterrupt


@also_in_memory
def test_a_member_put_before_that_of_a_result_is_refused(lab: Lab) -> None:
    with lab.open() as engine:
        for members, error in ((["LOW", "HIGH"], KeyboardInterrupt), (["LOW", "MID", "HIGH"], NonDeterminismError)):
            world.settings["kind"] = IntEnum("Level", members)
            with pytest.raises(error):
                engine.run("wf", rank)

    assert world.effects() == ["make_1"]


@also_in_memory
def test_the_message_of_a_renamed_step_names_how_to_keep_its_name(lab: Lab) -> None:
    world.settings["step"] = act
    with lab.open() as engine:
        with pytest.raises(ValueError):
            engine.run("wf", world.with_renamed_step)
        world.settings |= {"step": world.act_under_another_name, "repaired": True}
        with pytest.raises(NonDeterminismError, match=r"mark the function with @step\(name='act'\); else give the new"):
            engine.run("wf", world.with_renamed_step)
        world.settings["step"] = world.act_under_its_old_name
        assert engine.run("wf", world.with_renamed_step)[0] == "FIRST"

    assert world.effects()[0] == "act_1"
    assert "act_1" not in world.effects()[1:]


def fetch_and_charge(ctx: Context) -> str:
    kind = world.settings["kind"]

    def fetch() -> Any:
        world.have_effect()
        return kind(7)

    def charge(order: Any) -> str:
        world.have_effect()
        return str(order.number)

    fetch.__annotations__ = {"return": kind}
    charged = ctx.step(charge, ctx.step(fetch)) + ctx.step(charge, kind(8))
    if world.settings.get("repaired"):
        return charged
    raise KeyboardInterrupt


def run_with(engine: Any, *fields: Any) -> Any:
    world.settings["kind"] = make_dataclass("Order", [("number", int), *fields])
    return engine.run("wf", fetch_and_charge)


@also_in_memory
def test_a_field_added_with_a_default_is_no_divergence(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(KeyboardInterrupt):
            run_with(engine)
        world.settings["repaired"] = True

        assert run_with(engine, ("note", str, "")) == "78"

    assert world.effects() == ["fetch_1", "charge_2", "charge_3"]


@also_in_memory
def test_a_recorded_field_that_was_removed_is_refused(lab: Lab) -> None:
    with lab.open() as engine:
        with pytest.raises(KeyboardInterrupt):
            run_with(engine, ("note", str, ""))
        with pytest.raises(SerializationError, match="Order has no field 'note' any more"):
            run_with(engine)

    assert world.effects() == ["fetch_1", "charge_2", "charge_3"]
