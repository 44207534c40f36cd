"""Ctrl+C is no outcome: nothing is recorded of the step in flight, nothing stays locked, one can go on: rule 6."""

from __future__ import annotations

import asyncio
import dis
import functools
import itertools
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import durable
from durable import Context, Engine, Future, Moment, Retry, step
from durable.clock import ManualClock, SystemClock
from durable.errors import NoThreadError, RunStopped
from durable.testing.inside import file_of
from tests.support import workflows
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import call_in_child, child, eventually
from tests.support.workflows import act, wait_for_news

ENGINE_FOLDER = str(Path(durable.__file__).parent)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


class AlarmError(Exception):
    """What the handler of a time limit raises."""


def raising(error: type[BaseException]) -> Callable[..., None]:
    """A handler of a signal."""

    def handle(*_: object) -> None:
        raise error

    return handle


# ---- what every interrupt leaves behind


class Lives:
    """One workflow id, run again and again in this process until it completes; what must hold is checked in between."""

    def __init__(self, engine: Engine, workflow_id: str, workflow: Callable[..., Any], *args: Any) -> None:
        self.engine, self.workflow_id = engine, workflow_id
        self._workflow, self._args = workflow, args
        self._saved: set[str] = set()
        self._handlers = list(map(signal.getsignal, SIGNALS))
        self.interrupted = 0

    def run(self) -> Any:
        """May be interrupted anywhere."""
        return self.engine.run(self.workflow_id, self._workflow, *self._args)

    def check(self) -> None:
        """After an interrupt, and at the end. It must not be interrupted itself."""
        assert self.engine.owner(self.workflow_id) is None, "a lock stayed behind"
        with closing(sqlite3.connect(self.engine.path, timeout=0, isolation_level=None)) as db:
            db.execute("begin immediate")  # fails where a transaction is open
            db.execute("rollback")
            query = "select step_key from steps where workflow_id = ? and status != 'running'"
            saved = {key for (key,) in db.execute(query, (self.workflow_id,))}
        assert list(map(signal.getsignal, SIGNALS)) == self._handlers, "a handler was not put back"
        times = Counter(workflows.effects(self.engine.path, self.workflow_id))
        assert all(times[key] == self._times.get(key) for key in self._saved), "a saved step ran again"
        self._saved, self._times = saved, {key: times[key] for key in saved}

    _times: dict[str, int] = {}  # noqa: RUF012 - replaced, never changed


# ---- at every instant at which Python would hear it


@functools.cache
def listening_offsets(code: CodeType) -> frozenset[int]:
    """The instructions before which CPython looks for signals: after a call, and where a loop begins its next turn."""
    instructions = list(dis.get_instructions(code))
    after_call = {
        after.offset for instruction, after in itertools.pairwise(instructions) if instruction.opname.startswith("CALL")
    }
    loops = {i.argval for i in instructions if i.opname.startswith("JUMP_BACKWARD")}
    return frozenset(after_call | loops)


class InterruptAt:
    """A trace function that raises a signal at the given instants of the engine's code, counted from 0."""

    def __init__(self, *instants: int, number: int = signal.SIGINT) -> None:
        self.instants, self.number = set(instants), number
        self.count = self.raised = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith((ENGINE_FOLDER, __file__)):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "call" or (event == "opcode" and frame.f_lasti in listening_offsets(frame.f_code)):
            self.count += 1
            if self.count - 1 in self.instants:
                self.raised += 1
                signal.raise_signal(self.number)
        return self


def with_interrupts(tracer: InterruptAt, act: Callable[[], Any]) -> Any:
    sys.settrace(tracer)
    try:
        return act()
    finally:
        sys.settrace(None)


def undisturbed(begin: Callable[[str], Lives]) -> tuple[int, Any]:
    """How many instants a run has, and its value. From 3.13 on, Python traces no function in its first call."""
    for name in ("untraced", "undisturbed"):
        tracer = InterruptAt()
        value = with_interrupts(tracer, begin(name).run)
    return tracer.count, value


def small_workflow(ctx: Context) -> list[str]:
    """A step, a parallel one, and a branch."""
    first = ctx.step(act, "first")
    beside, branch = ctx.submit(act, "beside"), ctx.branch(workflows.errand, "branch")
    return [first, beside.result(), *branch.result(), *ctx.map(act, ["map"])]


async def small_workflow_async(ctx: Context) -> list[str]:
    """The same as an asyncio workflow."""
    first = await ctx.submit(act, "first")
    beside, branch = ctx.submit(workflows.act_async, "beside"), ctx.branch(workflows.leg_async, "branch")
    return [first, await beside, await branch, ctx.step(act, "last")]


