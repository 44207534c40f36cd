"""A step's exception is an outcome: recorded, raised again as it was, tried anew when it ended the workflow: rule 5."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import json
import multiprocessing
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, StepError
from durable.values.codec import checksum
from durable.values.failures import decode_error, encode_error
from tests.support import workflows
from tests.support.processes import call_in_child
from tests.support.workflows import act

# ---- a world in which things fail


class World:
    """Which steps fail, and how often each was tried."""

    def __init__(self, *failing: str, error: type[Exception] = ConnectionError) -> None:
        self.failing, self.error = set(failing), error
        self.tries: list[str] = []

    def do(self, what: str) -> str:
        """A step."""
        self.tries.append(what)
        if what in self.failing:
            raise self.error(f"{what} is down")
        return what.upper()

    def heal(self) -> None:
        """From now on all goes well."""
        self.failing.clear()
        self.tries.clear()


def run_and_fail(engine: Engine, workflow: Callable[..., Any], error: type[BaseException] = ConnectionError) -> Any:
    with pytest.raises(error) as failed:
        engine.run("emp_001", workflow)
    return failed.value


# ---- raised again as it was


class PaymentError(Exception):
    """Built from what it is given, as the engine can build it again."""

    def __init__(self, account: str, cents: int) -> None:
        super().__init__(account, cents)
        self.account, self.cents = account, cents

    def __str__(self) -> str:
        return f"{self.account} lacks {self.cents} cents"


class LockedError(Exception):
    """Holds what has no JSON form."""

    def __init__(self, lock: object) -> None:
        super().__init__(lock)

    def __str__(self) -> str:
        return "it is locked"


class PickyError(Exception):
    """Takes other arguments than it keeps."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


class StatefulError(Exception):
    """Its attributes are not in its arguments."""


def stateful() -> Exception:
    error = StatefulError("it is so")
    error.code = 42  # type: ignore[attr-defined]
    return error


def stateful_with_a_lock() -> Exception:
    error = StatefulError("it is so")
    error.lock = Lock()  # type: ignore[attr-defined]
    return error


class Lock:
    """Like any other, and like none in JSON."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lock)

    __hash__ = object.__hash__


def constraint() -> Exception:
    """From C, which gives it attributes once it is made."""
    try:
        sqlite3.connect(":memory:").execute("create table t (x not null)").execute("insert into t values (null)")
    except sqlite3.IntegrityError as error:
        return error.with_traceback(None)
    raise AssertionError


def local() -> Exception:
    class LocalError(Exception):
        pass

    return LocalError("here")


class UnspeakableError(Exception):
    """Cannot even be printed."""

    def __str__(self) -> str:
        raise ZeroDivisionError


class AmbiguousError(Exception):
    """Has an attribute that has no truth when compared, as arrays do."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values = Ambiguous()


class Ambiguous:
    def __eq__(self, _: object) -> Any:
        return Ambiguous()

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")

    __hash__ = object.__hash__


