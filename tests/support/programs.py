"""Programs: workflows as plain data, so that they can be generated, shrunk, and given to any process."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from durable import Context
from durable.testing import effect
from tests.support.operations import post, third_time

Program = list[Any]  # of nodes, each a list: what it does, and with what


# ---- steps


def do(what: str) -> str:
    effect("do", what)
    return what.upper()


async def do_async(what: str) -> str:
    effect("do", what)
    return what.upper()


def refuse(what: str) -> str:
    effect("refuse", what)
    raise ValueError(f"no {what} today")


# ---- the workflow


def run_program(ctx: Context, program: Program) -> list[str]:
    """All nodes in order; what each brought."""
    brought: list[str] = []
    branches = []
    for node in program:
        kind, *rest = node
        if kind == "branch":
            branches.append(ctx.branch(run_program, rest[0]))
        else:
            brought += run_node(ctx, kind, rest, brought)
    for future in branches:
        brought += future.result()
    return brought


def run_node(ctx: Context, kind: str, rest: list[Any], brought: list[str]) -> list[str]:
    """One node that is not a branch."""
    if kind == "do":
        return [ctx.step(do, rest[0])]
    if kind == "do async":
        return [ctx.step(do_async, rest[0])]
    if kind == "fail":
        return [ctx.step(refuse, rest[0])]
    if kind == "loop":
        return [line for _ in range(rest[0]) for line in run_program(ctx, rest[1])]
    if kind == "together":
        futures = [ctx.submit(do_async if number % 2 else do, what) for number, what in enumerate(rest[0])]
        return [future.result() for future in futures]
    if kind == "map":
        return ctx.map(do, rest[0], max_concurrent=2)
    if kind == "try":
        try:
            return run_program(ctx, rest[0])
        except ValueError as error:
            return [ctx.step(do, f"despite {error}")]
    if kind == "either":
        return run_program(ctx, rest[len(brought) % 2])
    return run_operation(ctx, kind, rest)


def run_operation(ctx: Context, kind: str, rest: list[Any]) -> list[str]:
    """One node that is more than steps."""
    if kind == "sleep":
        ctx.sleep(rest[0] / 1000)
        return ["rested"]
    if kind == "message":
        ctx.step(post, rest[0], rest[0])  # a name for each word: whichever branch receives it, it is the same
        return [ctx.wait_event(rest[0], type=str)]
    if kind == "race":
        return [ctx.first(ctx.event("never"), ctx.submit(do, rest[0])).result().result()]
    if kind == "retry":
        return [ctx.step(third_time, rest[0])]
    if kind == "undo":
        ctx.on_failure(do, f"undo {rest[0]}")
        return []
    assert kind == "child"
    child: list[str] = ctx.child(run_program, rest[0]).result()
    return child


# ---- how to generate one

words = st.sampled_from(["a", "b"])
one_by_one = st.one_of(
    st.tuples(st.just("do"), words),
    st.tuples(st.just("do async"), words),
    st.tuples(st.just("fail"), words),
).map(list)
operations = st.one_of(
    st.tuples(st.just("sleep"), st.integers(0, 3)),
    st.tuples(st.just("message"), words),
    st.tuples(st.just("race"), words),
    st.tuples(st.just("retry"), words),
    st.tuples(st.just("undo"), words),
).map(list)
simple = st.one_of(
    one_by_one,
    operations,
    st.tuples(st.just("together"), st.lists(words, min_size=1, max_size=3)).map(list),
    st.tuples(st.just("map"), st.lists(words, min_size=1, max_size=3)).map(list),
)


def _larger(nodes: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    program = st.lists(nodes, min_size=1, max_size=3)
    return st.one_of(
        _larger_in_turn(nodes),
        st.tuples(st.just("branch"), program).map(list),
        st.tuples(st.just("child"), program).map(list),
    )


def _larger_in_turn(nodes: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    program = st.lists(nodes, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("loop"), st.integers(1, 3), program),
        st.tuples(st.just("try"), program),
        st.tuples(st.just("either"), program, program),
    ).map(list)


programs = st.lists(st.recursive(simple, _larger, max_leaves=6), min_size=1, max_size=4)
"""Loops, decisions, parallel and async steps, branches and children within each other, failures that are caught or are
not, timers, messages, races, retries, compensations."""

programs_in_turn = st.lists(st.recursive(one_by_one, _larger_in_turn, max_leaves=6), min_size=1, max_size=4)
"""The same without parallel work: where a kill falls then does not depend on the threads."""
