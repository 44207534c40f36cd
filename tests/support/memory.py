"""Run a workflow on the log in memory: the replay rule without a file, an engine or an alarm.

memory = Memory()
run(order, "laptop", memory=memory)      # its first run
run(order, "laptop", memory=memory)      # the next one
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from durable import Context
from durable.observer import Observer
from durable.parallel.future import Future
from durable.parallel.loop import EventLoop
from durable.parallel.threads import Threads
from durable.parallel.workers import Workers
from durable.replay import Frame, Step
from durable.replay.log import Checkpoint
from durable.replay.run import Run
from durable.replay.workflow import Execution
from durable.testing.memory import Memory, MemoryLog
from durable.values import codec
from durable.values.codec import checksum

ID = "wf"


class Clock:
    """A clock that stands still, until a step waits for its next attempt: then it jumps there."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the current instant."""
        return self._now

    def until(self, step: Step) -> Future[None]:
        """Jump to the next attempt of a step."""
        assert step.wake_at is not None
        self._now = max(self._now, datetime.fromisoformat(step.wake_at))
        due: Future[None] = Future()
        due.set_result(None)
        return due

    def abandon(self, step_key: str) -> None:
        """Nothing waits."""

    def look(self) -> None:
        """Nothing waits."""

    def is_waiting(self, step_key: str) -> bool:
        """Nothing waits."""
        return False

    def stop(self, error: BaseException) -> None:
        """Nothing waits."""


def run(
    workflow: Callable[..., Any],
    *args: Any,
    memory: Memory | None = None,
    observers: Sequence[Observer] = (),
    context: type[Frame] = Context,
    is_new: bool = False,
    workflow_id: str = ID,
) -> Any:
    """Run a workflow once on what `memory` has of it. Return its value, or raise what ended the run."""
    loop, threads, clock = EventLoop(), Threads(), Clock()
    log = MemoryLog(workflow_id, Memory() if memory is None else memory)
    life = Run(
        log,
        clock=clock,
        observers=observers,
        workers=Workers(4, loop, threads),
        start_child=lambda *_, **__: None,
        is_new=is_new,
    )
    life.waits = clock
    life.on_close += [loop.close, threads.close]
    arguments = codec.encode_arguments(workflow, args, {}, workflow_id)
    return Execution(life, workflow, arguments, codec.codec_of_result(workflow, workflow_id), context, list).result()


def saved_anew(step: Checkpoint) -> Checkpoint:
    """Return a changed row with the checksum of its outcome, as if it had been saved so."""
    return step._replace(checksum=checksum(step.step_key, step.status, step.output, step.error))


def statuses(memory: Memory) -> dict[str, str]:
    """Return the status of each recorded step, by its key."""
    return {key: step.status for key, step in sorted(memory.steps.items())}


def superseded(memory: Memory) -> list[tuple[str, int, str]]:
    """Return key, attempt and status of each superseded attempt, the oldest first."""
    return [(step.step_key, step.attempt, step.status) for step in memory.attempts]


def ends(memory: Memory) -> list[str]:
    """Return how each run ended."""
    return [ended for _, (ended, _, _) in sorted(memory.ends.items())]
