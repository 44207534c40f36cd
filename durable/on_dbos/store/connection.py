"""Connections: URLs of databases, and connections of our own beside those of DBOS."""

from __future__ import annotations

import re
import time
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

_CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "durable presence",
}
REST_SECONDS = 1.0  # after which a connection may have been lost without notice


class RestedPool(QueuePool):
    """Connections of DBOS. One that has rested is asked whether it is alive; one in constant use is not.

    DBOS would ask before each of its transactions, of which a step has two: 2 of the 10 round trips of a step.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        event.listen(self, "checkin", _note_rest)
        event.listen(self, "checkout", _check_rested)


def connect(database_url: str) -> psycopg.Connection[Any]:
    """Return a connection that commits each statement, and notices soon that the server has gone."""
    url = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    return psycopg.connect(url, autocommit=True, **_CONNECTION)  # type: ignore[arg-type]


def check_url(database_url: str) -> str:
    """Return the name of the database. Raises ValueError if the URL is not one of PostgreSQL."""
    try:
        url = make_url(database_url)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() != "postgresql" or not url.database:
        raise ValueError(f"database_url {hide_password(str(database_url))!r}: expected postgresql://user@host/database")
    return url.database


def hide_password(url: str) -> str:
    """Return a URL for people to read: without its password, which may stand before the host or in the query."""
    head, at, rest = url.rpartition("@")
    text = f"{head.rpartition(':')[0]}:***@{rest}" if at and head.count(":") > 1 else url
    return re.sub(r"(?i)([?&](?:ssl)?password=)[^&]*", r"\1***", text)


def wait_for_lost_databases() -> None:
    """From now on, whatever keeps a connection from being made counts as a lost one, which DBOS tries again.

    It goes by the driver's words, and does not know those of a refused Unix socket; then it would give the workflow up.
    """
    if not event.contains(Engine, "handle_error", _note_lost):
        event.listen(Engine, "handle_error", _note_lost)


def _note_lost(context: ExceptionContext) -> None:
    if context.connection is None and isinstance(context.original_exception, psycopg.OperationalError):
        context.is_disconnect = True


def _note_rest(_: object, entry: ConnectionPoolEntry) -> None:
    entry.info["rests_since"] = time.monotonic()


def _check_rested(connection: Any, entry: ConnectionPoolEntry, _: object) -> None:
    """Have the pool replace a connection that has died while it rested."""
    now = time.monotonic()
    if now - entry.info.get("rests_since", now) < REST_SECONDS:
        return
    try:
        connection.execute("select 1")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError from error
