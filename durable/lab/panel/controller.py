"""Controller: the model behind the panel. It runs, steps, watches and crashes one workflow, and knows no notebook.

It holds nothing that a crash could lose: `state` is read from the database each time. Its methods can be called from
any thread, and return at once; they announce changes through `on_change`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from durable import logs
from durable.dashboard.actions import read_json
from durable.dashboard.rows import Now, Rows, read_rows, state_of
from durable.dashboard.timeline import draw_timeline
from durable.engine import Engine
from durable.errors import DurableError, RunStopped, StoreError
from durable.examples.effects import forget_effects
from durable.lab.panel import cards, story
from durable.lab.panel.gate import Gate
from durable.lab.panel.guess import guess_steps
from durable.lab.panel.restarts import Restarts
from durable.observer import Moment, crash
from durable.recovery.handle import Handle
from durable.store.reader import Reader

NOTICE_SECONDS = 0.3  # time for the last message before the kill to reach the browser
ANNOUNCE_SECONDS = 0.05  # between two states: at most 20 per second
ANNOUNCE_SHARE = 0.2  # at most this share of the time goes into states: those of a long workflow come less often
PANEL_STOPPED = "its panel was closed or started anew"
BEAT_SECONDS = 1.0  # while a step runs or a crash waits, to count their seconds

_open: dict[tuple[Path, str], Controller] = {}
_opening = threading.Lock()


class Controller:
    """One workflow of one database, single-stepped.

    A workflow that an earlier process left unfinished is resumed at once: completed steps are replayed, the rest waits
    for `next_step` or `run_all`. `on_change` gets each new state; `kill` ends the process.
    """

    def __init__(
        self,
        workflow: Callable[..., Any],
        workflow_id: str,
        *,
        db: str | os.PathLike[str] = "workflow.db",
        kwargs: Mapping[str, Any] | None = None,
        on_change: Callable[[dict[str, Any]], object] = lambda _: None,
        kill: Callable[[], object] = crash,
        notice_seconds: float = NOTICE_SECONDS,
        restarts: Restarts | None = None,
    ) -> None:
        self.workflow_id = workflow_id
        self._workflow, self._kwargs = workflow, dict(kwargs or {})
        self._on_change, self._kill, self._notice_seconds = on_change, kill, notice_seconds
        self._restarts = restarts or Restarts.of_this_kernel()
        self._engine = Engine(db, observers=[self._observe])
        self._reader = Reader(self._engine.path)  # looking is no obstacle to the run
        self._guesses = guess_steps(workflow, self._kwargs)
        self._lock = threading.RLock()  # guards the state that the buttons change
        self._telling = threading.Lock()  # states are announced in the order in which they were read
        self._gate = Gate()
        self._handle: Handle[Any] | None = None
        self._replayed: set[str] = set()
        self._armed: tuple[str, str] | None = None
        self._problem: tuple[str, str] | None = None  # a headline and a text
        self._sent: str | None = None  # what became of the latest message
        self._crashing: dict[str, Any] | None = None
        self._crash_at: float | None = None  # a crash that has to wait: its instant on the monotonic clock
        self._first: int | None = None  # where the drawn page begins; None: where the workflow is
        self._shown: str | None = None  # the step whose value is shown in full
        self._opened: frozenset[str] = frozenset()  # the groups whose steps are drawn
        self._is_closed = False
        self._told = 0
        self._changed = threading.Event()
        logs.logger.addFilter(self._is_news)
        self._take_over()
        threading.Thread(target=self._announce, name="panel", daemon=True).start()

    def open(self) -> None:
        """Show what is recorded, and resume what was left unfinished."""
        rows = self._read()
        if rows.is_unfinished and rows.owner is None:
            self._start()
        self.tell()

    def close(self) -> None:
        """End the run and let the workflow go. The steps in flight end first."""
        with self._lock:
            self._stop()
            with self._telling:
                if not self._is_closed:
                    self._is_closed = True
                    self._told += 1
                    self._on_change(self.state())
            self._changed.set()
            logs.logger.removeFilter(self._is_news)
            self._engine.close()
            self._reader.close()

    # ---- the buttons

    def handle(self, message: Mapping[str, Any]) -> None:
        """Handle a click, as the page sends it.

        `do` is next, all, crash or reset; arm, with `step` and `moment`; show, with `step`; open, with `group`;
        look, with `first`; send, with `event` and `text`, which is JSON.
        """
        match message.get("do"):
            case "next":
                self.next_step()
            case "all":
                self.run_all()
            case "crash":
                self.crash_now()
            case "reset":  # it waits for the step in flight, and the page should not
                threading.Thread(target=self.reset, name="reset", daemon=True).start()
            case "arm":
                self.arm(message.get("step"), message.get("moment") or "executed")
            case "show":
                self.show(message.get("step"))
            case "open":
                self.open_group(message["group"])
            case "look":
                self.look(message.get("first"))
            case "send":
                self.send(message["event"], message["text"])

    def next_step(self) -> None:
        """Let one step run, and start or resume the workflow if needed."""
        with self._lock:
            if self._start():
                self._gate.let_one()
        self.tell()

    def run_all(self) -> None:
        """Let everything run to the end."""
        with self._lock:
            if self._start():
                self._gate.open()
        self.tell()

    def crash_now(self) -> None:
        """Kill this process, after notifying the page; later, if Jupyter would not start the kernel again now."""
        if self._restarts.seconds_to_wait() > 0:
            threading.Thread(target=self._crash, args=(self._tell_where,), name="crash", daemon=True).start()
        else:
            self._crash(self._tell_where)

    def arm(self, step: str | None, moment: str = "executed") -> None:
        """Crash when a step, by name or key, reaches started, executed or checkpointed; None disarms."""
        if moment not in story.WHERE:
            raise ValueError(f"crash point {step}:{moment}: a step has the moments {', '.join(story.WHERE)}")
        with self._lock:
            self._armed = (step, moment) if step else None
        self.tell()

    def show(self, step: str | None) -> None:
        """Show all records of a step, or hide them."""
        self._shown = step
        self.tell()

    def open_group(self, key: str) -> None:
        """Draw each step of a group, or only the group again, on the same page. Its key is that of its first step."""
        first = self._choose_page(self._read(), self._now()).first
        self._first, self._opened = None if key in self._opened else first, self._opened ^ {key}
        self.tell()

    def look(self, first: int | None) -> None:
        """Draw the page that begins with this step, counted from 0; None follows the workflow."""
        self._first = first
        self.tell()

    def send(self, event: str, text: str) -> None:
        """Leave a message for the workflow: the JSON of its value."""
        try:
            self._engine.send(self.workflow_id, event, read_json(text))
            self._sent = f"The message for {event!r} is on record."
        except (DurableError, ValueError) as error:
            self._sent = f"It was not sent: {error}"
        self.tell()

    def reset(self) -> None:
        """Forget the workflow, and its lines in the effects log of the examples: the demonstration begins anew.

        A real world cannot be reset; outside of a demonstration, use a new workflow id.
        """
        with self._lock:
            self._stop()
            self._armed = self._problem = self._first = self._shown = self._sent = None
            try:
                if self._engine.find_workflow(self.workflow_id) is not None:
                    self._engine.delete(self.workflow_id)
                forget_effects(self._engine.path, self.workflow_id)
            except DurableError as error:
                self._problem = "It was not reset.", str(error)
        self.tell()

    # ---- the state

    def state(self) -> dict[str, Any]:
        """Return all that the panel shows, as plain JSON values; for a long workflow, one page of its steps."""
        rows, now = self._read(), self._now()
        page = self._choose_page(rows, now)
        return {
            "workflow": getattr(self._workflow, "__name__", str(self._workflow)),
            "workflow_id": self.workflow_id,
            "database": self._engine.path.name,
            "pid": now.pid,
            "status": rows.workflow.status if rows.workflow is not None else "new",
            "lives": cards.list_lives(rows, now.pid),
            "columns": cards.draw_columns(page, rows, now, self._guesses),
            "page": page.describe() | {"follows": self._first is None},
            "progress": story.tell_progress(rows, now, datetime.now(UTC)),
            "sentence": asdict(story.tell(rows, now, self._guesses)),
            "foretold": story.foretell(rows, now),
            "saved": story.tell_saved(rows),
            "ran": story.count_ran(rows),
            "timeline": draw_timeline(rows, datetime.now(UTC)),
            "rows": cards.list_rows(rows.steps, page, rows.at_crash),
            "rows_at_crash": cards.list_rows(rows.at_crash, page) if rows.at_crash is not None else None,
            "value": cards.tell_value(rows, self._shown, self._reader) if self._shown else None,
            "awaited": story.list_awaited(rows),
            "sent": self._sent,
            "armed": list(self._armed) if self._armed else None,
            "can_run": not rows.is_final and not (self._gate.is_open and self._is_running()),
            "crash": self._crashing,
            "crash_waits": now.crash_in_seconds is not None,
            "closed": self._is_closed,
            "told": self._told,  # each state differs from the one before, so that the page notices the answer
        }

    def tell(self) -> None:
        """Announce the state as it is now."""
        with self._telling:
            if not self._is_closed:
                self._told += 1
                self._on_change(self.state())

    # ---- within

    def _read(self) -> Rows:
        return read_rows(self._reader, self.workflow_id)

    def _choose_page(self, rows: Rows, now: Now) -> cards.Page:
        return cards.choose_page(cards.list_entries(rows, now, self._guesses), self._first, self._opened)

    def _now(self) -> Now:
        waits = None if self._crash_at is None else max(0.0, self._crash_at - time.monotonic())
        return Now(
            os.getpid(),
            self._gate.waiting,
            self._replayed,
            self._armed,
            self._problem,
            is_running=self._is_running(),
            crash_in_seconds=waits,
        )

    def _observe(self, moment: Moment) -> None:
        """Observe every moment of the run, in the thread of its step."""
        key = moment.step_key
        if key is not None and moment.name == "step.replayed":
            self._replayed.add(key)
            self._gate.note(key)
        self._crash_if_armed(moment)
        if key is not None and moment.name == "step.scheduled":
            self._hold(key)
        self._changed.set()

    def _hold(self, step_key: str) -> None:
        gate = self._gate
        gate.arrive(step_key)
        self._changed.set()
        gate.wait(step_key)
        if gate.abandoned.is_set() and self._handle is not None:
            self._handle.interrupt(PANEL_STOPPED)

    def _announce(self) -> None:
        """Pass on that something changed, at most 20 times a second, so that a thousand steps do not flood the page."""
        while not self._is_closed:
            self._changed.wait(BEAT_SECONDS if self._is_running() or self._crash_at is not None else None)
            self._changed.clear()
            begun = time.monotonic()
            with contextlib.suppress(
                StoreError
            ):  # closed meanwhile, or the file cannot be read: the next state may work
                self.tell()
            time.sleep(max(ANNOUNCE_SECONDS, (time.monotonic() - begun) / ANNOUNCE_SHARE))

    def _is_news(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged. How this workflow ended is on the page, unless logging is set up."""
        return logs.logger.hasHandlers() or getattr(record, "workflow_id", None) != self.workflow_id

    def _is_running(self) -> bool:
        return self._handle is not None and not self._handle.done()

    def _start(self) -> bool:
        """Start a run of the workflow, unless there is one. Return False if that fails; then `_problem` says why."""
        if self._is_closed or self._is_running():
            return not self._is_closed
        self._gate, self._replayed, self._problem = Gate(), set(), None
        try:
            self._handle = self._engine.start(self.workflow_id, self._workflow, **self._kwargs)
        except Exception as error:  # a panel shows it in words, since it has no caller to raise it to
            self._handle, self._problem = None, ("It did not start.", str(error))
            return False
        threading.Thread(target=self._await_end, args=(self._handle,), name="end of run", daemon=True).start()
        return True

    def _await_end(self, handle: Handle[Any]) -> None:
        try:
            handle.result()
        except RunStopped:
            pass
        except Exception as error:
            with contextlib.suppress(StoreError):  # closed by now
                rows = self._read()
                if handle is self._handle and rows.is_unfinished:
                    self._problem = story.tell_stop(rows), str(error)
        self._changed.set()

    def _stop(self) -> None:
        """End the run, if there is one, and wait until it has ended."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.interrupt(PANEL_STOPPED)
            self._gate.open()
            with contextlib.suppress(Exception, RunStopped):
                handle.result()

    def _crash_if_armed(self, moment: Moment) -> None:
        armed = self._armed
        if armed is not None and moment.name == f"step.{armed[1]}" and armed[0] in (moment.step_key, moment.step_name):
            self._crash(lambda: story.WHERE[armed[1]].format(moment.step_key))

    def _tell_where(self) -> str:
        rows, now = self._read(), self._now()
        running = [step.step_key for step in rows.steps if state_of(step, rows, now) == "running"]
        return f"while {story.join_some(running)} was running" if running else "while no step was running"

    def _crash(self, tell_where: Callable[[], str]) -> None:
        """Notify the page and kill the process. Wait first if Jupyter would not start it again so soon."""
        seconds = self._restarts.seconds_to_wait()
        if seconds > 0:
            self._crash_at = time.monotonic() + seconds
            self.tell()
            self._changed.set()  # so that the beat begins
            time.sleep(seconds)
        self._restarts.note_crash()
        at = datetime.now().astimezone().strftime("%H:%M:%S")
        self._crashing = {"pid": os.getpid(), "where": tell_where(), "at": at}
        self.tell()
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(self._notice_seconds)
        self._kill()

    def _take_over(self) -> None:
        """Replace the old panel if its cell is run again in the same process."""
        place = (self._engine.path, self.workflow_id)
        with _opening:
            if place in _open:
                _open[place].close()
            _open[place] = self
