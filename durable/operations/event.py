"""Events: messages to a workflow. First sent is first received, also if it was sent before the wait began."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from durable.errors import SerializationError, WaitTimeoutError
from durable.operations.wait import WaitFor, came, deadline, start
from durable.parallel.future import Future
from durable.replay import Frame, Outcome, Wait
from durable.replay.log import keeping_waits
from durable.replay.run import Run
from durable.values import codec
from durable.values.instants import seconds_of
from durable.values.refusals import Role

MESSAGE = Role("send", "name its type, as in type={}")


class Event(WaitFor):
    """The next message of a name, or none within a number of seconds."""

    __slots__ = ("_timeout_seconds",)

    def __init__(self, name: str, kind: Any, timeout: float | timedelta | None) -> None:
        timeout_seconds = None if timeout is None else seconds_of(timeout, f"event {name!r}: timeout_seconds")
        super().__init__("event", name, codec.codec_of(kind, f"event {name!r}", MESSAGE))
        self._timeout_seconds = timeout_seconds

    def wait(self, run: Run, key: str) -> Wait:
        """Return the name and the deadline, counted from now."""
        return Wait(deadline(run, self._timeout_seconds), self.name)

    def look(self, run: Run, key: str, wake_at: datetime | None) -> Outcome | None:
        """Return the oldest message, or that none has come in time."""
        message = keeping_waits(run.log).find_message(self.name)
        if message is not None:
            return came(run, message.value, message=message.id)
        if wake_at is None or run.clock() < wake_at:
            return None
        text = f"event {self.name!r} of {run.workflow_id!r}: no message within {self._timeout_seconds} s"
        return came(run, None, WaitTimeoutError(text))

    def refuse(self, run: Run, outcome: Outcome, misfit: SerializationError) -> Outcome:
        """Return an error: a message of a type that the code does not expect counts as received."""
        subject, kind = f"event {self.name!r} of {run.workflow_id!r}", misfit.type_name
        text = f"{subject}: the message does not fit {kind} ({misfit.__cause__}); send a value of that type"
        error = SerializationError(text, subject=subject, type_name=kind)
        return came(run, None, error, message=outcome.message)


def event(frame: Frame, name: str, kind: Any, timeout_seconds: float | timedelta | None) -> Future[Any]:
    """Return a future of the message."""
    return start(frame, Event(name, kind, timeout_seconds))
