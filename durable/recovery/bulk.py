"""Bulk: many workflows at once, tried again or deleted; and a thread that deletes them once they are old."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from durable import logs
from durable.errors import DurableError
from durable.recovery.backend import Backend
from durable.recovery.handle import Handle
from durable.recovery.recover import Recovery
from durable.store.records import Selection, WorkflowRecord
from durable.values.instants import duration_of

BATCH = 100  # workflows that are deleted in one transaction, so that others save in between
TIDY_SECONDS = 600.0  # how often it is looked for workflows that are old


def retry(failed: Iterable[WorkflowRecord], resume: Callable[[str], Handle[Any]]) -> Recovery:
    """See `Engine.retry`."""
    found = Recovery()
    for record in failed:
        try:
            found.resumed.append(resume(record.workflow_id))
        except DurableError as error:  # its function is gone, or another process has begun it
            found.left[record.workflow_id] = str(error)
    return found


def delete(backend: Backend, wanted: Selection, is_stopped: Callable[[], bool] = lambda: False) -> int:
    """Delete the workflows of a selection that have ended, in batches. Return how many."""
    count = passed_over = 0
    while not is_stopped():
        batch = msgspec.structs.replace(wanted, top_level=True, limit=BATCH, offset=passed_over)
        ids = [record.workflow_id for record in backend.reader.select(batch)]
        if not ids:
            break
        deleted = backend.delete_ended(ids)
        count, passed_over = count + deleted, passed_over + len(ids) - deleted
    if count:
        backend.give_space_back()
    return count


class Retention:
    """Deletes, in a thread of its own, the workflows that have ended long ago: at once, and every ten minutes."""

    def __init__(self, backend: Backend, now: Callable[[], datetime], retention: timedelta | str) -> None:
        """Raises ValueError for what is no duration."""
        self._backend, self._now, self._keep = backend, now, duration_of(retention, "retention")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tidy, name="retention", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it. A batch that is being deleted ends first."""
        self._stopped.set()
        self._thread.join()

    def _tidy(self) -> None:
        while not self._stopped.is_set():
            try:
                until = self._now() - self._keep
                for status in ("completed", "cancelled"):
                    delete(self._backend, Selection(status=status, until=until), self._stopped.is_set)
            except Exception:  # the database may be busy, or away
                logs.logger.exception("old workflows cannot be deleted; this is tried again")
            self._stopped.wait(TIDY_SECONDS)