REBUILT: list[Callable[[], Exception]] = [
    lambda: ValueError("no"),
    ValueError,
    lambda: ValueError("several", 1, None, 2.5, True),
    lambda: KeyError("missing"),
    lambda: FileNotFoundError(2, "No such file", "notes.txt"),
    lambda: TimeoutError("slow"),
    lambda: StopIteration(3),
    lambda: RuntimeError("lone surrogate \\ud800 and \0 and emoji \U0001f600"),
    lambda: json.JSONDecodeError("bad", "{", 1),
    lambda: PaymentError("emp_001", 250),
    lambda: concurrent.futures.CancelledError("cancelled in a pool of the step's own"),
    stateful,
    constraint,
    lambda: PickyError("a", "b"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
]
REDUCED: list[Callable[[], Exception]] = [
    lambda: LockedError(threading.Lock()),
    stateful_with_a_lock,
    lambda: ValueError({1, 2}),
]


class Story:
    """A workflow that catches the failure of its first step, and is interrupted after that in its first life."""

    def __init__(self, make: Callable[[], Exception], how: str) -> None:
        self.seen: list[Exception] = []
        self._make, self._how = make, how
        self.tries = 0

    def tell(self, database: Path) -> tuple[Exception, Exception]:
        """What the workflow caught in its first life, and what in its second."""
        with Engine(database) as engine:
            with pytest.raises(SystemExit):
                engine.run("emp_001", self.awaiting if self._how == "awaited" else self.asking)
            engine.run("emp_001", self.awaiting if self._how == "awaited" else self.asking)
            assert [step.status for step in engine.steps("emp_001")] == ["failed", "completed"]
        assert self.tries == 1, "the recorded failure was not answered from its row"
        first, replayed = self.seen
        return first, replayed

    def asking(self, ctx: Context) -> None:
        try:
            match self._how:
                case "step":
                    ctx.step(self.fail)
                case "submit":
                    ctx.submit(self.fail).result()
                case "map":
                    ctx.map(self.fail, [1])
                case "async step":
                    ctx.step(self.fail_async)
        except Exception as error:
            self.seen.append(error)
        ctx.step(self.die_once)

    async def awaiting(self, ctx: Context) -> None:
        try:
            await ctx.submit(self.fail)
        except Exception as error:
            self.seen.append(error)
        ctx.step(self.die_once)

    def fail(self, _: int = 0) -> None:
        self.tries += 1
        error = self._make()
        error.add_note("a note")
        raise error

    async def fail_async(self) -> None:
        self.fail()

    def die_once(self) -> None:
        if len(self.seen) == 1:
            raise SystemExit


def told(error: Exception) -> tuple[Any, ...]:
    """All that a workflow may look at."""
    return type(error), error.args, str(error), vars(error)


HOWS = ["step", "submit", "map", "async step", "awaited"]


def name_of(make: Callable[[], Exception]) -> str:
    return type(make()).__name__


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("make", REBUILT, ids=name_of)
def test_a_failure_is_raised_again_as_it_was(database: Path, make: Callable[[], Exception], how: str) -> None:
    if isinstance(make(), StopIteration) and how in ("async step", "awaited"):
        return  # see below: Python lets no coroutine raise it
    expected = make()
    expected.add_note("a note")
    first, replayed = Story(make, how).tell(database)

    assert told(first) == told(replayed) == told(expected)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("make", REDUCED, ids=name_of)
def test_a_failure_with_parts_that_cannot_be_stored_is_of_its_class_in_each_life(
    database: Path, make: Callable[[], Exception], how: str
) -> None:
    first, replayed = Story(make, how).tell(database)

    assert told(first) == told(replayed)
    assert type(first) is type(make())
    assert str(first) == str(make())
    assert first.__notes__[0] == "a note"
    assert "which JSON cannot hold" in first.__notes__[1]


@pytest.mark.parametrize("how", HOWS)
def test_a_failure_whose_class_cannot_be_had_is_a_step_error_in_the_first_life_too(database: Path, how: str) -> None:
    first, replayed = Story(local, how).tell(database)

    assert isinstance(first, StepError)
    assert told(first) == told(replayed)
    assert (first.type_name, first.message) == (f"{__name__}:local.<locals>.LocalError", "here")
    assert first.__notes__ == ["a note"]


@pytest.mark.parametrize("how", HOWS)
def test_a_group_comes_back_with_its_members(database: Path, how: str) -> None:
    def make() -> Exception:
        return ExceptionGroup("two", [PickyError("a", "b"), ExceptionGroup("one", [KeyError("c")])])

    for error in Story(make, how).tell(database):
        assert isinstance(error, ExceptionGroup)
        picky, rest = error.split(PickyError)
        assert picky is not None
        assert rest is not None
        assert str(picky.exceptions[0]) == "a b"
        assert repr(rest.exceptions) == "(ExceptionGroup('one', [KeyError('c')]),)"


@pytest.mark.parametrize("how", HOWS)
def test_a_failure_keeps_its_cause_and_its_context(database: Path, how: str) -> None:
    def make() -> Exception:
        try:
            try:
                raise PickyError("a", "b")
            except PickyError as picky:
                raise KeyError("c") from picky
        except KeyError:
            try:
                raise ValueError("d")
            except ValueError as error:
                return error

    for error in Story(make, how).tell(database):
        context = error.__context__
        assert repr((error, context)) == "(ValueError('d'), KeyError('c'))"
        assert context is not None
        assert type(context.__cause__) is PickyError
        assert str(context.__cause__) == "a b"


@pytest.mark.parametrize("how", ["async step", "awaited"])
def test_stop_iteration_comes_out_of_a_coroutine_as_python_has_it_and_nothing_hangs(database: Path, how: str) -> None:
    first, replayed = Story(lambda: StopIteration(3), how).tell(database)

    assert type(first) is type(replayed) is RuntimeError
    assert str(first) == str(replayed)
    assert "StopIteration" in str(first)


@pytest.mark.parametrize(
    "error", [UnspeakableError, lambda: AmbiguousError("arrays")], ids=["unspeakable", "ambiguous"]
)
def test_a_failure_that_can_hardly_be_told_is_recorded_all_the_same(
    database: Path, error: Callable[[], Exception]
) -> None:
    def fail() -> None:
        raise error()

    def workflow(ctx: Context) -> None:
        ctx.step(fail)

    with Engine(database) as engine:
        with pytest.raises(type(error())):
            engine.run("emp_001", workflow)

        assert engine.steps("emp_001")[0].status == "failed"
        assert engine.workflow("emp_001").status == "failed"
        assert [run.ended for run in engine.runs("emp_001")] == ["failed"]


def test_the_traceback_leads_to_the_line_in_the_step(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step(world.do, "pay")

    world = World("pay")
    with Engine(database) as engine:
        error = run_and_fail(engine, workflow)
        record = json.loads(str(engine.steps("emp_001")[0].error))

    names, trace = [], error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "do"
    assert "pay is down" in record["traceback"]
    assert record["type"] == "builtins:ConnectionError"


def fail_in_child(_: Connection, database: Path) -> Any:
    with Engine(database) as engine:
        try:
            engine.run("emp_001", catch_in_another_process)
        except SystemExit:
            return "died"
    return None


def catch_in_another_process(ctx: Context) -> list[str]:
    told_of = []
    for step in (fail_with_an_own_class, fail_with_a_picky_one):
        try:
            ctx.step(step)
        except Exception as error:
            told_of.append(f"{type(error).__name__}: {error}")
    ctx.step(die_in_a_child)
    return told_of


def fail_with_an_own_class() -> None:
    raise PaymentError("emp_001", 250)


def fail_with_a_picky_one() -> None:
    raise PickyError("a", "b")


def die_in_a_child() -> None:
    if multiprocessing.parent_process() is not None:
        raise SystemExit


def test_a_failure_recorded_by_another_process_is_raised_again_as_it_was(database: Path) -> None:
    assert call_in_child(fail_in_child, database) == "died"
    with Engine(database) as engine:
        assert engine.run("emp_001", catch_in_another_process) == [
            "PaymentError: emp_001 lacks 250 cents",
            "PickyError: a b",
        ]
        assert engine.attempts("emp_001")[0].step_key == "die_in_a_child_3", "only the step in flight was tried again"


# ---- an error in a file that somebody else has written

called: list[object] = []


def call_me(*what: object) -> Exception:
    """A callable that is no class. A name in a file must not be enough to call it."""
    called.append(what)
    return ValueError(*what)


class Outer:
    """Holds one more, and an exception class beside it."""

    call_me = call_me

    class InnerError(Exception):
        """Found by its qualified name."""


class CallMe:
    """A class, but no exception."""

    def __init__(self, *what: object) -> None:
        called.append(what)


def record_of_an_error(type_name: str) -> str:
    """What a file may hold: the record of a ValueError under another name."""
    return json.dumps(json.loads(encode_error(ValueError("x"))) | {"type": type_name})


@pytest.mark.parametrize(
    "name",
    [
        f"{__name__}:call_me",
        f"{__name__}:CallMe",
        f"{__name__}:Outer.call_me",
        f"{__name__}:called.append",
        "builtins:eval",
        "builtins:BaseException",
        "builtins:SystemExit",
    ],
)
def test_an_error_on_record_that_names_no_exception_class_calls_nothing(database: Path, name: str) -> None:
    def workflow(ctx: Context) -> str:
        try:
            return ctx.step(world.do, "a")
        except Exception as error:
            ctx.step(die_in_the_first_life)
            return f"{type(error).__name__}: {error}"

    def die_in_the_first_life() -> None:
        if not is_received:
            raise SystemExit

    world, is_received = World("a"), False
    with Engine(database) as engine, pytest.raises(SystemExit):
        engine.run("emp_001", workflow)
    is_received = True
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        record = record_of_an_error(name)
        right = checksum("do_1", "failed", None, record)  # anybody can make it right
        db.execute("update steps set error = ?, checksum = ? where step_key = 'do_1'", [record, right])
    called.clear()
    with Engine(database) as engine:
        result = engine.run("emp_001", workflow)

    assert result == f"StepError: {name.partition(':')[2]}: x"
    assert called == []


def test_an_exception_class_is_found_within_another_class() -> None:
    error = decode_error(record_of_an_error(f"{__name__}:Outer.InnerError"))

    assert told(error) == (Outer.InnerError, ("x",), "x", {})


def test_no_module_is_imported_for_an_error_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "errors_of_somebody.py").write_text("class TheirError(Exception): ...")
    monkeypatch.syspath_prepend(tmp_path)
    error = decode_error(record_of_an_error("errors_of_somebody:TheirError"))

    assert type(error) is StepError
    assert "errors_of_somebody" not in sys.modules


# ---- the failed workflow, run again


def test_a_failed_workflow_run_again_keeps_completed_steps_and_tries_the_failed_one_anew(database: Path) -> None:
    def workflow(ctx: Context) -> list[str]:
        return [ctx.step(world.do, what) for what in ("a", "b", "c")]

    world = World("b")
    with Engine(database) as engine:
        for _ in range(2):
            world.tries.clear()
            run_and_fail(engine, workflow)
            assert engine.workflow("emp_001").status == "failed"
        assert world.tries == ["b"]
        world.heal()
        assert engine.run("emp_001", workflow) == ["A", "B", "C"]

        assert world.tries == ["b", "c"]
        assert [(step.status, step.attempt) for step in engine.steps("emp_001")] == [
            ("completed", 1),
            ("completed", 3),
            ("completed", 1),
        ]
        assert [(one.step_key, one.attempt, one.status) for one in engine.attempts("emp_001")] == [
            ("do_2", 1, "failed"),
            ("do_2", 2, "failed"),
        ]
        assert [run.ended for run in engine.runs("emp_001")] == ["failed", "failed", "completed"]
        assert engine.workflow("emp_001").error is None


def test_the_error_of_a_failed_workflow_is_on_record(database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step(world.do, "a")

    world = World("a")
    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        record = json.loads(str(engine.workflow("emp_001").error))

    assert (record["type"], record["message"], record["steps"]) == ("builtins:ConnectionError", "a is down", ["do_1"])


class BookingError(Exception):
    """The workflow's own."""


def wrapped(ctx: Context, world: World) -> str:
    try:
        return ctx.step(world.do, "pay")
    except world.error as error:
        raise BookingError("no booking") from error


def wrapped_in_passing(ctx: Context, world: World) -> str:
    try:
        return ctx.step(world.do, "pay")
    except world.error:
        raise BookingError("no booking")


def wrapped_without_a_cause(ctx: Context, world: World) -> str:
    try:
        return ctx.step(world.do, "pay")
    except world.error:
        raise BookingError("no booking") from None


def wrapped_twice(ctx: Context, world: World) -> str:
    try:
        return wrapped(ctx, world)
    except BookingError as error:
        raise RuntimeError("no holiday") from error


def grouped(ctx: Context, world: World) -> str:
    errors, results = [], []
    for what in ("pay", "ship"):
        try:
            results.append(ctx.step(world.do, what))
        except world.error as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("some failed", errors)
    return results[0]


def grouped_and_wrapped(ctx: Context, world: World) -> str:
    try:
        return grouped(ctx, world)
    except ExceptionGroup as errors:
        raise BookingError("no booking") from errors


def mapped(ctx: Context, world: World) -> str:
    return ctx.map(world.do, ["pay", "ship"])[0]


def submitted(ctx: Context, world: World) -> str:
    return ctx.submit(world.do, "pay").result()


def unasked(ctx: Context, world: World) -> str:
    ctx.submit(world.do, "pay")
    ctx.submit(world.do, "ship")
    return "PAY"


def in_a_branch(ctx: Context, world: World) -> str:
    return ctx.branch(wrapped, world).result()


def given_on_by_exception(ctx: Context, world: World) -> str:
    error = ctx.submit(world.do, "pay").exception()
    if error is not None:
        raise error
    return "PAY"


def raised_in_finally(ctx: Context, world: World) -> str:
    try:
        return ctx.step(world.do, "pay")
    finally:
        ctx.step(world.do, "tidy up")


async def awaited(ctx: Context, world: World) -> str:
    return await ctx.submit(world.do, "pay")


async def gathered(ctx: Context, world: World) -> str:
    return (await asyncio.gather(*[ctx.submit(world.do, what) for what in ("pay", "book")]))[0]


async def gathered_and_grouped(ctx: Context, world: World) -> str:
    futures = [ctx.submit(world.do, what) for what in ("pay", "ship")]
    found = await asyncio.gather(*futures, return_exceptions=True)
    errors = [one for one in found if isinstance(one, Exception)]
    if errors:
        raise ExceptionGroup("some failed", errors)
    return "PAY"


async def in_an_async_branch(ctx: Context, world: World) -> str:
    return await ctx.branch(awaited, world)


async def waited_for_with_a_timeout(ctx: Context, world: World) -> str:
    return await asyncio.wait_for(ctx.submit(world.do, "pay"), 60)


ENDED_BY_A_STEP: list[Callable[..., Any]] = [
    wrapped,
    wrapped_in_passing,
    wrapped_without_a_cause,
    wrapped_twice,
    grouped,
    grouped_and_wrapped,
    mapped,
    submitted,
    unasked,
    in_a_branch,
    given_on_by_exception,
    raised_in_finally,
    awaited,
    gathered,
    gathered_and_grouped,
    in_an_async_branch,
    waited_for_with_a_timeout,
]


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, concurrent.futures.CancelledError])
@pytest.mark.parametrize("body", ENDED_BY_A_STEP)
def test_a_step_whose_failure_ended_the_workflow_in_whatever_wrapping_is_tried_anew(
    database: Path, body: Callable[..., Any], error: type[Exception]
) -> None:
    world = World("pay", "ship", error=error)

    def workflow(ctx: Context) -> str:
        return str(body(ctx, world))

    async def workflow_async(ctx: Context) -> str:
        return str(await body(ctx, world))

    chosen = workflow_async if inspect.iscoroutinefunction(body) else workflow
    with Engine(database) as engine:
        run_and_fail(engine, chosen, Exception)
        assert engine.workflow("emp_001").status == "failed"
        failed = {step.step_key for step in engine.steps("emp_001") if step.status == "failed"}
        tried = set(world.tries)
        world.heal()

        assert engine.run("emp_001", chosen) == "PAY"
        assert {step.status for step in engine.steps("emp_001")} == {"completed"}
        assert {one.step_key for one in engine.attempts("emp_001")} == failed
    assert set(world.tries) == tried & {"pay", "ship"}


