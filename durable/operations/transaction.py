"""Transactions: a step whose effect is in the database file itself, saved in the very transaction of its checkpoint.

A crash leaves both or neither, so such a step is never a zombie step, and its effect happens once.
"""

from __future__ import annotations

from typing import Any

from durable.replay import Call, Frame, Outcome, Step, TransactingLog
from durable.replay.frame import check_call
from durable.replay.log import transacting
from durable.replay.run import Run
from durable.replay.step import life
from durable.signals import held_back, let_through


def transaction(frame: Frame, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the function's value, or raise its error, as on record."""
    call = Call(fn, args, kwargs)
    call.kind = "transaction"
    if call.is_async or not call.options.is_plain:
        raise TypeError(
            f"ctx.transaction: {call.name!r} is a coroutine function, or asks for a retry, a timeout or isolation, and "
            f"a transaction has none; make what needs them a ctx.step before it"
        )
    with frame.run.stopping:
        log = transacting(frame.run.log)
    step = frame.reach(call)
    if step.outcome is None:
        check_call(call, frame.run)
        frame.in_step = step.key
        try:
            _live(frame.run, log, step, call)
        except BaseException as error:
            frame.on_raised(error)
            raise
        finally:
            frame.in_step = ""
    return frame.run.give(step)


def _live(run: Run, log: TransactingLog, step: Step, call: Call) -> None:
    """Live the step in one transaction, in this thread."""
    requests = life(step, run.judge)
    next(requests)  # begin
    run.notify("step.scheduled", step)
    run.check()
    step.started_at = run.now()
    next(requests)  # call

    def work(db: Any) -> Outcome:
        def effect() -> Any:
            with held_back(), log.guard(db, f"step {step.key!r} of {run.workflow_id!r}") as guarded:
                return let_through(call.fn, guarded, *call.args, **call.kwargs)

        step.fn = effect
        run.call(step)  # a crash after it undoes the effect
        next(requests)  # end
        assert step.outcome is not None
        return step.outcome

    with run.stopping:
        log.transact(step, work)
    run.ended(step)
