"""Reconnect: DBOS waits for a database that is away, and is helped to know each way in which it is.

It goes by the driver's words, and does not know those of a refused Unix socket; then it would give the workflow up.
"""

from __future__ import annotations

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext


def wait_for_lost_databases() -> None:
    """From now on, whatever keeps a connection from being made counts as a lost one, which DBOS tries again."""
    if not event.contains(Engine, "handle_error", _note_lost):
        event.listen(Engine, "handle_error", _note_lost)


def _note_lost(context: ExceptionContext) -> None:
    if context.connection is None and isinstance(context.original_exception, psycopg.OperationalError):
        context.is_disconnect = True
