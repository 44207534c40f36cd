"""Logs: what `logging` gets of a workflow, and that it gets nothing of what is replayed."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from durable import Context, Engine, NonDeterminismError, Retry, step
from durable.logs import fields
from tests.support.patience import PATIENCE_SECONDS
from tests.support.workflows import act

log = logging.getLogger("shop")


class Kept(logging.Handler):
    """Keeps what a handler of the user would write."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(fields)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def lines(self) -> list[str]:
        return [f"{record.levelname} {record.getMessage()}" for record in self.records]


@pytest.fixture
def kept() -> Kept:
    handler, root = Kept(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def talk(ctx: Context) -> str:
    return ctx.step(say, "hello")


def say(what: str) -> str:
    log.info("says %s", what)
    return what


async def say_async(what: str) -> str:
    return say(what)


def talk_at_once(ctx: Context) -> list[str]:
    return [*ctx.map(say, ["a"]), ctx.submit(say_async, "b").result()]


def refuse(what: str) -> str:
    raise ValueError(f"no {what} today")


def fails(ctx: Context) -> None:
    ctx.step(act, "before")
    ctx.step(refuse, "boat")


@step(retry=Retry(attempts=2, delay_seconds=0, jitter=0))
def at_second(what: str) -> str:
    return refuse(what) if not SEEN and not SEEN.append(what) else what


SEEN: list[str] = []


def tries_again(ctx: Context, how: str) -> str:
    return ctx.step(at_second, "boat") if how == "step" else ctx.submit(at_second, "boat").result()


def test_the_records_of_a_step_have_its_fields(database: Path, kept: Kept) -> None:
    with Engine(database) as engine:
        engine.run("wf", talk)
        engine.run("wf 2", talk_at_once)

    said = [record for record in kept.records if record.name == "shop"]
    assert [(one.workflow_id, one.run, one.step_key, one.attempt) for one in said] == [
        ("wf", 1, "say_1", 1),
        ("wf 2", 1, "say_1", 1),
        ("wf 2", 1, "say_async_2", 1),
    ]


def test_outside_of_a_step_the_fields_are_there_and_none(kept: Kept) -> None:
    log.warning("outside")

    assert kept.records[0].step_key is None


def test_a_resumed_workflow_logs_nothing_of_what_is_replayed(database: Path, kept: Kept) -> None:
    with Engine(database) as engine:
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", fails)
        with pytest.raises(ValueError, match="no boat today"):
            engine.run("wf", fails)
        engine.run("wf 2", talk)
        engine.run("wf 2", talk)

    assert kept.lines() == [
        "INFO workflow 'wf' started: tests.recovery.test_logs:fails",
        "ERROR workflow 'wf' failed",
        "INFO workflow 'wf' resumed, run 2: tests.recovery.test_logs:fails",
        "ERROR workflow 'wf' failed",
        "INFO workflow 'wf 2' started: tests.recovery.test_logs:talk",
        "INFO says hello",
        "INFO workflow 'wf 2' completed",
    ]


@pytest.mark.parametrize("suspend", [False, True])
def test_a_workflow_that_fails_in_the_background_is_logged_with_its_traceback(
    database: Path, kept: Kept, suspend: bool
) -> None:
    with Engine(database, suspend=suspend) as engine:
        engine.start("wf", fails)  # no caller asks for the result

    failed = kept.records[-1]
    assert (failed.levelname, failed.workflow_id, failed.run) == ("ERROR", "wf", 1)
    assert "in refuse\n" in logging.Formatter().format(failed)
    assert "ValueError: no boat today" in logging.Formatter().format(failed)


@pytest.mark.parametrize("how", ["step", "submit"])
def test_a_retry_is_a_warning_with_the_step_and_the_attempt(database: Path, kept: Kept, how: str) -> None:
    SEEN.clear()
    with Engine(database) as engine:
        engine.run("wf", tries_again, how)

    (warned,) = [record for record in kept.records if record.levelname == "WARNING"]
    assert (warned.workflow_id, warned.step_key, warned.attempt, warned.run) == ("wf", "at_second_1", 1, 1)
    assert "attempt 1 failed (ValueError: no boat today); the next is due at" in warned.getMessage()


def test_a_workflow_whose_code_has_changed_is_an_error(database: Path, kept: Kept) -> None:
    ways = [act, say]

    def changing(ctx: Context) -> None:
        ctx.step(ways.pop(0), "a")
        raise ValueError("the end")

    with Engine(database) as engine:
        with pytest.raises(ValueError, match="the end"):
            engine.run("wf", changing)
        with pytest.raises(NonDeterminismError):
            engine.run("wf", changing)

    assert kept.lines()[-1] == "ERROR workflow 'wf' stopped"
    assert kept.records[-1].exc_info[0] is NonDeterminismError


CRASHES = """
import sys
from durable import Engine
from durable.observer import crash_at
from tests.recovery.test_logs import talk
with Engine(sys.argv[1], observers=[crash_at("say")]) as engine:
    engine.run("wf", talk)
"""


def test_a_take_over_and_a_workflow_set_aside_are_warnings(database: Path, kept: Kept) -> None:
    def crash() -> None:
        subprocess.run([sys.executable, "-c", CRASHES, str(database)], check=False, timeout=PATIENCE_SECONDS)

    crash()
    crash()
    crash()
    with Engine(database, modules=[__name__]) as engine:
        assert engine.recover().set_aside == ["wf"]
        engine.run("wf", talk)

    assert kept.lines()[0] == "WARNING workflow 'wf' is set aside: its last 3 runs made no progress"
    assert kept.lines()[1].startswith("WARNING workflow 'wf' is taken over from process ")
    assert kept.lines()[1].endswith(", which has died")
    assert kept.lines()[2] == "INFO workflow 'wf' resumed, run 4: tests.recovery.test_logs:talk"


FAILS = """
import sys
from durable import Engine
from tests.recovery.test_logs import fails
with Engine(sys.argv[1]) as engine:
    if sys.argv[2] == "run":
        try:
            engine.run("wf", fails)
        except ValueError:
            pass
    else:
        engine.start("wf", fails)
"""


@pytest.mark.parametrize(("how", "is_said"), [("run", False), ("start", True)])
def test_where_no_logging_is_set_up_only_an_error_that_no_caller_gets_is_printed(
    database: Path, how: str, is_said: bool
) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", FAILS, str(database), how],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    ).stderr

    assert ("workflow 'wf' failed" in printed and "ValueError: no boat today" in printed) == is_said
    assert bool(printed) == is_said


def test_a_filter_that_fails_does_not_touch_the_workflow(database: Path, kept: Kept) -> None:
    kept.addFilter(lambda record: record.nonsense)
    with Engine(database) as engine:
        assert engine.run("wf", lambda_free) == "A"


def lambda_free(ctx: Context) -> str:
    return ctx.step(act, "a")
