"""Backend: the place where workflows are kept and run, as an engine uses it. It serves all that outlives a run.

There are two: `LocalBackend` runs workflows in this process, on what a `Records` keeps, and `durable.on_dbos.backend`
has DBOS run them. A capability that only one of them has is a protocol of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from durable.errors import NotSupportedError
from durable.parallel.loop import EventLoop
from durable.recovery.handle import Handle
from durable.recovery.registry import Registry
from durable.replay.keys import check_id, check_message_key, check_name
from durable.store.records import ProgressRecord, Published, Reader, RunRecord
from durable.values import codec

if TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.recovery.recover import Recovery
    from durable.values.large import Freed, LargeValues


@runtime_checkable
class RunReader(Protocol):
    """A reader of records that keep each run."""

    def runs(self, workflow_id: str) -> list[RunRecord]:
        """Return the runs of a workflow, oldest first."""
        ...

    def owner(self, workflow_id: str) -> int | None:
        """Return the pid of the process that runs a workflow now, or None."""
        ...


class Backend(Protocol):
    """The place that keeps and runs the workflows of one engine. Safe to use from any thread."""

    path: Path
    event_loop: EventLoop
    registry: Registry

    @property
    def reader(self) -> Reader:
        """The stored workflows, to look at."""
        ...

    def run(self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a workflow to its end and return its value."""
        ...

    def start(
        self,
        workflow_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        anew: bool = True,
    ) -> Handle[Any]:
        """Run a workflow in the background. `anew` says whether one that has failed is tried anew."""
        ...

    def recover(self, max_crashes: int | None, executor_ids: Sequence[str]) -> Recovery:
        """Resume what dead processes have left."""
        ...

    def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow and its children."""
        ...

    def send(self, workflow_id: str, event: str, value: str, key: str | None) -> bool:
        """Leave a message. Return whether it is kept: of several with the same key only the first is."""
        ...

    def watch(self, workflow_id: str, *, progress: bool) -> Iterator[Published | ProgressRecord]:
        """Yield what a workflow has published and goes on to publish, until it ends; and its progress."""
        ...

    def fork(self, workflow_id: str, new_id: str, at: str) -> None:
        """Make a new workflow of the outcomes before a step."""
        ...

    def delete(self, workflow_id: str) -> None:
        """Delete a workflow and its children."""
        ...

    def collect(self) -> Freed:
        """Drop the large values that no row names."""
        ...

    def delete_ended(self, workflow_ids: list[str]) -> int:
        """Delete those of the workflows that have ended, with children that have. Return how many."""
        ...

    def give_space_back(self) -> None:
        """Make the database smaller, if much of it is free."""
        ...

    def get_value(self, sha256: str, subject: object = None) -> tuple[bytes, list[memoryview]]:
        """Read a large value that a row names. Raises CorruptionError if it is missing or was changed."""
        ...

    def values_for(self, workflow_id: str) -> LargeValues:
        """Return the large values of a call or a message that is to be sent to a workflow."""
        ...

    def interrupt_started(self, reason: str) -> None:
        """Let nothing more begin of the workflows that were started here."""
        ...

    def wait_for_started(self) -> None:
        """Wait until the workflows that were started here have ended."""
        ...

    def stop(self, timeout_seconds: float | None, reason: str) -> bool:
        """Let nothing more begin, and wait for the steps in flight. Return whether they have ended in time."""
        ...

    def close(self) -> None:
        """End the threads and leave the database. May be called twice."""
        ...


@runtime_checkable
class Rewinding(Protocol):
    """A backend that can take rows back."""

    def rewind(self, workflow_id: str, to: str | None) -> None:
        """Take back all that is recorded from a step on; without one, the failed steps and what followed them."""
        ...

    def restart(self, workflow_id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take back all that is recorded, and note another call. Nothing is run."""
        ...


def not_supported(operation: str, workflow_id: str, backend: Backend) -> NotSupportedError:
    """Return the error that a backend has no such capability, with what it says instead."""
    why = getattr(backend, "lacks", {}).get(operation, "its backend cannot do this")
    return NotSupportedError(f"workflow {workflow_id!r}: {operation} is not supported: {why}", operation=operation)


def encode_message(
    workflow_id: str,
    event: str,
    value: Any,
    type: Any,
    key: str | None,
    values_for: Callable[[str], LargeValues] | None = None,
) -> str:
    """Return the text of a message's value. Raises InvalidNameError or SerializationError."""
    check_id(workflow_id)
    check_name(event)
    check_message_key(event, key)
    subject = f"message {event!r} to {workflow_id!r}: its value"
    put = None if values_for is None else lambda head, buffers: values_for(workflow_id).put(head, buffers)
    return codec.codec_of_value(value, type, subject).encode(value, subject, put)
