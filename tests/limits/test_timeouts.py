"""A step that outruns its time fails; one in a process of its own is killed for it, and may die without killing us.

The time is the machine's, and the steps that outrun it wait for what never comes: no test waits for longer than that.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Engine, Retry, StepDiedError, StepTimeoutError, current_step, step
from durable.clock import ManualClock
from durable.limits.payload import PayloadError
from tests.support import isolated
from tests.support.isolated import Account, OverdrawnError, add, look_around, look_around_later, words
from tests.support.patience import patient
from tests.support.processes import child, eventually

SOON = 0.05
NEVER = 600.0


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    with Engine(database, clock=ManualClock()) as opened:
        yield opened


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What the slow steps wait for. It is set at the end, so that their threads end."""
    event = threading.Event()
    yield event
    event.set()


def run_step(engine: Engine, fn: Callable[..., Any], *args: Any, workflow_id: str = "emp_001") -> Any:
    def workflow(ctx: Context) -> None:
        nonlocal value
        value = ctx.step(fn, *args)

    value = None
    engine.run(workflow_id, workflow)
    return value


def outcomes(engine: Engine, workflow_id: str = "emp_001") -> list[tuple[str, int, str, str | None]]:
    """Each try, in order: step, attempt, status, and which error."""
    rows = [*engine.attempts(workflow_id), *engine.steps(workflow_id)]
    return [(row.step_key, row.attempt, row.status, _class_of(row.error)) for row in rows]


def _class_of(error: str | None) -> str | None:
    return None if error is None else error.partition('"type":"')[2].partition('"')[0].rpartition(":")[2]


