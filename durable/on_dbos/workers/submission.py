"""Submitting from Python: workflows for workers to run, one or many, from a process that runs none itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from dbos import DBOSClient, error

from durable.errors import DurableError
from durable.on_dbos.store.connection import check_url
from durable.on_dbos.store.large import Tables
from durable.on_dbos.workers import queue as queues
from durable.on_dbos.workers.queue import DEFAULT, Submitted

T = TypeVar("T")

BATCH = 1000  # workflows that are submitted in one transaction


def submit(
    database_url: str,
    workflow_id: str,
    workflow: Callable[..., Any],
    /,
    *args: Any,
    queue: str = DEFAULT,
    **kwargs: Any,
) -> Submitted:
    """Have a worker of the queue run `workflow(ctx, *args, **kwargs)`, once: the same id again tells how it stands.

    Returns "submitted"; "again" for one that had failed, "set aside" for one that was, and both go on with their
    completed steps; else "running", "completed", "failed" (and undone) or "cancelled", and then nothing was changed.
    Makes the tables of a new database. Raises ValueError for a URL of another database; WorkflowConflictError if the id
    belongs to another call; InvalidNameError, SerializationError; and errors of SQLAlchemy if the database is away.
    """
    return with_tables(
        database_url,
        lambda client, values: queues.submit(client, values, workflow_id, workflow, args, kwargs, queue),
    )


def submit_many(
    database_url: str, workflow: Callable[..., Any], calls: Mapping[str, Sequence[Any]], /, *, queue: str = DEFAULT
) -> dict[str, Submitted]:
    """Do as `submit` does, for many workflow ids, each with its positional arguments. Return how each stands.

    A thousand of them are one transaction. After an error of the database, submit the same again. The others raise
    before anything of their thousand is submitted.
    """
    told: dict[str, Submitted] = {}
    for batch in _batches(calls):
        told |= with_tables(database_url, functools.partial(_submit_batch, database_url, workflow, batch, queue))
    return told


def with_tables(database_url: str, work: Callable[[DBOSClient, Tables], T]) -> T:
    """Call what needs a client of the database; once more with tables, if this database has not been used before."""
    name = check_url(database_url)
    with queues.opening(database_url) as client, closing(Tables(database_url, Path(name))) as values:
        try:
            return work(client, values)
        except DurableError:
            raise
        except Exception as refusal:
            if not queues.has_no_tables(refusal):
                raise
            queues.make_tables(database_url)
            return work(client, values)


def _submit_batch(
    database_url: str,
    workflow: Callable[..., Any],
    calls: Mapping[str, Sequence[Any]],
    queue: str,
    client: DBOSClient,
    values: Tables,
) -> dict[str, Submitted]:
    orders = {each: queues.order_of(values, each, workflow, tuple(args), {}, queue) for each, args in calls.items()}
    database = sa.create_engine(sa.make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    while True:
        known = client.list_workflows(workflow_ids=list(orders), load_output=False)
        told = {
            each.workflow_id: queues.look_at(client, values, each, workflow, orders[each.workflow_id]) for each in known
        }
        try:
            with database.begin() as connection:  # a crash before its end: none is submitted; after it: all are
                for workflow_id, order in orders.items():
                    if workflow_id not in told:
                        client.enqueue_in_transaction(connection, order.options, order.function, order.arguments)
                        told[workflow_id] = "submitted"
        except error.DBOSWorkflowIDInUseError:  # another process has submitted one of them meanwhile
            continue
        return {each: told[each] for each in orders}


def _batches(calls: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Sequence[Any]]]:
    left = iter(calls.items())
    while batch := dict(islice(left, BATCH)):
        yield batch