def test_of_two_gathered_failures_each_rerun_tries_the_one_that_ended_it(database: Path) -> None:
    # asyncio.gather raises the first error and swallows the others: to the engine, the workflow has seen them.
    async def workflow(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*[ctx.submit(world.do, what) for what in ("pay", "ship")]))

    world = World("pay", "ship")
    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        world.heal()
        run_and_fail(engine, workflow)
        assert len(world.tries) == 1

        assert engine.run("emp_001", workflow) == ["PAY", "SHIP"]
    assert sorted(world.tries) == ["pay", "ship"]


def test_a_caught_compensated_and_reraised_failure_takes_the_other_way_once_it_heals(database: Path) -> None:
    def workflow(ctx: Context) -> list[str]:
        booked = ctx.step(world.do, "book")
        try:
            paid = ctx.step(world.do, "pay")
        except ConnectionError:
            ctx.step(world.do, "cancel booking")
            ctx.map(world.do, ["tell customer", "tell hotel"])
            raise
        return [booked, paid, ctx.step(world.do, "send tickets")]

    world = World("pay")
    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        run_and_fail(engine, workflow)
        assert world.tries == ["book", "pay", "cancel booking", "tell customer", "tell hotel", "pay"]
        world.heal()
        assert engine.run("emp_001", workflow) == ["BOOK", "PAY", "SEND TICKETS"]

        assert world.tries == ["pay", "send tickets"]
        assert [step.step_key for step in engine.steps("emp_001")] == ["do_1", "do_2", "do_3"]
        assert [step.value for step in engine.steps("emp_001")] == ["BOOK", "PAY", "SEND TICKETS"]
        story = [(one.step_key, one.attempt, one.status, one.value) for one in engine.attempts("emp_001")]
        assert story == [
            ("do_2", 1, "failed", None),
            ("do_2", 2, "failed", None),
            ("do_3", 1, "completed", "CANCEL BOOKING"),
            ("do_4", 1, "completed", "TELL CUSTOMER"),
            ("do_5", 1, "completed", "TELL HOTEL"),
        ]
        assert engine.run("emp_001", workflow) == ["BOOK", "PAY", "SEND TICKETS"]


