"""The live lines of `durable run`: observers that print, slow down or announce a crash; and Ctrl+C and SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import typer

from durable.engine import Engine
from durable.observer import Moment, crash_at
from durable.signals import held_back, mark, reason_of
from durable.store.records import WaitRecord
from durable.terminal.output.failure import describe_error
from durable.terminal.output.usage import UsageError, printable, silence, suggest
from durable.terminal.output.waiting import describe_instant, describe_wait, send_command

if TYPE_CHECKING:
    from durable.terminal.run.target import Target

COLOURS = {
    "RUN": "cyan",
    "SKIP": "bright_black",
    "DONE": "green",
    "FAIL": "red",
    "STOP": "yellow",
    "KILL": "red",
    "WAIT": "blue",
    "RETRY": "yellow",
}
INTERRUPTED, TERMINATED = 130, 143

_MEANING = {
    "step.scheduled": "its key is drawn, nothing of it is recorded",
    "step.started": "its row says running, its effect has not happened",
    "step.executed": "its effect has happened, its result is not saved",
    "step.checkpointed": "its result is saved",
    "step.failed": "its error is saved",
    "step.replayed": "it was answered from its row",
    "workflow.started": "its run is recorded, nothing of it has been called",
    "workflow.completed": "its result is saved",
    "workflow.failed": "its error is saved",
    "workflow.cancelled": "that it was cancelled is saved",
    "workflow.suspended": "it only waits",
}


class Screen:
    """Prints whole lines, from any thread. Each line is flushed, so that it survives even SIGKILL."""

    def __init__(self, stream: TextIO) -> None:
        self.lock = threading.RLock()
        self._stream = stream
        self._colour = stream.isatty() and not os.environ.get("NO_COLOR")

    def say(self, tag: str, text: str) -> None:
        """Print a line `[RUN]  text`. If it cannot be written, the workflow continues without."""
        self.write(tagged(tag, text, colour=self._colour))

    def write(self, text: str) -> None:
        """Print a line as it is."""
        with self.lock:
            try:
                typer.echo(text, file=self._stream, color=self._colour)
            except OSError as error:
                silence(self._stream)
                if not isinstance(error, BrokenPipeError):  # `| head` has seen enough
                    with contextlib.suppress(OSError):
                        typer.echo(f"note: nothing more is shown ({error.strerror}); the workflow goes on", err=True)

    def write_from_handler(self, text: str) -> None:
        """Print a line from within a signal handler, while the stream itself may be in the middle of a write."""
        with contextlib.suppress(OSError):
            os.write(self._stream.fileno(), f"{text}\n".encode(errors="replace"))


def tagged(tag: str, text: str, *, colour: bool) -> str:
    """Return `[RUN]  text`, the tag in its colour."""
    mark = f"[{tag}]"
    return (typer.style(mark, fg=COLOURS[tag], bold=True) if colour else mark) + " " * max(1, 7 - len(mark)) + text


class Progress:
    """The observer that prints each step as it begins, waits and ends, including those of child workflows.

    `outcome` is the workflow's, once it is saved: completed, failed or cancelled. Without a workflow, each is printed
    with its id.
    """

    def __init__(self, screen: Screen, database: str, workflow_id: str | None = None) -> None:
        self.engine: Engine | None = None  # to be set before anything runs
        self.in_flight: dict[str, None] = {}
        self.names: dict[str, None] = {}
        self.epoch = 0  # stays 0 if nothing had to run
        self.outcome: str | None = None
        self._screen, self._database, self._workflow_id = screen, database, workflow_id
        self._stopped_by: int | None = None

    def stop(self, number: int) -> None:
        """Let no step begin any more. Call this before the message that says so; the engine follows."""
        self._stopped_by = number

    def __call__(self, moment: Moment) -> None:
        """Print the moment if it is one that people want to see."""
        if self._stopped_by is not None and moment.name == "step.scheduled":
            raise interrupt_by(self._stopped_by)
        key, name = moment.step_key, moment.step_name
        if key is None or name is None:
            self._note_workflow(moment)
            return
        is_own = moment.workflow_id == self._workflow_id
        if is_own:
            self.names |= {name: None, key: None}
        line = ("" if is_own else f"{printable(moment.workflow_id)}: ") + f"{printable(name)} (key: {printable(key)})"
        place = key if is_own else f"{moment.workflow_id}/{key}"
        if moment.name == "step.started":
            self._note_start(moment, key, line, place)
        elif moment.name == "step.replayed" and self._workflow_id is not None:
            self._screen.say("SKIP", line)
        elif moment.name in ("step.checkpointed", "step.failed"):
            self.in_flight.pop(place, None)
            if moment.name == "step.checkpointed":
                self._screen.say("DONE", line)
            else:
                self._note_failure(moment, key, line)

    def _note_start(self, moment: Moment, key: str, line: str, place: str) -> None:
        wait = self._find_new_wait(moment.workflow_id, key)
        if wait is None:
            self.in_flight[place] = None
            again = f" again, attempt {moment.attempt}" if (moment.attempt or 1) > 1 else ""
            self._screen.say("RUN", line + again)
        elif self._workflow_id is not None:  # else the suspended workflow says it
            self._say_wait(wait, line)

    def _say_wait(self, wait: WaitRecord, line: str) -> None:
        with self._screen.lock:
            self._screen.say("WAIT", f"{line} {describe_wait(wait)}")
            if wait.event is not None:
                self._screen.write(f"       To send it: {send_command(wait, self._database)}")

    def _note_failure(self, moment: Moment, key: str, line: str) -> None:
        """Describe the error, and say whether the step is tried again."""
        steps = self.engine.steps(moment.workflow_id) if self.engine else []
        error = next((describe_error(step.error) for step in steps if step.step_key == key and step.error), "")
        wait = self._find_wait(moment.workflow_id, key)
        with self._screen.lock:
            self._screen.say("FAIL" if wait is None else "RETRY", f"{line}: {printable(error)}")
            if wait is not None and wait.wake_at is not None:
                attempt = (moment.attempt or 1) + 1
                self._screen.write(f"        Attempt {attempt} is due at {describe_instant(wait.wake_at)}")

    def _find_new_wait(self, workflow_id: str, key: str) -> WaitRecord | None:
        """Return what a step that has just begun waits for, or None. Called for every step."""
        return self._find_wait(workflow_id, key)

    def _find_wait(self, workflow_id: str, key: str) -> WaitRecord | None:
        waits = self.engine.waits(workflow_id) if self.engine else []
        return next((wait for wait in waits if wait.step_key == key), None)

    def _note_workflow(self, moment: Moment) -> None:
        workflow_id, what = printable(moment.workflow_id), moment.name.partition(".")[2]
        is_own = moment.workflow_id == self._workflow_id
        if what == "started":
            goes_on = ", goes on from what is saved" if moment.epoch > 1 else ""
            self._screen.write(f"workflow {workflow_id}: run {moment.epoch} in {printable(self._database)}{goes_on}")
            self.epoch = moment.epoch if is_own else self.epoch
        elif is_own:
            self.outcome = what
        elif what == "suspended":
            for wait in self.engine.waits(moment.workflow_id) if self.engine else []:
                self._screen.say("WAIT", f"{workflow_id}: {printable(wait.step_key)} {describe_wait(wait)}")
        else:
            tag = {"completed": "DONE", "failed": "FAIL"}.get(what, "STOP")
            self._screen.say(tag, f"workflow {workflow_id} {what}")


class SlowDown:
    """An observer that delays the effect of each step by a number of seconds. Ctrl+C ends the delay."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._hurry = threading.Event()

    def __call__(self, moment: Moment) -> None:
        """Wait if the moment is the one before the effect."""
        if moment.name == "step.started":
            self._hurry.wait(self._seconds)

    def stop(self) -> None:
        """End the delays, so that every step continues at once."""
        self._hurry.set()


