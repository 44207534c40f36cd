"""Admission: what may be run under a workflow id, and how it is begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbos import DBOS, SetWorkflowID, WorkflowHandle, WorkflowStatus, error

from durable.errors import InvalidNameError, WorkflowConflictError, WorkflowNotFoundError
from durable.on_dbos import process
from durable.on_dbos.store import workflows
from durable.recovery.names import conflict, find_workflow_function, is_name_of, name_of_workflow
from durable.recovery.registry import import_for
from durable.replay.keys import check_id
from durable.values.codec import are_same_arguments
from durable.values.large import Read


def start_in_dbos(workflow_id: str, function: str, arguments: dict[str, Any]) -> WorkflowHandle[Any] | None:
    """Have DBOS begin a workflow in this process; within a workflow, as its child. None where the id is taken."""
    try:
        with SetWorkflowID(workflow_id, workflow_id_reuse_policy="reject"):
            return DBOS.start_workflow(process.workflow, function, arguments)
    except error.DBOSWorkflowIDInUseError:
        return None


def check_workflow_id(workflow_id: object) -> None:
    """Raise InvalidNameError unless both engines take it: DBOS cannot take up again what is named by blanks alone."""
    check_id(workflow_id)
    if not str(workflow_id).strip():
        raise InvalidNameError(f"workflow id {workflow_id!r}: expected more than blanks, which DBOS takes for no name")


def check_importable(fn: Callable[..., Any]) -> str:
    """The path of a function. Raises InvalidNameError where another process could not find it there."""
    function = name_of_workflow(fn)
    try:
        found = import_for("", function, lambda _, name: find_workflow_function(name))
    except WorkflowNotFoundError as error:
        raise _not_importable(function, str(error.__cause__)) from error.__cause__
    if found is not fn:
        raise _not_importable(function, "something else is there")
    return function


def _not_importable(function: str, why: str) -> InvalidNameError:
    return InvalidNameError(
        f"workflow function {function!r}: expected one that every process can import by this path ({why}); define it "
        f"with def at the top level of a module"
    )


def check_same(found: WorkflowStatus, fn: Callable[..., Any], arguments: str, read: Read | None = None) -> str:
    """Return the name under which the function is on record. Raises WorkflowConflictError for another call."""
    workflow_id = found.workflow_id
    if found.name != workflows.WORKFLOW:
        raise WorkflowConflictError(
            f"workflow {workflow_id!r} is the DBOS workflow {found.name}; use another workflow id, or delete this one",
            workflow_id=workflow_id,
            recorded=found.name,
            called=f"{name_of_workflow(fn)} with {arguments}",
        )
    function, recorded = workflows.call_of(found)
    subject = f"workflow {workflow_id!r}"
    if not is_name_of(function, fn) or not are_same_arguments(fn, recorded, arguments, subject, read):
        raise conflict(workflow_id, function, recorded, fn, arguments)
    return function
