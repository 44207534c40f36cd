"""The facts that a step may ask about itself while it runs, in its thread, its coroutine or its process."""

from __future__ import annotations

import contextvars
from pathlib import Path  # at run time too, for typing.get_type_hints
from typing import Any

import msgspec

from durable.errors import ScopeError
from durable.replay.keys import idempotency_key


class StepInfo(msgspec.Struct, frozen=True):
    """The facts that a step may ask about itself.

    `attempt` counts from 1; `database` is the file in which its workflow is saved; `run` is the number of the run.
    """

    workflow_id: str
    key: str
    attempt: int
    database: Path
    run: int = 0

    def __str__(self) -> str:
        return f"step {self.key!r} of {self.workflow_id!r}"

    @property
    def idempotency_key(self) -> str:
        """`<workflow id>/<step key>`, the same on each attempt: give it to the outside world along with the request."""
        return idempotency_key(self.workflow_id, self.key)


current: contextvars.ContextVar[tuple[Any, ...] | None] = contextvars.ContextVar("durable_step", default=None)
"""A function that returns the facts, and its arguments: a partial of them would take as long as two calls."""


def context_of_caller() -> contextvars.Context:
    """Return a copy of the caller's context variables, for a workflow that is started there. It is in no step."""
    context = contextvars.copy_context()
    context.run(current.set, None)
    return context


def find_current_step() -> StepInfo | None:
    """Return the step that is running here, or None."""
    found = current.get()
    if found is None:
        return None
    find, *args = found
    info: StepInfo = find(*args)
    return info


def current_step() -> StepInfo:
    """Return the step that is running here. Raises ScopeError outside of a step."""
    if (info := find_current_step()) is None:
        raise ScopeError(
            "current_step() was called outside of a step; call it in a function that ctx.step or ctx.submit runs"
        )
    return info
