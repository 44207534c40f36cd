"""Room: how many workflows run at once in one process, children among them. One that only waits takes no place.

A run gives its place back while all that is left of it waits, and takes one again before its next step. So a parent
never holds the place that its child needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from durable.replay.run import Run
from durable.waiting.alarm import Alarm
from durable.waiting.waits import Waits

LOOK_SECONDS = 0.1  # how often one that waits for a place looks whether it is to give up


class Room:
    """The places of one engine, by workflow id; any number without a limit. Safe to use from any thread."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._inside: set[str] = set()
        self._changed = threading.Condition(threading.Lock())

    def enter(
        self, workflow_id: str, give_up: Callable[[], object], on_full: Callable[[], object] = lambda: None
    ) -> None:
        """Return once the workflow has a place, or is to give up. If there is none at once, call `on_full` first."""
        if self._limit is None or workflow_id in self._inside:
            return
        with self._changed:
            if self._take(workflow_id):
                return
        on_full()
        while not give_up():
            with self._changed:
                if self._changed.wait_for(lambda: self._take(workflow_id), LOOK_SECONDS):
                    return

    def leave(self, workflow_id: str, condition: Callable[[], bool] = lambda: True) -> None:
        """Give its place back, if the condition holds."""
        if self._limit is None:
            return
        with self._changed:  # so that its next step, which begins once it is not idle any more, takes a place again
            if workflow_id in self._inside and condition():
                self._inside.discard(workflow_id)
                self._changed.notify()

    def _take(self, workflow_id: str) -> bool:
        assert self._limit is not None
        has_room = workflow_id in self._inside or len(self._inside) < self._limit
        if has_room:
            self._inside.add(workflow_id)
        return has_room


class RoomyWaits(Waits):
    """The waits of a run that has a place while it does something."""

    def __init__(self, run: Run, alarm: Alarm, room: Room) -> None:
        super().__init__(run, alarm, suspends=False)
        self._workflow_id, self._room = run.workflow_id, room

    def look(self) -> None:
        """Give the place back if all that is left of the run waits."""
        if self._waiting:
            self._room.leave(self._workflow_id, self.is_idle)
