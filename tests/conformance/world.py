"""The world outside, as a text file, and workflows that have effects on it. All of them can be imported by path."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from durable import (
    Context,
    DurableError,
    Moment,
    Retry,
    Transaction,
    WaitTimeoutError,
    current_context,
    current_step,
    hosted_step,
    step,
    workflow,
)
from durable.parallel.threads import is_process_ending
from tests.support.patience import PATIENCE_SECONDS

WORLD = "CONFORMANCE_WORLD"  # the environment variable that names the file
settings: dict[str, Any] = {}  # what a test changes of the code between two runs, or holds a step with


def note(line: str) -> None:
    """Append a line, in one write."""
    descriptor = os.open(os.environ[WORLD], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def lines() -> list[str]:
    """All lines."""
    path = Path(os.environ[WORLD])
    return path.read_text().splitlines() if path.exists() else []


def effects() -> list[str]:
    """The step keys of all effects that really happened, in order."""
    return [line.split()[1] for line in lines() if line.startswith("effect ")]


def have_effect() -> None:
    """From within a step."""
    me = current_step()
    note(f"effect {me.key} {me.workflow_id}")


def note_saved(moment: Moment) -> None:
    """An observer: writes down each checkpoint that was acknowledged."""
    if moment.name == "step.checkpointed":
        note(f"saved {moment.step_key} {moment.workflow_id}")


def repeated() -> list[str]:
    """The keys of the effects that happened again after their checkpoint had been acknowledged."""
    saved, again = set(), []
    for line in lines():
        what, _, key = line.partition(" ")  # and the workflow
        if what == "saved":
            saved.add(key)
        elif key in saved:
            again.append(key)
    return again


# ---- steps


def keepsakes() -> dict[str, Any]:
    """Values that JSON does not have."""
    import numpy as np  # here, since the other children do without them
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.date_range("2026", periods=2, tz="Europe/Berlin"))
    arrays = [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float32(1.5)]
    return {"frame": frame, "arrays": arrays, "loss": float("nan"), "path": Path("a b/c")}


def keep(what: str) -> Any:
    have_effect()
    return keepsakes()[what]


def keeping(ctx: Context, given: Any) -> Any:
    """Hand each of them from step to step, and publish and return them all."""
    kept = {what: ctx.step(keep, what) for what in keepsakes()}
    ctx.publish("kept", kept)
    return [given, kept, ctx.wait_event("more")]


def act(what: str) -> str:
    have_effect()
    return what.upper()


async def act_async(what: str) -> str:
    await asyncio.sleep(0)
    have_effect()
    return what.upper()


def slow(what: str) -> str:
    time.sleep(0.2)
    return act(what)


def held(what: str) -> str:
    """Waits for the test to let it go on."""
    settings["begun"].set()
    settings["go"].wait(PATIENCE_SECONDS)
    return act(what)


def fall_asleep(what: str) -> str:
    """The first process that comes here is stopped, as a machine that swaps or a paused container would be."""
    have_effect()
    if "asleep" not in lines():
        note("asleep")
        os.kill(os.getpid(), signal.SIGSTOP)
    return what.upper()


def refuse(what: str) -> str:
    have_effect()
    raise ValueError(f"no {what} today")


class OddError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, *, what: str) -> None:
        super().__init__()
        self.lines = [what, what]


def raise_odd(what: str) -> str:
    raise OddError(what=what) from KeyError(what)


def refuse_some(what: str) -> str:
    return refuse(what) if what in ("b", "d") else act(what)


def refuse_at_first(what: str) -> str:
    """Fails until the setting `repaired` is there."""
    have_effect()
    if "repaired" not in settings:
        raise ValueError(f"no {what} today")
    return what.upper()


def pass_obstacle(what: str) -> str:
    """Fails until the setting `passed` names it."""
    have_effect()
    if what not in settings.get("passed", ()):
        raise ValueError(what)
    return what


def key_and_attempt() -> tuple[str, int]:
    me = current_step()
    return me.idempotency_key, me.attempt


def database() -> str:
    return str(current_step().database)


def untyped_set():
    return {1, 2}


@dataclass
class Parcel:
    """Something with a type."""

    number: int
    labels: frozenset[str] = frozenset()


def pack(number: int) -> Parcel:
    have_effect()
    return Parcel(number, frozenset({"a", "b"}))


@step(retry=Retry(attempts=3, delay_seconds=0.01, jitter=0, on=(ConnectionError,)))
def third_time(what: str) -> str:
    have_effect()
    if current_step().attempt < 3:
        raise ConnectionError("not yet")
    return what.upper()


@step(retry=Retry(attempts=2, delay_seconds=0.01, jitter=0))
def never(what: str) -> str:
    return refuse(what)


@step(isolate=True)
def apart() -> int:
    return os.getpid()


@step(timeout_seconds=0.05)
def too_slow() -> str:
    time.sleep(0.5)
    return "too late"


# ---- workflows: steps


def errand(ctx: Context, *what: str) -> list[str]:
    return [ctx.step(act, one) for one in what]


def blocks(ctx: Context, *what: str) -> list[str]:
    """Steps whose effect is a block of this function. One fails, and once the function does after it."""
    told = []
    for one in what:
        with ctx.open_step("block", one) as opened:
            if not opened.is_recorded:
                have_effect()
                opened.complete(one.upper())
        told.append(opened.value)
    try:
        with ctx.open_step("block", "refused"):
            have_effect()
            raise LookupError("none left")
    except LookupError as error:
        told.append(f"{error}")
    if settings.pop("fail", None):
        raise ValueError("once")
    return told


async def errand_async(ctx: Context, *what: str) -> list[str]:
    told = await asyncio.gather(*[ctx.submit(act_async, one) for one in what])
    return [*told, await ctx.branch(leg_async, "leg")]


async def leg_async(ctx: Context, what: str) -> str:
    return await ctx.submit(act, what)


def parcels(ctx: Context, number: int) -> list[Parcel]:
    parcel = ctx.step(pack, number)
    assert type(parcel.labels) is frozenset
    return [parcel, replace(parcel, number=0)]


def information(ctx: Context) -> list[tuple[str, int]]:
    return [ctx.step(key_and_attempt), ctx.submit(key_and_attempt).result()]


def whereabouts(ctx: Context) -> str:
    return ctx.step(database)


def nameless(ctx: Context) -> None:
    ctx.step(act, "before")
    ctx.step(untyped_set)


def broken(ctx: Context) -> str:
    """Its step fails until it is repaired."""
    ctx.step(act, "before")
    return ctx.step(refuse_at_first, "boat")


def obstacles(ctx: Context) -> None:
    """Fails at two places, one after the other."""
    ctx.step("pass", pass_obstacle, "first")
    ctx.step(act, "between")
    ctx.step("pass", pass_obstacle, "second")


def broken_beside_others(ctx: Context) -> list[str]:
    """One of three parallel steps fails until it is repaired."""
    futures = [ctx.submit(act, "left"), ctx.submit(refuse_at_first, "boat"), ctx.submit(act, "right")]
    return [future.result() for future in futures]


def brave(ctx: Context) -> str:
    """A failure that the workflow has caught, and one later that ends it."""
    try:
        told = ctx.step(refuse, "boat")
    except ValueError as error:
        told = ctx.step(act, f"despite {error}")
    return told + ctx.step(refuse_at_first, " train")


def persistent(ctx: Context) -> list[str]:
    told = [ctx.step(third_time, "here"), ctx.submit(third_time, "beside").result()]
    try:
        ctx.step(never, "boat")
    except ValueError as error:
        told.append(str(error))
    return told


def isolated(ctx: Context) -> bool:
    return ctx.step(apart) != ctx.step(os.getpid)


def impatient(ctx: Context) -> str:
    return ctx.step(too_slow)


def moods(ctx: Context) -> str:
    """What differs from run to run goes into arguments, where a replay would notice."""
    for value in (ctx.now(), ctx.uuid4(), ctx.random()):
        ctx.step(act, str(value))
    return broken(ctx)


def thread_of(ctx: Context) -> int:
    return threading.get_ident()


# ---- workflows: changed code


def changing(ctx: Context) -> None:
    """Fails at its end, so that its next run is a replay; what it does on the way is the test's to change."""
    settings["way"](ctx)
    if "repaired" not in settings:
        raise ValueError("the end")


