"""What one and three workers make of a queue on PostgreSQL: `python -m tests.benchmarks.fleet [--workflows 150]`.

Each workflow has twenty quick steps in turn, and a worker runs eight workflows at once; the server is our own, on
this machine, with its usual durability. Counted is what was saved while all workers of the round were busy. Beside it
stand the same workflow written for DBOS directly, one connection that commits an inserted row for each step, and the
same workflows on one SQLite file. Transactions, rows and bytes of the log of PostgreSQL are those of the whole work,
by the step.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import psycopg
from rich.console import Console
from rich.table import Table

from durable import Engine
from durable.on_dbos import submit_many
from durable.on_dbos.workers import queue
from tests.benchmarks import plain_dbos
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
COST = """
select xact_commit, tup_inserted + tup_updated, pg_current_wal_insert_lsn() - '0/0'
from pg_stat_database where datname = current_database()
"""
IS_QUIET = """
select count(*) = 0 from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


class Taken(NamedTuple):
    """One measurement: steps a second, and what a step costs the server."""

    rate: float
    transactions: float | None = None
    rows: float | None = None
    log_bytes: float | None = None


def on_workers(server: Server, workers: int, workflows: int) -> Taken:
    """Measure ours."""
    url = server.new_database()
    queue.make_tables(url)
    submit_many(url, sequence, {f"wf_{number}": (STEPS,) for number in range(workflows)})
    return measure(url, fleet(url, workers, CONCURRENCY, module=sequence.__module__), workers, workflows)


def on_plain_dbos(server: Server, workers: int, workflows: int) -> Taken:
    """Measure the same workflow, written for DBOS directly."""
    url = server.new_database()
    queue.make_tables(url)
    plain_dbos.submit_all(url, workflows, STEPS)
    return measure(url, plain_dbos.workers(url, workers, CONCURRENCY), workers, workflows)


def measure(url: str, working: AbstractContextManager[object], workers: int, workflows: int) -> Taken:
    """Let the workers run all that is in the queue."""
    with psycopg.connect(url, autocommit=True) as connection:
        before = cost(connection)
        with working:
            while count_ended(url) != (workflows, 0):
                time.sleep(0.2)
        after = cost(connection)
        rate, seen = one_row(connection, RATE)
    assert seen == workers, f"only {seen} of {workers} workers were seen at work; take more workflows"
    return Taken(
        float(rate), *((late - early) / (workflows * STEPS) for early, late in zip(before, after, strict=True))
    )


def cost(connection: psycopg.Connection[tuple[object, ...]]) -> list[float]:
    """Return what the server has done so far: each of its sessions reports it at its end."""
    while one_row(connection, IS_QUIET) != (True,):
        time.sleep(0.1)
    return [float(number) for number in one_row(connection, COST)]


def one_row(connection: psycopg.Connection[tuple[object, ...]], sql: str) -> tuple[object, ...]:
    """Return the only row."""
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row


def bare_rows(server: Server, _: int, workflows: int) -> Taken:
    """Measure rows, each committed by itself."""
    count = min(workflows * STEPS, 2000)
    with psycopg.connect(server.new_database(), autocommit=True) as connection:
        connection.execute("create table steps (key text primary key, output text)")
        begun = time.perf_counter()
        for number in range(count):
            connection.execute("insert into steps values (%s, %s)", [f"number_{number}", "7"])
        return Taken(count / (time.perf_counter() - begun))


def on_one_file(_: Server, __: int, workflows: int) -> Taken:
    """Measure one process on one SQLite file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(Path(folder) / "workflow.db", max_workflows=CONCURRENCY) as engine,
    ):
        begun = time.perf_counter()
        for handle in [engine.start(f"wf_{number}", sequence, STEPS) for number in range(workflows)]:
            handle.result()
        return Taken(workflows * STEPS / (time.perf_counter() - begun))


def named(workers: int) -> str:
    """Return the words for so many workers."""
    return f"{workers} worker{'s' * (workers > 1)}"


Measure = Callable[[Server, int, int], Taken]
FIGURES: dict[str, tuple[Measure, int]] = {
    "one bare connection to PostgreSQL, a row a commit": (bare_rows, 1),
    **{
        f"{named(count)} {where}": (measure, count)
        for count in WORKERS
        for where, measure in (("on DBOS and PostgreSQL", on_workers), ("of DBOS, without us", on_plain_dbos))
    },
    "one process on one SQLite file, FULL": (on_one_file, 1),
}


def main() -> None:
    """Take each figure some times, in turns, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=main.__doc__)
    parser.add_argument("--workflows", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    taken: dict[str, list[Taken]] = {name: [] for name in FIGURES}
    with Server({"max_connections": "300"}) as server:
        for _, (name, (measure, count)) in itertools.product(range(given.rounds), FIGURES.items()):
            taken[name].append(measure(server, count, given.workflows))
    columns = ("work", "steps a second", "from", "to", "transactions", "rows", "log bytes a step")
    table = Table(*columns, title=f"{given.workflows} workflows of {STEPS} steps")
    for name, all_taken in taken.items():
        rates = [each.rate for each in all_taken]
        costs = [
            statistics.median(column) for column in zip(*(each[1:] for each in all_taken), strict=True) if column[0]
        ]
        shown = [f"{costs[0]:.2f}", f"{costs[1]:.2f}", f"{costs[2]:,.0f}"] if costs else []
        table.add_row(name, *(f"{rate:,.0f}" for rate in (statistics.median(rates), min(rates), max(rates))), *shown)
    console = Console()
    console.print(table)
    for count in WORKERS:
        ours, theirs = (taken[f"{named(count)} {where}"] for where in ("on DBOS and PostgreSQL", "of DBOS, without us"))
        ratios = [mine.rate / plain.rate for mine, plain in zip(ours, theirs, strict=True)]
        console.print(f"{named(count)}: {statistics.median(ratios):.2f} of the rate of DBOS without us (goal: 0.9)")


if __name__ == "__main__":
    main()