class AnnouncedCrash:
    """A crash point that announces the crash and the command that continues from there."""

    def __init__(self, point: crash_at, screen: Screen, resume: str) -> None:
        self._point, self._screen, self._resume = point, screen, resume

    def __call__(self, moment: Moment) -> None:
        """Announce the crash and die if the moment is the one."""
        point = self._point
        if moment.name != point.moment or not point.is_of(moment):
            return
        subject = (
            f"{moment.step_name} (key: {moment.step_key})" if moment.step_key else f"workflow {moment.workflow_id}"
        )
        with self._screen.lock:  # and never let go: these are the last lines
            self._screen.say("KILL", f"{printable(subject)} at {moment.name}:")
            self._screen.write(f"       {_MEANING[moment.name]}.")
            self._screen.write(f"       This process kills itself now. To go on: {self._resume}")
            point(moment)

    def check(self, target: Target) -> None:
        """Refuse a step that the workflow certainly does not have. Raises UsageError; nothing has run."""
        from durable.terminal.run.step_names import names_without

        step = self._point.step
        if names := names_without(target.fn, step):
            hint = suggest(step, names) or f"; its steps are {', '.join(names)}"
            raise UsageError(f"crash point {step}: {target.text} has no such step{hint}")

    def never_reached(self, names: list[str]) -> str:
        """Return the note for a workflow that ended without reaching the crash point."""
        step, hint = self._point.step, ""
        if step != "workflow" and step not in names:
            hint = suggest(step, names) or "; no step has that name"
        return f"the crash point {step}:{self._point.moment.partition('.')[2]} was never reached{hint}"


