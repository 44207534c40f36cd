"""Waits: what is due in the runs of one engine on DBOS, as the alarm asks for it."""

from __future__ import annotations

from collections.abc import Callable

from durable.on_dbos.log import DBOSLog


class Waits:
    """The logs of the runs that are open here. No workflow waits without a run."""

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring
        self._logs: dict[str, DBOSLog] = {}
        self._version = 0

    def open(self, log: DBOSLog) -> None:
        """Note that a run begins."""
        self._logs[log.workflow_id] = log

    def close(self, workflow_id: str) -> None:
        """Note that it has ended."""
        if (log := self._logs.pop(workflow_id, None)) is not None:
            log.mailbox.close()

    def list_due(self, _: str) -> list[tuple[str, str]]:
        """Return the waits, as workflow id and step key, for which a message is there."""
        return [(each, key) for each, log in list(self._logs.items()) for key in log.mailbox.list_due()]

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
