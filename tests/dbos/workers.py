"""Worker processes with plain DBOS workflows, for what take-over does whichever engine is above it."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
from dbos import DBOS, DBOSClient

from durable.on_dbos.recovery.presence import Presence, new_executor_id
from durable.on_dbos.workers.takeover import TakeOver
from tests.support.processes import eventually

QUEUE, VERSION = "default", "1"
TICK_SECONDS = 0.05


def note(folder: str, line: str) -> None:
    with (Path(folder) / "effects").open("a") as log:
        log.write(f"{line}\n")


def effects(folder: Path) -> list[str]:
    path = folder / "effects"
    return path.read_text().splitlines() if path.exists() else []


def work(pipe: Connection, url: str, folder: str, executor_id: str = "") -> None:
    """Run workflows until killed; tells its executor id, then each take-over."""
    executor_id = executor_id or new_executor_id(QUEUE)
    _launch(url, folder, executor_id)
    DBOS.register_queue(QUEUE, polling_interval_sec=0.1)
    presence, client = Presence(url, executor_id), _client(url)
    presence.keep()
    pipe.send(executor_id)
    look_for_the_dead(pipe, presence, TakeOver(presence, client))


def look_for_the_dead(pipe: Connection, presence: Presence, take_over: TakeOver) -> None:
    while True:
        try:
            presence.keep()
            for taken in take_over.look():
                pipe.send(taken)
        except Exception:  # the database is being restarted
            presence.close()
        time.sleep(TICK_SECONDS)


def start_without_a_lock(pipe: Connection, url: str, folder: str) -> None:
    """A process of which nobody can know whether it lives; it starts a workflow itself."""
    two_steps = _launch(url, folder, "an-engine-somewhere")
    DBOS.start_workflow(two_steps, "foreign")
    pipe.send("started")
    pipe.recv()


def _launch(url: str, folder: str, executor_id: str):
    DBOS(
        config={
            "name": "durable",
            "system_database_url": url,
            "executor_id": executor_id,
            "application_version": VERSION,
            "console_log_level": "CRITICAL",
        }
    )

    @DBOS.workflow(name="two_steps")
    def two_steps(name: str) -> str:
        DBOS.run_step({"name": "first"}, note, folder, f"{name} first")
        DBOS.run_step({"name": "second"}, second, name)
        return f"{name} done"

    def second(name: str) -> None:
        note(folder, f"{name} second begins in {os.getpid()}")
        eventually((Path(folder) / "open").exists)
        note(folder, f"{name} second ends")

    DBOS.launch()
    return two_steps


def _client(url: str) -> DBOSClient:
    return DBOSClient(system_database_url=url, application_name="durable", retry_connection_errors=False)


def enqueue(url: str, *names: str) -> None:
    client = _client(url)
    for name in names:
        client.enqueue({"workflow_name": "two_steps", "queue_name": QUEUE, "workflow_id": name}, name)
    client.destroy()


def status(url: str, name: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("select status from dbos.workflow_status where workflow_uuid = %s", [name]).fetchone()
        return str(row and row[0])
