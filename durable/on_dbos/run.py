"""Run: one life of a workflow on DBOS."""

from __future__ import annotations

import threading
from typing import Any, cast

from durable.errors import FencedError
from durable.on_dbos.checkpoints import Checkpoints
from durable.on_dbos.slots import NotOurs
from durable.replay.run import Run
from durable.store.owner import Owner
from durable.store.store import Store


class DBOSRun(Run):
    """A run whose rows DBOS keeps."""

    def __init__(self, checkpoints: Checkpoints, **parts: Any) -> None:
        super().__init__(
            checkpoints.workflow_id,
            checkpoints.run,
            store=cast(Store, checkpoints),
            owner=cast(Owner, _NoLock()),
            suspends=False,
            **parts,
        )
        self.is_watched = True  # so the thread that makes a step sees it through, and no batch
        self.checkpoints = checkpoints
        self._is_cancelling = False
        self.ended = threading.Event()

    def ask_to_cancel(self) -> None:
        """Somebody wants the workflow to be cancelled. Once is enough: its compensations may begin in spite of it."""
        if self.stopped is None and not self._is_cancelling:
            self._is_cancelling = True
            self.cancel()

    def lose(self, error: BaseException) -> None:
        """Something that goes on beside its steps has met an error: nothing more begins."""
        if isinstance(error, NotOurs):
            self.refused()
        else:
            self.stop(error)

    def refused(self) -> BaseException:
        """DBOS has refused a row: why, to be raised."""
        if self.store.is_cancel_requested(self.workflow_id, self.epoch):
            return self.cancel()
        return self.stop(FencedError(self.workflow_id, self.epoch))


class _NoLock:
    """DBOS says who runs a workflow, not a lock on this machine."""

    def release(self) -> None:
        """There is none."""
