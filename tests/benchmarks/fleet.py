"""What one and three workers make of a queue on PostgreSQL: `python -m tests.benchmarks.fleet [--workflows 150]`.

Each workflow has twenty quick steps in turn, and a worker runs eight workflows at once; the server is our own, on
this machine, with its usual durability. Counted is what was saved while all workers of the round were busy. Beside it
stand one connection that commits an inserted row for each step, and the same workflows on one SQLite file.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from durable import Engine
from durable.on_dbos import submit_many
from durable.on_dbos.workers import queue
from tests.benchmarks.workloads import sequence
from tests.fleet.kill_test import count_ended, fleet
from tests.support.postgres import Server

STEPS, CONCURRENCY, WORKERS = 20, 8, (1, 3)
# the time in which each of the workers was at work, and the steps that ended in it
RATE = """
with steps as (
    select executor_id, made.started_at_epoch_ms as began, made.completed_at_epoch_ms as ended
    from dbos.operation_outputs as made join dbos.workflow_status using (workflow_uuid)
), busy as (
    select max(first) as from_ms, min(last) as to_ms from (
        select min(began) as first, max(ended) as last from steps group by executor_id
    ) as lives
)
select 1000.0 * count(*) filter (where ended between from_ms and to_ms) / min(to_ms - from_ms),
       count(distinct executor_id)
from steps, busy
"""


def on_workers(server: Server, workers: int, workflows: int) -> float:
    """Steps a second."""
    url = server.new_database()
    queue.make_tables(url)
    submit_many(url, sequence, {f"wf_{number}": (STEPS,) for number in range(workflows)})
    with fleet(url, workers, CONCURRENCY):
        while count_ended(url) != (workflows, 0):
            time.sleep(0.2)
    with psycopg.connect(url) as connection:
        row = connection.execute(RATE).fetchone()
    assert row is not None
    rate, seen = row
    assert seen == workers, f"only {seen} of {workers} workers were seen at work; take more workflows"
    return float(rate)


def bare_rows(server: Server, _: int, workflows: int) -> float:
    """Rows a second, each committed by itself."""
    count = min(workflows * STEPS, 2000)
    with psycopg.connect(server.new_database(), autocommit=True) as connection:
        connection.execute("create table steps (key text primary key, output text)")
        begun = time.perf_counter()
        for number in range(count):
            connection.execute("insert into steps values (%s, %s)", [f"number_{number}", "7"])
        return count / (time.perf_counter() - begun)


def on_one_file(_: Server, __: int, workflows: int) -> float:
    """Steps a second of one process on one SQLite file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(Path(folder) / "workflow.db", max_workflows=CONCURRENCY) as engine,
    ):
        begun = time.perf_counter()
        for handle in [engine.start(f"wf_{number}", sequence, STEPS) for number in range(workflows)]:
            handle.result()
        return workflows * STEPS / (time.perf_counter() - begun)


FIGURES = {
    "one bare connection to PostgreSQL, a row a commit": (bare_rows, 1),
    **{f"{count} worker{'s' * (count > 1)} on DBOS and PostgreSQL": (on_workers, count) for count in WORKERS},
    "one process on one SQLite file, FULL": (on_one_file, 1),
}


def main() -> None:
    """Take each figure some times, in turns, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=main.__doc__)
    parser.add_argument("--workflows", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in FIGURES}
    with Server({"max_connections": "300"}) as server:
        for _, (name, (measure, count)) in itertools.product(range(given.rounds), FIGURES.items()):
            taken[name].append(measure(server, count, given.workflows))
    table = Table("work", "steps a second", "from", "to", title=f"{given.workflows} workflows of {STEPS} steps")
    for name, rates in taken.items():
        table.add_row(name, *(f"{rate:,.0f}" for rate in (statistics.median(rates), min(rates), max(rates))))
    Console().print(table)


if __name__ == "__main__":
    main()