def interrupt_everywhere(
    _: Connection,
    database: Path,
    workflow: Callable[..., Any],
    stride: int,
    again_after: int | None,
    number: int = signal.SIGINT,
    error: type[BaseException] = KeyboardInterrupt,
) -> tuple[int, int]:
    """Runs in an own process, since what goes wrong stays wrong. Returns how often a signal was raised, and heard."""
    if number != signal.SIGINT:
        signal.signal(number, raising(error))
    with Engine(database, synchronous="off") as engine:
        count, expected = undisturbed(lambda name: Lives(engine, name, workflow))
        chance, raised, heard = random.Random(stride), 0, 0
        for start in range(0, count, stride):
            instant = min(start + chance.randrange(stride), count - 1)
            instants = (instant,) if again_after is None else (instant, instant + 1 + chance.randrange(again_after))
            lives, tracer = (
                Lives(engine, f"interrupted at {instants}", workflow),
                InterruptAt(*instants, number=number),
            )
            try:
                with_interrupts(tracer, lives.run)
            except error:
                heard += 1
            eventually_free(engine, lives.workflow_id)
            lives.check()
            assert lives.run() == expected
            lives.check()
            ends = [run.ended for run in engine.runs(lives.workflow_id)]
            assert ends in (["interrupted", "completed"], ["completed"])
            raised += tracer.raised > 0  # threads differ: a run may have fewer instants than the first had
    return raised, heard