@contextlib.contextmanager
def stopped_by_signals(engine: Engine) -> Iterator[Engine]:
    """Return a block that waits for what runs in the engine. After a signal, the steps in flight end and are saved."""
    with engine:
        try:
            yield engine
            wait_for_started(engine)  # here, since a signal that comes while it is closed stops coroutines
        except (KeyboardInterrupt, SystemExit) as interrupt:
            engine.stop(timeout_seconds=None, reason=reason_of(interrupt))
            raise


def wait_for_started(engine: Engine) -> None:
    """Wait for the workflows that were started. A signal ends the wait, and not the workflows."""
    with held_back():
        engine._backend.wait_for_started()


class StopSignals:
    """Handles Ctrl+C and SIGTERM while the block lasts: the first of them lets the steps in flight end.

    It raises KeyboardInterrupt or SystemExit. The second leaves at once. SIGTERM gets a handler also because the first
    process of a container ignores it without one.
    """

    def __init__(self, screen: Screen, progress: Progress, resume: str, on_first: Callable[[int], object]) -> None:
        self._screen, self._progress, self._resume, self._on_first = screen, progress, resume, on_first
        self._count = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.getsignal(number)
            if previous not in (signal.SIG_IGN, None):  # it is ignored under nohup, say
                self._previous[number] = previous
                signal.signal(number, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        interrupt = interrupt_by(number)
        if self._count > 1:
            self._screen.write_from_handler(f"\n[STOP] left at once. To go on: {self._resume}")
            os._exit(exit_code_of(interrupt))
        self._on_first(number)
        steps = list(self._progress.in_flight)
        what = f"{', '.join(map(printable, steps))} may end" if steps else "no step is in flight"
        name = "Ctrl+C" if number == signal.SIGINT else signal.Signals(number).name
        self._screen.write_from_handler(f"\n[STOP] {name}: {what}, nothing new begins; {name} again leaves at once")
        raise interrupt


def interrupt_by(number: int) -> BaseException:
    """Return the error with which this signal ends a command."""
    return mark(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED), number)


def exit_code_of(interrupt: BaseException) -> int:
    """Return the exit code of a command that an interrupt has ended."""
    return TERMINATED if reason_of(interrupt) == "SIGTERM" else INTERRUPTED
