"""Step: one durable operation of one run, and its life. `life` tells it once; drivers perform what it yields.

A driver is about a dozen lines: in this thread, on the event loop, in the batch of parallel steps, on DBOS. `life`
performs no I/O, so all of them share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

from durable.replay.call import Operation

Request: TypeAlias = Literal["wait", "begin", "call", "end"]


class Outcome(NamedTuple):
    """How a step or a workflow ended: with an output or with an error, both as JSON text.

    `wake_at` is set beside a failure that is not the outcome yet: then the next attempt is due. `message` is the id of
    the message that a wait received.
    """

    status: str
    output: str | None
    error: str | None
    ended_at: str
    wake_at: str | None = None
    message: Any = None


class Step:
    """An operation that the workflow asked for: its key, its place, its attempt, and its outcome once it has one."""

    __slots__ = (
        "attempt", "call", "earlier_attempts", "error", "fn", "key", "outcome", "position", "raised", "started_at",
        "thread", "value", "wake_at",
    )  # fmt: skip

    def __init__(self, call: Operation, key: str, position: int, attempt: int = 1) -> None:
        self.call, self.key, self.position, self.attempt = call, key, position, attempt
        self.earlier_attempts = 0  # how many do not count for a retry, since they belong to an earlier failure
        self.fn: Callable[..., Any] | None = None  # the effect
        self.wake_at: str | None = None  # when this attempt is due; None is now
        self.started_at, self.thread = "", ""
        self.value: Any = None  # what the call returned; after `judge`, what its output decodes to
        self.raised: Exception | None = None  # what the call raised
        self.error: BaseException | None = None  # what a replay would raise
        self.outcome: Outcome | None = None

    def row(self) -> tuple[str, str, str, int, int, str | None, str, str]:
        """Return what a row says before the effect, in the order of `STARTED`."""
        call = self.call
        return (
            self.key, call.name, call.kind, self.position, self.attempt, call.fingerprint, self.started_at, self.thread,
        )  # fmt: skip


STARTED = ("step_key", "name", "kind", "position", "attempt", "fingerprint", "started_at", "thread")


def life(step: Step, judge: Callable[[Step], Outcome]) -> Iterator[Request]:
    """Yield what is to be done next for a step, up to its outcome.

    `judge` turns what the call returned or raised into the outcome: encoded, and decoded again as a replay would.
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