def patching(ctx: Context) -> str:
    ctx.step(act, "before")
    if "new" in settings and ctx.patched("with-badge"):
        ctx.step(act, "badge")
    ctx.step(act, "after")
    return ctx.step(refuse_at_first, "boat")


# ---- workflows: parallel


def beside(ctx: Context, *what: str) -> list[str]:
    return [future.result() for future in [ctx.submit(slow if one == "slow" else act, one) for one in what]]


def partly(ctx: Context) -> list[str]:
    return ctx.map(refuse_some, ["a", "b", "c", "d"])


def odd(ctx: Context) -> str:
    return ctx.step(raise_odd, "twice")


def mapped(ctx: Context) -> list[str]:
    return ctx.map(act, ["a", "b", "c"], max_concurrent=2)


def paced(ctx: Context) -> list[str]:
    """Two steps, then two children, no more than two in a second."""
    return [*ctx.map(act, ["a", "b", "c"], per_second=2), *[told[0] for told in ctx.map(errand, ["d"], per_second=2)]]


def branches(ctx: Context) -> list[str]:
    futures = [ctx.branch(leg, side) for side in ("left", "right")]
    return [ctx.step(act, "main"), *[line for future in futures for line in future.result()]]


def leg(ctx: Context, side: str) -> list[str]:
    inner = ctx.branch(bridge, side)
    return [ctx.step(act, side), *ctx.map(act, [f"{side} 1", f"{side} 2"]), inner.result()]


