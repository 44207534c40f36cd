"""A durable execution engine with a core that can be read in one sitting.

    from durable import Context, Engine

    def onboarding(ctx: Context, name: str) -> str:
        record = ctx.step(create_record, name)
        return ctx.step(send_welcome_email, record)

    with Engine("workflow.db") as engine:
        engine.run("emp_001", onboarding, "Jane Doe")

Kill the process at any instant and run it again: completed steps are answered from the database, the rest is run.
Read on in `store/schema.sql` (everything that is stored) and `replay/` (the core).
"""

import typing as _typing

# for workflows
from durable.context import Context

# for running them
from durable.engine import Engine

# errors; the others are in durable.errors
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
from durable.hosted import current_context, hosted_step
from durable.limits.options import step
from durable.limits.retry import Retry

# results of parallel and background work
from durable.parallel.future import Future
from durable.recovery.handle import Handle
from durable.recovery.names import workflow

# for observers
from durable.replay.moments import Moment
from durable.replay.step_info import StepInfo, current_step
from durable.store.transaction import Transaction

if _typing.TYPE_CHECKING:
    from durable.cells import each as each
    from durable.cells import input as input  # noqa: A004 - it is to be called durable.input
    from durable.cells import map as map  # noqa: A004
else:

    def __getattr__(name: str) -> object:
        """Return what is for durable cells of a notebook, see `durable.cells`."""
        if name not in ("each", "input", "map"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from durable import cells

        return getattr(cells, name)


def load_ipython_extension(shell: _typing.Any) -> None:
    """Add durable cells to a notebook, as `%load_ext durable` asks for: see `durable.cells`."""
    from durable.cells import load

    load(shell)


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
    "current_context",
    "current_step",
    "hosted_step",
    "load_ipython_extension",
    "step",
    "workflow",
]
