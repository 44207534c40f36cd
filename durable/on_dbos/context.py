"""Context: what a workflow sees, on DBOS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from durable.context import Context
from durable.errors import NotSupportedError
from durable.on_dbos.attempt import DBOSAttempt
from durable.operations.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")


class DBOSContext(Context):
    """A Context in all that a workflow may ask of it, but for `transaction`."""

    _attempt = DBOSAttempt

    def transaction(
        self,
        fn: Callable[Concatenate[Transaction, P], T],  # noqa: ARG002
        /,
        *args: P.args,  # noqa: ARG002
        **kwargs: P.kwargs,  # noqa: ARG002
    ) -> T:
        """Raises NotSupportedError."""
        error = NotSupportedError(
            f"workflow {self.workflow_id!r}: ctx.transaction is a transaction on the engine's SQLite file, and on DBOS "
            f"there is none; make it a ctx.step that writes to your own database, with its idempotency key",
            operation="transaction",
        )
        raise self._run.stop(error)
