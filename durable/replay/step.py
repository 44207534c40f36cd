"""Step: one durable operation of one run, and its life, which `life` tells once. It performs no I/O.

A driver performs what `life` yields: in this thread, on the event loop, in the batch of parallel steps, on DBOS. See
`durable.replay.drivers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from durable.replay.call import Operation
from durable.replay.keys import Scope

Request: TypeAlias = Literal["wait", "begin", "call", "end"]


class Outcome(msgspec.Struct, frozen=True):
    """How a step or a workflow ended: with an output or with an error, both as JSON text.

    `wake_at` is set beside a failure that is not the outcome yet: then the next attempt is due. `message` is the id of
    the message that a wait received. `values` are the hashes of the large values that the output names.
    """

    status: str
    output: str | None
    error: str | None
    ended_at: str
    wake_at: str | None = None
    message: Any = None
    values: tuple[str, ...] = ()


class Step:
    """An operation that the workflow asked for: its key, its place, its attempt, and its outcome once it has one."""

    __slots__ = (
        "attempt", "call", "earlier_attempts", "error", "fn", "is_begun", "key", "outcome", "position", "raised",
        "scope", "started_at", "thread", "value", "values", "wake_at",
    )  # fmt: skip

    def __init__(self, call: Operation, key: str, position: int, scope: Scope) -> None:
        self.call, self.key, self.position, self.scope = call, key, position, scope
        self.attempt = 1
        self.earlier_attempts = 0  # how many do not count for a retry, since the workflow has failed after them
        self.is_begun = False  # whether an earlier run left it running or waiting
        self.wake_at: str | None = None  # when this attempt is due; None is now
        self.started_at, self.thread = "", scope.path or "main"
        self.fn: Callable[[], Any] = _nothing  # the effect
        self.value: Any = None  # what the effect returned; once judged, what its output decodes to
        self.raised: Exception | None = None  # what the effect raised
        self.error: Exception | None = None  # what a replay would raise
        self.values: tuple[str, ...] = ()  # the large values that its output is to name
        self.outcome: Outcome | None = None

    def __str__(self) -> str:
        return f"step {self.key!r} of {self.scope.workflow_id!r}: its result"

    def row(self) -> tuple[str, str, str, int, int, str | None, str, str]:
        """Return what the row says before the effect, in the order of `STARTED`."""
        call = self.call
        return (
            self.key, call.name, call.kind, self.position, self.attempt, call.recorded_as, self.started_at, self.thread,
        )  # fmt: skip


def _nothing() -> None:
    """Do nothing: the step has no effect."""


STARTED = ("step_key", "name", "kind", "position", "attempt", "fingerprint", "started_at", "thread")


def life(step: Step, judge: Callable[[Step], Outcome]) -> Iterator[Request]:
    """Yield what is to be done next for a step, up to its outcome.

    `judge` turns what the effect returned or raised into an outcome: encoded, and decoded again as a replay would.
    """
    while True:
        if step.wake_at is not None:
            yield "wait"  # until this attempt is due
        yield "begin"  # the row says running; a crash from here on leaves it so
        yield "call"  # the effect; a crash after it repeats it: the gap that idempotency keys close
        step.outcome = judge(step)
        yield "end"  # durable once this resumes
        if step.outcome.wake_at is None:
            return
        step.wake_at, step.attempt = step.outcome.wake_at, step.attempt + 1
        step.outcome, step.raised, step.values = None, None, ()
