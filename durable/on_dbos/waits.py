"""Waits: what `waits.py` is on a file, for all runs of one engine on DBOS.

A message is taken out of DBOS's mailbox by a coroutine on the engine's event loop, which holds no thread, and recorded
there. It belongs to a step only once a row of that step names it: what a crash leaves between the two is in the record,
and the next step that waits for such a message receives it.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable
from typing import Any

from dbos import DBOS

from durable.future import Future
from durable.on_dbos.checkpoints import Checkpoints
from durable.on_dbos.rows import MessageRow
from durable.on_dbos.slots import NotOurs
from durable.store import NewStep
from durable.waits import Message, Wait
from durable.workers import EventLoop, Spawned

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
        self._receiving: dict[str, Spawned] = {}

    def wait(self, key: str, event: str) -> None:
        """A step waits: make sure that somebody listens."""
        with self._lock:
            self._waiting[key] = event
            if event not in self._receiving:
                self._receiving[event] = self._store.slots.run_here(lambda: self._begin_to_receive(event))

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
        with self._lock:
            receiving, self._receiving = self._receiving, {}
        for each in receiving.values():
            self._loop.call(each.stop)

    def _begin_to_receive(self, event: str) -> Spawned:
        spawned = Spawned(self._receive(event), Future(), contextvars.copy_context(), lambda _: None)
        self._loop.spawn(spawned)
        return spawned

    async def _receive(self, event: str) -> None:
        try:
            while self._is_awaited(event):
                drawn = self._store.slots.draw_first(DBOS.recv_async(event, RECEIVE_SECONDS))
                with self._store.slots.refusals():
                    row = await drawn
                if isinstance(row, MessageRow):
                    with self._lock:
                        self._messages[next(self._numbers)] = row
                    self._on_change()
        except NotOurs:
            self._store.lost = True
        self._on_change()

    def _is_awaited(self, event: str) -> bool:
        with self._lock:
            there = sum(row.event == event for row in self._messages.values())
            wanted = sum(each == event for each in self._waiting.values())
            if wanted <= there:
                self._receiving.pop(event, None)
            return wanted > there


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

    # ---- what a run, and the alarm, ask of the waits

    def begin(self, workflow_id: str, _: int, step: NewStep, wait: Wait) -> tuple[str | None, bool] | None:
        """See `durable.waits.Waits.begin`."""
        store, mailbox = self._runs[workflow_id]
        row = store.find_begun(step.step_key)
        is_new = row is None
        if row is None:
            row = _waiting(store.new_row(step), wait)
            if not store.begin(row):
                return None
        if wait.event is not None:
            mailbox.wait(step.step_key, wait.event)
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


def _waiting(row: Any, wait: Wait) -> Any:
    import msgspec

    return msgspec.structs.replace(row, wake_at=wait.wake_at, event=wait.event, child_id=wait.child_id)
