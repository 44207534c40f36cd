"""The exercises of notebook 10: the owner of a workflow, a fence, and the promises of locks and fences."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from durable import Context, Engine, WorkflowBusyError
from durable.examples.effects import have_effect
from durable.lab.course.crashes import table
from durable.lab.course.processes import Process, Worker, submit
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right

__all__ = ["FencedError", "Process", "Worker", "q1", "q2", "q3", "submit"]

# ---- q1


def greet(ctx: Context, name: str) -> str:
    """Greet in a workflow of one step."""
    ctx.step("greet", have_effect, f"greeted {name}")
    return f"greeted {name}"


def fail_to_greet(_: Context, name: str) -> str:
    """Fail in a workflow."""
    raise LookupError(f"there is no {name}")


def judge_run_once(run_once: Callable[..., Any]) -> Verdict:
    """Judge on an id that is free, owned, left by a dead owner, or taken in between; and on a workflow that fails."""
    db = Path(tempfile.mkdtemp()) / "course.db"
    contended = _Contended(db)
    with Engine(db) as engine, contended:
        return (
            _judge_free_and_owned(run_once, engine)
            or _judge_contended(run_once, contended)
            or _judge_failing(run_once, engine)
            or right("free, owned, left behind, contended, failing: five cases, and the engine knew each time.")
        )


def _judge_free_and_owned(run_once: Callable[..., Any], engine: Engine) -> Verdict | None:
    if (got := run_once(engine, "free", greet, "Ann")) != "greeted Ann":
        return not_yet(f"no process runs 'free', and it returned {got!r}; expected is the result, 'greeted Ann'.")
    other = Process(engine.path, "owned", greet, "Bob", hold_at="greet:executed")
    try:
        got = run_once(engine, "owned", greet, "Bob")
    finally:
        other.kill()
    if got != f"busy: {other.pid}":
        return not_yet(f"process {other.pid} runs 'owned', and it returned {got!r}; expected: 'busy: {other.pid}'.")
    if (got := run_once(engine, "owned", greet, "Bob")) != "greeted Bob":
        return not_yet(
            f"process {other.pid} was killed, and its workflow should go on; it returned {got!r}. A row that says "
            "running cannot tell whether its process is alive."
        )
    return None


class _Contended(Engine):
    """An engine with bad luck: after each look, another process is quicker than the caller's next operation."""

    other: Process | None = None

    def owner(self, workflow_id: str) -> int | None:
        found = super().owner(workflow_id)
        self.other = Process(self.path, workflow_id, greet, "Cyd", hold_at="greet:executed")
        return found


def _judge_contended(run_once: Callable[..., Any], engine: _Contended) -> Verdict | None:
    try:
        run_once(engine, "contended", greet, "Cyd")
    except WorkflowBusyError as busy:
        return not_yet(
            f"'contended' had no owner when you looked; a moment later, process {busy.pid} had it, and your run raised "
            "WorkflowBusyError. A look before the run is always too early."
        )
    finally:
        if engine.other:
            engine.other.kill()
    return None


def _judge_failing(run_once: Callable[..., Any], engine: Engine) -> Verdict | None:
    try:
        got = run_once(engine, "failing", fail_to_greet, "Eve")
    except LookupError:
        return None
    return not_yet(f"a workflow that fails is not busy: it raised LookupError, and you returned {got!r}.")


q1 = Exercise(
    "10.q1",
    judge_run_once,
    "Do not look before you run: between the look and the run another process may come. Run, and see who is refused.",
    "except WorkflowBusyError as error: the error has the pid.",
)

# ---- q2


class FencedError(Exception):
    """Raised by a store that refuses a write of a superseded owner."""


class Fence(Protocol):
    """The class that the exercise asks for."""

    rows: dict[str, str]

    def begin(self) -> int:
        """Register a new owner and return its epoch."""
        ...

    def save(self, epoch: int, key: str, value: str) -> None:
        """Save a value for an owner."""
        ...


