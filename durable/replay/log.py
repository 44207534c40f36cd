"""Log: the record of one run. It is the one seam below the replay rule.

There are three logs: the SQLite file (`durable.store.log`), DBOS (`durable.on_dbos.replay.log`), and memory
(`durable.testing.memory`). Each method is durable once it returns, but for `begin`, which survives the death of the
process only. None of them returns whether it succeeded. They raise:

FencedError       a newer run has taken the workflow over; nothing was saved
CancelRequested   the workflow is to be cancelled, and may begin nothing more; nothing was saved
StoreError        the outcome is unknown, and the run must end
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import msgspec

from durable.errors import NotSupportedError
from durable.replay.step import Outcome, Step
from durable.values.codec import checksum

if TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.values.large import LargeValues

Row: TypeAlias = tuple[str, str | None, str | None, int | None, int, str | None]
"""A recorded step, packed: key, output, fingerprint, checksum, epoch; and status, kind, attempt and error as JSON, or
None for a step that completed at its first attempt, as nearly all of a replay did. Each column costs 0.1 us a row."""


_USUAL = ("completed", "step", 1, None)


class Checkpoint(NamedTuple):
    """A recorded step, unpacked."""

    step_key: str
    status: str
    output: str | None
    kind: str
    attempt: int
    epoch: int
    fingerprint: str | None
    error: str | None
    checksum: int | None

    @classmethod
    def of(cls, row: Row) -> Checkpoint:
        """Unpack a row."""
        key, output, fingerprint, stored, epoch, unusual = row
        status, kind, attempt, error = _USUAL if unusual is None else msgspec.json.decode(unusual)
        return cls(key, status, output, kind, attempt, epoch, fingerprint, error, stored)

    def row(self) -> Row:
        """Pack it again."""
        rest = self.status, self.kind, self.attempt, self.error
        unusual = None if rest == _USUAL else msgspec.json.encode(rest).decode()
        return self.step_key, self.output, self.fingerprint, self.checksum, self.epoch, unusual

    def is_intact(self) -> bool:
        """Return whether the stored outcome is what was saved."""
        return self.status == "running" or self.checksum == checksum(
            self.step_key, self.status, self.output, self.error
        )


class Tries(NamedTuple):
    """The superseded attempts of a step."""

    step_key: str
    latest: int  # the number of the latest
    has_failed: bool  # whether one of them failed
    before: int  # how many were made before the workflow last failed


class Log(Protocol):
    """The record of one run. Safe to use from any thread of the run."""

    workflow_id: str
    epoch: int

    @property
    def path(self) -> Path:
        """The file or the database, for messages and `StepInfo.database`."""
        ...

    @property
    def values(self) -> LargeValues:
        """The large values that its rows name, each stored before its row."""
        ...

    # ---- the history

    def read(self) -> Iterator[list[Row]]:
        """Return the recorded steps in pages, about in the order in which they were begun."""
        ...

    def list_tries(self) -> Sequence[tuple[str, int, bool, int]]:
        """Return a `Tries` for each step with superseded attempts."""
        ...

    def list_waiting(self) -> dict[str, str | None]:
        """Return the keys of the steps that an earlier run left waiting, each with its instant if it has one."""
        ...

    # ---- steps

    def begin(self, steps: Sequence[Step]) -> None:
        """Write a running row for each step. An earlier attempt moves to `attempts` in the same transaction."""
        ...

    def end(self, steps: Sequence[Step]) -> None:
        """Save the outcome of each step; one with `wake_at` also has a wait for its next attempt."""
        ...

    def record(self, step: Step) -> None:
        """Write a row together with its outcome: a step without an effect outside, which can never be a zombie."""
        ...

    def supersede(self, step_keys: Sequence[str]) -> None:
        """Move rows to `attempts`: the code took another way after a failed step was tried anew."""
        ...

    # ---- the run

    def check(self) -> None:
        """Raise FencedError or CancelRequested, if one of them holds."""
        ...

    def close(self, ended: str, outcome: Outcome | None = None, reason: str | None = None) -> None:
        """Save how the run ended and why; an outcome is the workflow's, and `ended` its status then."""
        ...


class Wait(NamedTuple):
    """An instant, a message, the end of a child; if several are set, whichever comes first."""

    wake_at: str | None = None
    event: str | None = None
    child_id: str | None = None


class Message(NamedTuple):
    """A message that no step has received. `id` is what `Outcome.message` names."""

    id: Any
    value: str


class WaitingLog(Log, Protocol):
    """A log that keeps waits and messages."""

    def begin_wait(self, step: Step, wait: Wait) -> tuple[str | None, bool]:
        """Write that a step waits, or take over an earlier run's wait. Return its instant, and whether it is new."""
        ...

    def end_wait(self, step: Step) -> bool:
        """Save the outcome of a wait and which message it received. False if another step received the message."""
        ...

    def find_message(self, event: str) -> Message | None:
        """Return the oldest message of this name that no step has received."""
        ...

    def find_end(self, workflow_id: str) -> tuple[str, str | None, str | None] | None:
        """Return how another workflow ended, as status, output and error; None if it has not, or does not exist."""
        ...


class Said(NamedTuple):
    """The progress of a step, by a name. `value` is JSON text. A map has no name, and the key of its first step."""

    step_key: str
    name: str
    value: str
    total: float | None
    attempt: int
    at: str


class ProgressLog(Log, Protocol):
    """A log that shows the progress of running steps."""

    def save_progress(self, said: Sequence[Said], ended: Sequence[str]) -> None:
        """Keep the latest of each step and name, while the run lasts. `ended` are the keys of maps that have ended.

        It need not survive a power cut. Nothing is kept of a run that has ended.
        """
        ...


class TransactingLog(Log, Protocol):
    """A log in a database that users write to as well: it saves a step's effect there together with its outcome."""

    def guard(self, connection: Any, subject: str) -> AbstractContextManager[Any]:
        """Return a block with the connection as the user's function may use it."""
        ...

    def transact(self, step: Step, work: Callable[[Any], Outcome]) -> Outcome:
        """Save a step, what `work` changes in the database, and its outcome, in one transaction.

        The changes of a failed step are undone. An exception out of `work` undoes everything.
        """
        ...


# Each asks the class for one method: isinstance would evaluate every property of the log.


def showing_progress(log: Log) -> ProgressLog | None:
    """Return the log if it shows the progress of running steps, or None."""
    return cast("ProgressLog", log) if hasattr(type(log), "save_progress") else None


def keeping_waits(log: Log) -> WaitingLog:
    """Return the log of a run that waits. Raises NotSupportedError if it keeps no waits."""
    if hasattr(type(log), "begin_wait"):
        return cast("WaitingLog", log)
    raise NotSupportedError(f"workflow {log.workflow_id!r}: its log keeps no waits; run it on a file", operation="wait")


def transacting(log: Log) -> TransactingLog:
    """Return the log of a run with a transactional step. Raises NotSupportedError if it has no such transactions."""
    if hasattr(type(log), "transact"):
        return cast("TransactingLog", log)
    raise NotSupportedError(
        f"workflow {log.workflow_id!r}: ctx.transaction saves into the engine's own SQLite file, and its log is not in "
        f"one (on DBOS there is none); write to a database of your own in a step, with its idempotency key",
        operation="transaction",
    )