def eventually_free(engine: Engine, workflow_id: str) -> None:
    """After a second Ctrl+C the last thread lets the id go; it never waits for anything here."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while engine.owner(workflow_id) is not None and time.monotonic() < give_up_at:
        time.sleep(0.0001)


@pytest.mark.parametrize(("workflow", "stride"), [(small_workflow, 4), (small_workflow_async, 2)])
def test_an_interrupt_at_any_instant_leaves_nothing_behind(
    database: Path, workflow: Callable[..., Any], stride: int
) -> None:
    raised, heard = call_in_child(interrupt_everywhere, database, workflow, stride, None)

    assert raised > 100
    assert heard == raised, "a Ctrl+C was swallowed"


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGTERM, SystemExit),
        (signal.SIGALRM, AlarmError),
        pytest.param(signal.SIGHUP, SystemExit, marks=pytest.mark.thorough),
        pytest.param(signal.SIGUSR1, AlarmError, marks=pytest.mark.thorough),
        pytest.param(signal.SIGUSR2, TimeoutError, marks=pytest.mark.thorough),
    ],
)
def test_what_a_handler_raises_at_any_instant_leaves_nothing_behind(
    database: Path, number: int, error: type[BaseException]
) -> None:
    raised, heard = call_in_child(interrupt_everywhere, database, small_workflow, 12, None, number, error)

    assert raised > 50
    assert heard == raised, "a signal was swallowed"


def limited(ctx: Context) -> list[str]:
    """A workflow with a time limit of its own around its steps."""
    before = signal.signal(signal.SIGALRM, raising(AlarmError))
    try:
        return [ctx.step(act, what) for what in "abc"]
    finally:
        signal.signal(signal.SIGALRM, before)


def alarm_everywhere(_: Connection, database: Path) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)  # where the workflow has no handler, nothing comes
    with Engine(database, synchronous="off") as engine:
        count, expected = undisturbed(lambda name: Lives(engine, name, limited))
        heard = 0
        for instant in range(0, count, 8):
            lives, tracer = Lives(engine, f"limited {instant}", limited), InterruptAt(instant, number=signal.SIGALRM)
            try:
                with_interrupts(tracer, lives.run)
            except AlarmError:
                heard += 1
                assert not isinstance(signal.getsignal(signal.SIGALRM), durable.signals._Holder)
                signal.signal(signal.SIGALRM, signal.SIG_IGN)  # it may have come just before the workflow's `finally`
            lives.check()
            assert lives.run() == expected
            lives.check()
    return heard


def test_a_time_limit_within_a_workflow_leaves_nothing_behind(database: Path) -> None:
    assert call_in_child(alarm_everywhere, database) > 10


def raise_two_signals(_: Connection) -> Any:
    called: list[str] = []

    def note(number: int, _: object) -> None:
        called.append(signal.Signals(number).name)
        raise SystemExit

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        with durable.signals.held_back():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)
            called.append("end of the block")
    except SystemExit:
        handlers = list(map(signal.getsignal, SIGNALS))
        return called[0], sorted(called[1:]), handlers == [note] * len(SIGNALS)


def test_of_two_signals_held_back_together_both_are_handled() -> None:
    assert call_in_child(raise_two_signals) == ("end of the block", ["SIGINT", "SIGTERM"], True)


@pytest.mark.thorough
@pytest.mark.parametrize(("workflow", "stride"), [(small_workflow, 6), (small_workflow_async, 2)])
def test_a_second_interrupt_right_after_the_first_leaves_nothing_behind(
    database: Path, workflow: Callable[..., Any], stride: int
) -> None:
    raised, heard = call_in_child(interrupt_everywhere, database, workflow, stride, 40)

    assert raised > 100
    assert heard == raised, "a Ctrl+C was swallowed"


def interrupt_everywhere_in_a_replay(_: Connection, database: Path) -> tuple[int, int]:
    """SIGINT at each instant of a second life, which is answered from the record of the first."""
    ends_early = [True]

    def workflow(ctx: Context) -> list[str]:
        made = [ctx.step(act, what) for what in "abc"]
        if ends_early:
            raise SystemExit
        return made

    def begin(workflow_id: str) -> Lives:
        lives, ends_early[:] = Lives(engine, workflow_id, workflow), [True]
        with suppress(SystemExit):
            lives.run()
        ends_early.clear()
        lives.check()
        return lives

    with Engine(database, synchronous="off") as engine:
        count, value = undisturbed(begin)
        assert value == ["A", "B", "C"]
        raised = heard = 0
        for instant in range(count):
            lives, tracer = begin(f"interrupted at {instant}"), InterruptAt(instant)
            try:
                with_interrupts(tracer, lives.run)
            except KeyboardInterrupt:
                heard += 1
            lives.check()
            assert lives.run() == ["A", "B", "C"]
            lives.check()
            assert len(engine.attempts(lives.workflow_id)) == 0, "a step that was on record was tried again"
            raised += tracer.raised > 0
    return raised, heard


@pytest.mark.thorough
def test_an_interrupt_at_any_instant_of_a_replay_leaves_the_record_as_it_was(database: Path) -> None:
    raised, heard = call_in_child(interrupt_everywhere_in_a_replay, database)

    assert raised > 50
    assert heard == raised, "a Ctrl+C was swallowed"


# ---- at random instants, from another process


def run_until_done(pipe: Connection, database: Path, workflow: Callable[..., Any], interrupts: int) -> str:
    """Each try is sent one SIGINT by the parent, until so many have come in the middle.

    Python itself drops a KeyboardInterrupt that it raises in a weak reference's callback or a finalizer ("Exception
    ignored in ..."). Such a signal counts as never sent.
    """
    interrupted = number = 0
    dropped: list[object] = []
    sys.unraisablehook = dropped.append
    with Engine(database) as engine:
        usual_seconds = PATIENCE_SECONDS
        for number in range(5):  # the first is slower than those to come
            began = time.monotonic()
            expected = Lives(engine, f"undisturbed {number}", workflow).run()
            usual_seconds = min(usual_seconds, time.monotonic() - began)
        while interrupted < interrupts and number < 10 * interrupts:
            number += 1
            lives, done = Lives(engine, f"emp_{number}", workflow), False
            while not done:
                try:
                    pipe.send(usual_seconds)  # from now on, the signal may come
                    result = lives.run()
                    done = True
                    give_up_at = time.monotonic() + PATIENCE_SECONDS
                    while not dropped:
                        if time.monotonic() > give_up_at:
                            return f"round {number}: a Ctrl+C was swallowed"
                        time.sleep(0.01)  # the signal may still be on its way
                    dropped.clear()
                except KeyboardInterrupt:
                    interrupted += not done
                lives.check()
            assert result == expected
    return "done" if interrupted >= interrupts else f"only {interrupted} of {number} signals came in the middle"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "workflow", [small_workflow, workflows.errand_of_five, workflows.journey_async], ids=lambda fn: fn.__name__
)
def test_an_interrupt_at_a_random_instant_leaves_nothing_behind(database: Path, workflow: Callable[..., Any]) -> None:
    chance = random.Random(3)
    with child(run_until_done, database, workflow, 60) as process:
        while isinstance(outcome := process.receive(), float):
            time.sleep(chance.uniform(0, outcome))
            process.signal(signal.SIGINT)
        process.join()

    assert outcome == "done"


# ---- at each moment


def interrupt_at_each_moment(_: Connection, database: Path, workflow: Callable[..., Any]) -> int:
    """SIGINT at each moment in the life of a workflow, in whatever thread it comes."""
    seen: list[str] = []
    target = [-1]

    def observe(moment: Any) -> None:
        seen.append(f"{moment.step_key}:{moment.name}")
        if len(seen) - 1 == target[0]:
            signal.raise_signal(signal.SIGINT)

    with Engine(database, synchronous="off", observers=[observe]) as engine:
        expected = Lives(engine, "undisturbed", workflow).run()
        moments = len(seen)
        for number in range(moments):
            seen.clear()
            target[0] = number
            lives = Lives(engine, f"emp_{number}", workflow)
            try:
                lives.run()
                time.sleep(PATIENCE_SECONDS if len(seen) > number else 0)
            except KeyboardInterrupt:
                pass
            target[0] = -1
            lives.check()
            assert lives.run() == expected
            lives.check()
            ends = [run.ended for run in engine.runs(lives.workflow_id)]
            assert ends in (["interrupted", "completed"], ["completed"]), ends
        return moments


@pytest.mark.parametrize("workflow", [small_workflow, workflows.journey, workflows.journey_async])
def test_an_interrupt_at_any_moment_of_any_step_leaves_nothing_behind(
    database: Path, workflow: Callable[..., Any]
) -> None:
    assert call_in_child(interrupt_at_each_moment, database, workflow) >= 18


# ---- what is recorded of it


class Stop(BaseException):
    """Not an Exception: control flow of the user's own."""


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, Stop, asyncio.CancelledError])
@pytest.mark.parametrize("how", ["step", "submit", "branch", "async step", "async submit", "workflow"])
def test_an_interrupt_is_no_outcome_of_the_step_in_flight(
    database: Path, interrupt: type[BaseException], how: str
) -> None:
    armed = [True]

    def stopped() -> str:
        if armed:
            raise interrupt("stop")
        return "done"

    async def stopped_async() -> str:
        return stopped()

    def in_branch(ctx: Context) -> str:
        return ctx.step(stopped)

    def workflow(ctx: Context) -> str:
        ctx.step(act, "before")
        match how:
            case "step":
                return ctx.step(stopped)
            case "submit":
                return ctx.submit(stopped).result()
            case "branch":
                return ctx.branch(in_branch).result()
            case "async step":
                return ctx.step(stopped_async)
            case "async submit":
                return ctx.submit(stopped_async).result()
        return stopped()

    with Engine(database) as engine:
        with pytest.raises(interrupt):
            engine.run("emp_001", workflow)

        assert engine.workflow("emp_001").status == "running"
        assert engine.workflow("emp_001").error is None
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted"]
        assert [step.status for step in engine.steps("emp_001")] == ["completed", "running"][: 1 + (how != "workflow")]
        assert engine.owner("emp_001") is None
        armed.clear()
        assert engine.run("emp_001", workflow) == "done"
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted", "completed"]
    assert workflows.effects(database) == ["act_1"]


