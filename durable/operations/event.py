"""Events: messages to a workflow. First sent is first received, also where it was sent before anybody waited."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from durable.errors import SerializationError, WaitTimeoutError
from durable.operations.wait import Outcome, WaitFor, deadline, start
from durable.parallel.future import Future
from durable.replay.frame import Frame
from durable.replay.run import Run
from durable.store.waits import Wait
from durable.values import codec
from durable.values import failures as failure


class Event(WaitFor):
    """The next message of a name, for at most so many seconds."""

    __slots__ = ("_timeout_seconds",)

    def __init__(self, name: str, kind: Any, timeout_seconds: float | None) -> None:
        if timeout_seconds is not None and not 0 <= timeout_seconds < float("inf"):
            raise ValueError(f"event {name!r}: timeout_seconds: expected a number from 0, got {timeout_seconds!r}")
        super().__init__("event", name, codec.codec_of(kind, f"event {name!r}"))
        self._timeout_seconds = timeout_seconds

    def wait(self, run: Run, key: str) -> Wait:
        """The name, and the end of the patience, counted from now."""
        return Wait(deadline(run, self._timeout_seconds), self.name)

    def look(self, run: Run, key: str, wake_at: datetime | None) -> Outcome | None:
        """The oldest message, or that none has come in time."""
        message = run.alarm.waits.find_message(run.workflow_id, self.name)
        if message is not None:
            return Outcome(message.value, None, message.id)
        if wake_at is None or run.clock.now() < wake_at:
            return None
        text = f"event {self.name!r} of {run.workflow_id!r}: no message within {self._timeout_seconds} s"
        return Outcome(None, failure.encode_error(WaitTimeoutError(text)))

    def refuse(self, run: Run, outcome: Outcome, misfit: SerializationError) -> Outcome:
        """A message of another type than the code waits for: an outcome, and it counts as received."""
        subject, kind = f"event {self.name!r} of {run.workflow_id!r}", misfit.type_name
        text = f"{subject}: the message does not fit {kind} ({misfit.__cause__}); send a value of that type"
        error = SerializationError(text, subject=subject, type_name=kind)
        return Outcome(None, failure.encode_error(error), outcome.message_id)


def event(frame: Frame, name: str, kind: Any, timeout_seconds: float | None) -> Future[Any]:
    """A future of the message."""
    return start(frame, Event(name, kind, timeout_seconds))