CALLS = (  # owner, action, and whether the store has to refuse it
    ("one", "begin", False),
    ("one", "create_record", False),
    ("two", "begin", False),
    ("one", "order_laptop", True),  # no owner has saved under the new epoch yet
    ("two", "order_laptop", False),
    ("two", "send_welcome", False),
    ("one", "order_laptop", True),
)


def judge_fence(make: Callable[[], Fence]) -> Verdict:
    """Judge on two owners; the first does not know that it has been replaced."""
    store, epochs, rows, told = make(), dict[str, int](), dict[str, str](), list[tuple[str, str, str]]()
    for owner, what, is_refused in CALLS:
        if what == "begin":
            epochs[owner] = store.begin()
            told.append((owner, "begins", f"epoch {epochs[owner]}"))
            continue
        refused = _save(store, epochs[owner], what, f"by {owner}")
        told.append((owner, f"saves {what}", "refused" if refused else "saved"))
        rows |= {} if is_refused else {what: f"by {owner}"}
        if refused != is_refused or store.rows != rows:
            told[-1] = (owner, f"!saves {what}", told[-1][2])
            return not_yet(_fault(owner, refused, is_refused, store.rows, rows), _picture(told))
    return right("the owner that was replaced can save nothing, and gets an error; the new one can.", _picture(told))


def _save(store: Fence, epoch: int, key: str, value: str) -> bool:
    """Save a value, and return whether the store refused it."""
    try:
        store.save(epoch, key, value)
    except FencedError:
        return True
    return False


def _fault(owner: str, refused: bool, is_refused: bool, rows: dict[str, str], wanted: dict[str, str]) -> str:
    if refused and not is_refused:
        return f"owner {owner} is the newest, and was refused."
    if rows != wanted:
        return f"owner {owner} saved: the rows are {rows}; expected: {wanted}. Two has begun, so one is out."
    return (
        f"owner {owner} was replaced, and its save was dropped without a word. It goes on, and tells its customer "
        "that all is saved: raise FencedError."
    )


def _picture(told: list[tuple[str, str, str]]) -> str:
    return table(("owner", "", "outcome"), told)


q2 = Exercise(
    "10.q2",
    judge_fence,
    "begin is the instant at which the old owner is out, though the new one has saved nothing yet.",
    "Keep the newest epoch in the store. save compares before it writes, and raises FencedError.",
)

# ---- q3

PROMISES = {
    "one process at a time runs an id, on this machine": (True, "the lock is the operating system's"),
    "a process that sleeps is replaced after a while": (False, "it lives, so it keeps its lock, for hours if need be"),
    "a superseded process can save nothing": (True, "its epoch is an old one, and each save compares"),
    "a superseded process can do nothing to the world": (False, "its mail was sent; the fence is around the record"),
    "the file may lie on a network drive": (False, "neither the lock nor SQLite's shared memory reaches so far"),
    "a step that is on record is not done again, on any machine": (
        True,
        "the second worker did what was not saved",
    ),
    "another machine can tell a sleeping owner from a dead one": (
        False,
        "it sees silence, and silence is all there is",
    ),
}


def judge_promises(promised: Mapping[str, bool]) -> Verdict:
    """Compare with what the notebook has shown."""
    if set(promised) != set(PROMISES):
        return not_yet("the claims are to stay as they are; only the values change, to True or False")
    wrong = [claim for claim, (holds, _) in PROMISES.items() if promised[claim] is not holds]
    if wrong:
        holds, why = PROMISES[wrong[0]]
        said = f"{len(PROMISES) - len(wrong)} of {len(PROMISES)} hold."
        return not_yet(f"{said} {wrong[0]!r} is {'promised' if holds else 'not promised'}: {why}.")
    return right("three promises, and four hopes. Know which is which before you build on them.")


q3 = Exercise(
    "10.q3",
    judge_promises,
    "Which of them did you see in an output above, and which did you only expect?",
    "The fence stands around the record. The lock is held by the process that lives.",
)