def test_an_interrupt_of_a_step_that_is_never_asked_for_does_not_complete_the_workflow(database: Path) -> None:
    armed = [True]

    def stopped() -> str:
        if armed:
            raise SystemExit(3)
        return "done"

    def workflow(ctx: Context) -> str:
        ctx.submit(stopped)
        return "all is well"

    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        assert engine.workflow("emp_001").status == "running"
        armed.clear()
        assert engine.run("emp_001", workflow) == "all is well"


def interrupt_while_waiting(pipe: Connection, database: Path, kind: str) -> Any:
    """The parent sends SIGINT while this waits for parallel work; the work is let go on only afterwards."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return "held"

    def workflow(ctx: Context) -> Any:
        if kind == "map":
            return ctx.map(lambda_named_hold, [1], max_concurrent=1)
        future = ctx.submit(hold)
        ctx.submit(hold)
        if kind == "end":
            return None
        return future.result()

    def lambda_named_hold(_: int) -> str:
        return hold()

    def release() -> None:
        entered.wait()
        pipe.send("waiting")
        pipe.recv()
        eventually(lambda: all(waits._run.stopped for waits in file_of(engine).alarm.runs))  # it has heard the signal
        leave.set()

    with Engine(database, max_workers=1) as engine:
        helper = threading.Thread(target=release)
        helper.start()
        try:
            if kind == "handle":
                engine.start("emp_001", workflow).result()
            else:
                engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            helper.join()
            statuses = [step.status for step in engine.steps("emp_001")]
            ended = [run.ended for run in engine.runs("emp_001")]
            free = engine.owner("emp_001") is None
            again = engine.run("emp_001", workflow)
            return statuses, ended, free, again
    return "not interrupted"


@pytest.mark.parametrize("kind", ["result", "map", "end", "handle"])
def test_an_interrupt_saves_what_is_running_and_begins_nothing_more(database: Path, kind: str) -> None:
    with child(interrupt_while_waiting, database, kind) as process:
        assert process.receive() == "waiting"
        process.signal(signal.SIGINT)
        process.send()
        statuses, ended, free, again = process.outcome()

    assert statuses == ["completed"], "the one in flight is saved, the one in the queue has not begun"
    assert ended == ["interrupted"]
    assert free
    assert again == {"result": "held", "map": ["held"], "end": None, "handle": "held"}[kind]


def interrupt_before_it_is_called(_: Connection, database: Path) -> Any:
    """The engine is about to call a coroutine function that would never come to an operation of its own."""
    begun, leave = threading.Event(), threading.Event()

    def watch(moment: Moment) -> None:
        if moment.name == "workflow.started":
            begun.set()
            leave.wait()

    async def endless(_: Context) -> None:
        await asyncio.Event().wait()

    with Engine(database, observers=[watch]) as engine:
        handle = engine.start("emp_001", endless)
        begun.wait()
        handle.interrupt()
        leave.set()
        try:
            handle.result()
        except asyncio.CancelledError:
            return [run.ended for run in engine.runs("emp_001")]


def test_an_interrupt_just_before_a_coroutine_begins_is_heard(database: Path) -> None:
    assert call_in_child(interrupt_before_it_is_called, database) == ["interrupted"]


def interrupt_what_is_mapped(_: Connection, database: Path) -> Any:
    """The items of a map come from the user's own code, which may take its time."""
    went_on: list[str] = []

    def items() -> Iterator[str]:
        yield "first"
        signal.raise_signal(signal.SIGINT)
        went_on.append("the items")

    def workflow(ctx: Context) -> list[str]:
        return ctx.map(act, items())

    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            return went_on, [run.ended for run in engine.runs("emp_001")], engine.owner("emp_001")


