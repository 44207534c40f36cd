"""Sagas: compensations, registered as the workflow goes, and run in reverse as steps when it fails or is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.operations.record import record
from durable.replay.call import Call, Operation
from durable.replay.frame import Frame
from durable.replay.keys import Scope
from durable.replay.run import Run
from durable.store.records import program_order
from durable.values import codec


def on_failure(frame: Frame, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Register a compensation. Its own key is below the key of the registration: `release_2/release_1`."""
    call = Call(fn, args, kwargs)
    registration = Operation("on_failure", call.name, codec.PLAIN)
    registration.fingerprint = call.fingerprint
    call.kind = "compensation"
    key, _ = record(frame, registration, lambda: None)
    frame._run.compensations[key] = (call, frame._scope)


def compensate(run: Run, undo: Callable[[Call, str, Scope], object], error: BaseException) -> None:
    """Have all that is registered undone, the latest first. One that fails is noted on the error; the others run."""
    run.is_undoing = True
    for key in sorted(run.compensations, key=program_order, reverse=True):
        call, scope = run.compensations[key]
        try:
            undo(call, key, scope)
        except Exception as failed:
            run.check()
            error.add_note(f"its compensation {call.name!r} failed too: {type(failed).__name__}: {failed}")
