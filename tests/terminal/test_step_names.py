"""A crash point is refused only if the source leaves no doubt that the workflow has no such step."""

from __future__ import annotations

import functools

import pytest

from durable import Context, step
from durable.examples.approval import approval
from durable.examples.onboarding import onboarding
from durable.examples.saga import saga
from durable.terminal.run.step_names import names_without


def charge() -> None:
    """Have no effect."""


@step(name="ship the parcel")
def ship() -> None:
    """Have no effect."""


def plain(ctx: Context) -> None:
    ctx.step(charge)
    ctx.submit("wrap", charge).result()
    ctx.on_failure(ship)
    ctx.sleep(0.1)
    if ctx.patched("politely"):
        ctx.wait_event("answer")


def gives_it_away(ctx: Context) -> None:
    ctx.step(charge)
    plain(ctx)


def keeps_it(ctx: Context) -> None:
    other = ctx
    other.step(charge)


def chooses(ctx: Context, fn=charge) -> None:
    ctx.step(fn)


def loops(ctx: Context) -> None:
    for charge in (ship, print):
        ctx.step(charge)


def comprehends(ctx: Context) -> list[None]:
    return [ctx.step(charge) for charge in (ship, print)]


def takes_a_method(ctx: Context) -> None:
    run = ctx.step
    run(charge)


def branches(ctx: Context) -> None:
    ctx.branch("leg", lambda inner: inner.step(charge)).result()


def names_it_at_run_time(ctx: Context) -> None:
    ctx.step(f"charge {1}", charge)


@functools.wraps(plain)
def wrapped(ctx: Context) -> None:
    plain(ctx)


def test_the_names_are_those_of_all_calls():
    assert names_without(plain, "chrage") == ["charge", "wrap", "ship the parcel", "politely", "answer"]


@pytest.mark.parametrize(
    "word", ["charge", "charge_1", "id/wrap_2", "ship the parcel", "sleep_4", "answer", "workflow"]
)
def test_a_step_that_is_there_is_found_by_its_name_or_its_key(word):
    assert names_without(plain, word) == []


@pytest.mark.parametrize(
    "workflow",
    [
        gives_it_away,
        keeps_it,
        chooses,
        loops,
        comprehends,
        takes_a_method,
        branches,
        names_it_at_run_time,
        wrapped,
        print,
    ],
)
def test_nothing_is_said_where_a_name_cannot_be_known(workflow):
    assert names_without(workflow, "no such step") == []


def test_the_examples_have_their_steps():
    assert names_without(onboarding, "provision_laptops")[1] == "provision_laptop"
    assert names_without(onboarding, "provision_laptop_2") == names_without(saga, "return_laptop") == []
    assert names_without(approval, "approval_1") == []
