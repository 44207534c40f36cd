"""Mailbox: the messages of one run on DBOS.

A message is taken out of DBOS's mailbox by a coroutine on the engine's event loop, which holds no thread, and recorded
there. It belongs to a step only once a row of that step names it: what a crash leaves between the two is in the record,
and the next step that waits for such a message receives it.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from dbos import DBOS

from durable.on_dbos.store.messages import TOPIC
from durable.on_dbos.store.rows import MessageRow
from durable.parallel.future import Future, wait
from durable.parallel.loop import EventLoop
from durable.replay.log import Message

if TYPE_CHECKING:
    from durable.on_dbos.replay.log import DBOSLog
    from durable.on_dbos.replay.run import DBOSRun

RECEIVE_SECONDS = 86400.0  # after which an empty mailbox is asked anew


class Mailbox:
    """The messages of one run that no step has received, and the steps that wait for one."""

    on_error: Callable[[BaseException], object] = staticmethod(lambda _: None)  # gets an error of receiving

    def __init__(
        self, log: DBOSLog, messages: Iterable[MessageRow], loop: EventLoop, on_change: Callable[[], object]
    ) -> None:
        self._log, self._loop, self._on_change = log, loop, on_change
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._messages: dict[int, MessageRow] = {next(self._numbers): row for row in messages}
        self._claimed: dict[int, MessageRow] = {}
        self._waiting: dict[str, str] = {}  # step key -> event
        self._receiving: Future[None] | None = None

    def wait(self, key: str, event: str) -> None:
        """Make sure that a thread listens: a step waits."""
        with self._lock:
            self._waiting[key] = event
            if self._receiving is None:
                self._receiving = self._log.slots.run_here(self._begin_to_receive)

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
        while isinstance(
            self._log.attempt(lambda: self._log.slots.draw_within(lambda: DBOS.recv(TOPIC, 0))), MessageRow
        ):
            continue

    def _begin_to_receive(self) -> Future[None]:
        receiving: Future[None] = Future()
        self._loop.spawn(self._receive(), receiving, contextvars.copy_context())
        return receiving

    async def _receive(self) -> None:
        try:
            while self._is_awaited():
                drawn = self._log.slots.draw_first(DBOS.recv_async(TOPIC, RECEIVE_SECONDS))
                with self._log.slots.refusals():
                    row = await drawn
                if isinstance(row, MessageRow):
                    with self._lock:
                        self._messages[next(self._numbers)] = row
                    self._on_change()
        except Exception as error:
            self.on_error(error)

    def _is_awaited(self) -> bool:
        """Return whether a step waits for which there is nothing yet; if not, no thread listens from here on."""
        with self._lock:
            there = Counter(row.event for row in self._messages.values())
            is_awaited = bool(Counter(self._waiting.values()) - there)
            if not is_awaited:
                self._receiving = None
            return is_awaited


class Mailboxes:
    """Those of the runs of one engine, as the alarm asks for what is due. No workflow waits without a run."""

    def __init__(self, runs: Mapping[str, DBOSRun], ring: Callable[[], object]) -> None:
        """`runs` are those that are open now, by workflow id; `ring` has the alarm look."""
        self._runs, self._ring = runs, ring
        self._version = 0

    def list_due(self, _: str) -> list[tuple[str, str]]:
        """Return the waits, as workflow id and step key, for which a message is there."""
        return [(each, key) for each, run in dict(self._runs).items() for key in run.dbos_log.mailbox.list_due()]

    def find_next_instant(self, _: str) -> str | None:
        """Return None: every instant is set in the alarm."""
        return None

    def data_version(self) -> int:
        """Return a number that changes whenever a message has come."""
        return self._version

    def change(self) -> None:
        """Note that a message has come."""
        self._version += 1
        self._ring()
