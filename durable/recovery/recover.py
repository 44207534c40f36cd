"""Recovery: workflows that no process runs, left behind by a crash, or cancelled meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from durable import logs
from durable.errors import (
    FencedError,
    WorkflowBusyError,
    WorkflowCancelledError,
    WorkflowNotFoundError,
)
from durable.recovery.handle import Handle
from durable.recovery.lives import Lives
from durable.replay import Outcome
from durable.replay.run import CANCELLED
from durable.signals import is_interrupt
from durable.store.records import nothing_to_cancel
from durable.values.failures import encode_error


@dataclass(frozen=True)
class Recovery:
    """The workflows that `engine.recover` found: resumed, set aside, or left, and why."""

    resumed: list[Handle[Any]] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def recover(lives: Lives, go_on: Callable[[str], Handle[Any]], max_crashes: int) -> Recovery:
    """See `Engine.recover`. `go_on` resumes a workflow."""
    if max_crashes < 1:
        raise ValueError(f"max_crashes: expected at least 1, got {max_crashes}")
    found = Recovery()
    for workflow_id in lives.records.list_left():
        if (pid := lives.records.find_owner(workflow_id)) is not None:
            found.left[workflow_id] = str(WorkflowBusyError(workflow_id, pid))
        elif lives.records.has_got_nowhere(workflow_id, max_crashes):
            found.set_aside.append(workflow_id)
            logs.warn("workflow %r is set aside: its last %d runs made no progress", workflow_id, max_crashes)
        else:
            try:
                found.resumed.append(go_on(workflow_id))
            except Exception as error:  # a module of the user's may raise anything as it is imported
                if is_interrupt(error):
                    raise
                found.left[workflow_id] = str(error) or type(error).__name__
    return found


def cancel(lives: Lives, go_on: Callable[[str], Handle[Any]], workflow_id: str) -> None:
    """See `Engine.cancel`. Raises WorkflowEndedError; `go_on` resumes a workflow for its compensations."""
    family = lives.records.request_cancel(workflow_id, lives.now())
    if not family:
        raise nothing_to_cancel(workflow_id, lives.record(workflow_id).status)
    for each in family:
        try:
            if lives.records.has_step(each, "on_failure"):
                go_on(each)  # its next operation cancels it, and it compensates
            else:
                _cancel_unowned(lives, each)
        except WorkflowBusyError:
            continue  # its owner notices
        except WorkflowNotFoundError:
            logs.logger.warning(
                "workflow %r is cancelled as soon as its function is there to run its compensations: run, resume or "
                "recover it in a process that can import it",
                each,
                extra=logs.extra(each),
            )


def _cancel_unowned(lives: Lives, workflow_id: str) -> None:
    owner = lives.records.own(workflow_id)
    try:
        record = lives.record(workflow_id)
        if record.status != "running":  # it has ended since it was asked to
            return
        error = encode_error(WorkflowCancelledError(f"workflow {workflow_id!r} was cancelled"))
        log = lives.new_log(workflow_id, record.epoch, record.arguments)
        with contextlib.suppress(FencedError):  # another engine has taken it up since, and cancels it
            log.close("cancelled", Outcome("cancelled", None, error, lives.now()), CANCELLED)
    finally:
        owner.release()
