"""A durable execution engine small enough to be read in one sitting.

    from durable import Context, Engine

    def onboarding(ctx: Context, name: str) -> str:
        record = ctx.step(create_record, name)
        return ctx.step(send_welcome_email, record)

    with Engine("workflow.db") as engine:
        engine.run("emp_001", onboarding, "Jane Doe")

Kill the process at any instant and run it again: what had completed is answered from the database, the rest goes on.
Read on in `context.py` (what a workflow sees, and the replay rule) and `schema.sql` (all that is stored).
"""

# what a workflow uses
from durable.context import Context

# what runs it
from durable.engine import Engine

# what can go wrong; the others are in durable.errors
from durable.errors import (
    DurableError,
    NonDeterminismError,
    ScopeError,
    SerializationError,
    StepDiedError,
    StepError,
    StepTimeoutError,
    StoreError,
    TransactionError,
    WaitTimeoutError,
    WorkflowBusyError,
    WorkflowCancelledError,
    WorkflowConflictError,
)
from durable.limits.options import step
from durable.limits.retry import Retry

# what parallel and background work gives back
from durable.parallel.future import Future
from durable.recovery.handle import Handle

# what watches it
from durable.replay.moments import Moment
from durable.replay.step_info import StepInfo, current_step
from durable.store.transaction import Transaction

__all__ = [
    "Context",
    "DurableError",
    "Engine",
    "Future",
    "Handle",
    "Moment",
    "NonDeterminismError",
    "Retry",
    "ScopeError",
    "SerializationError",
    "StepDiedError",
    "StepError",
    "StepInfo",
    "StepTimeoutError",
    "StoreError",
    "Transaction",
    "TransactionError",
    "WaitTimeoutError",
    "WorkflowBusyError",
    "WorkflowCancelledError",
    "WorkflowConflictError",
    "current_step",
    "step",
]
