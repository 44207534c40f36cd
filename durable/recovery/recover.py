"""Recovery: workflows that nobody runs, left behind by a crash, or cancelled meanwhile."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durable.errors import (
    FencedError,
    WorkflowBusyError,
    WorkflowCancelledError,
    WorkflowEndedError,
    WorkflowNotFoundError,
)
from durable.recovery.handle import Handle
from durable.replay.step import Outcome
from durable.store.log import FileLog
from durable.store.owner import Owner
from durable.store.workflows import Workflows
from durable.values import failures as failure

if TYPE_CHECKING:
    from durable.engine import Engine


@dataclass(frozen=True)
class Recovery:
    """What `engine.recover` did: which it resumed, set aside after too many crashes, or left alone, and why."""

    resumed: list[Handle[Any]] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def recover(engine: Engine, store: Workflows, max_crashes: int) -> Recovery:
    """See `Engine.recover`."""
    if max_crashes < 1:
        raise ValueError(f"max_crashes: expected at least 1, got {max_crashes}")
    found = Recovery()
    for workflow_id, epoch in store.list_left():
        if (pid := engine.owner(workflow_id)) is not None:
            found.left[workflow_id] = str(WorkflowBusyError(workflow_id, pid))
        elif has_crashed(store, workflow_id, epoch, max_crashes):
            found.set_aside.append(workflow_id)
        else:
            try:
                found.resumed.append(engine.go_on(workflow_id))
            except Exception as error:  # a module of the user's may raise anything as it is imported
                found.left[workflow_id] = str(error) or type(error).__name__
    return found


def has_crashed(store: Workflows, workflow_id: str, epoch: int, times: int) -> bool:
    """Whether the latest runs all ended so, without a gap: there, somebody has rewound the workflow."""
    runs = store.latest_runs(workflow_id, times)
    expected = list(range(epoch - times + 1, epoch + 1))
    return [run for run, ended in runs if ended in (None, "crashed")] == expected


def cancel(engine: Engine, store: Workflows, workflow_id: str, at: str) -> None:
    """See `Engine.cancel`."""
    family = store.request_cancel(workflow_id, at)
    if not family:
        status = engine.workflow(workflow_id).status
        raise WorkflowEndedError(
            f"workflow {workflow_id!r} is {status} already; there is nothing to cancel",
            workflow_id=workflow_id,
            status=status,
        )
    for each in family:
        try:
            _cancel_unowned(engine, store, each, at)
        except WorkflowBusyError:
            continue  # its owner notices
        except WorkflowNotFoundError:
            logging.getLogger("durable").warning(
                "workflow %r is cancelled as soon as its function is there to run its compensations: run, resume or "
                "recover it in a process that can import it",
                each,
            )


def _cancel_unowned(engine: Engine, store: Workflows, workflow_id: str, at: str) -> None:
    if store.has_step(workflow_id, "on_failure"):
        engine.go_on(workflow_id)  # it comes to its next operation, is cancelled there, and compensates
        return
    owner = Owner(engine.path, workflow_id)
    try:
        record = engine.workflow(workflow_id)
        if record.status != "running":  # it has ended since it was asked to
            return
        error = failure.encode_error(WorkflowCancelledError(f"workflow {workflow_id!r} was cancelled"))
        log = FileLog(store.connection, workflow_id, record.epoch, record.arguments, lambda: at)
        with contextlib.suppress(FencedError):  # another engine has taken it up since, and cancels it
            log.close("cancelled", Outcome("cancelled", None, error, at))
    finally:
        owner.release()
