"""Histories: an exported workflow holds today's code to what was recorded, and no step of it is run.

`tests/histories/*.json` were recorded by this release and must be replayed by every later one. To record another:
`python -m durable.testing.recording workflow.db emp_001 > tests/histories/NAME.json`, and a line in KEPT.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, NonDeterminismError, Retry, SerializationError, hosted_step, step
from durable.clock import ManualClock
from durable.errors import WorkflowNotFoundError
from durable.examples.approval import approval
from durable.examples.conditional import conditional
from durable.examples.effects import effects_log
from durable.examples.loop import loop
from durable.examples.onboarding import onboarding
from durable.examples.saga import saga
from durable.examples.zombie import zombie
from durable.testing import history, replay
from tests.support import workflows
from tests.support.patience import patient
from tests.support.processes import eventually
from tests.support.selection import first_alone
from tests.support.workflows import act, act_async, refuse

HISTORIES = Path(__file__).parent


async def see(place: str) -> str:
    return str(await hosted_step("act", act_async, place))


async def see_all() -> list[str]:
    """Tasks that ask for steps, and between them one that only waits: the first releases counted it too."""
    is_open = asyncio.Event()
    first, opened = asyncio.create_task(see("a")), asyncio.create_task(is_open.wait())
    is_open.set()
    await opened
    return [await first, await asyncio.create_task(see("b")), await see("c")]


async def hosted(ctx: Context) -> list[str]:
    return await ctx.host(see_all())


KEPT: dict[str, Callable[..., Any]] = {
    "onboarding": onboarding,
    "onboarding_crashed": onboarding,
    "loop": loop,
    "conditional": conditional,
    "zombie": zombie,
    "approval_granted": approval,
    "approval_waiting": approval,
    "approval_unanswered": approval,
    "saga_failed": saga,
    "saga_completed": saga,
    "hosted_counting_all_tasks": hosted,
}


# ---- the kept ones


@pytest.mark.parametrize("name", KEPT)
def test_today_s_code_goes_the_way_that_was_recorded(name: str) -> None:
    replay(json.loads((HISTORIES / f"{name}.json").read_text(encoding="utf-8")), KEPT[name])


def test_every_kept_history_is_replayed_and_tells_nothing_of_the_machine() -> None:
    assert {path.stem for path in HISTORIES.glob("*.json")} == KEPT.keys()
    for path in HISTORIES.glob("*.json"):
        assert not re.search(r'File \\"|/home/|/work/|/tmp/', path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", KEPT)
def test_another_workflow_does_not_pass_for_it(name: str) -> None:
    def other(ctx: Context, **_: Any) -> str:
        return ctx.step(act, "something else")

    with pytest.raises(NonDeterminismError):
        replay(json.loads((HISTORIES / f"{name}.json").read_text(encoding="utf-8")), other)


# ---- what is exported


@dataclass(frozen=True)
class Trip:
    places: list[str]
    days: int


def travel(ctx: Context, name: str, days: int = 2) -> Trip:
    places = [ctx.step(act, f"{name} {day}") for day in range(days)]
    return Trip(places, days)


def kept(database: Path, workflow: Callable[..., Any], *args: Any, clock: ManualClock | None = None) -> dict[str, Any]:
    """Run it, and export it; through JSON, as a file would hold it. Its effects are forgotten."""
    with Engine(database, clock=clock or ManualClock()) as engine:
        try:
            engine.run("emp_001", workflow, *args)
        except ValueError:
            assert engine.workflow("emp_001").status == "failed"
        found = json.loads(json.dumps(history(engine, "emp_001")))
    effects_log(database).unlink(missing_ok=True)
    return found


def test_a_history_is_plain_json_that_a_person_can_read(database: Path) -> None:
    found = kept(database, travel, "Rome")

    (workflow,) = found["workflows"]
    assert (workflow["function"], workflow["arguments"]) == ("tests.histories.test_histories:travel", {"name": "Rome"})
    assert (workflow["status"], workflow["output"]) == ("completed", {"places": ["ROME 0", "ROME 1"], "days": 2})
    assert [(each["step_key"], each["kind"], each["output"]) for each in found["steps"]] == [
        ("act_1", "step", "ROME 0"),
        ("act_2", "step", "ROME 1"),
    ]


def test_the_command_line_exports_the_same(database: Path) -> None:
    found = kept(database, travel, "Rome")
    command = [sys.executable, "-m", "durable.testing.recording", str(database), "emp_001"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=patient(30))

    assert json.loads(told.stdout) == found


def test_what_is_no_history_is_refused(database: Path) -> None:
    with Engine(database) as engine, pytest.raises(WorkflowNotFoundError):
        history(engine, "emp_001")
    with pytest.raises(ValueError, match="expected format 1, got 2"):
        replay({"format": 2}, travel)


# ---- what replays: every operation, finished and not


class Flaky:
    tries = 0


@step(retry=Retry(attempts=3, delay_seconds=3600, max_delay_seconds=3600))
def flaky(what: str) -> str:
    Flaky.tries += 1
    if Flaky.tries < 3:
        raise ConnectionError("not yet")
    return act(what)


def rest(ctx: Context) -> str:
    ctx.sleep(3600)
    return ctx.step(act, "rested")


def everything(ctx: Context) -> list[Any]:
    """Each operation, once."""
    ctx.on_failure(act, "never undone")
    ctx.publish("progress", 1)
    told: list[Any] = [ctx.now(), ctx.uuid4(), ctx.random(), ctx.patched("new")]
    told.append(ctx.step(flaky, "flaky"))
    told.append(ctx.map(act, ["a", "b"]))
    told.append(ctx.step(act_async, "async"))
    told.append(ctx.branch(rest).result())
    told.append(ctx.child(rest).result())
    timers = [ctx.timer(60), ctx.timer(30), ctx.event("never")]
    told.append(timers.index(ctx.first(*timers).result()))
    told.append([timers.index(one) for one in ctx.as_completed(timers[:2])])
    told.append(ctx.first(ctx.branch(rest_for_ever), ctx.submit(act, "quick")).result().result())
    try:
        ctx.step(refuse, "boat")
    except ValueError as error:
        told.append(str(error))
    return [str(each) for each in told]


async def everything_async(ctx: Context) -> list[Any]:
    told = [
        await ctx.submit(act_async, "a"),
        *await asyncio.gather(ctx.branch(rest), ctx.child(rest), ctx.submit(act, "b")),
    ]
    timers = [ctx.timer(60), ctx.timer(30), ctx.event("never")]
    told += [str(timers.index(await ctx.first(*timers)))]
    return told


def rest_for_ever(ctx: Context) -> str:
    ctx.sleep(1e8)
    return "never"


def fail_and_undo(ctx: Context) -> None:
    ctx.step(act, "train")
    ctx.on_failure(act, "undo train")
    ctx.first(ctx.event("never"), ctx.submit(act, "work")).result()
    ctx.step(refuse, "boat")


@pytest.mark.parametrize(
    "workflow", [everything, everything_async, fail_and_undo, workflows.journey, workflows.journey_async]
)
def test_a_finished_history_replays_and_has_no_effect(database: Path, workflow: Callable[..., Any]) -> None:
    Flaky.tries = 0
    found = kept(database, workflow)

    replay(found, workflow)

    assert not effects_log(database).exists()


class Cut:
    """An observer that ends a life at the nth moment."""

    def __init__(self, number: int) -> None:
        self.left, self._lock = number, threading.Lock()

    def __call__(self, _: object) -> None:
        with self._lock:
            self.left -= 1
            is_now = self.left == 0
        if is_now:
            raise SystemExit


@pytest.mark.parametrize("workflow", first_alone([everything, fail_and_undo, workflows.journey]))
def test_a_history_that_was_cut_at_any_moment_replays_up_to_its_end(
    tmp_path: Path, workflow: Callable[..., Any]
) -> None:
    number, has_ended = 0, False
    while not has_ended:
        number += 1
        Flaky.tries = 0
        database = tmp_path / f"{number}.db"
        with Engine(database, clock=ManualClock(), observers=[Cut(number)], synchronous="off") as engine:
            try:
                engine.run("emp_001", workflow)
                has_ended = True
            except ValueError:
                has_ended = True
            except BaseException as cut:
                assert type(cut).__name__ in ("SystemExit", "RunStopped"), cut
            found = json.loads(json.dumps(history(engine, "emp_001")))
        effects_log(database).unlink(missing_ok=True)

        replay(found, workflow)

        assert not effects_log(database).exists(), number
    assert number > 10


def test_what_was_found_while_it_waits_is_replayed_and_the_wait_is_not_waited_for(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", approval, delay_seconds=0.0)
        eventually(lambda: len(engine.steps("emp_001")) == 2)
        found = history(engine, "emp_001")
        handle.end()

    replay(found, approval)


# ---- what does not


class Code:
    """What is different today."""

    today = ""


@dataclass(frozen=True)
class Stop:
    place: str
    nights: int = 1


def visit(place: str) -> Stop:
    return Stop(place)


def visit_longer(place: str) -> list[int]:
    return [1]


visit_longer.__name__ = "visit"


def tour(ctx: Context, name: str = "Ann") -> str:
    today = Code.today
    places = ["Rome", "Oslo"] if today != "arguments" else ["Rome", "Bonn"]
    if today == "inserted":
        ctx.step(act, "insurance")
    ctx.step(visit_longer if today == "type" else visit, places[0])
    if today == "as a branch":
        ctx.branch("visit", rest_for_ever)
    elif today == "parallel":
        ctx.submit(visit, places[1]).result()
    elif today != "removed":
        ctx.step("renamed" if today == "renamed" else "visit", visit, places[1])
    if today == "appended":
        ctx.step(act, "souvenir")
    if today == "appended beside":
        ctx.submit(act, "souvenir")
    if today == "raises":
        raise KeyError("today")
    return "home" if today != "result" else "abroad"


CHANGES = {
    "arguments": ("visit_2", 'visit("Oslo")', 'visit("Bonn")'),
    "inserted": ("visit_1", 'visit("Rome")', 'act("insurance")'),
    "renamed": ("visit_2", 'visit("Oslo")', 'renamed("Oslo")'),
    "as a branch": ("visit_2", 'visit("Oslo")', "visit as a branch"),
    "removed": ("visit_2", "visit_2", "nothing"),
    "appended": ("act_3", "the workflow's end, completed", "the code calls a new step 'act_3'"),
    "appended beside": ("act_3", "the workflow's end, completed", "the code calls a new step 'act_3'"),
    "result": ("", 'completed with "home"', 'the code has completed with "abroad"'),
    "raises": ("", 'completed with "home"', "the code has failed with builtins:KeyError: 'today'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_first_divergence_is_told_with_both_sides(database: Path, change: str) -> None:
    Code.today = ""
    found = kept(database, tour)
    Code.today = change
    with pytest.raises(NonDeterminismError) as told:
        replay(found, tour)

    assert (told.value.step_key, told.value.recorded, told.value.called) == CHANGES[change]
    assert told.value.workflow_id == "emp_001"
    assert not effects_log(database).exists()


@pytest.mark.parametrize("change", ["", "parallel"])
def test_what_makes_no_difference_to_the_record_is_no_divergence(database: Path, change: str) -> None:
    Code.today = ""
    found = kept(database, tour)
    Code.today = change

    replay(found, tour)


def test_a_recorded_value_that_no_longer_fits_its_type_is_told(database: Path) -> None:
    Code.today = ""
    found = kept(database, tour)
    Code.today = "type"

    with pytest.raises(SerializationError, match=r"step 'visit_1' of 'emp_001': its recorded result"):
        replay(found, tour)


def test_a_workflow_that_takes_other_arguments_by_now_is_told(database: Path) -> None:
    def tour_of(ctx: Context, traveller: str) -> None: ...

    found = kept(database, travel, "Rome")

    with pytest.raises(NonDeterminismError, match=r'called with {"name":"Rome"}'):
        replay(found, tour_of)


def test_a_failure_that_comes_out_otherwise_is_told(database: Path) -> None:
    found = kept(database, fail_and_undo)

    def swallow(ctx: Context) -> str:
        try:
            fail_and_undo(ctx)
        except ValueError:
            return "swallowed"
        return "done"

    def other_error(ctx: Context) -> None:
        try:
            fail_and_undo(ctx)
        except ValueError:
            raise KeyError("other") from None

    for workflow in (swallow, other_error):
        with pytest.raises(NonDeterminismError):
            replay(found, workflow)


def test_a_renamed_function_is_the_same_workflow(database: Path) -> None:
    def journey_to(ctx: Context, name: str, days: int = 2) -> Trip:
        return travel(ctx, name, days)

    replay(kept(database, travel, "Rome"), journey_to)


def test_a_patch_lets_an_old_history_pass_and_a_new_one_too(database: Path) -> None:
    def patched(ctx: Context, name: str, days: int = 2) -> Trip:
        trip = travel(ctx, name, days)
        if ctx.patched("with-badge"):
            ctx.step(act, "badge")
        return trip

    def patched_first(ctx: Context, name: str, days: int = 2) -> Trip:
        if ctx.patched("with-badge"):
            ctx.step(act, "badge")
        return travel(ctx, name, days)

    old = kept(database, travel, "Rome")
    replay(old, patched_first)
    with pytest.raises(NonDeterminismError):  # nothing is after it, so history cannot tell that it is past it
        replay(old, patched)
