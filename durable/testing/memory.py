"""MemoryLog: the log of one run in memory, and a run on it: the replay rule without a file, an engine or an alarm.

memory = Memory()
run(order, "laptop", memory=memory)  # its first run
run(order, "laptop", memory=memory)  # the next one

It survives no process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from durable.context import Context
from durable.errors import CancelRequested, CorruptionError, FencedError
from durable.parallel.future import Future
from durable.parallel.loop import EventLoop
from durable.parallel.threads import Threads
from durable.parallel.workers import Workers
from durable.replay.frame import Frame
from durable.replay.log import Checkpoint, Message, Row, Tries, Wait
from durable.replay.moments import Observer
from durable.replay.run import Run
from durable.replay.step import Outcome, Step
from durable.replay.workflow import Execution
from durable.values import codec
from durable.values.codec import checksum
from durable.values.large import as_views, digest, nothing

ID = "wf"
"""The workflow id of a run in memory that names none."""


class Memory:
    """The record of one workflow. Each run of it has a `MemoryLog` of its own."""

    def __init__(self) -> None:
        self.epoch = 0
        self.is_cancel_requested = False
        self.steps: dict[str, Checkpoint] = {}
        self.attempts: list[Checkpoint] = []  # the oldest first
        self.waits: dict[str, Wait] = {}
        self.values = MemoryValues()
        self.messages: list[tuple[str, Message]] = []  # each with its name, the oldest first
        self.ends: dict[int, tuple[str, Outcome | None, str | None]] = {}  # how each run ended, by epoch
        self.lock = threading.Lock()


class MemoryValues:
    """See `durable.values.large`. Each value is one part, and none is ever dropped."""

    def __init__(self) -> None:
        self._stored: dict[str, tuple[bytes, list[bytes]]] = {}

    def put(self, head: bytes, buffers: Sequence[Any], on_part: Callable[[], object] = nothing) -> str:
        """See `LargeValues`."""
        views = as_views(buffers)
        sha256 = digest(head, views)
        self._stored[sha256] = head, [bytes(view) for view in views]
        on_part()
        return sha256

    def get(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """See `LargeValues`."""
        if sha256 not in self._stored:
            what = f"{subject or 'memory'}: large value {sha256} is missing; put it anew"
            raise CorruptionError(what, path=MemoryLog.path)
        head, buffers = self._stored[sha256]
        return head, [memoryview(bytearray(buffer)) for buffer in buffers]


class MemoryLog:
    """See `durable.replay.log`: a `Log` and a `WaitingLog`."""

    path = Path(":memory:")

    def __init__(self, workflow_id: str, memory: Memory) -> None:
        """Begin a run. The logs of earlier runs save nothing more; failed steps that ended the last are tried anew."""
        self.workflow_id, self._memory, self.values = workflow_id, memory, memory.values
        ended, outcome, _ = memory.ends.get(memory.epoch, ("", None, None))
        self.epoch = memory.epoch = memory.epoch + 1
        if ended == "failed" and outcome is not None and outcome.error is not None:
            self.supersede(msgspec.json.decode(outcome.error).get("steps", []))

    def read(self) -> Iterator[list[Row]]:
        """See `Log`."""
        return iter([[step.row() for step in self._memory.steps.values()]])

    def list_tries(self) -> list[Tries]:
        """See `Log`."""
        failed = max((epoch for epoch, end in self._memory.ends.items() if end[0] == "failed"), default=0)
        tries: dict[str, Tries] = {}
        for key, status, *_, attempt, epoch, _, _, _ in self._memory.attempts:
            _, _, has_failed, before = tries.get(key, (key, 0, False, 0))
            before = attempt if epoch <= failed else before
            tries[key] = Tries(key, attempt, has_failed or status == "failed", before)
        return list(tries.values())

    def list_waiting(self) -> dict[str, str | None]:
        """See `Log`."""
        return {key: wait.wake_at for key, wait in self._memory.waits.items()}

    def begin(self, steps: Sequence[Step]) -> None:
        """See `Log`."""
        self._check(steps)
        self.supersede([step.key for step in steps if step.attempt > 1])
        for step in steps:
            self._save(step, None)

    def end(self, steps: Sequence[Step]) -> None:
        """See `Log`."""
        self._check()
        for step in steps:
            self._save(step, step.outcome)
            if step.outcome is not None and step.outcome.wake_at is not None:
                self._memory.waits[step.key] = Wait(step.outcome.wake_at)

    def record(self, step: Step) -> None:
        """See `Log`."""
        self._check([step])
        self._save(step, step.outcome)

    def supersede(self, step_keys: Sequence[str]) -> None:
        """See `Log`."""
        self._check()
        for key in step_keys:
            self._memory.waits.pop(key, None)
            if key in self._memory.steps:
                self._memory.attempts.append(self._memory.steps.pop(key))

    def check(self) -> None:
        """See `Log`."""
        self._check()
        if self._memory.is_cancel_requested:
            raise CancelRequested(f"workflow {self.workflow_id!r}: it was cancelled")

    def close(self, ended: str, outcome: Outcome | None = None, reason: str | None = None) -> None:
        """See `Log`."""
        if outcome is not None:
            self._check()
        self._memory.ends.setdefault(self.epoch, (ended, outcome, reason))

    def begin_wait(self, step: Step, wait: Wait) -> tuple[str | None, bool]:
        """See `WaitingLog`."""
        self._check([step])
        is_new = step.key not in self._memory.steps
        self._save(step, None)
        return self._memory.waits.setdefault(step.key, wait).wake_at, is_new

    def end_wait(self, step: Step) -> bool:
        """See `WaitingLog`."""
        self._check()
        memory, message = self._memory, step.outcome and step.outcome.message
        with memory.lock:
            left = [each for each in memory.messages if each[1].id != message]
            if message is not None and len(left) == len(memory.messages):
                return False
            memory.messages = left
        self._save(step, step.outcome)
        memory.waits.pop(step.key, None)
        return True

    def find_message(self, event: str) -> Message | None:
        """See `WaitingLog`."""
        return next((message for name, message in self._memory.messages if name == event), None)

    def _check(self, begun: Sequence[Step] = ()) -> None:
        if self.epoch != self._memory.epoch:
            raise FencedError(self.workflow_id, self.epoch)
        if self._memory.is_cancel_requested and any(step.call.kind != "compensation" for step in begun):
            raise CancelRequested(f"workflow {self.workflow_id!r}: it was cancelled")

    def _save(self, step: Step, outcome: Outcome | None) -> None:
        call, how = step.call, outcome or Outcome("running", None, None, "")
        stored = None if outcome is None else checksum(step.key, how.status, how.output, how.error)
        self._memory.steps[step.key] = Checkpoint(
            step.key, how.status, how.output, call.kind, step.attempt, self.epoch, call.recorded_as, how.error, stored
        )


class StandingClock:
    """A clock that stands still, until a step waits for its next attempt: then it jumps there."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the current instant."""
        return self._now

    def until(self, step: Step) -> Future[None]:
        """Jump to the next attempt of a step."""
        self._now = max(self._now, datetime.fromisoformat(step.wake_at or step.started_at))
        due: Future[None] = Future()
        due.set_result(None)
        return due

    def abandon(self, step_key: str) -> None:
        """Nothing waits."""

    def look(self) -> None:
        """Nothing waits."""

    def is_waiting(self, step_key: str) -> bool:  # noqa: ARG002 - one signature for all waits
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
    loop, threads, clock = EventLoop(), Threads(), StandingClock()
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