def bridge(ctx: Context, side: str) -> str:
    return ctx.step(act, f"{side} bridge")


def closure(ctx: Context, factor: int) -> list[int]:
    """A branch that is no function of a module, and a step that is none."""

    def inside(inner: Context) -> int:
        return inner.step("double", lambda: factor * 2)

    return [ctx.branch("inside", inside).result()]


def nobody_asks(ctx: Context) -> str:
    ctx.submit(refuse, "boat")
    return ctx.step(act, "end")


def by_hand(ctx: Context) -> None:
    """A durable operation in a thread of one's own."""
    told: list[BaseException] = []

    def work() -> None:
        try:
            ctx.step(act, "a")
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    raise told[0]


def nested(ctx: Context) -> None:
    ctx.step("outer", lambda: ctx.step(act, "inner"))


# ---- workflows: waiting


def naps(ctx: Context) -> list[str]:
    told = [ctx.step(act, "before")]
    ctx.sleep(0.05)
    timer = ctx.timer(0.05)
    told.append(ctx.step(act, "beside"))
    timer.result()
    return told


def long_nap(ctx: Context) -> str:
    ctx.sleep(3600)
    return ctx.step(act, "rested")


def letters(ctx: Context) -> list[Any]:
    """Two of one name, one of another."""
    told = [ctx.wait_event("news", type=str)]
    told += [future.result() for future in [ctx.event("other", type=int), ctx.event("news", type=str)]]
    return [*told, ctx.step(act, "end")]


def letter_and_failure(ctx: Context) -> list[str]:
    told = [ctx.wait_event("news", type=str)]
    ctx.step(refuse_at_first, "boat")
    return [*told, ctx.wait_event("news", type=str)]


def no_letter(ctx: Context) -> str:
    try:
        ctx.wait_event("news", timeout_seconds=0.05)
    except WaitTimeoutError:
        ctx.step(act, "nothing came")
    return ctx.step(refuse_at_first, "boat")


def contest(ctx: Context) -> list[str]:
    """The second wins. By the end both have ended, so that a replay could see it the other way round."""
    runners = [ctx.submit(held, "slow"), ctx.submit(act, "fast")]
    told = [(runners[0] is ctx.first(*runners).result() and "slow") or "fast"]
    for runner in ctx.as_completed(runners):
        told.append(runner.result())
        settings["go"].set()  # only then the other one ends
    ctx.step(act, " ".join(told))
    ctx.step(refuse_at_first, "boat")
    return told


def race_with_an_event(ctx: Context) -> str:
    return ctx.first(ctx.event("never"), ctx.submit(act, "fast")).result().result()


def race_of_no_interest(ctx: Context) -> str:
    """Asks no race who has won, and ends before they are decided, in a branch too."""
    ctx.first(ctx.event("never"), ctx.timer(1e6))
    ctx.branch(leave_a_race).result()
    return ctx.step(act, "end")


def leave_a_race(ctx: Context) -> None:
    ctx.first(ctx.branch(wait_for_go), ctx.timer(1e6))


async def race_of_no_interest_async(ctx: Context) -> str:
    ctx.first(ctx.event("never"), ctx.timer(1e6))
    return await ctx.submit(act, "end")


def progress(ctx: Context) -> str:
    ctx.publish("progress", 0.5)
    ctx.publish("parcel", Parcel(1))
    ctx.publish("progress", 1.0)
    return ctx.step(act, "end")


