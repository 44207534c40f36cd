"""Alarm: the one thread of an engine that wakes what waits, when it is due. No waiting step has a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from durable.errors import StoreError
from durable.parallel.threads import is_process_ending, start_thread
from durable.values.instants import as_text
from durable.waiting.clock import Clock

LOOK_SECONDS = 0.05  # how often it looks whether another process has written to the file
LOOKS = 20  # after which it asks for all that is due, changed or not
REST = 9  # a slow look is followed by a rest this many times as long: with 10,000 waits it must not look at each ring
REST_SECONDS = 0.2  # at most
INSTANT_SECONDS = 0.002

Place = tuple[str, str]  # workflow id and step key


class Due(Protocol):
    """The place where waits are kept, as the alarm asks it."""

    def list_due(self, at: str) -> list[Place]:
        """Return the waits that have come to their end."""
        ...

    def find_next_instant(self, after: str) -> str | None:
        """Return when the next timer is due, of any workflow."""
        ...

    def data_version(self) -> int:
        """Return a number that changes whenever something was committed elsewhere."""
        ...


class Idle(Protocol):
    """A run of a workflow, all that an engine suspends."""

    def is_idle(self) -> bool:
        """Return whether nothing goes on in it until something that it waits for has come."""

    def leave(self, reason: str) -> object:
        """Interrupt what waits, if nothing else goes on."""


class Alarm:
    """Starts with the first wait, and sleeps until an instant has come or the file has changed.

    If `on_look` is set, it is called with two things: the suspended workflows, which have due waits and set none here;
    and whether the file may have been written to since the last call. Now and then that is True anyway.
    """

    def __init__(self, waits: Due, clock: Clock, on_look: Callable[[set[str], bool], object] | None = None) -> None:
        self.waits, self.clock = waits, clock
        self.runs: set[Idle] = set()  # these have to be idle before time may be skipped
        self.on_look = on_look
        self._set: dict[Place, tuple[datetime | None, Callable[[], object]]] = {}
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._is_over = False

    def set(self, place: Place, instant: datetime | None, wake: Callable[[], object]) -> None:
        """Call `wake` once, in the alarm's thread, when the wait of this place is due. It must not block."""
        with self._lock:
            self._set[place] = (instant, wake)
        self.start()
        if self._is_over:
            self._wake(place)

    def take(self, place: Place) -> bool:
        """Take a wait out. Return False if it has been woken, or taken out, before."""
        with self._lock:
            return self._set.pop(place, None) is not None

    def start(self) -> None:
        """Make sure that the thread runs, and looks now. Raises NoThreadError."""
        with self._lock:
            self._bell.set()
            if self._thread is None and not self._stopped.is_set():
                self._thread = start_thread("alarm", self._watch)

    def ring(self) -> None:
        """Look now: this process has written something for which a workflow may wait."""
        self._bell.set()

    def wait_for_change(self) -> None:
        """Return when the file may have changed, or after a short while. For callers that look again and again."""
        self.clock.wait(threading.Event(), None, LOOK_SECONDS, self._is_idle)

    def stop(self) -> None:
        """End the thread: no wait is woken any more."""
        with self._lock:
            self._stopped.set()
            thread = self._thread
            self._bell.set()
        if thread is not None:
            thread.join()

    def end(self) -> None:
        """Wake all waits, also those that are set from now on: the file is closed, and their runs get that error."""
        self._is_over = True
        self._wake_all()

    # ---- the thread

    def _watch(self) -> None:
        before, is_instant, is_broken = -1, False, False
        while self._is_needed():
            try:
                began_at = time.perf_counter()
                if was_rung := self._bell.is_set():  # a ring from here on is heard by the next look
                    self._bell.clear()
                version = self.waits.data_version()
                now = self.clock.now()
                due = dict.fromkeys([*self.waits.list_due(as_text(now)), *self._list_past(now)])
                elsewhere = {place[0] for place in due if not self._wake(place)}
                if (on_look := self.on_look) is not None:
                    on_look(elsewhere, was_rung or version != before or not is_instant)
                before, is_broken = version, False
                self._rest(time.perf_counter() - began_at)
                is_instant = self._sleep(version)
                if is_process_ending():  # it is not held up by workflows that only wait
                    for run in list(self.runs):
                        run.leave("the process ended while it waited")
            except StoreError:
                if not is_broken:
                    logging.getLogger("durable").exception("the alarm cannot look for what is due, and tries again")
                is_broken, before = True, -1
                self._wake_all()  # the runs that wait here will meet the same error, and report it
                self._stopped.wait(LOOKS * LOOK_SECONDS)

    def _is_needed(self) -> bool:
        with self._lock:
            needed = not self._stopped.is_set() and (bool(self._set) or self.on_look is not None)
            if not needed:
                self._thread = None
            return needed

    def _list_past(self, now: datetime) -> list[Place]:
        """Return the waits that are due by their instant alone: a row may be gone if a newer run has taken over."""
        with self._lock:
            return [place for place, (instant, _) in self._set.items() if instant is not None and instant <= now]

    def _wake(self, place: Place) -> bool:
        with self._lock:
            _, wake = self._set.pop(place, (None, None))
        if wake is not None:
            wake()
        return wake is not None

    def _wake_all(self) -> None:
        with self._lock:
            waiting, self._set = self._set, {}
        for _, wake in waiting.values():
            wake()

    def _rest(self, looked_seconds: float) -> None:
        if (beyond := looked_seconds - INSTANT_SECONDS) > 0:
            self._stopped.wait(min(REST * beyond, REST_SECONDS))

    def _sleep(self, version: int) -> bool:
        """Sleep until something has changed, at most a second; or until the next instant, and then return True."""
        now = self.clock.now()
        until = self._next_instant(now)
        for _ in range(LOOKS):
            self.clock.wait(self._bell, until, LOOK_SECONDS, self._is_idle)
            if self._bell.is_set() or is_process_ending() or self.waits.data_version() != version:
                break
            if until is not None and self.clock.now() >= until:
                return True
        return False

    def _is_idle(self) -> bool:
        return all(run.is_idle() for run in list(self.runs))

    def _next_instant(self, now: datetime) -> datetime | None:
        with self._lock:
            instants = [instant for instant, _ in self._set.values() if instant is not None]
        if self.on_look is not None and (text := self.waits.find_next_instant(as_text(now))) is not None:
            instants.append(datetime.fromisoformat(text))
        return min(instants, default=None)
