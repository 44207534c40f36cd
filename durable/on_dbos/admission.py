"""Admission: what may be run under a workflow id, and how it is begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbos import DBOS, SetWorkflowID, WorkflowHandle, WorkflowStatus, error

from durable.errors import InvalidNameError, WorkflowConflictError, WorkflowNotFoundError
from durable.on_dbos import process, workflows
from durable.recovery.registry import by_name, import_for, name_of_workflow
from durable.replay.keys import check_id


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
        found = import_for("", function, by_name)
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


def check_same(found: WorkflowStatus, fn: Callable[..., Any], function: str, arguments: str) -> None:
    """Raise WorkflowConflictError where the id belongs to another call."""
    workflow_id = found.workflow_id
    if found.name == workflows.WORKFLOW:
        recorded = workflows.call_of(found)
        if recorded[0] == function and workflows.are_same_arguments(fn, recorded[1], arguments, workflow_id):
            return
        what = f"{recorded[0]} with {recorded[1]}"
    else:
        what = f"the DBOS workflow {found.name}"
    called = f"{function} with {arguments}"
    raise WorkflowConflictError(
        f"workflow {workflow_id!r} is {what}, and was now called as {called}; use another workflow id, or delete this "
        f"one",
        workflow_id=workflow_id,
        recorded=what,
        called=called,
    )
