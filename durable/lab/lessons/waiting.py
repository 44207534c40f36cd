"""The exercises of notebook 07: a patient workflow that asks twice, and timers that run in parallel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durable import Context, Engine, Handle
from durable.clock import ManualClock
from durable.examples.effects import have_effect, list_effects
from durable.lab.course.crashes import table
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right
from durable.testing import run_until_crash

__all__ = ["DAY", "days_since", "q1", "q2", "run_until_crash", "wish"]

DAY = 24 * 3600.0
LOOK_SECONDS = 0.2  # seconds of real time, since all clocks are skipped; between two looks at its waits
LOOKS, MOST_LOOKS = 5, 300


def days_since(clock: ManualClock, start: Any) -> float:
    """Return how many days the clock has moved on."""
    return float((clock.now() - start).total_seconds() / DAY)


def wish(ctx: Context, item: str) -> str:
    """Ask for something, wait for the answer, and tell the employee."""
    ctx.step("ask", have_effect, f"asked for a {item}")
    granted = ctx.wait_event("answer", type=bool)
    verdict = f"{item}: {'granted' if granted else 'refused'}"
    ctx.step("tell", have_effect, f"told the employee {verdict}")
    return verdict


# ---- q1

ASKED = "asked the manager"
CASES = (  # the answer that is there already, the result, the effects, the days that may pass
    (True, "granted", [ASKED], 0),
    (False, "refused", [ASKED], 0),
    (None, "no answer", [ASKED, "reminded the manager"], 7),
)


def judge_patience(approve: Callable[..., Any]) -> Verdict:
    """Judge with a yes that is there already, with a no, and without an answer; on a clock that skips the waits."""
    for answer, result, effects, days in CASES:
        clock = ManualClock()
        start = clock.now()
        db = Path(tempfile.mkdtemp()) / "course.db"
        with Engine(db, clock=clock) as engine:
            if answer is not None:
                _send_before(engine, approve, answer)
            got = _wait_for_end(engine, engine.start("wish", approve))
            if got is _FOR_EVER:
                engine.cancel("wish")
                return not_yet("no answer comes, and it waits forever. How long is a wait without a timeout?")
            done, passed = list_effects(db, "wish"), days_since(clock, start)
        case = {True: "the answer is yes", False: "the answer is no", None: "no answer comes"}[answer]
        picture = table(
            ("", "expected", "yours"),
            [
                ("result", repr(result), repr(got)),
                ("effects", ", ".join(effects), ", ".join(done)),
                ("days", days, f"{passed:g}"),
            ],
        )
        if (got, done) != (result, effects):
            return not_yet(f"{case}: it returned {got!r} and did {done}; expected: {result!r} and {effects}.", picture)
        if round(passed) != days:
            return not_yet(f"{case}: it took {passed:g} days, and should take {days}.", picture)
    return right("a yes and a no at once, a reminder after 3 days, an end after 7; and here no day has passed.")


_FOR_EVER = object()


def _wait_for_end(engine: Engine, handle: Handle[Any]) -> Any:
    """Return the result, or `_FOR_EVER` if none of its waits has an end. It looks often, as waits come and go."""
    looks = 0
    for _ in range(MOST_LOOKS):
        try:
            return handle.result(timeout=LOOK_SECONDS)
        except TimeoutError:
            waits = engine.waits("wish")
            looks = looks + 1 if waits and all(wait.wake_at is None for wait in waits) else 0
            if looks == LOOKS:
                break
    return _FOR_EVER


def _send_before(engine: Engine, approve: Callable[..., Any], answer: bool) -> None:
    """Send the answer before the wait begins: the workflow exists, and was stopped at its first step."""

    def stop(moment: Any) -> None:
        if moment.name == "workflow.started":
            raise KeyboardInterrupt

    with Engine(engine.path, observers=[stop]) as other:
        try:
            other.run("wish", approve)
        except KeyboardInterrupt:
            engine.send("wish", "answer", answer)


q1 = Exercise(
    "07.q1",
    judge_patience,
    'ctx.wait_event("answer", type=bool, timeout_seconds=3 * DAY) raises WaitTimeoutError if nothing comes in time.',
    "In the except block: the step that reminds, then a second wait, of 4 days, with an except block of its own.",
)

# ---- q2


def judge_days(days: Any, workflow: Callable[..., Any]) -> Verdict:
    """Run the workflow on a clock that skips waits, and see how far the clock has moved."""
    clock = ManualClock()
    start = clock.now()
    with Engine(Path(tempfile.mkdtemp()) / "course.db", clock=clock) as engine:
        engine.run("days", workflow)
    passed = round(days_since(clock, start))
    if days != passed:
        return not_yet(
            f"{passed} days passed, not {days}. A timer runs from where it was started, not from where it is asked for."
        )
    return right(f"{passed} days: the two run beside each other, so the longer one decides.")


q2 = Exercise(
    "07.q2",
    judge_days,
    "When was the second timer started: before or after the first one was waited for?",
)
