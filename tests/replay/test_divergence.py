"""Divergence: code that asks for something else than what was recorded is stopped before any further effect."""

import concurrent.futures
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from numpy import array
from pandas import DataFrame

import durable
from durable import Context, Engine, NonDeterminismError
from durable.replay.call import Call
from durable.replay.history import History
from durable.replay.keys import Scope
from durable.replay.log import Checkpoint, Row
from durable.store.rows.pages import read_pages
from durable.testing.inside import stored
from durable.testing.memory import Memory, MemoryLog
from tests.support.patience import PATIENCE_SECONDS

effects: list[str] = []


def a(*args: Any, **kwargs: Any) -> str:
    effects.append("a")
    return "a"


def b(*args: Any, **kwargs: Any) -> str:
    effects.append("b")
    return "b"


def c(*args: Any, **kwargs: Any) -> str:
    effects.append("c")
    return "c"


def equip(*args: Any) -> str:
    """A step by this name."""
    effects.append("equip")
    return "equip"


@dataclass
class Client:
    number: int

    def a(self) -> str:
        effects.append("a")
        return "a"


def as_branch(name: str, *steps: Callable[..., str]) -> Callable[[Context], None]:
    """A branch that runs some steps, one after the other."""

    def run_steps(ctx: Context) -> None:
        for step in steps:
            ctx.step(step)

    run_steps.__name__ = name
    return run_steps


