"""The row of a workflow, apart from the other records: each run that goes on reads one, and to make a class takes time.

All five dataclasses take 2.6 ms to make, as long as a replay of a thousand steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class WorkflowRecord:
    """A row of `workflows`. `arguments`, `output` and `error` are JSON text; `epoch` numbers its latest run."""

    workflow_id: str
    function: str
    arguments: str
    status: str
    output: str | None
    error: str | None
    epoch: int
    created_at: datetime
    updated_at: datetime
    parent_id: str | None = None
    cancel_requested_at: datetime | None = None