def test_an_interrupt_is_raised_where_the_items_of_a_map_come_from(database: Path) -> None:
    assert call_in_child(interrupt_what_is_mapped, database) == ([], ["interrupted"], None)


def is_main_thread_in(code: CodeType) -> bool:
    """Whether this function is among those that the main thread is in."""
    frame: FrameType | None = sys._current_frames()[threading.main_thread().ident or 0]
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def signal_while_waiting(_: Connection, database: Path, raised: type[BaseException], where: str) -> Any:
    """A handler of the user's raises something else than KeyboardInterrupt while the main thread only waits."""

    async def hold() -> None:
        eventually(lambda: is_main_thread_in(durable.parallel.future.wait.__code__))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    async def workflow(_: Context) -> None:
        await hold()

    def workflow_with_a_step(ctx: Context) -> None:
        ctx.step(hold)

    def workflow_with_an_end(ctx: Context) -> None:
        ctx.submit(hold)

    workflows = {"a workflow": workflow, "a step": workflow_with_a_step, "the end": workflow_with_an_end}
    signal.signal(signal.SIGTERM, raising(raised))
    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflows[where])
        except BaseException as error:
            ended = [run.ended for run in engine.runs("emp_001")]
            return type(error).__name__, ended, [step.status for step in engine.steps("emp_001")]


@pytest.mark.parametrize(
    ("raised", "where", "steps"),
    [
        (SystemExit, "a workflow", []),
        (SystemExit, "a step", ["running"]),
        (SystemExit, "the end", ["running"]),
        (AlarmError, "a workflow", []),
        (AlarmError, "a step", ["running"]),
    ],
)
def test_what_a_signal_handler_raises_ends_the_coroutine_that_is_waited_for(
    database: Path, raised: type[BaseException], where: str, steps: list[str]
) -> None:
    found = call_in_child(signal_while_waiting, database, raised, where)

    assert found == (raised.__name__, ["interrupted"], steps)


def signal_in_a_step(_: Connection, database: Path, where: str) -> Any:
    """The handler raises an Exception, which would be the outcome of the step or be caught as one."""
    armed = [True]

    def raise_once(*_: object) -> None:
        if armed:
            armed.clear()
            signal.raise_signal(signal.SIGALRM)

    def step_of_its_own_limit() -> None:
        signal.signal(signal.SIGALRM, raising(AlarmError))
        raise_once()

    def workflow(ctx: Context) -> str:
        if where == "swallowed":
            with suppress(AlarmError):
                ctx.step(raise_once)
            return ctx.step(act, "after")
        ctx.step(step_of_its_own_limit if where == "own handler" else raise_once)
        return "done"

    def observe(moment: Moment) -> None:
        if where == "observer" and moment.name == "step.started":
            raise_once()

    signal.signal(signal.SIGALRM, raising(AlarmError))
    with Engine(database, observers=[observe] if where == "observer" else []) as engine:
        try:
            engine.run("emp_001", workflow)
        except BaseException as error:
            (run,) = engine.runs("emp_001")
            name = type(error).__name__
            return name, run.ended, run.reason, [step.status for step in engine.steps("emp_001")]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("step", ("AlarmError", "interrupted", "SIGALRM", ["running"])),
        ("observer", ("AlarmError", "interrupted", "SIGALRM", ["running"])),
        ("swallowed", ("RunStopped", "interrupted", "SIGALRM", ["running"])),
        ("own handler", ("AlarmError", "failed", None, ["failed"])),
    ],
)
def test_an_exception_is_no_outcome_if_a_handler_from_outside_the_step_raised_it(
    database: Path, where: str, expected: object
) -> None:
    assert call_in_child(signal_in_a_step, database, where) == expected


