"""The replay rule, asked on the log in memory: no file, no engine, no alarm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from durable import Context, Retry, current_step, step
from durable.errors import (
    CorruptionError,
    FencedError,
    NonDeterminismError,
    NotSupportedError,
    ScopeError,
    WorkflowCancelledError,
)
from durable.observer import Moment
from durable.replay import program_order
from durable.testing.memory import Memory, MemoryLog
from tests.support.memory import ID, ends, run, saved_anew, statuses, superseded

effects: list[str] = []
falling: set[str] = set()  # what fails
stopping: set[str] = set()  # what ends its run as Ctrl+C or a crash would


@pytest.fixture(autouse=True)
def _nothing_has_happened() -> Iterator[None]:
    for each in (effects, falling, stopping):
        each.clear()
    yield


def act(what: str) -> str:
    effects.append(what)
    if what in stopping:
        raise SystemExit
    if what in falling:
        raise ValueError(what)
    return what.upper()


async def act_async(what: str) -> str:
    await asyncio.sleep(0)
    return act(what)


def order(*what: str) -> Callable[[Context], list[str]]:
    """Return a workflow of these steps, one after the other."""

    def workflow(ctx: Context) -> list[str]:
        return [ctx.step(act, each) for each in what]

    return workflow


def run_until(what: str, workflow: Callable[..., Any], memory: Memory) -> None:
    """Run a workflow up to the effect of this step, whose row stays `running`; forget the effects."""
    stopping.add(what)
    with pytest.raises(SystemExit):
        run(workflow, memory=memory)
    stopping.clear()
    effects.clear()


# ---- keys


def test_keys_count_in_program_order_within_each_function() -> None:
    def leg(ctx: Context) -> str:
        return ctx.step(act, "b") + ctx.step(act, "c")

    def workflow(ctx: Context) -> list[str]:
        first, branch = ctx.step(act, "a"), ctx.branch(leg)
        return [first, ctx.submit("last", act, "d").result(), branch.result()]

    memory = Memory()

    assert run(workflow, memory=memory) == ["A", "D", "BC"]
    assert sorted(memory.steps, key=program_order) == ["act_1", "leg_2/act_1", "leg_2/act_2", "last_3"]


def test_keys_are_the_same_however_parallel_steps_are_scheduled() -> None:
    def workflow(ctx: Context) -> list[str]:
        return [future.result() for future in reversed([ctx.submit(act, each) for each in "abcdef"])]

    memory = Memory()
    run(workflow, memory=memory)

    outputs = {key: row.output for key, row in memory.steps.items()}
    assert outputs == {f"act_{n}": f'"{each.upper()}"' for n, each in enumerate("abcdef", 1)}


# ---- answers from the record


def test_a_completed_step_is_answered_from_its_row() -> None:
    memory = Memory()
    run_until("c", order("a", "b", "c"), memory)

    assert run(order("a", "b", "c"), memory=memory) == ["A", "B", "C"]
    assert effects == ["c"]


def test_a_row_left_running_is_tried_again_as_the_next_attempt() -> None:
    memory = Memory()
    run_until("b", order("a", "b"), memory)
    assert statuses(memory) == {"act_1": "completed", "act_2": "running"}

    run(order("a", "b"), memory=memory)

    assert memory.steps["act_2"].attempt == 2
    assert superseded(memory) == [("act_2", 1, "running")]
    assert ends(memory) == ["interrupted", "completed"]


def test_each_moment_of_a_replay_says_which_step_was_answered_and_which_ran() -> None:
    memory, seen = Memory(), list[str]()

    def watch(moment: Moment) -> None:
        seen.append(f"{moment.step_key or ''} {moment.name.partition('.')[2]}")

    run_until("b", order("a", "b"), memory)
    run(order("a", "b"), memory=memory, observers=[watch])

    assert seen == [
        " started",
        "act_1 replayed",
        *(f"act_2 {moment}" for moment in ("scheduled", "started", "executed", "checkpointed")),
        " completed",
    ]


def test_a_failure_that_the_code_caught_is_raised_again_from_its_row() -> None:
    def workflow(ctx: Context) -> str:
        try:
            return ctx.step(act, "boat")
        except ValueError as error:
            return ctx.step(act, f"no {error}")

    memory = Memory()
    falling.add("boat")
    run_until("no boat", workflow, memory)
    falling.clear()

    assert run(workflow, memory=memory) == "NO BOAT"
    assert effects == ["no boat"]


def test_a_recorded_outcome_that_does_not_match_its_checksum_ends_the_run() -> None:
    memory = Memory()
    run_until("b", order("a", "b"), memory)
    memory.steps["act_1"] = memory.steps["act_1"]._replace(output='"Z"')

    with pytest.raises(CorruptionError):
        run(order("a", "b"), memory=memory)
    assert effects == []
    assert ends(memory) == ["interrupted", "stopped"]


# ---- divergence


def with_other_name(ctx: Context) -> None:
    ctx.step("other", act, "a")


def with_other_kind(ctx: Context) -> None:
    ctx.publish("act", "a")


def as_a_branch(ctx: Context) -> None:
    ctx.branch("act", with_other_name).result()


@pytest.mark.parametrize(
    ("changed", "called"),
    [
        (with_other_name, 'other("a")'),
        (with_other_kind, 'act("a")'),
        (order("z"), 'act("z")'),
        (as_a_branch, "act as a branch"),
        (order(), "nothing"),
    ],
    ids=["name", "kind", "arguments", "branch", "nothing"],
)
def test_another_operation_in_the_place_of_a_recorded_one_is_refused(
    changed: Callable[[Context], Any], called: str
) -> None:
    memory = Memory()
    run_until("b", order("a", "b"), memory)
    before = dict(memory.steps)

    with pytest.raises(NonDeterminismError) as caught:
        run(changed, memory=memory)
    assert (caught.value.step_key, caught.value.called) == ("act_1", called)
    assert effects == []
    assert memory.steps == before


def test_code_that_swallows_a_divergence_goes_no_further() -> None:
    def changed(ctx: Context) -> str:
        try:
            return ctx.step(act, "z")
        except NonDeterminismError:
            return ctx.step(act, "y")

    memory = Memory()
    run_until("b", order("a", "b"), memory)

    with pytest.raises(NonDeterminismError):
        run(changed, memory=memory)
    assert effects == []
    assert ends(memory) == ["interrupted", "stopped"]


# ---- failed steps


def test_the_failed_step_that_ended_the_workflow_is_tried_anew_and_no_other() -> None:
    memory = Memory()
    falling.add("b")
    with pytest.raises(ValueError, match="b"):
        run(order("a", "b", "c"), memory=memory)
    falling.clear()
    effects.clear()

    assert run(order("a", "b", "c"), memory=memory) == ["A", "B", "C"]
    assert effects == ["b", "c"]
    assert superseded(memory) == [("act_2", 1, "failed")]
    assert ends(memory) == ["failed", "completed"]


def test_the_code_may_take_another_way_once_the_failed_step_has_succeeded() -> None:
    def workflow(ctx: Context) -> str:
        try:
            charged = ctx.step(act, "charge")
        except ValueError:
            ctx.step("tell", act, "sorry")
            raise
        return charged + ctx.step(act, "ship")

    memory = Memory()
    falling.add("charge")
    with pytest.raises(ValueError, match="charge"):
        run(workflow, memory=memory)
    falling.clear()

    assert run(workflow, memory=memory) == "CHARGESHIP"
    assert effects == ["charge", "sorry", "charge", "ship"]
    assert superseded(memory) == [("act_1", 1, "failed"), ("tell_2", 1, "completed")]


def test_code_that_changed_before_the_failed_step_is_still_refused() -> None:
    memory = Memory()
    falling.add("b")
    with pytest.raises(ValueError, match="b"):
        run(order("a", "b"), memory=memory)

    with pytest.raises(NonDeterminismError) as caught:
        run(order("z", "b"), memory=memory)
    assert caught.value.step_key == "act_1"


@step(retry=Retry(attempts=3, delay_seconds=60))
def third_time(what: str) -> str:
    return act(what if current_step().attempt == 3 else f"not {what}")


def test_a_retry_is_another_attempt_of_the_same_key() -> None:
    falling.add("not yet")
    memory = Memory()

    assert run(lambda_of(lambda ctx: ctx.step(third_time, "yet")), memory=memory) == "YET"
    assert superseded(memory) == [("third_time_1", 1, "failed"), ("third_time_1", 2, "failed")]
    assert memory.steps["third_time_1"].attempt == 3


def lambda_of(body: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """Return a workflow function with a name."""

    def workflow(ctx: Context) -> Any:
        return body(ctx)

    return workflow


# ---- runs that may not go on


def test_a_run_that_another_has_taken_over_saves_nothing_more() -> None:
    memory = Memory()

    def taken_over(ctx: Context) -> None:
        ctx.step(act, "a")
        MemoryLog(ID, memory)  # the next run begins elsewhere
        ctx.step(act, "b")

    with pytest.raises(FencedError):
        run(taken_over, memory=memory)
    assert effects == ["a"]
    assert statuses(memory) == {"act_1": "completed"}


def test_an_outcome_is_not_saved_after_another_run_has_taken_over() -> None:
    memory = Memory()

    def lose_it() -> None:
        MemoryLog(ID, memory)

    with pytest.raises(FencedError):
        run(lambda_of(lambda ctx: ctx.step(lose_it)), memory=memory)
    assert statuses(memory) == {"lose_it_1": "running"}


def test_a_cancelled_workflow_begins_nothing_more_and_is_undone() -> None:
    memory = Memory()

    def cancel() -> None:
        memory.is_cancel_requested = True

    def workflow(ctx: Context) -> None:
        ctx.step(act, "a")
        ctx.on_failure(act, "undo a")
        ctx.step(cancel)
        ctx.step(act, "b")

    with pytest.raises(WorkflowCancelledError):
        run(workflow, memory=memory)
    assert effects == ["a", "undo a"]
    assert ends(memory) == ["cancelled"]


def test_a_call_from_inside_a_step_ends_the_run() -> None:
    memory = Memory()

    def workflow(ctx: Context) -> None:
        ctx.step("outer", lambda: ctx.step(act, "inner"))

    with pytest.raises(ScopeError):
        run(workflow, memory=memory)
    assert effects == []
    assert ends(memory) == ["stopped"]


# ---- what the engine records


def test_instants_ids_and_chance_are_the_same_in_every_run() -> None:
    drawn: list[tuple[datetime, Any, float]] = []

    def workflow(ctx: Context) -> None:
        drawn.append((ctx.now(), ctx.uuid4(), ctx.random()))
        ctx.step(act, "end")

    memory = Memory()
    run_until("end", workflow, memory)
    run(workflow, memory=memory)

    assert len(drawn) == 2
    assert drawn[0] == drawn[1]


def test_new_code_behind_a_patch_runs_only_where_the_old_has_not_been() -> None:
    def patched(ctx: Context) -> list[str]:
        first = ctx.step(act, "a")
        return [first, ctx.step(act, "new" if ctx.patched("new") else "b")]

    memory, fresh = Memory(), Memory()
    run_until("b", order("a", "b"), memory)

    assert run(patched, memory=memory) == ["A", "B"]
    assert run(patched, memory=fresh) == ["A", "NEW"]


def test_the_winner_of_a_race_is_recorded() -> None:
    won: list[int] = []

    def workflow(ctx: Context) -> None:
        runners = [ctx.submit(act, each) for each in "ab"]
        won.append(runners.index(ctx.first(*runners).result()))
        ctx.step(act, "end")

    memory = Memory()
    run_until("end", workflow, memory)
    output = str(1 - won[0])  # on record, the other has won
    row = memory.steps["first_3"]
    memory.steps["first_3"] = saved_anew(row._replace(output=output))
    run(workflow, memory=memory)

    assert won == [won[0], 1 - won[0]]


def test_compensations_run_in_reverse_and_a_completed_one_never_again() -> None:
    def workflow(ctx: Context) -> None:
        for each in ("train", "hotel"):
            ctx.step(act, each)
            ctx.on_failure(act, f"undo {each}")
        ctx.step(act, "visa")

    memory = Memory()
    falling.add("visa")
    run_until("undo train", workflow, memory)
    with pytest.raises(ValueError, match="visa"):
        run(workflow, memory=memory)

    assert effects == ["undo train"]
    assert statuses(memory)["act_4/act_1"] == "completed"
    assert ends(memory) == ["interrupted", "failed"]


# ---- parallel


def test_every_parallel_step_is_saved_by_the_time_the_workflow_ends() -> None:
    def workflow(ctx: Context) -> None:
        for n in range(50):
            ctx.submit(act, f"{n}")

    memory = Memory()
    run(workflow, memory=memory)

    assert sorted(effects, key=int) == [str(n) for n in range(50)]
    assert statuses(memory) == dict.fromkeys(sorted(f"act_{n}" for n in range(1, 51)), "completed")


def test_parallel_steps_that_completed_are_answered_though_one_failed() -> None:
    def workflow(ctx: Context) -> list[str]:
        return ctx.map(act, "abcdef")

    memory = Memory()
    falling.add("c")
    with pytest.raises(ValueError, match="c"):
        run(workflow, memory=memory)
    falling.clear()
    effects.clear()

    assert run(workflow, memory=memory) == [*"ABCDEF"]
    assert effects == ["c"]


async def in_turn_and_at_once(ctx: Context) -> list[str]:
    first = await ctx.submit(act_async, "a")
    both = await asyncio.gather(ctx.submit(act_async, "b"), ctx.submit(act, "c"))
    return [first, *both, ctx.step(act, "d")]


def test_a_coroutine_is_replayed_by_the_same_rule() -> None:
    memory = Memory()
    run_until("d", in_turn_and_at_once, memory)

    assert run(in_turn_and_at_once, memory=memory) == [*"ABCD"]
    assert effects == ["d"]
    assert [*statuses(memory)] == ["act_3", "act_4", "act_async_1", "act_async_2"]


# ---- what memory has not


def test_what_needs_an_alarm_or_a_database_says_so() -> None:
    for operation in (lambda ctx: ctx.sleep(1), lambda ctx: ctx.transaction(act)):
        with pytest.raises(NotSupportedError):
            run(lambda_of(operation))