def test_a_compensation_in_a_branch_gives_way_to_the_other_way_too(database: Path) -> None:
    def undo(ctx: Context) -> None:
        ctx.step(world.do, "cancel booking")

    def pay(ctx: Context) -> str:
        return ctx.step(world.do, "pay")

    def workflow(ctx: Context) -> list[str]:
        try:
            paid = ctx.branch(pay).result()
        except ConnectionError:
            ctx.branch(undo).result()
            raise
        return [paid, ctx.step(world.do, "send tickets")]

    world = World("pay")
    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        world.heal()

        assert engine.run("emp_001", workflow) == ["PAY", "SEND TICKETS"]
        assert [step.step_key for step in engine.steps("emp_001")] == ["pay_1/do_1", "do_2"]
    assert world.tries == ["pay", "send tickets"]


def test_a_failing_compensation_is_what_ended_the_workflow_and_the_only_one_tried_anew(database: Path) -> None:
    def workflow(ctx: Context) -> str:
        try:
            return ctx.step(world.do, "pay")
        except ConnectionError:
            ctx.step(world.do, "cancel booking")
            return "cancelled"

    world = World("pay", "cancel booking")
    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        world.heal()

        assert engine.run("emp_001", workflow) == "cancelled"
    assert world.tries == ["cancel booking"]