def interrupt_what_calls_back(_: Connection, database: Path, kind: str) -> Any:
    """What is called back asks for the result, and after an interrupt there is none."""
    entered, leave = threading.Event(), threading.Event()

    def hold(number: int) -> int:
        entered.set()
        leave.wait()
        return number

    async def hold_async(number: int) -> int:
        entered.set()
        await asyncio.Event().wait()
        return number

    def begin(ctx: Context, number: int) -> Future[Any]:
        match kind:
            case "submit":
                return ctx.submit(hold, number)
            case "async submit":
                return ctx.submit(hold_async, number)
            case _:
                return ctx.timer(3600)

    def workflow(ctx: Context) -> None:
        futures = [begin(ctx, number) for number in range(6)]
        for future in futures:
            future.add_done_callback(Future.result)
        if kind == "timer":
            entered.set()
        futures[0].result()

    with Engine(database, max_workers=2) as engine:
        handle = engine.start("emp_001", workflow)
        entered.wait()
        handle.interrupt()
        leave.set()
        try:
            handle.result()
        except BaseException as error:
            return type(error).__name__
    return "not interrupted"


@pytest.mark.parametrize("kind", ["submit", "async submit", "timer"])
def test_a_callback_that_asks_for_an_interrupted_result_does_not_block(database: Path, kind: str) -> None:
    assert call_in_child(interrupt_what_calls_back, database, kind) in ("RunStopped", "CancelledError")


def exit_in_a_task(_: Connection, database: Path) -> Any:
    """It ends the loop that the task is on, as Python has it; here that is the engine's, which others need too."""

    def leave() -> None:
        sys.exit("enough")

    async def workflow(ctx: Context) -> list[str]:
        return list(await asyncio.gather(ctx.submit(leave), ctx.submit(act, "beside")))

    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except SystemExit as error:
            ended = [run.ended for run in engine.runs("emp_001")]
            return str(error), ended, engine.run("emp_002", small_workflow_async)


def test_a_step_that_exits_ends_its_own_run_alone(database: Path) -> None:
    message, ended, other = call_in_child(exit_in_a_task, database)

    assert (message, ended) == ("enough", ["interrupted"])
    assert other[-1] == "LAST"


