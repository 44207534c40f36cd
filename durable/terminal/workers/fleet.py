"""Many workers on one PostgreSQL: `durable worker --engine`, `durable submit`, and access for commands that look."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from durable.terminal.output.usage import UsageError, printable, spell
from durable.terminal.run.progress import Progress, Screen, StopSignals, exit_code_of
from durable.terminal.run.target import find_target, import_modules

if TYPE_CHECKING:
    from durable.on_dbos.workers.takeover import TakenOver
    from durable.on_dbos.workers.worker import Worker
    from durable.store.records import Selection, WaitRecord
    from durable.terminal.workers.shared import Shared

TICK_SECONDS = 0.25  # between two looks at the database
SAID = {
    "submitted": "submitted to the queue {queue!r}",
    "again": "failed before; submitted to the queue {queue!r} again, its completed steps are kept",
    "set aside": "was set aside; submitted to the queue {queue!r} again, its completed steps are kept",
    "running": "was submitted before, and has not ended; nothing was submitted",
}


@dataclass(frozen=True)
class Place:
    """The database that workers share, and the queue. `name` is for people, without the password."""

    url: str
    queue: str
    name: str
    database: str

    def command(self, *words: str) -> str:
        """Return a command of this program on the same queue, as a user types it."""
        queue = ("--queue", self.queue) if self.queue != "default" else ()
        return spell(words[0], "--engine", self.name, *queue, *words[1:])


def place_of(engine: str, queue: str) -> Place:
    """Return the place of `--engine` and `--queue`. Raises UsageError for another database, or if DBOS is missing."""
    try:
        from sqlalchemy.exc import ArgumentError

        from durable.on_dbos.store.connection import check_url, hide_password
    except ImportError as error:
        raise UsageError(f"--engine: {error}") from error
    logging.getLogger("dbos").setLevel(logging.CRITICAL)  # its messages are shown here, in one line
    try:
        database = check_url(engine)
        return Place(engine, queue, hide_password(engine), database)
    except (ValueError, ArgumentError) as error:
        raise UsageError(f"--engine: {error}; a file of SQLite is named by --db") from None


class _Progress(Progress):
    """Asks the engine's memory instead of the database, in which one query costs as much as a step."""

    def _find_new_wait(self, workflow_id: str, key: str) -> WaitRecord | None:
        engine: Any = self.engine
        found: WaitRecord | None = engine.find_new_wait(workflow_id, key)
        return found


class _Missing:
    """Says once per workflow that its function cannot be imported here."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._told: set[str] = set()

    def __call__(self, workflow_id: str, error: Exception) -> None:
        """Say it if it is new."""
        if workflow_id not in self._told:
            self._told.add(workflow_id)
            self._screen.say("STOP", f"left to other workers: {printable(str(error))}")


def work(modules: list[str], engine: str, queue: str, concurrency: int, max_crashes: int, retention: str | None) -> int:
    """Run `durable worker --engine` until Ctrl+C or SIGTERM and return the exit code."""
    names = import_modules(modules)
    place = place_of(engine, queue)
    screen = Screen(sys.stdout)
    progress = _Progress(screen, place.database)
    with _explaining(place):
        from durable.on_dbos.workers.worker import Worker

        worker = Worker(
            place.url,
            queue=queue,
            concurrency=concurrency,
            max_crashes=max_crashes,
            modules=names,
            observers=[progress],
            on_missing=_Missing(screen),
            retention=retention,
        )
    progress.engine = worker.engine
    ended: list[str] = []
    try:
        resume = place.command("worker", *modules)
        with StopSignals(screen, progress, resume, lambda _: worker.engine.interrupt()):
            try:
                _say_hello(screen, place, concurrency)
                _look_until_interrupted(worker, screen)
            finally:
                ended = _close(worker)
    except (KeyboardInterrupt, SystemExit) as interrupt:
        _say_goodbye(screen, ended)
        return exit_code_of(interrupt)
    return 0


def _close(worker: Worker) -> list[str]:
    """Close in another thread, so that this one notices a second signal while the steps in flight end."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(worker.close).result()


def _say_hello(screen: Screen, place: Place, concurrency: int) -> None:
    screen.write(
        f"worker on {printable(place.name)}, queue {printable(place.queue)!r}: up to {concurrency} workflows at once; "
        f"Ctrl+C ends it"
    )


