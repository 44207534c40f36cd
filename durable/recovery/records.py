"""Records: the stored workflows, as the modules that run them use them. It knows no database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from durable.replay import WaitingLog
from durable.store.records import WorkflowRecord
from durable.waiting.alarm import Due

if TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.values.large import Freed, LargeValues


class Owned(Protocol):
    """The right to run one workflow id."""

    def release(self) -> None:
        """Release the id, so that it can be owned again."""
        ...


class Messages(Due, Protocol):
    """The waits and messages of all workflows, see `durable.store.rows.waits`."""

    def send(
        self,
        workflow_id: str,
        event: str,
        value: str,
        message_key: str | None,
        at: str,
        values: Sequence[str] = (),
    ) -> bool:
        """Save a message, whose value names these large values. Return False if there is one with this key already."""
        ...

    def has_message(self, workflow_id: str, message_key: str) -> bool:
        """Return whether a message with this key was sent, received or not."""
        ...

    def list_parents(self, child_ids: list[str]) -> list[tuple[str, str]]:
        """Return the workflows that wait for one of these to end, each with the id of that child."""
        ...


class Records(Protocol):
    """The workflows and their runs, as this machine keeps them, see `durable.store.file`."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def waits(self) -> Messages:
        """The waits and messages of all workflows."""
        ...

    @property
    def reader(self) -> Any:
        """The stored workflows, to look at."""
        ...

    def own(self, workflow_id: str) -> Owned:
        """Take the right to run a workflow id. Raises WorkflowBusyError while another process or thread has it."""
        ...

    def find_owner(self, workflow_id: str) -> int | None:
        """Return the pid of the process that runs a workflow now, or None."""
        ...

    def begin_run(
        self,
        workflow_id: str,
        function: str,
        arguments: str,
        seen: WorkflowRecord | None,
        pid: int,
        host: str,
        at: str,
        parent_id: str | None = None,
        values: Sequence[str] = (),
    ) -> int | None:
        """Record a new run and return its epoch; None if the workflow is no longer as the caller has seen it.

        `values` are the large values that the arguments name.
        """
        ...

    def new_log(self, workflow_id: str, epoch: int, arguments: str, now: Callable[[], str]) -> WaitingLog:
        """Return the log of a run."""
        ...

    def find_state(self, workflow_id: str) -> WorkflowRecord | None:
        """Return a workflow, or None."""
        ...

    def has_step(self, workflow_id: str, kind: str) -> bool:
        """Return whether a step of a kind was ever begun."""
        ...

    def find_dead(self, workflow_id: str, epoch: int) -> str | None:
        """Return the process of a run, as `process 4711 on host`, if it has died in that run."""
        ...

    def has_got_nowhere(self, workflow_id: str, times: int) -> bool:
        """Return whether its last runs crashed, or stopped, this many times at one place. No process may run it now."""
        ...

    def list_left(self) -> list[str]:
        """Return the workflows that neither have ended nor are suspended, oldest first."""
        ...

    def list_over(self, workflow_ids: Iterable[str]) -> list[str]:
        """Return those of the workflows that have ended, or were deleted."""
        ...

    def list_family(self, workflow_id: str) -> list[str]:
        """Return a workflow and its descendants, parents first."""
        ...

    def request_cancel(self, workflow_id: str, at: str) -> list[str]:
        """Ask a workflow and its descendants to end. Return those that run; none if the workflow itself has ended."""
        ...

    def rewind(self, workflow_id: str, to: str | None, at: str) -> None:
        """Take back all that is recorded from a step on; without one, the failed steps and what followed them."""
        ...

    def restart(self, workflow_id: str, function: str, arguments: str, at: str) -> None:
        """Take back all that is recorded, and note another call."""
        ...

    def fork(self, workflow_id: str, new_id: str, at_key: str, at: str) -> None:
        """Copy what was recorded before a step to a new workflow."""
        ...

    def delete_workflows(self, workflow_ids: Iterable[str]) -> None:
        """Delete workflows and all their rows, but not their last epochs."""
        ...

    def collect(self) -> Freed:
        """Drop the large values that no row names."""
        ...

    def values_for(self, workflow_id: str, now: Callable[[], str]) -> LargeValues:
        """Return the large values of a call or a message that is to be sent to a workflow."""
        ...

    def give_space_back(self) -> None:
        """Make the file smaller, if much of it is free."""
        ...

    def close(self) -> None:
        """Close the file. May be called twice."""
        ...