def tellers(ctx: Context) -> None:
    """Two publish beside each other."""
    ctx.publish("left", 0)
    ctx.wait_event("go")
    left = ctx.branch(tell, "left")
    ctx.wait_event("go")
    ctx.publish("right", 1)
    left.result()


def tell(ctx: Context, name: str) -> None:
    ctx.publish(name, 1)


# ---- workflows: of workflows


def parent(ctx: Context) -> list[str]:
    child = ctx.child(errand, "a", "b")
    other = ctx.child(broken, workflow_id="other")
    told = [ctx.step(act, "parent"), *child.result()]
    return [*told, other.result()]


def family(ctx: Context) -> list[str]:
    return [ctx.step(act, "parent"), *ctx.child(errand, "child").result()]


def parent_of_a_failure(ctx: Context) -> str:
    return ctx.child(broken).result()


def parent_of_a_wait(ctx: Context) -> str:
    return ctx.child(wait_for_go, workflow_id="the child").result()


def wait_for_go(ctx: Context) -> str:
    return ctx.wait_event("go", type=str)


def wait_once_the_process_ends(ctx: Context) -> str:
    while not is_process_ending():
        time.sleep(0.001)
    return ctx.wait_event("go", type=str)


def saga(ctx: Context) -> None:
    ctx.step(act, "train")
    ctx.on_failure(act, "undo train")
    ctx.branch(book, "hotel").result()
    ctx.step(refuse, "visa")


def saga_of_obstacles(ctx: Context) -> None:
    """Has something to undo from its first obstacle on."""
    ctx.step("pass", pass_obstacle, "first")
    ctx.step(act, "train")
    ctx.on_failure(act, "undo train")
    ctx.step("pass", pass_obstacle, "second")


def book(ctx: Context, what: str) -> str:
    ctx.on_failure(act, f"undo {what}")
    return ctx.step(act, what)


def saga_that_waits(ctx: Context) -> None:
    ctx.step(act, "train")
    ctx.on_failure(act, "undo train")
    ctx.wait_event("go")


def saga_after_a_race(ctx: Context) -> None:
    """Registers something once a branch has ended, in which the loser of a race still waits."""
    ctx.branch(race_with_an_event).result()
    ctx.on_failure(act, "undo train")
    ctx.wait_event("go")


def saga_of_changing_code(ctx: Context) -> None:
    """Has something to undo, in a branch too; the new code fails before it."""
    ctx.step(act, "train")
    if "new" in settings:
        raise ValueError("no visa today")
    ctx.on_failure(act, "undo train")
    ctx.branch(book, "hotel").result()
    ctx.step(refuse, "visa")


def holding(ctx: Context) -> str:
    return ctx.step(held, "held") + ctx.step(act, "after")


async def held_async(what: str) -> str:
    """The same in a coroutine."""
    settings["begun"].set()
    while not settings["go"].is_set():  # noqa: ASYNC110 - the test sets it, in another thread
        await asyncio.sleep(0.001)
    return act(what)


async def holding_async(ctx: Context) -> str:
    return await ctx.submit(held_async, "held") + await ctx.submit(act, "after")


def entry(ctx: Context) -> int:
    def enter(db: Transaction) -> int:
        db.execute("create table if not exists entries (what text)")
        return 1

    return ctx.transaction(enter)


# ---- the workflow that is killed


def tour(ctx: Context) -> list[str]:
    """All that can be under way when a process dies."""
    told = [ctx.step(act, "start")]
    futures = [ctx.submit(act, "left"), ctx.submit(act_async, "right")]
    legs = [ctx.branch(leg, side) for side in ("north", "south")]
    told += [future.result() for future in futures]
    told += [line for one in legs for line in one.result()]
    told.append(ctx.first(ctx.event("never"), ctx.submit(act, "fast")).result().result())
    ctx.sleep(0.01)
    told.append(ctx.child(errand, "child").result()[0])
    told.append(ctx.wait_event("news", type=str))
    return [*told, ctx.step(act, "end")]


def sleepy(ctx: Context) -> list[str]:
    return [ctx.step(fall_asleep, "woken"), ctx.step(act, "end")]


# ---- steps that must not begin


class Model:
    """A class without a form in JSON."""


def hopeless_result() -> Model:
    have_effect()
    return Model()


def take(*_: Any, **__: Any) -> None:
    have_effect()