def is_gone(pid: int | str) -> bool:
    """Whether a process has ended, reaped or not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


# ---- a thread that outruns its time


def test_a_step_that_outruns_its_time_fails_and_stays_failed(engine: Engine, never: threading.Event) -> None:
    @step(timeout_seconds=SOON)
    def dawdle() -> str:
        never.wait()
        return "late"

    def workflow(ctx: Context) -> list[str]:
        told = []
        for _ in range(2):
            try:
                ctx.step(dawdle)
            except StepTimeoutError as error:
                told.append(str(error))
        return told

    first = engine.run("emp_001", workflow)

    assert first == [
        f"step 'dawdle_{number}' of 'emp_001' did not end within {SOON} s, and its thread goes on, without effect "
        f"on the outcome; give it more time, or isolate=True to have it killed"
        for number in (1, 2)
    ]
    assert outcomes(engine) == [
        ("dawdle_1", 1, "failed", "StepTimeoutError"),
        ("dawdle_2", 1, "failed", "StepTimeoutError"),
    ]


def test_a_timeout_is_a_timeout_error_on_the_replay_too(database: Path, never: threading.Event) -> None:
    seen: list[type[BaseException]] = []

    @step(timeout_seconds=SOON)
    def dawdle() -> None:
        never.wait()

    def workflow(ctx: Context) -> None:
        try:
            ctx.step(dawdle)
        except TimeoutError as error:
            seen.append(type(error))
        if len(seen) == 1:
            raise KeyboardInterrupt

    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        engine.run("emp_001", workflow)

        assert seen == [StepTimeoutError, StepTimeoutError]
        assert len(engine.attempts("emp_001")) == 0


def test_what_the_thread_does_later_changes_nothing(engine: Engine, never: threading.Event) -> None:
    ended = threading.Event()

    @step(timeout_seconds=SOON)
    def dawdle() -> str:
        never.wait()
        ended.set()
        return "late"

    with pytest.raises(StepTimeoutError):
        run_step(engine, dawdle)
    before = engine.steps("emp_001")
    never.set()
    ended.wait()
    (thread,) = [one for one in threading.enumerate() if one.name == "dawdle_1 of emp_001"] or [threading.Thread()]
    eventually(lambda: not thread.is_alive())

    assert engine.steps("emp_001") == before


def test_a_step_in_time_gives_its_value_and_knows_where_it_is(engine: Engine) -> None:
    language = contextvars.ContextVar("language", default="none")
    language.set("English")

    @step(timeout_seconds=NEVER)
    def look() -> list[str]:
        return [current_step().idempotency_key, language.get(), threading.current_thread().name]

    value = run_step(engine, look)

    assert value == ["emp_001/look_1", "English", "look_1 of emp_001"]


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("of its own"), StepTimeoutError("of its own")])
def test_an_error_in_time_is_raised_as_it_is(engine: Engine, error: Exception) -> None:
    @step(timeout_seconds=NEVER)
    def refuse() -> None:
        raise error

    @step(timeout_seconds=NEVER)
    async def refuse_later() -> None:
        raise error

    for number, fn in enumerate((refuse, refuse_later)):
        with pytest.raises(type(error)) as raised:
            run_step(engine, fn, workflow_id=str(number))

        assert str(raised.value) == str(error)
        assert "refuse" in [entry.name for entry in raised.traceback][-1]


def test_an_exit_within_a_timed_step_is_no_outcome(engine: Engine) -> None:
    @step(timeout_seconds=NEVER)
    def leave() -> None:
        sys.exit(7)

    with pytest.raises(SystemExit):
        run_step(engine, leave)

    assert outcomes(engine) == [("leave_1", 1, "running", None)]


def test_a_timed_out_step_is_tried_again_where_its_retry_says_so(engine: Engine, never: threading.Event) -> None:
    @step(timeout_seconds=SOON, retry=Retry(attempts=1000, on=(TimeoutError,)))
    def dawdle() -> str:
        if current_step().attempt < 3:
            never.wait()
        return "there"

    assert run_step(engine, dawdle) == "there"

    *before, last = outcomes(engine)
    assert len(before) >= 2  # on a busy machine, the third may be late too
    assert before == [("dawdle_1", number, "failed", "StepTimeoutError") for number in range(1, len(before) + 1)]
    assert last == ("dawdle_1", len(before) + 1, "completed", None)


def test_a_timed_out_step_is_not_tried_again_where_its_retry_is_for_others(
    engine: Engine, never: threading.Event
) -> None:
    @step(timeout_seconds=SOON, retry=Retry(attempts=3, on=(ConnectionError,)))
    def dawdle() -> None:
        never.wait()

    with pytest.raises(StepTimeoutError):
        run_step(engine, dawdle)

    assert outcomes(engine) == [("dawdle_1", 1, "failed", "StepTimeoutError")]


def test_each_of_many_parallel_steps_has_its_own_time(engine: Engine, never: threading.Event) -> None:
    @step(timeout_seconds=SOON)
    def dawdle(number: int) -> int:
        never.wait()
        return number

    @step(timeout_seconds=NEVER)
    def hurry(number: int) -> int:
        return number

    def workflow(ctx: Context) -> list[int | str]:
        futures = [ctx.submit(dawdle if number % 2 else hurry, number) for number in range(6)]
        branches = [ctx.branch(leg, number) for number in range(2)]
        return [type(f.exception()).__name__ if f.exception() else f.result() for f in [*futures, *branches]]

    def leg(ctx: Context, number: int) -> int:
        return ctx.map(dawdle if number % 2 else hurry, [number])[0]

    value = engine.run("emp_001", workflow)

    late = "StepTimeoutError"
    assert value == [0, late, 2, late, 4, late, 0, late]


def test_a_thread_that_goes_on_does_not_hold_the_end_of_the_process() -> None:
    program = """
        import threading
        from durable import Engine, step

        @step(timeout_seconds=0.05)
        def dawdle():
            threading.Event().wait()

        def workflow(ctx):
            try:
                ctx.step(dawdle)
            except TimeoutError:
                return "left"

        with Engine("workflow.db") as engine:
            print(engine.run("emp_001", workflow))
    """

    assert run_script(program) == ["left"]


def interrupt_a_timed_step(pipe: Connection, database: Path) -> Any:
    never = threading.Event()

    @step(timeout_seconds=NEVER)
    def dawdle() -> str:
        if current_step().attempt == 1:
            pipe.send("it runs")
            never.wait()
        return "there"

    def workflow(ctx: Context) -> str:
        return ctx.step(dawdle)

    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            before = outcomes(engine)
            return before, engine.run("emp_001", workflow)
    return "not interrupted"


def test_ctrl_c_leaves_a_timed_step_at_once_and_records_nothing(database: Path) -> None:
    with child(interrupt_a_timed_step, database) as interrupted:
        interrupted.receive()
        interrupted.signal(signal.SIGINT)

        assert interrupted.outcome() == ([("dawdle_1", 1, "running", None)], "there")


# ---- a coroutine that outruns its time


def test_a_coroutine_that_outruns_its_time_is_cancelled(engine: Engine) -> None:
    told: list[str] = []

    @step(timeout_seconds=SOON)
    async def dawdle(how: str) -> str:
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            told.append(f"{how} is cancelled")
            if how == "stubborn":
                return "late"
            if how == "clumsy":
                raise ValueError("while tidying up") from None
            raise
        return "never"

    async def workflow(ctx: Context) -> list[str]:
        futures = [ctx.submit(dawdle, how) for how in ("meek", "stubborn", "clumsy")]
        return [str(error) for error in await asyncio.gather(*futures, return_exceptions=True)]

    value = engine.run("emp_001", workflow)

    assert sorted(told) == ["clumsy is cancelled", "meek is cancelled", "stubborn is cancelled"]
    assert value == [
        f"step 'dawdle_{number}' of 'emp_001' did not end within {SOON} s, and was cancelled; give it more time"
        for number in (1, 2, 3)
    ]
    assert {row[2:] for row in outcomes(engine)} == {("failed", "StepTimeoutError")}


def test_a_coroutine_is_tried_again_after_its_timeout(engine: Engine) -> None:
    @step(timeout_seconds=SOON, retry=Retry(attempts=2))
    async def dawdle() -> str:
        if current_step().attempt == 1:
            await asyncio.sleep(NEVER)
        return current_step().key

    assert run_step(engine, dawdle) == "dawdle_1"

    assert [row[1:3] for row in outcomes(engine)] == [(1, "failed"), (2, "completed")]


# ---- what can be marked


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_a_number_above_zero(seconds: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        step(timeout_seconds=seconds)


def test_a_timeout_may_be_a_timedelta(engine: Engine, never: threading.Event) -> None:
    @step(timeout_seconds=timedelta(seconds=SOON))
    def dawdle() -> None:
        never.wait()

    with pytest.raises(StepTimeoutError, match=f"within {SOON} s"):
        run_step(engine, dawdle)


def test_what_cannot_be_marked_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="write a function that calls it, and mark that"):
        step(timeout_seconds=1)(Account("Jane").pay)


def test_partials_lambdas_and_methods_keep_their_limits(engine: Engine, never: threading.Event) -> None:
    @step(timeout_seconds=SOON)
    def wait_for(event: threading.Event) -> bool:
        return event.wait()

    class Shop:
        @step(timeout_seconds=SOON)
        def close(self) -> bool:
            return never.wait()

        __hash__ = None  # type: ignore[assignment]

    late = {
        "partial": functools.partial(wait_for, never),
        "marked partial": step(timeout_seconds=SOON)(functools.partial(threading.Event.wait, never)),
        "lambda": step(timeout_seconds=SOON)(lambda: never.wait(NEVER)),
        "method": Shop().close,
    }

    for name, fn in late.items():
        with pytest.raises(StepTimeoutError, match=name):
            run_named(engine, name, fn)


def run_named(engine: Engine, name: str, fn: Callable[..., Any], *args: Any) -> Any:
    def workflow(ctx: Context) -> None:
        nonlocal value
        value = ctx.step(name, fn, *args)

    value = None
    engine.run(name, workflow)
    return value


# ---- a process of its own


def test_an_isolated_step_runs_in_another_process_and_knows_its_step(engine: Engine) -> None:
    def workflow(ctx: Context) -> list[tuple[str, int, str, int]]:
        there = [ctx.step(look_around, "a"), ctx.submit(look_around, "b").result()]
        return [*there, *ctx.map(look_around, ["c", "d"]), ctx.step(look_around_later, "e")]

    value = engine.run("emp_001", workflow)

    assert [(word, key, attempt) for word, _, key, attempt in value] == [
        ("a", "emp_001/look_around_1", 1),
        ("b", "emp_001/look_around_2", 1),
        ("c", "emp_001/look_around_3", 1),
        ("d", "emp_001/look_around_4", 1),
        ("e", "emp_001/look_around_later_5", 1),
    ]
    assert len({pid for _, pid, _, _ in value} | {os.getpid()}) == 6


def test_an_async_workflow_awaits_isolated_steps(engine: Engine) -> None:
    async def workflow(ctx: Context) -> list[str]:
        both = await asyncio.gather(ctx.submit(look_around, "a"), ctx.submit(look_around_later, "b"))
        return [key for _, _, key, _ in both]

    assert engine.run("emp_001", workflow) == ["emp_001/look_around_1", "emp_001/look_around_later_2"]


@pytest.mark.thorough
def test_methods_partials_and_named_lambdas_can_be_isolated(engine: Engine) -> None:
    seven = 7

    assert run_step(engine, Account("Jane", 1).pay, 2, workflow_id="method") == Account("Jane", 3)
    assert run_step(engine, functools.partial(add, 1), 2, workflow_id="partial") == 3
    assert run_named(engine, "lambda", step(isolate=True)(lambda: [os.getpid(), seven]))[1] == 7


def test_an_error_comes_back_as_it_was_with_where_it_was_raised(engine: Engine) -> None:
    with pytest.raises(OverdrawnError) as raised:
        run_step(engine, isolated.overdraw, "Jane", 250)

    assert vars(raised.value) == {"account": "Jane", "cents": 250, "__notes__": ["seen in another process"]}
    error = engine.steps("emp_001")[0].error
    assert error is not None
    assert "in overdraw" in error


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("fail", "error", "text"),
    [
        (isolated.fail_strangely, ValueError, "it holds a lock"),
        (isolated.fail_pickily, isolated.PickyError, "it is picky"),
    ],
)
def test_an_error_that_cannot_be_pickled_comes_back_as_its_class(
    engine: Engine, fail: Callable[[], str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        run_step(engine, fail)

    assert (type(raised.value), str(raised.value)) == (error, text)


def test_an_isolated_step_that_outruns_its_time_is_killed_with_all_that_it_started(
    engine: Engine, tmp_path: Path
) -> None:
    with pytest.raises(StepTimeoutError, match=r"did not end within 3\.0 s, and its process was killed"):
        run_step(engine, isolated.start_and_hang_too_long, str(tmp_path))

    ((own, started),) = words(tmp_path)
    assert is_gone(own)
    eventually(lambda: is_gone(started))
    assert outcomes(engine) == [("start_and_hang_too_long_1", 1, "failed", "StepTimeoutError")]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("how", "number", "exit_code", "words"),
    [
        ("exit", 4, 4, "ended with exit code 4"),
        ("at once", 5, 5, "ended with exit code 5"),
        ("at once", 0, 0, "ended with exit code 0"),
        ("by signal", 9, -9, "was killed by SIGKILL"),
        ("by signal", 11, -11, "was killed by SIGSEGV"),
    ],
)
def test_a_process_that_dies_by_itself_fails_its_step(
    engine: Engine, how: str, number: int, exit_code: int, words: str
) -> None:
    with pytest.raises(StepDiedError, match=f"step 'die_1' of 'emp_001': its process {words}") as died:
        run_step(engine, isolated.die, how, number)

    assert died.value.exit_code == exit_code
    assert outcomes(engine) == [("die_1", 1, "failed", "StepDiedError")]


def test_a_process_that_died_is_tried_again_where_its_retry_says_so(engine: Engine) -> None:
    assert run_step(engine, isolated.die_once, "by signal", 11) == "alive"

    assert outcomes(engine) == [
        ("die_once_1", 1, "failed", "StepDiedError"),
        ("die_once_1", 2, "completed", None),
    ]


def test_what_a_dead_process_leaves_behind_does_not_hide_its_death(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(StepDiedError, match="exit code 3"):
        run_step(engine, isolated.leave_a_child_behind_and_die, str(tmp_path))

    eventually(lambda: words(tmp_path))
    os.kill(int(words(tmp_path)[0][0]), signal.SIGKILL)


def test_what_cannot_be_given_to_another_process_ends_the_run_before_anything_is_recorded(engine: Engine) -> None:
    with pytest.raises(PayloadError, match="let it and its arguments hold plain data only"):
        run_step(engine, isolated.take, threading.Lock())

    assert engine.workflow("emp_001").status == "running"
    assert engine.steps("emp_001") == []
    assert [run.ended for run in engine.runs("emp_001")] == ["stopped"]


def test_a_result_that_cannot_come_back_fails_the_step(engine: Engine) -> None:
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        run_step(engine, isolated.return_a_lock)

    assert outcomes(engine) == [("return_a_lock_1", 1, "failed", "TypeError")]


def run_and_be_interrupted(pipe: Connection, database: Path, name: str, folder: Path) -> Any:
    with Engine(database) as engine:
        try:
            engine.run("emp_001", getattr(isolated, name), str(folder))
        except KeyboardInterrupt:
            return outcomes(engine), engine.owner("emp_001")
    return "not interrupted"


@pytest.mark.parametrize("name", ["hang_here", "hang_beside", "hang_async"])
def test_ctrl_c_kills_an_isolated_step_and_records_nothing(database: Path, tmp_path: Path, name: str) -> None:
    with child(run_and_be_interrupted, database, name, tmp_path) as parent:
        eventually(lambda: words(tmp_path))
        parent.signal(signal.SIGINT)

        assert parent.outcome() == ([("start_and_hang_1", 1, "running", None)], None)
    ((own, started),) = words(tmp_path)
    eventually(lambda: is_gone(own) and is_gone(started))


def test_an_isolated_step_does_not_outlive_a_parent_that_was_killed(database: Path, tmp_path: Path) -> None:
    with child(run_and_be_interrupted, database, "hang_here", tmp_path) as parent:
        eventually(lambda: words(tmp_path))
        parent.kill()

    ((own, started),) = words(tmp_path)
    eventually(lambda: is_gone(own) and is_gone(started))


def fork_and_run(pipe: Connection, database: Path, folder: Path) -> Any:
    """A fork that holds copies of all that its parent has open."""
    while not words(folder):
        threading.Event().wait(0.001)
    pid = os.fork()
    if pid == 0:
        isolated.hang()
    pipe.send(pid)


def run_beside_a_fork(pipe: Connection, database: Path, folder: Path) -> Any:
    threading.Thread(target=fork_and_run, args=(pipe, database, folder), daemon=True).start()
    return run_and_be_interrupted(pipe, database, "hang_here", folder)


@pytest.mark.thorough
def test_nor_one_whose_parent_has_a_fork_that_lives_on(database: Path, tmp_path: Path) -> None:
    with child(run_beside_a_fork, database, tmp_path) as parent:
        fork = parent.receive()
        parent.kill()

    ((own, started),) = words(tmp_path)
    eventually(lambda: is_gone(own) and is_gone(started))
    assert not is_gone(fork)
    os.kill(fork, signal.SIGKILL)


# ---- in a script or a notebook


def run_script(program: str) -> list[str]:
    """What a program prints that stands in a file, without any guard around its main part."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(textwrap.dedent(program))
        ended = subprocess.run(
            [sys.executable, script], cwd=folder, capture_output=True, text=True, check=False, timeout=patient(60)
        )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.thorough
