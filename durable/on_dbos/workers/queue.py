"""Queue: how workflows are handed to workers, by a client that runs none itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import msgspec
from dbos import DBOS, DBOSClient, EnqueueOptions, WorkflowStatus, error
from msgspec.structs import replace
from sqlalchemy.exc import ProgrammingError

from durable.on_dbos.backend import VERSION
from durable.on_dbos.recovery.admission import check_importable, check_same, check_workflow_id
from durable.on_dbos.recovery.set_aside import begin_afresh, is_set_aside
from durable.on_dbos.store import workflows
from durable.on_dbos.store.large import SharedValues, Tables
from durable.on_dbos.store.reader import Reader
from durable.on_dbos.store.serializer import JSONSerializer
from durable.store.records import Selection
from durable.values import codec

DEFAULT = "default"
Submitted = Literal["submitted", "again", "set aside", "running", "completed", "failed", "cancelled"]


@contextmanager
def opening(database_url: str, application: str = "durable") -> Iterator[DBOSClient]:
    """A client of the database. It raises where that is lost, instead of waiting for it."""
    client = DBOSClient(
        system_database_url=database_url,
        serializer=JSONSerializer(),
        application_name=application,
        retry_connection_errors=False,
    )
    try:
        yield client
    finally:
        client.destroy()


def submit(
    client: DBOSClient,
    values: Tables,
    workflow_id: str,
    workflow: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    queue: str = DEFAULT,
) -> Submitted:
    """Have a worker of the queue run a workflow, once: the same id again tells how it stands.

    Returns `submitted`; `again` for one that had failed, `set aside` for one that was, and both go on with their
    completed steps; else its status, and then nothing was changed. Large arguments are stored apart, as values. Raises
    WorkflowConflictError where the id belongs to another call, InvalidNameError, SerializationError.
    """
    order = order_of(values, workflow_id, workflow, args, kwargs, queue)
    try:
        client.enqueue(order.options, order.function, order.arguments)
    except error.DBOSWorkflowIDInUseError:
        (found,) = client.list_workflows(workflow_ids=[workflow_id])
        return look_at(client, values, found, workflow, order)
    return "submitted"


class Order(NamedTuple):
    """A workflow that is to be put into a queue, as DBOS is given it."""

    options: EnqueueOptions
    function: str
    text: str  # the arguments, encoded
    arguments: Any


def order_of(
    values: Tables,
    workflow_id: str,
    workflow: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    queue: str,
) -> Order:
    """Return the order of a call, once its large arguments are stored. Raises InvalidNameError, SerializationError."""
    check_workflow_id(workflow_id)
    function, subject = check_importable(workflow), f"workflow {workflow_id!r}"
    if (refusal := codec.codec_of_result(workflow, subject).find_refusal(f"{subject}: its result")) is not None:
        raise refusal
    text = codec.encode_arguments(workflow, args, kwargs, subject, SharedValues(values, workflow_id).put)
    options: EnqueueOptions = {
        "workflow_name": workflows.WORKFLOW,
        "queue_name": queue,
        "workflow_id": workflow_id,
        "workflow_id_reuse_policy": "reject",
        "app_version": VERSION,
    }
    return Order(options, function, text, msgspec.json.decode(text))


def look_at(
    client: DBOSClient, values: Tables, found: WorkflowStatus, workflow: Callable[..., Any], order: Order
) -> Submitted:
    """Return how a workflow stands that was submitted before; a failed one goes back into the queue.

    Raises WorkflowConflictError if the id belongs to another call.
    """
    check_same(found, workflow, order.text, SharedValues(values, found.workflow_id).get)
    return _look_at(client, found, order.options["queue_name"])


def retry(client: DBOSClient, wanted: Selection) -> dict[str, Submitted]:
    """Put the failed workflows of a selection back into their queues. Return how each stands.

    One that has run its compensations stays failed. A child is tried again by its parent.
    """
    reader = Reader(client, "")
    told: dict[str, Submitted] = {}
    for record in reader.select(replace(wanted, top_level=True)):
        found = reader.status(record.workflow_id)
        told[record.workflow_id] = _look_at(client, found, found.queue_name or DEFAULT)
    return told


def make_tables(database_url: str) -> None:
    """Make DBOS's tables where there are none yet, or bring them up to date."""
    DBOS.migrate(database_url)


def has_no_tables(refusal: BaseException) -> bool:
    """Return whether that is why the database has refused something."""
    return isinstance(refusal, ProgrammingError) and getattr(refusal.orig, "sqlstate", None) in ("42P01", "3F000")


def _look_at(client: DBOSClient, found: WorkflowStatus, queue: str) -> Submitted:
    if is_set_aside(found):
        begin_afresh(found, client)
        client.resume_workflow(found.workflow_id, queue_name=queue)
        return "set aside"
    status: Submitted = workflows.status_of(found)  # type: ignore[assignment]
    if status != "failed":
        return status
    if workflows.read_record_of(found, client).is_undone():
        return status
    client.rewind_workflow(found.workflow_id, start_step=workflows.BEHIND_ALL, queue_name=queue)
    return "again"
