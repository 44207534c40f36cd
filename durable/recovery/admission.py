"""Admission: what may be run under a workflow id. A sound id, the call it belongs to, and nothing once it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.errors import WorkflowConflictError
from durable.recovery.registry import name_of_workflow
from durable.store.records import WorkflowRecord
from durable.store.workflows import Workflows
from durable.values import codec
from durable.values.failures import decode_error


def find_same(store: Workflows, workflow_id: str, fn: Callable[..., Any], arguments: str) -> WorkflowRecord | None:
    """The workflow on record, if there is one. Raises WorkflowConflictError where it is another call."""
    state, function = store.find_state(workflow_id), name_of_workflow(fn)
    if state is None or (
        state.function == function
        and codec.are_same_arguments(fn, state.arguments, arguments, f"workflow {workflow_id!r}")
    ):
        return state
    recorded, called = f"{state.function} with {state.arguments}", f"{function} with {arguments}"
    raise WorkflowConflictError(
        f"workflow {workflow_id!r} is {recorded}, and was now called as {called}; use another workflow id, or "
        f"delete this one",
        workflow_id=workflow_id,
        recorded=recorded,
        called=called,
    )


def is_final(store: Workflows, state: WorkflowRecord, *, anew: bool) -> bool:
    """Whether running it again only gives its outcome again. `anew`: a failed one is tried, unless it was undone."""
    if state.status == "failed":
        return not anew or store.has_step(state.workflow_id, "compensation")
    return state.status != "running"


class Ended:
    """A workflow whose outcome is on record, for good."""

    def __init__(self, state: WorkflowRecord, result_codec: codec.Codec) -> None:
        self.workflow_id = state.workflow_id
        self._output, self._error, self._codec = state.output or "null", state.error, result_codec

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: its recorded result"

    def result(self) -> Any:
        """The value. Raises the error with which it ended."""
        if self._error is not None:
            raise decode_error(self._error)
        return self._codec.decode(self._output, self)
