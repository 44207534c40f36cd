"""One run of a case's workflow, in a freshly forked process that is killed, interrupted, or left in peace."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from durable.engine import Engine
from durable.limits import payload as payloads
from durable.observer import Moment, Observer, crash_at
from durable.testing.effects import watch_effects
from durable.testing.matrix.case import WORKFLOW_ID, Fault, Job, Seen, crash_point, name_in_case
from durable.testing.matrix.remains import look_at
from durable.values.fingerprint import fingerprint

WRITING = 1  # bits that tests/faults/failing_disk.c knows: writes, flushes (2), reads (4)


def live(pipe: Connection, job: Job, payload: payloads.Payload, fault: Fault | None, number: int) -> None:
    """Run the workflow once. Send the host the state before it, a word that it begins, and its end."""
    _hear_signals()
    watch_effects()
    logging.disable()  # a thousand runs would fill the screen
    database = Path(job.folder, "case.db")
    before = look_at(database)
    pipe.send(("before", before))
    if before.status == "failed":  # that is an end too: running it again would try again
        pipe.send(("end", {"ended": "failed"}))
        return
    if payload.setup is not None:
        payload.setup()
    _Life(pipe, job, payload, fault, database, number).run()


def _hear_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


class _Life:
    def __init__(
        self, pipe: Connection, job: Job, payload: payloads.Payload, fault: Fault | None, database: Path, number: int
    ) -> None:
        self._pipe, self._job, self._payload, self._database = pipe, job, payload, database
        self._fault = fault
        self._said: dict[str, Any] = {}
        self._observers: list[Observer] = [Trace(database.with_suffix(".trace"), number), *self._fault_observers()]

    def run(self) -> None:
        disk = _Disk(self._fault) if self._fault is not None and self._fault.kind == "disk" else None
        if self._fault is not None and self._fault.kind == "power cut":
            _record_writes(self._database)
        self._pipe.send(("begin", None))
        began = time.monotonic()
        if disk is not None:
            disk.arm()
        try:
            with Engine(self._database, synchronous=self._job.synchronous, observers=self._observers) as engine:
                self._run_until_it_ends(engine)
        except KeyboardInterrupt:  # it came after everything else
            self._said["interrupted"] = True
        except Exception as error:  # the engine could not be opened
            self._stop(error)
        if disk is not None:
            self._said["disk_calls"] = disk.disarm()
        self._said["seconds"] = time.monotonic() - began
        self._pipe.send(("end", self._said))

    def _run_until_it_ends(self, engine: Engine) -> None:
        """Run the id again in the same process, at once after Ctrl+C: no lock and no transaction may be left."""
        for _ in range(2):
            self._said["ended"] = "completed"
            try:
                result = engine.run(WORKFLOW_ID, self._payload.fn, *self._payload.args, **self._payload.kwargs)
                self._said |= {"result": repr(result), "compared": fingerprint((result,), {})}
            except KeyboardInterrupt:
                self._said |= {"ended": "interrupted", "interrupted": True}
                continue
            except Exception as error:
                self._stop(error)
                if getattr(engine.find_workflow(WORKFLOW_ID), "status", None) == "failed":
                    self._said["ended"] = "failed"
            return

    def _stop(self, error: BaseException) -> None:
        self._said |= {"ended": "stopped", "error": (type(error).__name__, str(error))}

    def _fault_observers(self) -> list[Observer]:
        fault = self._fault
        if fault is None or not fault.at:
            return []
        if fault.kind in ("kill", "power cut"):
            return [crash_at.parse(crash_point(fault.at))]
        act = self._interrupt if fault.kind == "interrupt" else self._ask_for_second_owner
        return [_Once(fault.at, act)]

    @staticmethod
    def _interrupt() -> None:
        """Interrupt the process as Ctrl+C does, and give the main thread time to notice."""
        os.kill(os.getpid(), signal.SIGINT)

    def _ask_for_second_owner(self) -> None:
        self._pipe.send(("second", None))
        self._said["second_owner"] = self._pipe.recv()


def run_as_second_owner(pipe: Connection, job: Job, payload: payloads.Payload, number: int) -> None:
    """Try to run a workflow that another process runs, and send the result."""
    watch_effects()
    logging.disable()
    if payload.setup is not None:
        payload.setup()
    database = Path(job.folder, "case.db")
    observers = [Trace(database.with_suffix(".trace"), number)]
    with Engine(database, synchronous=job.synchronous, observers=observers) as engine:
        runs = len(engine.runs(WORKFLOW_ID))
        try:
            engine.run(WORKFLOW_ID, payload.fn, *payload.args, **payload.kwargs)
            fared = "ran it to its end"
        except Exception as error:
            fared = type(error).__name__
        if len(engine.runs(WORKFLOW_ID)) == runs and fared != "WorkflowBusyError":
            fared = "got the recorded result"
    pipe.send(("end", fared))


class Trace:
    """Writes each moment into a file, which outlives the process."""

    def __init__(self, path: Path, life: int) -> None:
        self._life = life
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def __call__(self, moment: Moment) -> None:
        """Write the moment as one line in one call, so that parallel steps do not mix their lines."""
        key = name_in_case(moment.workflow_id, moment.step_key)
        os.write(self._fd, f"{self._life}\t{moment.name}\t{moment.attempt or 0}\t{key}\n".encode())


def read_trace(path: Path) -> tuple[Seen, ...]:
    """Return all moments of all runs."""
    if not path.exists():
        return ()
    lines = [line.split("\t", 3) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    return tuple(Seen(int(life), name, key, int(attempt)) for life, name, attempt, key in lines)


def _record_writes(database: Path) -> None:
    """Cut the power, through tests/faults/power_cut.c, which was loaded before the C library."""
    record = os.open(record_path(database), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o666)
    ctypes.CDLL(None).power_arm(b"/case.db", record)


def record_path(database: Path) -> Path:
    """Return the file in which the writes of a run are recorded whose power is to be cut."""
    return database.with_suffix(".record")


class _Once:
    """Does something the first time that a moment comes."""

    def __init__(self, at: str, act: Callable[[], object]) -> None:
        self._point, self._act = crash_at.parse(crash_point(at)), act
        self._lock, self._is_done = threading.Lock(), False

    def __call__(self, moment: Moment) -> None:
        if moment.name != self._point.moment or not self._point.is_of(moment):
            return
        with self._lock:
            first, self._is_done = not self._is_done, True
        if first:
            self._act()


class _Disk:
    """The failing disk of tests/faults, which was loaded before the C library."""

    def __init__(self, fault: Fault) -> None:
        self._fault, self._library = fault, ctypes.CDLL(None)
        self._library.disk_calls.restype = ctypes.c_long

    def arm(self) -> None:
        """Make the nth call on the database and on the files beside it fail, counted from now."""
        fault = self._fault
        self._library.disk_arm(
            b"/case.db", fault.disk_calls or WRITING, ctypes.c_long(fault.call), fault.error_number, 0
        )

    def disarm(self) -> tuple[int, ...]:
        """Make the disk work again, and return how many calls there were."""
        calls = int(self._library.disk_calls())
        self._library.disk_arm(b"", 0, ctypes.c_long(0), 0, 0)
        return (calls,)