def give_hopeless(ctx: Context) -> None:
    ctx.step(hopeless_result)


def submit_hopeless(ctx: Context) -> None:
    ctx.submit(hopeless_result).result()


def register_hopeless(ctx: Context) -> None:
    ctx.on_failure(hopeless_result)
    ctx.step(take)


def ended(ctx: Context) -> Any:
    future = ctx.submit(take)
    future.result()
    return future


def pass_future(ctx: Context) -> None:
    ctx.step(take, ended(ctx))


def pass_futures(ctx: Context) -> None:
    ctx.submit(take, of=[1, ended(ctx)]).result()


def pass_future_in_a_field(ctx: Context) -> None:
    ctx.step(take, [{"parcels": (Parcel(number=ended(ctx)),)}])


def pass_future_in_what_holds_itself(ctx: Context) -> None:
    given: list[Any] = [ended(ctx)]
    given.append(given)
    ctx.submit(take, given).result()


def pass_future_in_map(ctx: Context) -> None:
    ctx.map(take, [ended(ctx)])


def pass_future_in_partial(ctx: Context) -> None:
    ctx.step(functools.partial(take, ended(ctx)))


def pass_future_to_compensation(ctx: Context) -> None:
    ctx.on_failure(take, ended(ctx))


def pass_future_to_child(ctx: Context) -> None:
    ctx.child(of_anything, ended(ctx)).result()


def of_anything(ctx: Context, _: Any) -> None:
    ctx.step(take)


def wait_for_hopeless(ctx: Context) -> None:
    ctx.wait_event("model", type=Model)


def hopeless_workflow(ctx: Context) -> Model:
    ctx.step(take)
    return Model()


# ---- how many run at once


def stay(number: int) -> int:
    """Be inside for a while: two that may be there at once, are."""
    note(f"in {number}")
    time.sleep(0.1)
    note(f"out {number}")
    return number


def visitor(ctx: Context, number: int) -> int:
    return ctx.step(stay, number)


def crowd(ctx: Context, first: int, count: int) -> list[int]:
    """Stay, with a step beside the children, and stay again."""
    beside = ctx.submit(stay, first)
    stayed = ctx.map(visitor, range(first + 1, first + count))
    return [beside.result(), *stayed, ctx.step(stay, first)]


def generations(ctx: Context, depth: int) -> int:
    """Wait for a child, which waits for a child of its own."""
    ctx.step(stay, depth)
    older = ctx.child(generations, depth - 1).result() if depth > 1 else 0
    return older + ctx.step(stay, depth)


async def generations_async(ctx: Context, depth: int) -> int:
    await ctx.submit(stay, depth)
    older = await ctx.child(generations_async, depth - 1) if depth > 1 else 0
    return older + await ctx.submit(stay, depth)


def most_inside() -> int:
    """How many were inside at once, at most."""
    inside = most = 0
    for line in lines():
        what = line.split()[0]
        inside += (what == "in") - (what == "out")
        most = max(most, inside)
    return most


# ---- what no record tells


def asks_with_a_timeout(ctx: Context) -> str:
    """Decides by the time, in silence."""
    future = ctx.submit(act, "a")
    try:
        return future.result(timeout=60)
    except Exception:
        return ctx.step(act, "late")


async def survives_a_timeout(ctx: Context) -> str:
    """The same by asyncio."""
    try:
        await asyncio.wait_for(ctx.timer(0.5), 0.01)
    except TimeoutError:
        return await ctx.submit(act, "late")
    return "in time"


class Interrupt(BaseException):
    """No outcome."""


def interrupt_once() -> str:
    have_effect()
    if settings.pop("interrupt", False):
        raise Interrupt
    return "done"


def swallows_an_interrupt(ctx: Context) -> str:
    """Goes on as if nothing had happened."""
    try:
        return ctx.step(interrupt_once)
    except Interrupt:
        return "swallowed"


# ---- a workflow function that was renamed


def outing(ctx: Context) -> list[str]:
    return [ctx.step(act, "first"), ctx.step(act, "second")]


@workflow(former_names=["outing", "tests.conformance.gone:outing"])
def journey(ctx: Context) -> list[str]:
    return [ctx.step(act, "first"), ctx.step(act, "second"), ctx.workflow_id]


def stroll(ctx: Context) -> list[str]:
    return [ctx.step(act, "first"), ctx.step(act, "second")]


def act_under_another_name(what: str) -> str:
    return act(what)


