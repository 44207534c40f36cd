"""An operation from outside the package, written with public names alone; docs/howto/extending.md walks through it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_type_hints
from weakref import WeakKeyDictionary

import pytest

from durable import Context, Engine, Future
from durable.clock import ManualClock
from durable.errors import NonDeterminismError
from durable.replay import Frame, Operation, codec_of, held_back
from durable.testing import effect

T = TypeVar("T")

_latest: WeakKeyDictionary[Frame, dict[Any, Any]] = WeakKeyDictionary()


def memo(ctx: Context, fn: Callable[..., T], *args: Any, max_age_seconds: float) -> T:
    """Return fn(*args), or what it returned to this function earlier, if that is not older than the maximum."""
    frame, now = ctx.frame, ctx.now()
    with held_back():
        stored = codec_of(tuple[datetime, get_type_hints(fn).get("return", Any)], f"memo {fn.__name__!r}")
        call = Operation("memo", fn.__name__, stored, *args)
        step = frame.reach(call)
        latest, same = _latest.setdefault(frame, {}), (call.name, call.fingerprint)
        is_fresh = same in latest and now - latest[same][0] <= timedelta(seconds=max_age_seconds)
        if is_fresh and not step.is_begun:
            latest[same] = frame.record(step, lambda: latest[same])
        else:
            latest[same] = frame.perform(step, lambda: (now, fn(*args)))
        value: T = latest[same][1]
        return value


def fetch(ctx: Context, fn: Callable[..., T], *args: Any) -> Future[T]:
    """Begin fn(*args) alongside what comes next, and return the future of its value."""
    frame = ctx.frame
    with held_back():
        stored = codec_of(get_type_hints(fn).get("return", Any), f"fetch {fn.__name__!r}")
        step = frame.reach(Operation("fetch", fn.__name__, stored, *args))
        if step.outcome is not None:
            return frame.answer(step)
        future = frame.future(step.key)
        frame.perform_alongside(step, functools.partial(fn, *args), future)
        return future


# ---- what it is used for

asked: list[str] = []


def rate(currency: str) -> float:
    effect("rate", currency)
    asked.append(currency)
    return {"EUR": 1.0, "USD": 1.1}[currency] + len(asked)


def note(what: str) -> str:
    effect("note", what)
    return what


def prices(ctx: Context) -> list[float]:
    """The second is fresh, the third is another currency's, the fourth too old."""
    found = [memo(ctx, rate, currency, max_age_seconds=60) for currency in ("EUR", "EUR", "USD")]
    ctx.sleep(61)
    return [*found, memo(ctx, rate, "EUR", max_age_seconds=60)]


def prices_told(ctx: Context) -> list[float]:
    """For the crash matrix, whose clock is real: the last is too old at once."""
    found = [memo(ctx, rate_of, currency, max_age_seconds=3600) for currency in ("EUR", "EUR", "USD")]
    told = fetch(ctx, note, "told")
    found.append(memo(ctx, rate_of, "EUR", max_age_seconds=-1))
    ctx.step(note, f"{told.result()} {found}")
    return found


def rate_of(currency: str) -> float:
    effect("rate", currency)
    return {"EUR": 1.0, "USD": 1.1}[currency]


def test_a_value_is_used_while_it_is_fresh(database: Path) -> None:
    asked.clear()
    with Engine(database, clock=ManualClock()) as engine:
        assert engine.run("wf", prices) == [2.0, 2.0, 3.1, 4.0]
        rows = {step.step_key: step.kind for step in engine.steps("wf") if step.kind == "memo"}

    assert asked == ["EUR", "USD", "EUR"]
    assert rows == dict.fromkeys(["rate_2", "rate_4", "rate_6", "rate_9"], "memo")


def test_a_decision_on_record_stands_also_when_the_code_would_decide_otherwise(database: Path) -> None:
    max_age_seconds, stops = 60.0, True

    def workflow(ctx: Context) -> list[float]:
        found = [memo(ctx, rate, "EUR", max_age_seconds=max_age_seconds) for _ in range(2)]
        if stops:
            raise SystemExit
        return found

    asked.clear()
    with Engine(database, clock=ManualClock()) as engine:
        with pytest.raises(SystemExit):
            engine.run("wf", workflow)
        max_age_seconds, stops = -1.0, False

        assert engine.run("wf", workflow) == [2.0, 2.0]
    assert asked == ["EUR"]


def test_another_operation_in_its_place_is_a_divergence(database: Path) -> None:
    currency = "EUR"

    def workflow(ctx: Context) -> None:
        memo(ctx, rate, currency, max_age_seconds=60)
        raise SystemExit

    with Engine(database) as engine:
        with pytest.raises(SystemExit):
            engine.run("wf", workflow)
        currency = "USD"
        with pytest.raises(NonDeterminismError) as caught:
            engine.run("wf", workflow)

    assert caught.value.step_key == "rate_2"
