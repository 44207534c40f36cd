"""The rows that are stored in DBOS, as JSON that a person can read: outcomes of steps, messages, ends of workflows.

A step of DBOS has a number and a name. Its name is our step key, and that alone is its identity: the number is a free
place. So a step has one row for each time that something of it was saved; `Record` tells from them how it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from durable.replay.log import Checkpoint
from durable.replay.step import Outcome
from durable.store.records import StepRecord, WaitRecord
from durable.values.codec import checksum

NOTHING = msgspec.Raw(b"null")


class Row(msgspec.Struct, frozen=True, tag_field="durable"):
    """One of ours: its JSON begins with `{"durable":`."""


class StepRow(Row, frozen=True, tag="step", omit_defaults=True):
    """A try of a step that has ended; or `running`: a wait that has begun. `run` numbers the lives of the workflow."""

    key: str
    name: str
    kind: str
    position: int
    attempt: int
    run: int
    status: str
    started_at: str
    thread: str
    fingerprint: str | None = None
    ended_at: str | None = None
    checksum: int | None = None
    wake_at: str | None = None  # until when it waits; of one that failed, when it is tried again
    event: str | None = None  # what it waits for
    child_id: str | None = None
    message: str | None = None  # which it has received
    output: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING

    def ended(self, outcome: Outcome, **more: Any) -> StepRow:
        """Return the same try with its outcome."""
        output, error = outcome.output, outcome.error
        return msgspec.structs.replace(
            self,
            status=outcome.status,
            ended_at=outcome.ended_at,
            checksum=checksum(self.key, outcome.status, output, error),
            output=NOTHING if output is None else msgspec.Raw(output.encode()),
            error=NOTHING if error is None else msgspec.Raw(error.encode()),
            **more,
        )

    @property
    def output_text(self) -> str | None:
        """Its output as JSON."""
        return bytes(self.output).decode() if self.status == "completed" else None

    @property
    def error_text(self) -> str | None:
        """Its error as JSON."""
        return bytes(self.error).decode() if self.status == "failed" else None

    def checkpoint(self) -> Checkpoint:
        """As the replay rule knows it."""
        return Checkpoint(
            self.key,
            self.status,
            self.output_text,
            self.kind,
            self.attempt,
            self.run,
            self.fingerprint,
            self.error_text,
            self.checksum,
        )

    def step_record(self, workflow_id: str, superseded_by: int | None = None) -> StepRecord:
        """As people and programs read it."""
        return StepRecord(
            workflow_id=workflow_id,
            step_key=self.key,
            status=self.status,
            output=self.output_text,
            name=self.name,
            kind=self.kind,
            position=self.position,
            attempt=self.attempt,
            epoch=self.run,
            fingerprint=self.fingerprint,
            error=self.error_text,
            started_at=datetime.fromisoformat(self.started_at),
            ended_at=None if self.ended_at is None else datetime.fromisoformat(self.ended_at),
            thread=self.thread,
            superseded_by=superseded_by,
        )

    def wait_record(self, workflow_id: str) -> WaitRecord:
        """Return what it waits for."""
        wake_at = None if self.wake_at is None else datetime.fromisoformat(self.wake_at)
        return WaitRecord(workflow_id, self.key, wake_at, self.event, self.child_id)


class SupersededRow(Row, frozen=True, tag="superseded"):
    """The steps that a run has put aside: the code no longer asks for them; or they failed it, for the next run."""

    keys: list[str]
    run: int
    has_failed: bool


class MessageRow(Row, frozen=True, tag="message"):
    """A message to a workflow, as its sender has left it."""

    id: str
    event: str
    value: msgspec.Raw


class OutcomeRow(Row, frozen=True, tag="outcome"):
    """The result of a workflow."""

    output: msgspec.Raw


class ErrorRow(Row, frozen=True, tag="error"):
    """The error that ended a workflow, as `failure.py` writes it."""

    error: msgspec.Raw


AnyRow = StepRow | SupersededRow | MessageRow | OutcomeRow | ErrorRow


class Record:
    """How the steps of a workflow stand, read from all rows in the order of their numbers."""

    def __init__(self, rows: Iterable[AnyRow]) -> None:
        self.steps: dict[str, StepRow] = {}
        self.attempts: list[tuple[StepRow, int]] = []  # the tries that a later one superseded, and in which run
        self.messages: dict[str, MessageRow] = {}  # taken out of the mailbox, and received by no step
        self.last_run = 0
        self.last_failed_run = 0
        self._to_retry: SupersededRow | None = None  # the steps that failed the workflow, until it is run again
        self._received: set[str | None] = set()
        for row in rows:
            if isinstance(row, StepRow | SupersededRow) and row.run > self.last_run:
                self.begin_run()
            if isinstance(row, StepRow):
                self._add(row)
                self._received.add(row.message)
            elif isinstance(row, SupersededRow):
                self._put_aside(row)
            elif isinstance(row, MessageRow):
                self.messages[row.id] = row
        self.messages = {each: row for each, row in self.messages.items() if each not in self._received}

    def has_message(self, message_id: str) -> bool:
        """Return whether this message was taken out of the mailbox, by a step or not yet."""
        return message_id in self._received or message_id in self.messages

    def list_tries(self) -> list[tuple[str, int, bool, int]]:
        """See `Log.list_tries`."""
        tries: dict[str, tuple[str, int, bool, int]] = {}
        for row, _ in self.attempts:
            _, count, has_failed, before = tries.get(row.key, (row.key, 0, False, 0))
            if row.run <= self.last_failed_run:
                before = max(before, row.attempt)
            tries[row.key] = (row.key, max(count, row.attempt), has_failed or row.status == "failed", before)
        return list(tries.values())

    def list_waiting(self) -> dict[str, str | None]:
        """The keys of the steps that wait, for something or for their next try, and until when."""
        return {
            key: row.wake_at for key, row in self.steps.items() if row.status == "running" or row.wake_at is not None
        }

    def _add(self, row: StepRow) -> None:
        self.last_run = max(self.last_run, row.run)
        before = self.steps.get(row.key)
        if before is not None and before.attempt < row.attempt:
            self.attempts.append((before, row.run))
        self.steps[row.key] = row

    def is_undone(self) -> bool:
        """Return whether it has failed and what it had done was undone, at least in part: that is final."""
        return any(row.kind == "compensation" for row in self.steps.values())

    def begin_run(self) -> None:
        """The workflow is run again: what failed it last time is to be tried anew."""
        if self._to_retry is not None:
            self._supersede(self._to_retry.keys, self._to_retry.run + 1)
            self._to_retry = None

    def _put_aside(self, row: SupersededRow) -> None:
        self.last_run = max(self.last_run, row.run)
        if row.has_failed:
            self.last_failed_run, self._to_retry = row.run, row
        else:
            self._supersede(row.keys, row.run)

    def _supersede(self, keys: Iterable[str], run: int) -> None:
        self.attempts += [(self.steps.pop(key), run) for key in keys if key in self.steps]
