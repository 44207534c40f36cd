"""The exercises of notebook 08: a retry that is patient but not blind, and a trip that is undone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durable import Context, Engine, Retry, current_step, step
from durable.clock import ManualClock
from durable.examples.effects import have_effect
from durable.lab.course.crashes import crash_everywhere, effects_of, find_fault
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right
from durable.testing import run_until_crash

__all__ = ["book", "call_engaged", "cancel", "q1", "q2", "rent_car", "run_until_crash"]

# ---- the world of this notebook


def call_engaged(calls_until_free: int) -> str:
    """An office whose line is busy for a number of calls."""
    have_effect("called the office")
    if current_step().attempt <= calls_until_free:
        raise ConnectionError("engaged")
    return "badge 7"


def book(what: str) -> str:
    """Book something."""
    have_effect(f"booked the {what}")
    return what


def cancel(what: str) -> None:
    """Undo a booking."""
    have_effect(f"cancelled the {what}")


def rent_car() -> str:
    """Fail: no car is available."""
    raise LookupError("no car left")


# ---- q1

OUTAGE_SECONDS, LATEST_SECONDS, MAX_CALLS = 600, 1200, 6


def judge_retry(retry: Any) -> Verdict:
    """Judge on an office that is down for ten minutes, and on one that says no."""
    if not isinstance(retry, Retry):
        return not_yet(f"the answer is to be a Retry(...), and is {retry!r}")
    calls, seconds, error = _call_office(
        retry, lambda passed: ConnectionError("down") if passed < OUTAGE_SECONDS else None
    )
    if error is not None:
        return not_yet(
            f"after {calls} calls and {seconds:.0f} s it gave up, and the office was down for {OUTAGE_SECONDS} s."
        )
    if calls > MAX_CALLS:
        return not_yet(
            f"it got through, with {calls} calls. The office asks for {MAX_CALLS} at most: wait longer each time."
        )
    if seconds > LATEST_SECONDS:
        return not_yet(
            f"it got through after {seconds:.0f} s, and {LATEST_SECONDS} s is the latest. Waits double quickly."
        )
    calls, _, _ = _call_office(retry, lambda _: ValueError("no such employee"))
    if calls > 1:
        return not_yet(
            f"the office said 'no such employee', and was called {calls} times all the same. Which errors can pass by "
            "waiting?"
        )
    return right("patient where waiting helps, and quick to give up where it does not.")


def _call_office(retry: Retry, answer: Callable[[float], Exception | None]) -> tuple[int, float, Exception | None]:
    """Return how many calls it took, how many seconds, and with which error it ended."""
    clock = ManualClock()
    start = clock.now()
    calls: list[float] = []

    def passed() -> float:
        return float((clock.now() - start).total_seconds())

    @step(retry=retry)
    def call() -> None:
        calls.append(passed())
        if (error := answer(passed())) is not None:
            raise error

    def once(ctx: Context) -> None:
        ctx.step(call)

    with Engine(Path(tempfile.mkdtemp()) / "course.db", clock=clock) as engine:
        try:
            engine.run("call", once)
        except (ConnectionError, ValueError) as error:
            return len(calls), passed(), error
    return len(calls), passed(), None


q1 = Exercise(
    "08.q1",
    judge_retry,
    "With a delay of d that doubles, 5 waits come to d * (1 + 2 + 4 + 8 + 16). Mind max_delay_seconds, 60 by default.",
    "on=(ConnectionError,) says which errors are worth another try.",
)

# ---- q2

UNDISTURBED = ["booked the flight", "booked the hotel", "cancelled the hotel", "cancelled the flight"]


def judge_trip(trip: Callable[..., Any]) -> Verdict:
    """Judge a trip whose car is never available: crashed at any moment, nothing may stay booked."""
    report = crash_everywhere(trip)
    done = effects_of(report)
    remains = report.baseline.runs[0].last.remains
    if left := [
        what for what in ("flight", "hotel") if f"booked the {what}" in done and f"cancelled the {what}" not in done
    ]:
        return not_yet(f"there is no car, and the {left[0]} is still booked. It did: {', '.join(done)}.")
    if done != UNDISTURBED:
        return not_yet(
            f"it did: {', '.join(done)}. Expected: {', '.join(UNDISTURBED)}. What was done last is undone first."
        )
    if remains.status != "failed":
        return not_yet(f"all is undone, and the workflow says it {remains.status}. A trip without a car has failed.")
    return find_fault(report) or right(
        f"{report.kills} kills, also in the middle of undoing, and nothing stays booked.", report._repr_html_()
    )


q2 = Exercise(
    "08.q2",
    judge_trip,
    "ctx.on_failure(cancel, what) says what is to be done if the workflow fails from here on.",
    "Register each undoing right after what it undoes. They run in reverse order by themselves.",
)
