"""Record: a value that the engine itself provides, saved together with its row. It has no effect outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.errors import SerializationError
from durable.replay.attempt import Recorded, thread_label
from durable.replay.call import Operation
from durable.replay.frame import Frame
from durable.store.step_row import NewStep


def record(frame: Frame, call: Operation, provide: Callable[[], Any]) -> tuple[str, Any]:
    """The key, and what `provide` gives on the first run; on every later one, what it gave then."""
    run = frame._run
    found = frame._replay(call, lambda key, position, _: (key, position))
    if isinstance(found, Recorded):
        return found.key, found.result()
    key, position = found
    number = run.history.count_tries(key) + 1
    run.notify("step.scheduled", key, call.name, number)
    run.check()
    value = provide()
    run.notify(
        "step.executed", key, call.name, number
    )  # a crash here loses nothing but the value, which nobody has seen
    try:
        output, decoded = call.codec.round_trip(value, f"step {key!r} of {run.workflow_id!r}: its result")
    except SerializationError as error:
        raise run.stop(error) from error.__cause__
    step = NewStep(key, call.name, call.kind, position, number, call.fingerprint, run.now(), thread_label(frame._scope))
    run.save(run.store.record_step, step, output)
    run.notify("step.checkpointed", key, call.name, number)
    return key, decoded
