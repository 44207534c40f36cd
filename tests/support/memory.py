"""Questions about a workflow that ran on the log in memory, see `durable.testing.memory`."""

from __future__ import annotations

from durable.replay.log import Checkpoint
from durable.testing.memory import ID, Memory, run
from durable.values.codec import checksum

__all__ = ["ID", "ends", "run", "saved_anew", "statuses", "superseded"]


def saved_anew(step: Checkpoint) -> Checkpoint:
    """Return a changed row with the checksum of its outcome, as if it had been saved so."""
    return step._replace(checksum=checksum(step.step_key, step.status, step.output, step.error))


def statuses(memory: Memory) -> dict[str, str]:
    """Return the status of each recorded step, by its key."""
    return {key: step.status for key, step in sorted(memory.steps.items())}


def superseded(memory: Memory) -> list[tuple[str, int, str]]:
    """Return key, attempt and status of each superseded attempt, the oldest first."""
    return [(step.step_key, step.attempt, step.status) for step in memory.attempts]


def ends(memory: Memory) -> list[str]:
    """Return how each run ended."""
    return [ended for _, (ended, _, _) in sorted(memory.ends.items())]