def test_an_error_of_the_workflows_own_leaves_every_step_as_it_is(database: Path) -> None:
    def workflow(ctx: Context) -> list[str]:
        results = [ctx.step(world.do, "a")]
        try:
            ctx.step(world.do, "b")
        except ConnectionError:
            results.append("caught")
        if world.failing:
            raise BookingError("a bug")
        return results

    world = World("b")
    with Engine(database) as engine:
        run_and_fail(engine, workflow, BookingError)
        world.heal()

        assert engine.run("emp_001", workflow) == ["A", "caught"]
        assert engine.attempts("emp_001") == []
    assert world.tries == []


def test_a_retried_step_that_is_interrupted_is_tried_once_more(database: Path) -> None:
    # It failed and ended the workflow; the next life is interrupted within it; the third completes.
    lives = iter([ConnectionError("down"), SystemExit(), None])

    def do() -> str:
        error = next(lives)
        if error is not None:
            raise error
        return "done"

    def workflow(ctx: Context) -> str:
        return ctx.step(do)

    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)
        assert engine.run("emp_001", workflow) == "done"

        assert [(one.attempt, one.status, one.superseded_by) for one in engine.attempts("emp_001")] == [
            (1, "failed", 2),
            (2, "running", 3),
        ]
        assert engine.steps("emp_001")[0].attempt == 3


