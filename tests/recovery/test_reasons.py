"""Reasons: `runs.reason` says why a run ended, if it ended without a result."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from durable import Context, Engine
from durable.errors import NonDeterminismError, NoThreadError
from durable.testing.inside import file_of
from tests.support.processes import child, eventually, is_main_thread_in
from tests.support.workflows import act


def hold(pipe: Connection) -> None:
    pipe.send("held")
    pipe.recv()


def wait_for_news(ctx: Context) -> str:
    return ctx.wait_event("news", type=str)


def run_in_main_thread(pipe: Connection, database: Path) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step(hold_here)

    def hold_here() -> None:
        hold(pipe)

    with Engine(database) as engine:
        engine.run("emp_001", workflow)


def start_and_leave(pipe: Connection, database: Path) -> None:
    with Engine(database) as engine:
        engine.start("emp_001", wait_for_news)
        eventually(lambda: engine.waits("emp_001"))
        hold(pipe)


def start_and_close(pipe: Connection, database: Path) -> None:
    engine = Engine(database)
    engine.start("emp_001", wait_for_news)
    eventually(lambda: engine.waits("emp_001"))
    threading.Thread(target=tell_when_in, args=("wait_for_started", pipe)).start()
    engine.close()


def tell_when_in(function: str, pipe: Connection) -> None:
    eventually(lambda: is_main_thread_in(function))  # Ctrl+C before it would be another case
    pipe.send("held")


def start_and_ask(pipe: Connection, database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", wait_for_news)
        eventually(lambda: engine.waits("emp_001"))
        threading.Thread(target=tell_when_in, args=("result", pipe)).start()
        handle.result()


def reasons(database: Path) -> list[tuple[str | None, str | None]]:
    with Engine(database) as engine:
        return [(run.ended, run.reason) for run in engine.runs("emp_001")]


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (run_in_main_thread, "KeyboardInterrupt"),
        (start_and_ask, "KeyboardInterrupt"),
        (start_and_leave, "the engine was closed by KeyboardInterrupt"),
        (start_and_close, "KeyboardInterrupt while the engine was closed"),
    ],
)
def test_ctrl_c_is_the_reason(database: Path, fn: object, expected: str) -> None:
    with child(fn, database) as process:
        assert process.receive() == "held"
        process.signal(signal.SIGINT)
        assert process.outcome().type_name == "KeyboardInterrupt"

    assert reasons(database) == [("interrupted", expected)]


def exit_on_sigterm(pipe: Connection, database: Path, fn: Callable[..., object]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    fn(pipe, database)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (run_in_main_thread, "SIGTERM"),
        (start_and_ask, "SIGTERM"),
        (start_and_close, "SIGTERM while the engine was closed"),
    ],
)
def test_a_signal_whose_handler_exits_is_the_reason(database: Path, fn: object, expected: str) -> None:
    with child(exit_on_sigterm, database, fn) as process:
        assert process.receive() == "held"
        process.signal(signal.SIGTERM)
        process.join()

    assert reasons(database) == [("interrupted", expected)]


def test_an_interrupted_handle_is_the_reason(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", wait_for_news)
        eventually(lambda: engine.waits("emp_001"))
        handle.end()

    assert reasons(database) == [("interrupted", "its handle was interrupted")]


def test_a_cancelled_task_is_the_reason(database: Path) -> None:
    async def start_and_cancel(engine: Engine) -> None:
        handle = engine.start("emp_001", wait_for_news)
        task = asyncio.ensure_future(_ask(handle))
        await asyncio.to_thread(eventually, lambda: engine.waits("emp_001"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def _ask(handle: object) -> None:
        await handle  # type: ignore[misc]

    with Engine(database) as engine:
        asyncio.run(start_and_cancel(engine))

    assert reasons(database) == [("interrupted", "the task that awaited it was cancelled")]


def test_a_missing_thread_is_the_reason(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object) -> None:
        raise NoThreadError("can't start new thread")

    with Engine(database) as engine:
        monkeypatch.setattr(file_of(engine).threads, "begin", no_thread)
        with pytest.raises(NoThreadError):
            engine.start("emp_001", wait_for_news)
        monkeypatch.undo()

    assert reasons(database) == [("interrupted", "no thread could be started")]


def test_an_error_of_the_engine_is_the_reason(database: Path) -> None:
    names = iter(["first", "second"])

    def workflow(ctx: Context) -> None:
        ctx.step(act, next(names)) if has_changed else ctx.step(act, "first")
        if not has_changed:
            raise KeyboardInterrupt

    has_changed: list[bool] = []
    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        next(names)
        has_changed.append(True)
        with pytest.raises(NonDeterminismError) as raised:
            engine.run("emp_001", workflow)

    assert reasons(database)[1] == ("stopped", f"NonDeterminismError: {raised.value}")


def test_a_cancellation_is_the_reason_with_its_origin(database: Path) -> None:
    with Engine(database) as engine:
        handle = engine.start("emp_001", wait_for_news)
        eventually(lambda: engine.waits("emp_001"))
        engine.cancel("emp_001")
        eventually(handle.done)

    assert reasons(database) == [("cancelled", "cancelled by engine.cancel")]