def test_what_ends_many_steps_at_once_is_told_once(database: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(number: int) -> int:
        entered.set()
        assert leave.wait(PATIENCE_SECONDS)
        return number

    def workflow(ctx: Context) -> list[int]:
        return ctx.map(hold, range(6))

    with Engine(database, max_workers=1) as engine:
        handle = engine.start("emp_001", workflow)
        entered.wait()
        handle.interrupt()
        leave.set()
        with pytest.raises(RunStopped) as stopped:
            handle.result(PATIENCE_SECONDS)

    assert not hasattr(stopped.value, "__notes__")


# ---- the signal's other owners


def handlers_of_the_user(_: Connection, database: Path) -> Any:
    story: list[Any] = []

    def mine(number: int, _: FrameType | None) -> None:
        story.append(number)

    def step() -> str:
        signal.raise_signal(signal.SIGINT)
        return "done"

    def workflow(ctx: Context) -> str:
        return ctx.step(step)

    with Engine(database) as engine:
        signal.signal(signal.SIGINT, mine)
        story.append(engine.run("handled", workflow))
        story.append(signal.getsignal(signal.SIGINT) is mine)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        story.append(engine.run("ignored", workflow))
        story.append(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)

        def install() -> str:
            signal.signal(signal.SIGINT, mine)
            return "installed"

        def installing(ctx: Context) -> str:
            return ctx.step(install)

        signal.signal(signal.SIGINT, signal.default_int_handler)
        story.append(engine.run("installing", installing))
        story.append(signal.getsignal(signal.SIGINT) is mine)
    return story


def test_a_handler_of_the_users_own_is_called_and_stays(database: Path) -> None:
    assert call_in_child(handlers_of_the_user, database) == [
        signal.SIGINT,
        "done",
        True,
        "done",
        True,
        "installed",
        True,
    ]


def test_a_workflow_may_clean_up_after_ctrl_c(database: Path) -> None:
    assert call_in_child(clean_up_after_ctrl_c, database) == ("interrupted", ["FIRST", "CLEAN UP"])


def clean_up_after_ctrl_c(_: Connection, database: Path) -> Any:
    seen: list[str] = []

    def interrupt() -> str:
        signal.raise_signal(signal.SIGINT)
        return "never"

    def workflow(ctx: Context) -> None:
        seen.append(ctx.step(act, "first"))
        try:
            ctx.step(interrupt)
        except KeyboardInterrupt:
            seen.append(ctx.step(act, "clean up"))
            raise

    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            return engine.runs("emp_001")[0].ended, seen
    return None


# ---- the end of the interpreter


def leave_without_closing(_: Connection, database: Path) -> None:
    """The workflow goes on in its thread while the interpreter ends."""
    entered = threading.Event()

    def watch(moment: Moment) -> None:
        if moment.name == "step.executed":
            entered.set()
            threading.main_thread().join()

    Engine(database, observers=[watch]).start("emp_001", small_workflow)
    entered.wait()


def test_a_workflow_that_the_end_of_the_interpreter_overtakes_is_not_failed(database: Path) -> None:
    with child(leave_without_closing, database) as process:
        assert process.outcome() is None

    with Engine(database) as engine:
        assert engine.workflow("emp_001").status in ("running", "completed")
        assert engine.run("emp_001", small_workflow) == ["FIRST", "BESIDE", "BRANCH", "MAP"]
    assert sorted(workflows.effects(database)) == ["act_1", "act_2", "act_4", "errand_3/act_1"]


def leave_within_a_coroutine(_: Connection, database: Path) -> None:
    """The same in a step on the event loop, which then fails."""
    entered = threading.Event()

    async def fail() -> None:
        entered.set()
        threading.main_thread().join()
        raise ValueError("too late")

    def overtaken(ctx: Context) -> None:
        ctx.step(fail)

    Engine(database).start("emp_001", overtaken)
    entered.wait()


def test_a_coroutine_that_fails_as_the_interpreter_ends_does_not_fail_its_workflow(database: Path) -> None:
    with child(leave_within_a_coroutine, database) as process:
        assert process.outcome() is None

    with Engine(database) as engine:
        assert engine.workflow("emp_001").status == "running"
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted"]


# ---- no thread can be started


async def answer() -> str:
    return "done"


async def answer_in_a_branch(_: Context) -> str:
    return "done"


def answer_as_a_child(_: Context) -> str:
    return "done"


async def fail_async() -> str:
    raise ValueError("no")


def asleep(ctx: Context) -> str:
    ctx.sleep(3600)
    return "done"


def failing(ctx: Context) -> str:
    try:
        return ctx.step(fail_async)
    except ValueError:
        return "done"


WANTING: dict[str, Callable[..., Any]] = {
    "submit": lambda ctx: ctx.submit(act, "done").result().lower(),
    "branch": lambda ctx: ctx.branch(answer_as_a_child).result(),
    "async step": lambda ctx: ctx.step(answer),
    "async submit": lambda ctx: ctx.submit(answer).result(),
    "async branch": lambda ctx: ctx.branch(answer_in_a_branch).result(),
    "a failing async step": failing,
    "a timer": asleep,
    "a child": lambda ctx: ctx.child(answer_as_a_child).result(),
}


def run_without_threads(_: Connection, database: Path, what: str, wanting: str) -> Any:
    """No thread can be begun: none at all, or none of a name. Then they can again."""

    def workflow(ctx: Context) -> Any:
        return WANTING[what](ctx)

    def refuse(thread: threading.Thread) -> None:
        if wanting in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    story: list[Any] = []
    with Engine(database, clock=ManualClock()) as engine:
        threading.Thread.start = refuse  # type: ignore[method-assign]
        try:
            story.append(engine.run("emp_001", workflow))
        except RunStopped:
            story.append("stopped")
        threading.Thread.start = start  # type: ignore[method-assign]
        story.append([run.ended for run in engine.runs("emp_001")])
        story.append(engine.run("emp_001", workflow))
    return story


@pytest.mark.parametrize(
    ("what", "wanting"),
    [*[(what, "") for what in WANTING], ("a timer", "bookkeeping")],
)
def test_where_no_thread_can_be_had_the_run_is_interrupted(database: Path, what: str, wanting: str) -> None:
    """A limit of the system was reached, say. It is nobody's outcome, and when there is room again it goes on."""
    assert call_in_child(run_without_threads, database, what, wanting) == ["stopped", ["interrupted"], "done"]


def start_without_threads(_: Connection, database: Path) -> Any:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    start = threading.Thread.start
    with Engine(database) as engine:
        threading.Thread.start = refuse  # type: ignore[assignment]
        try:
            engine.start("emp_001", answer_as_a_child)
        except NoThreadError as error:
            refused = str(error)
        threading.Thread.start = start  # type: ignore[method-assign]
        return refused, [run.ended for run in engine.runs("emp_001")], engine.run("emp_001", answer_as_a_child)


def test_a_workflow_that_gets_no_thread_of_its_own_is_let_go(database: Path) -> None:
    assert call_in_child(start_without_threads, database) == ("can't start new thread", ["interrupted"], "done")


# ---- cancellation


def test_cancelling_the_wait_for_a_handle_interrupts_the_workflow(database: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        leave.wait()
        return "held"

    def workflow(ctx: Context) -> list[str]:
        return [ctx.step(hold), ctx.step(act, "after")]

    async def cancel() -> bool:
        handle = engine.start("emp_001", workflow)
        waiting = asyncio.ensure_future(handle)
        await asyncio.sleep(0)  # or it might be cancelled before it has begun to wait
        await asyncio.to_thread(entered.wait)
        waiting.cancel()
        await asyncio.wait([waiting])
        leave.set()
        await asyncio.to_thread(eventually_free, engine, "emp_001")
        return waiting.cancelled()

    with Engine(database) as engine:
        assert asyncio.run(cancel())
        assert [step.status for step in engine.steps("emp_001")] == ["completed"]
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted"]
        assert engine.run("emp_001", workflow) == ["held", "AFTER"]


def close_beside_a_run(_: Connection, database: Path, waits_for: str) -> Any:
    """The engine is closed while another thread runs a workflow that waits."""
    entered = threading.Event()

    class WatchedClock(SystemClock):
        def wait(self, *args: Any) -> None:  # by the alarm, which begins with the first wait
            entered.set()
            super().wait(*args)

    async def hold() -> None:
        entered.set()
        await asyncio.Event().wait()

    def workflow(ctx: Context) -> None:
        if waits_for == "a step on the event loop":
            ctx.step(hold)
        elif waits_for == "a timer":
            ctx.sleep(3600)
        elif waits_for == "a message":
            ctx.wait_event("news")
        else:
            ctx.step(fail_once_in_an_hour)

    engine = Engine(database, clock=WatchedClock())
    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.run, "emp_001", workflow)
        entered.wait()
        engine.close()
        return type(running.exception()).__name__


@step(retry=Retry(delay_seconds=3600))
def fail_once_in_an_hour() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("waits_for", "ending"),
    [
        ("a step on the event loop", "CancelledError"),
        ("a timer", "StoreError"),
        ("a message", "StoreError"),
        ("the next try of a step", "StoreError"),
    ],
)
def test_closing_the_engine_strands_no_run_of_another_thread(database: Path, waits_for: str, ending: str) -> None:
    assert call_in_child(close_beside_a_run, database, waits_for) == ending


