"""Set aside: how many runs of a workflow have died at the same place, kept as attributes of it in DBOS.

A worker counts as it takes a workflow over, and any other process as it begins again what has died.
"""

from __future__ import annotations

import functools
from typing import Any

from dbos import DBOS, WorkflowStatus

from durable.on_dbos.outside import outside
from durable.on_dbos.store.workflows import Asked
from durable.store.records import MAX_CRASHES

CRASHES, STEPS, SET_ASIDE = "durable.crashes", "durable.steps", "durable.set_aside"
INTERRUPTED = "durable.interrupted"  # whether its last run ended in an orderly way, which is no crash
TOO_OFTEN = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"  # by DBOS itself, for earlier versions of this package
_AFRESH = {CRASHES: 0, SET_ASIDE: False, INTERRUPTED: False}


def is_set_aside(found: WorkflowStatus) -> bool:
    """Return whether it is left alone until a caller asks for it."""
    return found.status == TOO_OFTEN or bool((found.attributes or {}).get(SET_ASIDE))


def begin_afresh(found: WorkflowStatus, asked: Asked = DBOS) -> None:
    """Count from 0 again: a caller has asked for it."""
    if (found.attributes or {}).keys() & _AFRESH.keys():
        _note(found.workflow_id, _AFRESH, asked)


def note_interrupt(workflow_id: str) -> None:
    """Note that its run has ended in an orderly way."""
    _note(workflow_id, {INTERRUPTED: True}, DBOS)


def note_crash(found: WorkflowStatus, asked: Asked = DBOS, max_crashes: int = MAX_CRASHES) -> bool:
    """Count a run that has died, unless it was interrupted. Return whether the workflow is set aside now."""
    known = found.attributes or {}
    steps = len(outside(functools.partial(asked.list_workflow_steps, found.workflow_id, load_output=False)))
    crashes = known.get(CRASHES, 0) + 1 if known.get(STEPS) == steps else 1
    if known.get(INTERRUPTED):
        crashes = 0
    noted = {CRASHES: crashes, STEPS: steps}
    noted |= {INTERRUPTED: False} if known.get(INTERRUPTED) else {}
    noted |= {SET_ASIDE: True} if crashes >= max_crashes else {}
    _note(found.workflow_id, noted, asked)
    return SET_ASIDE in noted


def _note(workflow_id: str, attributes: dict[str, Any], asked: Asked) -> None:
    outside(functools.partial(asked.update_workflow_attributes, workflow_id, attributes, merge=True))
