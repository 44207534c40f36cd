"""Cancelling. DBOS saves nothing more of a workflow that it has cancelled, so ours is asked to end before that.

The wish is an attribute of the workflow in DBOS. The process that runs it looks for that now and then,
lets the steps in flight end, undoes what is registered to be undone, and has DBOS cancel it as the last act.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from dbos import DBOS, WorkflowStatus

from durable.on_dbos.outside import outside
from durable.on_dbos.recovery import fork
from durable.on_dbos.recovery.set_aside import is_set_aside
from durable.on_dbos.store import workflows
from durable.store.records import nothing_to_cancel
from durable.values.instants import as_text

if TYPE_CHECKING:
    from durable.on_dbos.recovery.runs import Runs


def cancel(found: WorkflowStatus, runs: Runs, now: datetime) -> list[str]:
    """Ask a workflow and its children to end. Return those that no process runs: they have to be taken up for it."""
    status = workflows.status_of(found)
    if status != "running":
        raise nothing_to_cancel(found.workflow_id, status)
    wish, told = {workflows.CANCEL: as_text(now)}, []
    for each in list_family(found):  # its children are looked for once it has the wish: a later one finds it there
        if workflows.status_of(each) == "running":
            outside(functools.partial(DBOS.update_workflow_attributes, each.workflow_id, wish, merge=True))
            told.append(each.workflow_id)
    family = workflows.list_statuses(workflow_ids=told) if told else []  # as they are now: one may have been begun
    return [each.workflow_id for each in family if not _is_told(each, runs)]


def _is_told(found: WorkflowStatus, runs: Runs) -> bool:
    """Return whether a process ends it. One that was never begun has nothing to undo, and is cancelled at once."""
    if runs.ask_to_cancel(found.workflow_id):
        return True
    is_begun = found.status == "PENDING" or bool(workflows.read_record_of(found).steps)
    if not is_begun:
        outside(DBOS.cancel_workflow, found.workflow_id)
        return True
    is_left = found.workflow_id in runs.left or is_set_aside(found)
    return not (is_left or fork.is_waiting(found))


def list_family(found: WorkflowStatus) -> Iterator[WorkflowStatus]:
    """A workflow, its children, and theirs: each generation is looked for after the last has been handed out."""
    generation = [found]
    while generation:
        yield from generation
        parents = [each.workflow_id for each in generation]
        generation = workflows.list_statuses(parent_workflow_id=parents, **workflows.BARE)
