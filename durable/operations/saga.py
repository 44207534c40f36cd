"""Sagas: compensations, registered as the workflow goes, and run in reverse as steps when it fails or is cancelled."""

from __future__ import annotations

from typing import Any

from durable.operations.record import record
from durable.replay import Call, Frame, Operation, effect_of, program_order
from durable.replay.frame import check_call
from durable.replay.keys import Scope
from durable.signals import is_interrupt
from durable.values import codec


def on_failure(frame: Frame, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Register a compensation. Its own key is below the key of the registration: `release_2/release_1`."""
    call = Call(fn, args, kwargs)
    registration = Operation("on_failure", call.name, codec.PLAIN)
    registration.fingerprint, registration.args, registration.kwargs = call.fingerprint, args, kwargs
    call.kind = "compensation"
    step, _ = record(frame, registration, lambda: check_call(call, frame.run))  # before what it is to undo
    frame.run.compensations[step.key] = (call, frame.scope)
    frame.run.undo = compensate


def compensate(frame: Frame, error: BaseException) -> None:
    """Undo all that is registered, the latest first. A compensation that fails is noted on the error; the others run.

    `frame` is that of the workflow function, which has ended.
    """
    run = frame.run
    run.is_undoing = True
    for key in sorted(run.compensations, key=program_order, reverse=True):
        call, scope = run.compensations[key]
        inner = type(frame)(run, Scope(run.workflow_id, key, scope))
        try:
            step = inner.reach(call)
            call.note_arguments()
            frame.in_step = step.key  # for `is_idle`: the workflow waits if its compensation does
            inner.perform(step, effect_of(call, run))
        except Exception as failed:
            if is_interrupt(failed):
                raise
            run.check()
            error.add_note(f"its compensation {call.name!r} failed too: {type(failed).__name__}: {failed}")