@step(name="act")
def act_under_its_old_name(what: str) -> str:
    return act(what)


def with_renamed_step(ctx: Context) -> list[str]:
    """A workflow whose first step is that of the settings."""
    return [ctx.step(settings["step"], "first"), ctx.step(refuse_at_first, "second")]


# ---- context variables

language: contextvars.ContextVar[str] = contextvars.ContextVar("conformance_language", default="none")


def speak(tells: str = "") -> str:
    """Say what it sees, and change that."""
    said = language.get()
    language.set(f"{said} and {tells}")
    return said


async def speak_async(tells: str = "") -> str:
    return speak(tells)


@step(retry=Retry(attempts=2, delay_seconds=0))
def speak_at_last(tells: str) -> str:
    """Fails once."""
    said = speak(tells)
    if current_step().attempt == 1:
        raise ValueError(said)
    return said


def conversation(ctx: Context) -> list[str]:
    said = [language.get(), ctx.step(speak, "step"), language.get()]
    said += [ctx.step(speak_async, "async step"), language.get(), ctx.submit(speak, "submit").result()]
    said += [*ctx.map(speak, ["a", "b"]), ctx.step(speak_at_last, "retry"), ctx.submit(speak_at_last, "more").result()]
    return [*said, ctx.child(overheard).result(), language.get()]


def overheard(_: Context) -> str:
    return language.get()


def sets_its_own(ctx: Context) -> list[str]:
    language.set("of the workflow")
    future = ctx.submit(speak, "submit")
    language.set("later")
    return [future.result(), ctx.step(speak, "step"), ctx.branch(in_branch).result(), language.get()]


def in_branch(ctx: Context) -> str:
    return ctx.step(speak, "branch")


def is_in_no_step(_: Context) -> str:
    try:
        return current_step().key
    except DurableError:
        return "in no step"


def calls_step_of_settings(ctx: Context) -> str:
    return ctx.step("starting", settings["step"])


# ---- hosted code


async def chore(what: str) -> list[str]:
    return [await hosted_step("act", act_async, f"{what} {number}") for number in (1, 2)]


async def chores() -> list[Any]:
    return [*await asyncio.gather(chore("a"), chore("b")), await hosted_step("act", act, "c")]


async def hosts(ctx: Context) -> list[Any]:
    return [await ctx.submit(act, "before"), await ctx.host(chores())]


async def waits_in_a_task() -> str:
    task: asyncio.Task[str] = asyncio.create_task(hosted_step("act", act, "beside"))
    return f"{await current_context().event('news', type=str)}, {await task}"


async def hosts_what_waits(ctx: Context) -> str:
    return await ctx.host(waits_in_a_task())


# ---- progress


def train(epochs: int) -> int:
    """Publish, and wait for the test, which looks meanwhile."""
    step = current_step()
    for epoch in range(epochs + 1):
        step.publish("epoch", epoch, total=epochs)
    step.publish("phase", "evaluation")
    settings["begun"].set()
    settings["go"].wait(PATIENCE_SECONDS)
    return epochs


def training(ctx: Context) -> int:
    return ctx.step(train, 3)


def train_again() -> str:
    """Fail at the first attempt, after it has published; publish nothing at the second."""
    step = current_step()
    if step.attempt == 1:
        step.publish("try", 1)
        settings["begun"].wait(PATIENCE_SECONDS)
        raise ConnectionError
    settings["begun"].clear()
    settings["go"].wait(PATIENCE_SECONDS)
    return "done"


def retrained(ctx: Context) -> str:
    return ctx.step(step(retry=Retry(attempts=2, delay_seconds=0))(train_again))


def item(number: int) -> int:
    """Wait for the test, but for the first two."""
    if number > 1:
        settings["go"].wait(PATIENCE_SECONDS)
    return number


def item_workflow(ctx: Context, number: int) -> int:
    return ctx.step(item, number)


async def item_async(number: int) -> int:
    return await asyncio.to_thread(item, number)


def mapping(ctx: Context, fn: str) -> list[int]:
    return ctx.map(globals()[fn], range(5), max_concurrent=3)


def publish_and_die() -> str:
    """Publish, and die at the first attempt once that is written."""
    step = current_step()
    step.publish("half", 1, total=2)
    if not lines():
        have_effect()
        time.sleep(PATIENCE_SECONDS)
    return "done"


def dying(ctx: Context) -> str:
    return ctx.step(publish_and_die)