def as_workflow(body: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """The body under the one name that all versions of the code share."""

    def workflow(ctx: Context) -> None:
        body(ctx)

    return workflow


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    effects.clear()
    with Engine(tmp_path / "workflow.db") as engine:
        yield engine


def run_then_crash(engine: Engine, body: Callable[[Context], Any]) -> None:
    """Run a body to its end, and lose the process before the workflow could be completed."""

    def body_then_crash(ctx: Context) -> None:
        body(ctx)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", as_workflow(body_then_crash))
    effects.clear()


def in_order(*steps: Callable[..., str]) -> Callable[[Context], object]:
    return lambda ctx: [ctx.step(step) for step in steps]


def loop(step: Callable[..., str], times: int, first: int = 0) -> Callable[[Context], object]:
    return lambda ctx: [ctx.step(step, n) for n in range(first, first + times)]


def submitted(*steps: Callable[..., str]) -> Callable[[Context], object]:
    return lambda ctx: [future.result() for future in [ctx.submit(step) for step in steps]]


def after_a(name: str, *steps: Callable[..., str]) -> Callable[[Context], None]:
    """Step a, then a branch."""

    def body(ctx: Context) -> None:
        ctx.step(a)
        ctx.branch(as_branch(name, *steps)).result()

    return body


def branches(*names: str) -> Callable[[Context], object]:
    return lambda ctx: [future.result() for future in [ctx.branch(as_branch(name, a, b)) for name in names]]


NOTHING = "nothing"

# what changed, the recorded body, the new one, and what the error says: step_key, recorded, called
CHANGES: list[tuple[str, Callable[[Context], Any], Callable[[Context], Any], str, str, str]] = [
    ("renamed", in_order(a, b), in_order(a, c), "b_2", "b()", "c()"),
    ("renamed first", in_order(a, b), in_order(c, b), "a_1", "a()", "c()"),
    ("arguments", lambda ctx: ctx.step(a, 1, "x"), lambda ctx: ctx.step(a, 2, "x"), "a_1", 'a(1,"x")', 'a(2,"x")'),
    ("argument added", lambda ctx: ctx.step(a), lambda ctx: ctx.step(a, None), "a_1", "a()", "a(null)"),
    ("argument's type", lambda ctx: ctx.step(a, 1), lambda ctx: ctx.step(a, 1.0), "a_1", "a(1)", "a(1.0)"),
    ("bool for int", lambda ctx: ctx.step(a, 1), lambda ctx: ctx.step(a, True), "a_1", "a(1)", "a(true)"),
    ("keyword argument", lambda ctx: ctx.step(a, x=1), lambda ctx: ctx.step(a, x=2), "a_1", '{"x":1}', '{"x":2}'),
    ("inserted", in_order(a, b), in_order(a, c, b), "b_2", "b()", "c()"),
    ("inserted first", in_order(a, b), in_order(c, a, b), "a_1", "a()", "c()"),
    ("inserted of the same name", loop(a, 2, first=1), loop(a, 3, first=0), "a_1", "a(1)", "a(0)"),
    ("removed", in_order(a, b, c), in_order(a, c), "b_2", "b()", "c()"),
    ("removed first", in_order(a, b), in_order(b), "a_1", "a()", "b()"),
    ("removed last", in_order(a, b), in_order(a), "b_2", "b_2", NOTHING),
    ("all removed", in_order(a, b), lambda _: None, "a_1", "a_1, b_2", NOTHING),
    ("reordered", in_order(a, b), in_order(b, a), "a_1", "a()", "b()"),
    ("parallel steps reordered", submitted(a, b), submitted(b, a), "a_1", "a()", "b()"),
    ("a loop that goes round once less", loop(a, 3), loop(a, 2), "a_3", "a_3", NOTHING),
    ("a loop that counts from elsewhere", loop(a, 3), loop(a, 3, first=1), "a_1", "a(0)", "a(1)"),
    ("another step in a loop", loop(a, 3), loop(b, 3), "a_1", "a(0)", "b(0)"),
    ("map over other items", lambda ctx: ctx.map(a, "xyz"), lambda ctx: ctx.map(a, "xz"), "a_2", 'a("y")', 'a("z")'),
    ("map over fewer items", lambda ctx: ctx.map(a, "xy"), lambda ctx: ctx.map(a, "x"), "a_2", "a_2", NOTHING),
    ("a step became a branch", in_order(a, equip), after_a("equip", b), "equip_2", "equip()", "equip as a branch"),
    ("a branch became a step", after_a("equip", b), in_order(a, equip), "equip_2", "equip as a branch", "equip()"),
    ("a step became another branch", in_order(a, b), after_a("equip", c), "b_2", "b()", "equip as a branch"),
    ("a branch became another step", after_a("equip", b), in_order(a, c), "equip_2", "equip as a branch", "c()"),
    (
        "a branch renamed",
        after_a("equip", b),
        after_a("outfit", b),
        "equip_2",
        "equip as a branch",
        "outfit as a branch",
    ),
    ("a branch removed", after_a("equip", b), in_order(a), "equip_2/b_1", "equip_2/b_1", NOTHING),
    ("a branch without its steps", after_a("equip", b), after_a("equip"), "equip_2/b_1", "equip_2/b_1", NOTHING),
    ("branches reordered", branches("left", "right"), branches("right", "left"), "left_1", "left as", "right as"),
    ("a branch put before another", branches("left"), branches("new", "left"), "left_1", "left as", "new as"),
    ("renamed in a branch", after_a("equip", a, b), after_a("equip", a, c), "equip_2/b_2", "b()", "c()"),
    ("inserted in a branch", after_a("equip", a, b), after_a("equip", a, c, b), "equip_2/b_2", "b()", "c()"),
    ("removed in a branch", after_a("equip", a, b, c), after_a("equip", a, c), "equip_2/b_2", "b()", "c()"),
    ("removed last in a branch", after_a("equip", a, b), after_a("equip", a), "equip_2/b_2", "equip_2/b_2", NOTHING),
    (
        "a long argument",
        lambda ctx: ctx.step(a, "x" * 500 + "1"),
        lambda ctx: ctx.step(a, "x" * 500 + "2"),
        "a_1",
        "#",
        "#",
    ),
]

# what changed, the body of either value, the two values, and what the error says: recorded, called
OTHER_VALUES: list[tuple[str, Callable[[Any], Callable[[Context], Any]], Any, Any, str, str]] = [
    ("a partial's argument", lambda n: lambda ctx: ctx.step(partial(a, n)), 1, 2, "a(1)", "a(2)"),
    ("a partial's keyword", lambda n: lambda ctx: ctx.step(partial(a, n=n), 0), 1, 2, '**{"n":1}', '**{"n":2}'),
    ("a submitted partial", lambda n: lambda ctx: ctx.submit(partial(a, n)).result(), 1, 2, "a(1)", "a(2)"),
    ("a partial in a map", lambda n: lambda ctx: ctx.map(partial(a, n), "x"), 1, 2, 'a(1,"x")', 'a(2,"x")'),
    ("a compensation's partial", lambda n: lambda ctx: ctx.on_failure(partial(a, n)), 1, 2, "a(1)", "a(2)"),
    ("a transaction's", lambda n: lambda ctx: ctx.transaction(partial(a, n=n)), 1, 2, '**{"n":1}', '**{"n":2}'),
    ("a method's object", lambda n: lambda ctx: ctx.step(Client(n).a), 1, 2, 'a({"number":1})', 'a({"number":2})'),
    (
        "a frame",
        lambda n: lambda ctx: ctx.step(a, DataFrame({"n": [n]})),
        1,
        2,
        "<frame/1: 1 rows x 1",
        "<frame/1: 1 rows x 1",
    ),
    (
        "an array",
        lambda n: lambda ctx: ctx.step(a, array([n])),
        1,
        2,
        "<array/1: int64 array of 1 #",
        "<array/1: int64 array of 1 #",
    ),
    ("the type of an object", lambda new: lambda ctx: ctx.step(a, new()), threading.Lock, object, "<lock:", "<obj"),
]
CHANGES += [(what, of(old), of(new), "a_1", recorded, called) for what, of, old, new, recorded, called in OTHER_VALUES]


@pytest.mark.parametrize(
    ("recorded_code", "new_code", "step_key", "recorded", "called"),
    [case[1:] for case in CHANGES],
    ids=[c[0] for c in CHANGES],
)
def test_changed_code_is_stopped_with_both_sides_and_the_remedy_before_any_further_effect(
    engine: Engine,
    recorded_code: Callable[[Context], Any],
    new_code: Callable[[Context], Any],
    step_key: str,
    recorded: str,
    called: str,
) -> None:
    run_then_crash(engine, recorded_code)
    before = engine.steps("wf")

    with pytest.raises(NonDeterminismError) as caught:
        engine.run("wf", as_workflow(new_code))

    error = caught.value
    assert effects == []
    assert (error.workflow_id, error.step_key) == ("wf", step_key)
    assert recorded in error.recorded
    assert called in error.called
    assert error.recorded != error.called
    for part in ("'wf'", error.recorded, "new workflow id", "bring the old code back"):
        assert part in str(error)
    if called != NOTHING:
        assert error.called in str(error)
        assert repr(step_key) in str(error)
    assert engine.steps("wf") == before
    assert engine.workflow("wf").status == "running"
    assert [run.ended for run in engine.runs("wf")] == ["interrupted", "stopped"]

    engine.run("wf", as_workflow(recorded_code))  # the old code brought back

    assert effects == []
    assert engine.workflow("wf").status == "completed"


@pytest.mark.parametrize(
    "more", [in_order(a, b, c), lambda ctx: (in_order(a, b)(ctx), ctx.branch(as_branch("equip", c)).result())]
)
def test_code_that_goes_on_where_the_record_ends_is_no_divergence(
    engine: Engine, more: Callable[[Context], Any]
) -> None:
    run_then_crash(engine, in_order(a, b))

    engine.run("wf", as_workflow(more))

    assert effects == ["c"]


def test_a_step_left_running_by_a_crash_is_held_against_the_code_too(engine: Engine) -> None:
    def interrupted(n: int) -> None:
        effects.append(f"interrupted {n}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", as_workflow(lambda ctx: ctx.step(interrupted, 1)))
    with pytest.raises(NonDeterminismError) as caught:
        engine.run("wf", as_workflow(lambda ctx: ctx.step(interrupted, 2)))

    assert (caught.value.recorded, caught.value.called) == ("interrupted(1)", "interrupted(2)")
    assert effects == ["interrupted 1"]


def test_a_workflow_that_swallows_the_error_goes_no_further_and_does_not_complete(engine: Engine) -> None:
    run_then_crash(engine, in_order(a, b))
    swallowed: list[str] = []

    def swallow(ctx: Context) -> None:
        for step in (c, b, c):
            try:
                ctx.step(step)
            except Exception as error:
                swallowed.append(type(error).__name__)

    with pytest.raises(NonDeterminismError) as caught:
        engine.run("wf", as_workflow(swallow))

    assert caught.value.step_key == "a_1"
    assert swallowed == ["NonDeterminismError"] * 3
    assert effects == []
    assert engine.workflow("wf").status == "running"


def test_a_branch_that_swallows_the_error_does_not_let_the_workflow_complete(engine: Engine) -> None:
    run_then_crash(engine, after_a("equip", b))

    def equip(ctx: Context) -> None:
        try:
            ctx.step(c)
        except NonDeterminismError:
            effects.append("swallowed")

    def swallow(ctx: Context) -> None:
        ctx.step(a)
        ctx.branch(equip).result()
        ctx.step(c)

    with pytest.raises(NonDeterminismError) as caught:
        engine.run("wf", as_workflow(swallow))

    assert caught.value.step_key == "equip_2/b_1"
    assert effects == ["swallowed"]
    assert engine.workflow("wf").status == "running"


def test_a_future_whose_error_nobody_asks_for_does_not_hide_a_divergence(engine: Engine) -> None:
    run_then_crash(engine, after_a("equip", b))

    def no_one_asks(ctx: Context) -> None:
        ctx.step(a)
        ctx.branch(as_branch("equip", c))

    with pytest.raises(NonDeterminismError):
        engine.run("wf", as_workflow(no_one_asks))

    assert effects == []


def test_what_was_submitted_before_the_divergence_and_has_not_begun_never_begins(tmp_path: Path) -> None:
    # The only worker holds one step, another waits for the worker; now a branch diverges; then the worker is let go.
    effects.clear()
    is_new_code = False
    has_begun, may_diverge, may_end = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        effects.append("hold")
        has_begun.set()
        assert may_end.wait(PATIENCE_SECONDS)

    def equip(ctx: Context) -> None:
        if is_new_code:
            assert may_diverge.wait(PATIENCE_SECONDS)
        ctx.step(c if is_new_code else b)

    def workflow(ctx: Context) -> None:
        branch = ctx.branch(equip)
        if not is_new_code:
            branch.result()
            raise KeyboardInterrupt
        ctx.submit(hold)
        ctx.submit(a)
        assert has_begun.wait(PATIENCE_SECONDS)
        may_diverge.set()
        concurrent.futures.wait([branch])
        may_end.set()

    with Engine(tmp_path / "workflow.db", max_workers=1) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("wf", workflow)
        effects.clear()
        is_new_code = True
        with pytest.raises(NonDeterminismError):
            engine.run("wf", workflow)

        assert effects == ["hold"]
        assert [step.step_key for step in engine.steps("wf")] == ["equip_1/b_1", "hold_2"]


def test_an_async_workflow_is_stopped_the_same_way(engine: Engine) -> None:
    is_new_code = False

    async def workflow(ctx: Context) -> None:
        await ctx.submit(a)
        await ctx.submit(c if is_new_code else b)
        if not is_new_code:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run("wf", workflow)
    effects.clear()
    is_new_code = True
    with pytest.raises(NonDeterminismError) as caught:
        engine.run("wf", workflow)

    assert (caught.value.step_key, caught.value.recorded, caught.value.called) == ("b_2", "b()", "c()")
    assert effects == []


@pytest.mark.parametrize(
    "make",
    [threading.Lock, object, lambda: "\ud800", lambda: lambda: None],
    ids=["lock", "object", "surrogate", "lambda"],
)
def test_arguments_without_json_form_are_not_compared(engine: Engine, make: Callable[[], Any]) -> None:
    run_then_crash(engine, lambda ctx: ctx.step(a, make()))
    [step] = engine.steps("wf")

    engine.run("wf", as_workflow(lambda ctx: ctx.step(a, make())))

    assert step.fingerprint is None or ": not compared>" in step.fingerprint
    assert effects == []
    assert engine.workflow("wf").status == "completed"


@pytest.mark.parametrize(
    ("recorded", "called"), [("\ud800", "a"), ("a", "\ud800")], ids=["in the record", "in the call"]
)
def test_arguments_without_json_form_on_one_side_are_not_compared(engine: Engine, recorded: str, called: str) -> None:
    run_then_crash(engine, lambda ctx: ctx.step(a, recorded))

    engine.run("wf", as_workflow(lambda ctx: ctx.step(a, called)))

    assert effects == []


def test_equal_arguments_are_equal_whatever_the_order_of_sets_and_dicts(engine: Engine) -> None:
    assert list({0, 8}) != list({8, 0})  # or this shows nothing
    run_then_crash(engine, lambda ctx: ctx.step(a, {0, 8}, {"x": 1, "y": 2}, p=1, q=2))

    engine.run("wf", as_workflow(lambda ctx: ctx.step(a, {8, 0}, {"y": 2, "x": 1}, q=2, p=1)))

    assert effects == []


def test_the_way_taken_after_a_failed_step_succeeds_is_no_divergence(engine: Engine) -> None:
    fails = True

    def charge() -> str:
        effects.append("charge")
        if fails:
            raise ValueError("declined")
        return "paid"

    def pay(ctx: Context) -> None:
        try:
            ctx.step(charge)
        except ValueError:
            ctx.step(a)
            raise
        ctx.step(b)

    with pytest.raises(ValueError, match="declined"):
        engine.run("wf", as_workflow(pay))
    fails = False
    engine.run("wf", as_workflow(pay))

    assert effects == ["charge", "a", "charge", "b"]
    assert [step.step_key for step in engine.steps("wf")] == ["charge_1", "b_2"]
    assert [step.step_key for step in engine.attempts("wf")] == ["charge_1", "a_2"]


def test_code_changed_before_a_failed_step_is_still_a_divergence_when_it_is_tried_anew(engine: Engine) -> None:
    def charge() -> str:
        effects.append("charge")
        raise ValueError("declined")

    with pytest.raises(ValueError, match="declined"):
        engine.run("wf", as_workflow(lambda ctx: (ctx.step(a), ctx.step(charge))))
    with pytest.raises(NonDeterminismError) as caught:
        engine.run("wf", as_workflow(lambda ctx: (ctx.step(b), ctx.step(charge))))

    assert caught.value.step_key == "a_1"
    assert effects == ["a", "charge"]


class Recorded(MemoryLog):
    """A log with rows that no run has written."""

    def __init__(self, pages: list[list[Row]]) -> None:
        super().__init__("wf", Memory())
        self._pages = pages

    def read(self) -> Iterator[list[Row]]:
        return iter(self._pages)


@pytest.mark.thorough
def test_a_branch_may_go_another_way_while_another_branch_replays_thousands_of_steps(engine: Engine) -> None:
    # One branch takes its rows out of the history; the other looks through the history for what it left behind.
    interval, rows = sys.getswitchinterval(), 20_000
    pages = [[row("long", n) for n in range(rows)], [row("short", 1)]]
    history = History(Recorded(pages), supersede=lambda _: None, is_new=False)
    history.expect_branch("long", Scope("wf"), "long_1", 1)
    long, short = Scope("wf", "long_1"), Scope("wf", "short_2")
    short.retried_epoch = 2
    is_replaying = threading.Event()
    calls = [Call(a, (n,), {}) for n in range(rows)]

    def replay() -> None:
        for n, call in enumerate(calls):
            history.take(call, long, f"long_1/a_{n}", n)
            is_replaying.set()

    thread = threading.Thread(target=replay)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        assert is_replaying.wait(PATIENCE_SECONDS)
        found = [history.take(Call(b, (), {}), short, "short_2/b_1", 1)]
    finally:
        sys.setswitchinterval(interval)
        thread.join()

    assert found == [None]


@pytest.mark.thorough
@pytest.mark.parametrize("last", [0, 400, 600, 1300])  # rows are read by the page, of some hundreds
def test_code_that_ends_or_turns_off_amid_thousands_of_steps_is_stopped(engine: Engine, last: int) -> None:
    def body(ctx: Context) -> None:
        for n in range(1400):
            ctx.step(a, n)
        raise SystemExit

    with pytest.raises(SystemExit):
        engine.run("wf", as_workflow(body))
    effects.clear()
    with pytest.raises(NonDeterminismError) as ended:
        engine.run("wf", as_workflow(lambda ctx: [ctx.step(a, n) for n in range(last)]))
    with pytest.raises(NonDeterminismError) as turned_off:
        engine.run("wf", as_workflow(lambda ctx: [ctx.step(a if n < last else b, n) for n in range(1400)]))
    with pytest.raises(NonDeterminismError) as branched:
        engine.run(
            "wf", as_workflow(lambda ctx: [*(ctx.step(a, n) for n in range(last)), ctx.branch(as_branch("b", a))])
        )

    assert ended.value.step_key in {f"a_{n}" for n in range(last + 1, 1401)}
    assert (turned_off.value.step_key, branched.value.step_key) == (f"a_{last + 1}",) * 2
    assert effects == []


@pytest.mark.thorough
def test_steps_of_two_branches_are_found_whichever_page_they_are_in(engine: Engine) -> None:
    lives: list[int] = []

    def many(ctx: Context, first: int) -> int:
        return sum(ctx.step("n", int, n) for n in range(first, first + 1000))

    def workflow(ctx: Context) -> int:
        lives.append(len(lives))
        early, late = ctx.branch(many, 0), ctx.branch(many, 1000)
        total = early.result() + late.result()
        assert [ctx.patched("new"), ctx.step(a)] == [True, "a"]
        if len(lives) == 1:
            raise SystemExit
        return total

    with pytest.raises(SystemExit):
        engine.run("wf", workflow)
    before = engine.steps("wf")

    assert engine.run("wf", workflow) == sum(range(2000))
    assert engine.steps("wf") == before
    assert effects == ["a"]


@pytest.mark.thorough
@pytest.mark.parametrize(("length", "least_pages"), [(10, 2), (1_000, 2), (100_000, 20)])
def test_a_page_holds_few_long_outcomes(engine: Engine, length: int, least_pages: int) -> None:
    engine.run("wf", as_workflow(lambda ctx: [ctx.step(long_of, length, n) for n in range(300)][-1][:5]))
    pages = list(read_pages(stored(engine).connection.read, "wf"))

    assert [row[0] for page in pages for row in page] == [f"long_of_{n + 1}" for n in range(300)]
    assert len(pages) >= least_pages
    assert max(sum(len(row[1] or "") for row in page) for page in pages) < 4_000_000


@pytest.mark.thorough
def test_a_long_history_is_read_in_few_pages_also_where_another_workflow_lies_between(engine: Engine) -> None:
    def workflow(ctx: Context) -> None:
        for n in range(300):
            ctx.step(long_of, 1_000, n)
            if n == 150:
                engine.run("other", as_workflow(lambda other: [other.step(long_of, 10, n) for n in range(600)][-1]))

    engine.run("wf", as_workflow(workflow))
    pages = list(read_pages(stored(engine).connection.read, "wf"))

    assert [row[0] for page in pages for row in page] == [f"long_of_{n + 1}" for n in range(300)]
    assert len(pages) < 20


def long_of(length: int, n: int) -> str:
    return f"{n}".zfill(length)


def row(branch: str, n: int) -> Row:
    key = f"{branch}_{'1' if branch == 'long' else '2'}/a_{n}"
    return Checkpoint(key, "completed", '"a"', "step", 1, 1, f"[{n}]", None, None).row()


def test_a_step_where_a_transaction_of_the_same_name_and_arguments_is_recorded_is_a_divergence(engine: Engine) -> None:
    lives: list[int] = []

    def book(*args: object) -> str:
        return f"booked {args[-1]}"

    def workflow(ctx: Context) -> str:
        lives.append(len(lives))
        booked = ctx.transaction(book, 7) if len(lives) == 1 else ctx.step(book, 7)
        if len(lives) == 1:
            raise SystemExit
        return booked

    with pytest.raises(SystemExit):
        engine.run("wf", workflow)
    with pytest.raises(NonDeterminismError) as caught:
        engine.run("wf", workflow)

    assert caught.value.step_key == "book_1"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (lambda ctx: ctx.step(a, 1), lambda ctx: ctx.step(b, 1), "mark the function with @step(name='a'); else give"),
        (lambda ctx: ctx.step("my (a)", a, 1), lambda ctx: ctx.step("b", a, 1), "@step(name='my (a)'); else give"),
        (branches("equip"), branches("outfit"), "call ctx.branch('equip', fn); else give"),
        (lambda ctx: ctx.step(a, 1), lambda ctx: ctx.step(b, 2), "calls b(2); give the new code a new workflow id"),
        (lambda ctx: ctx.step(a, 1), lambda ctx: ctx.step(a, 2), "calls a(2); give the new code a new workflow id"),
    ],
    ids=["a step", "a step with an odd name", "a branch", "other arguments too", "other arguments alone"],
)
def test_the_message_of_a_mere_other_name_says_how_to_keep_it(
    engine: Engine, old: Callable[[Context], Any], new: Callable[[Context], Any], told: str
) -> None:
    run_then_crash(engine, old)

    with pytest.raises(NonDeterminismError) as raised:
        engine.run("wf", as_workflow(new))

    assert told in str(raised.value)


def test_a_step_that_was_renamed_goes_on_as_its_message_says(engine: Engine) -> None:
    @durable.step(name="a")
    def renamed(*args: Any) -> str:
        raise AssertionError(f"its outcome is on record: {args}")

    run_then_crash(engine, lambda ctx: ctx.step(a, 1))

    engine.run("wf", as_workflow(lambda ctx: ctx.step(renamed, 1)))