def test_an_interrupt_right_after_the_retry_has_healed_does_not_lose_the_other_way(database: Path) -> None:
    # Life 1: pay fails, the booking is cancelled, the workflow fails. Life 2: pay succeeds, and is interrupted before
    # the next step. Life 3 finds a row `cancel booking` where the code now sends tickets.
    def workflow(ctx: Context) -> list[str]:
        try:
            paid = ctx.step(world.do, "pay")
        except ConnectionError:
            ctx.step(world.do, "cancel booking")
            raise
        if interrupt:
            interrupt.clear()
            raise SystemExit
        return [paid, ctx.step(world.do, "send tickets")]

    world, interrupt = World("pay"), set[str]()
    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        world.heal()
        interrupt.add("now")
        with pytest.raises(SystemExit):
            engine.run("emp_001", workflow)

        assert engine.run("emp_001", workflow) == ["PAY", "SEND TICKETS"]
    assert world.tries == ["pay", "send tickets"]


def test_a_failed_workflow_has_no_lock_and_another_process_may_resume_it(database: Path) -> None:
    def workflow(ctx: Context) -> str:
        return ctx.step(act, "a") + ctx.step(world.do, "b")

    world = World("b")
    with Engine(database) as engine, Engine(database) as other:
        run_and_fail(engine, workflow)
        assert engine.owner("emp_001") is None
        world.heal()

        assert other.run("emp_001", workflow) == "AB"
    assert workflows.effects(database) == ["act_1"]


def test_a_partial_failure_of_the_rerun_keeps_what_it_has_reached(database: Path) -> None:
    def workflow(ctx: Context) -> list[str]:
        return [ctx.step(functools.partial(world.do, what)) for what in "abcd"]

    world = World("b")
    with Engine(database) as engine:
        run_and_fail(engine, workflow)
        world.failing = {"d"}
        run_and_fail(engine, workflow)
        world.heal()

        assert engine.run("emp_001", workflow) == ["A", "B", "C", "D"]
    assert world.tries == ["d"]
