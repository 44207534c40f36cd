"""The steps of `workloads.sequence` written for DBOS directly, as the measure of ours on it.

`python -m tests.benchmarks.plain_dbos URL CONCURRENCY` is a worker of their queue, with the settings that DBOS has by
itself; it looks into the queue as often as our workers do.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from dbos import DBOS, DBOSClient

from durable.on_dbos.workers.worker import POLL_SECONDS
from tests.benchmarks.workloads import number

NAME = "plain"


@DBOS.step(name="number")
def step(i: int) -> int:
    return number(i)


@DBOS.workflow(name=NAME)
def sequence(count: int) -> int:
    for i in range(count):
        step(i)
    return count


def submit_all(url: str, workflows: int, steps: int) -> None:
    """Put them into the queue, in one transaction."""
    client = DBOSClient(system_database_url=url, application_name=NAME)
    database = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    try:
        with database.begin() as connection:
            for each in range(workflows):
                client.enqueue_in_transaction(
                    connection,
                    {"workflow_name": NAME, "queue_name": NAME, "workflow_id": f"wf_{each}", "app_version": NAME},
                    steps,
                )
    finally:
        client.destroy()


@contextmanager
def workers(url: str, count: int, concurrency: int) -> Iterator[None]:
    """Worker processes that do not outlive the block."""
    words = [sys.executable, "-m", "tests.benchmarks.plain_dbos", url, str(concurrency)]
    started = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def work(url: str, concurrency: int) -> None:
    """Run what is in the queue until the process is killed."""
    DBOS(
        config={
            "name": NAME,
            "system_database_url": url,
            "executor_id": uuid.uuid4().hex,
            "application_version": NAME,
            "log_level": "CRITICAL",
        }
    )
    DBOS.listen_queues([NAME])
    DBOS.launch()
    DBOS.register_queue(
        NAME, worker_concurrency=concurrency, polling_interval_sec=POLL_SECONDS, on_conflict="always_update"
    )
    threading.Event().wait()


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]))