def _say_goodbye(screen: Screen, unfinished: list[str]) -> None:
    left = f"; given back to the queue: {', '.join(map(printable, unfinished))}" if unfinished else ""
    screen.say("STOP", f"the worker has ended; what had completed is saved{left}.")


def _look_until_interrupted(worker: Worker, screen: Screen) -> None:
    from durable.on_dbos.workers.worker import LOST

    is_lost = False
    while True:
        try:
            for taken in worker.look():
                _say_taken_over(screen, taken)
            if is_lost:
                screen.say("RUN", "the database answers again")
            is_lost = False
        except LOST as error:
            if not is_lost:
                screen.say("WAIT", f"the database does not answer ({_reason(error)}); steps in flight wait to be saved")
            is_lost = True
        threading.Event().wait(TICK_SECONDS)


def _say_taken_over(screen: Screen, taken: TakenOver) -> None:
    if taken.resumed:
        ids = ", ".join(map(printable, taken.resumed))
        screen.say("RUN", f"worker {printable(taken.executor_id)} has died; back in the queue: {ids}")
    for workflow_id in taken.set_aside:
        screen.say("STOP", f"workflow {printable(workflow_id)} set aside: its last runs all ended with their worker")
        screen.write("       To try it again: durable submit, as before")


def _reason(error: BaseException) -> str:
    """Return the first line of the message of the database or its driver."""
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return printable(lines[0] if lines else type(cause).__name__)


class _explaining(AbstractContextManager[None]):  # noqa: N801 - reads as a phrase: with _explaining(place):
    """A block in which a database that does not answer is wrong use, reported in one line."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from durable.on_dbos.workers.queue import has_no_tables
        from durable.on_dbos.workers.worker import LOST

        if error is not None and has_no_tables(error):  # looking makes no tables
            raise UsageError(
                f"database {self._place.name} has not been used yet; the first `durable submit` makes its tables"
            ) from error
        if isinstance(error, LOST):
            raise UsageError(
                f"database {self._place.name} does not answer: {_reason(error)}; start PostgreSQL, or correct the URL"
            ) from error


# ---- looking


def explaining(engine: str) -> AbstractContextManager[None]:
    """Return a block in which a URL that is wrong, or a database that does not answer, is wrong use."""
    return _explaining(place_of(engine, "default"))


@contextmanager
def looking(engine: str) -> Iterator[Shared]:
    """Open the workflows that workers share, of all queues."""
    place = place_of(engine, "default")
    with _explaining(place):
        from durable.on_dbos.workers.queue import opening
        from durable.terminal.workers.shared import Shared

        with opening(place.url) as client:
            yield Shared(client, place)


# ---- submitting


@dataclass(frozen=True)
class Order:
    """The arguments of `durable submit`."""

    workflow: str
    workflow_id: str
    input: str | None
    engine: str
    queue: str
    as_json: bool


def submit(order: Order) -> None:
    """Run `durable submit`."""
    target = find_target(order.workflow)
    args, kwargs = target.arguments("{}" if order.input is None else order.input)
    place = place_of(order.engine, order.queue)
    with _explaining(place):
        from durable.on_dbos.workers import queue as queues
        from durable.on_dbos.workers.submission import with_tables

        outcome = with_tables(
            place.url,
            lambda client, values: queues.submit(
                client, values, order.workflow_id, target.fn, args, kwargs, place.queue
            ),
        )
    if order.as_json:
        is_new = outcome in ("submitted", "again", "set aside")
        document = {"workflow_id": order.workflow_id, "queue": order.queue, "submitted": is_new, "outcome": outcome}
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    words = SAID.get(outcome, f"is {outcome} already; nothing was submitted")
    typer.echo(f"workflow {printable(order.workflow_id)} {words.format(queue=order.queue)}")


def retry(wanted: Selection, engine: str) -> None:
    """Run `durable retry` on the workflows that workers share."""
    place = place_of(engine, "default")
    with _explaining(place):
        from durable.on_dbos.workers import queue as queues

        with queues.opening(place.url) as client:
            told = queues.retry(client, wanted)
    for workflow_id, outcome in told.items():
        words = "is back in its queue" if outcome == "again" else f"is {outcome}, and stays so"
        typer.echo(f"workflow {printable(workflow_id)} {words}")
    typer.echo(
        f"{sum(outcome == 'again' for outcome in told.values())} of {len(told)} failed workflows are tried again"
    )