def test_a_task_that_a_step_has_left_behind_is_cancelled_as_the_engine_closes(database: Path) -> None:
    story: list[str] = []
    left: list[asyncio.Task[None]] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            story.append("tidied up")

    async def leave() -> None:
        left.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    def workflow(ctx: Context) -> None:
        ctx.step(leave)

    with Engine(database) as engine:
        engine.run("emp_001", workflow)
        assert story == []

    assert story == ["tidied up"]


def test_an_exception_that_leaves_the_engines_block_does_not_wait_for_ever(database: Path) -> None:
    entered = threading.Event()

    async def endless(ctx: Context) -> None:
        await ctx.submit(sleep_for_ever)

    async def sleep_for_ever() -> None:
        entered.set()
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt), Engine(database) as engine:
        handle = engine.start("emp_001", endless)
        entered.wait()
        raise KeyboardInterrupt

    with pytest.raises((RunStopped, asyncio.CancelledError)):
        handle.result(PATIENCE_SECONDS)
    with Engine(database) as engine:
        assert [run.ended for run in engine.runs("emp_001")] == ["interrupted"]
        assert engine.owner("emp_001") is None


def wake_without_threads(_: Connection, database: Path, what: str) -> Any:
    """The first thread that is to make or to wake a workflow cannot be started; later ones can."""

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("workflow") and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    start, refused, story = threading.Thread.start, threading.Event(), list[Any]()
    with Engine(database, suspend=True) as engine:
        engine.start("emp_001", wait_for_news)
        eventually(lambda: engine.waits("emp_001"))
    threading.Thread.start = refuse  # type: ignore[method-assign]
    with Engine(database, suspend=True) as engine:
        if what == "start":
            try:
                engine.start("emp_001", wait_for_news)
            except NoThreadError as error:
                story.append(str(error))
            engine.start("emp_001", wait_for_news)
        engine.send("emp_001", "news", "today")
        refused.wait()
        eventually(lambda: engine.workflow("emp_001").status == "completed")
        return [*story, *[run.ended for run in engine.runs("emp_001")]]


def test_an_engine_that_suspends_goes_on_once_threads_can_be_had_again(database: Path) -> None:
    assert call_in_child(wake_without_threads, database, "wake") == ["suspended", "completed"]


def test_a_workflow_that_gets_no_thread_of_an_engine_that_suspends_is_let_go(database: Path) -> None:
    told = call_in_child(wake_without_threads, database, "start")

    assert told[:3] == ["can't start new thread", "suspended", "interrupted"]
    assert told[-1] == "completed"