def test_a_function_and_a_class_of_the_main_module_can_be_isolated() -> None:
    program = """
        from dataclasses import dataclass
        import os
        from durable import Context, Engine, current_step, step

        print("once")

        @dataclass
        class Laptop:
            owner: str
            is_elsewhere: bool = False

        class OutOfStock(Exception):
            pass

        def inspect(laptop: Laptop) -> Laptop:
            return Laptop(laptop.owner, os.getpid() != here)

        @step(isolate=True)
        def provision(laptop: Laptop) -> Laptop:
            print("provisioned in", current_step().key)
            return inspect(laptop)

        @step(isolate=True)
        def run_out() -> None:
            raise OutOfStock("none left")

        def workflow(ctx: Context) -> list[Laptop]:
            try:
                ctx.step(run_out)
            except OutOfStock as error:
                print(repr(error))
            return [ctx.step(provision, Laptop("Jane")), ctx.submit(provision, Laptop("Joe")).result()]

        here = os.getpid()
        with Engine("workflow.db") as engine:
            print(*engine.run("emp_001", workflow), sep="\\n", flush=True)
    """

    assert sorted(run_script(program)) == [
        "Laptop(owner='Jane', is_elsewhere=True)",
        "Laptop(owner='Joe', is_elsewhere=True)",
        "OutOfStock('none left')",
        "once",
        "provisioned in provision_2",
        "provisioned in provision_3",
    ]
