"""Waits: what `waits.py` is on a file, for all runs of one engine on DBOS.

A message is taken out of DBOS's mailbox by a coroutine on the engine's event loop, which holds no thread, and recorded
there. It belongs to a step only once a row of that step names it: what a crash leaves between the two is in the record,
and the next step that waits for such a message receives it.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections import Counter
from collections.abc import Callable

import msgspec
from dbos import DBOS

from durable.on_dbos.checkpoints import Checkpoints
from durable.on_dbos.rows import MessageRow, StepRow
from durable.on_dbos.slots import NotOurs
from durable.parallel.future import Future, wait
from durable.parallel.loop import EventLoop
from durable.store.step_row import NewStep
from durable.store.waits import Message, Wait

TOPIC = "durable"  # of all messages, whatever they are about, so that a run can empty its mailbox
RECEIVE_SECONDS = 86400.0  # after which an empty mailbox is asked anew


class Mailbox:
    """The messages of one run that no step has received, and the steps that wait for one."""

    def __init__(self, store: Checkpoints, loop: EventLoop, on_change: Callable[[], object]) -> None:
        self._store, self._loop, self._on_change = store, loop, on_change
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._messages: dict[int, MessageRow] = {next(self._numbers): row for row in store.record.messages.values()}
        self._claimed: dict[int, MessageRow] = {}
        self._waiting: dict[str, str] = {}  # step key -> event
        self._receiving: Future[None] | None = None

    def wait(self, key: str, event: str) -> None:
        """A step waits: make sure that somebody listens."""
        with self._lock:
            self._waiting[key] = event
            if self._receiving is None:
                self._receiving = self._store.slots.run_here(self._begin_to_receive)

    def find(self, event: str) -> Message | None:
        """The oldest that no step has."""
        with self._lock:
            for number, row in self._messages.items():
                if row.event == event:
                    return Message(number, bytes(row.value).decode())
            return None

    def claim(self, number: int) -> str | None:
        """Take a message for a step; its id, or None where another was quicker."""
        with self._lock:
            row = self._messages.pop(number, None)
            if row is not None:
                self._claimed[number] = row
            return None if row is None else row.id

    def put_back(self, number: int) -> None:
        """The step could not be saved."""
        with self._lock:
            self._messages[number] = self._claimed.pop(number)

    def end_wait(self, key: str) -> None:
        """A step waits no more."""
        with self._lock:
            self._waiting.pop(key, None)

    def list_due(self) -> list[str]:
        """The steps for which a message is there."""
        with self._lock:
            there = {row.event for row in self._messages.values()}
            return [key for key, event in self._waiting.items() if event in there]

    def close(self) -> None:
        """Listen no more."""
        if (receiving := self._receiving) is not None:
            self._loop.cancel([receiving])
            wait([receiving])

    def drain(self) -> None:
        """Record all messages that are there: as a failed workflow is run again, DBOS forgets those that are not."""
        self.close()
        while self._store.attempt(lambda: self._store.slots.draw_within(lambda: DBOS.recv(TOPIC, 0)), _is_message):
            continue

    def _begin_to_receive(self) -> Future[None]:
        receiving: Future[None] = Future()
        self._loop.spawn(self._receive(), receiving, contextvars.copy_context())
        return receiving

    async def _receive(self) -> None:
        try:
            while self._is_awaited():
                drawn = self._store.slots.draw_first(DBOS.recv_async(TOPIC, RECEIVE_SECONDS))
                with self._store.slots.refusals():
                    row = await drawn
                if isinstance(row, MessageRow):
                    with self._lock:
                        self._messages[next(self._numbers)] = row
                    self._on_change()
        except Exception as error:
            self._store.lost = isinstance(error, NotOurs)
            self._store.on_error(error)

    def _is_awaited(self) -> bool:
        """Whether a step waits for which there is nothing yet; if not, nobody listens from here on."""
        with self._lock:
            there = Counter(row.event for row in self._messages.values())
            is_awaited = bool(Counter(self._waiting.values()) - there)
            if not is_awaited:
                self._receiving = None
            return is_awaited


class Waits:
    """Of all runs of an engine."""

    def __init__(self, loop: EventLoop, ring: Callable[[], object]) -> None:
        self._loop, self._ring = loop, ring
        self._runs: dict[str, tuple[Checkpoints, Mailbox]] = {}
        self._version = 0

    def open(self, store: Checkpoints) -> None:
        """A run begins."""
        self._runs[store.workflow_id] = (store, Mailbox(store, self._loop, self._change))

    def close(self, workflow_id: str) -> None:
        """It has ended."""
        if (found := self._runs.pop(workflow_id, None)) is not None:
            found[1].close()

    def drain(self, workflow_id: str) -> None:
        """See `Mailbox.drain`."""
        self._runs[workflow_id][1].drain()

    # ---- what a run, and the alarm, ask of the waits

    def begin(self, workflow_id: str, _: int, step: NewStep, wait_row: Wait) -> tuple[str | None, bool] | None:
        """See `durable.waits.Waits.begin`."""
        store, mailbox = self._runs[workflow_id]
        row = store.find_begun(step.step_key)
        is_new = row is None
        if row is None:
            row = _waiting(store.new_row(step), wait_row)
            if not store.begin(row):
                return None
        if wait_row.event is not None:
            mailbox.wait(step.step_key, wait_row.event)
        return row.wake_at, is_new

    def end(
        self,
        workflow_id: str,
        _: int,
        status: str,
        output: str | None,
        error: str | None,
        at: str,
        step_key: str,
        message_id: int | None,
    ) -> bool:
        """See `durable.waits.Waits.end`."""
        store, mailbox = self._runs[workflow_id]
        message = None if message_id is None else mailbox.claim(message_id)
        if message_id is not None and message is None:
            return False
        begun = store.find_begun(step_key)
        assert begun is not None, step_key
        if not store.save(begun.ended(status, output, error, at, wake_at=None, message=message)):
            if message_id is not None:
                mailbox.put_back(message_id)
            return False
        mailbox.end_wait(step_key)
        return True

    def find_message(self, workflow_id: str, event: str) -> Message | None:
        """The oldest message that no step has received."""
        return self._runs[workflow_id][1].find(event)

    def list_instants(self, workflow_id: str) -> dict[str, str | None]:
        """The step keys that wait, and until when."""
        return self._runs[workflow_id][0].record.list_waiting()

    def list_due(self, _: str) -> list[tuple[str, str]]:
        """The waits that have come to their end, instants aside."""
        return [(each, key) for each, (_, mailbox) in list(self._runs.items()) for key in mailbox.list_due()]

    def find_next_instant(self, _: str) -> str | None:
        """Nobody waits without a run."""
        return None

    def data_version(self) -> int:
        """A number that changes whenever a message has come."""
        return self._version

    def _change(self) -> None:
        self._version += 1
        self._ring()


def _waiting(row: StepRow, wait_row: Wait) -> StepRow:
    wake_at, event, child_id = wait_row
    return msgspec.structs.replace(row, wake_at=wake_at, event=event, child_id=child_id)


def _is_message(row: object) -> bool:
    return isinstance(row, MessageRow)
