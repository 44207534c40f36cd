"""Ending: the end of a workflow of DBOS as a future of ours, wherever it is run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from typing import Any

from dbos import DBOS, WorkflowHandle, error

from durable.errors import RunStopped, StoreError, WorkflowCancelledError
from durable.on_dbos.outside import outside
from durable.on_dbos.recovery.runs import Runs
from durable.on_dbos.store.rows import OutcomeRow
from durable.on_dbos.store.serializer import WorkflowFailed
from durable.parallel.future import Future
from durable.values.codec import Codec
from durable.values.failures import decode_error
from durable.values.large import Read

POLL_SECONDS = 0.1  # how often an ending is looked for that another process brings about


class Ending:
    """Settles a future in a thread of its own. `interrupt` ends the workflow's run here, or else the wait."""

    def __init__(self, workflow_id: str, runs: Runs, future: Future[Any], result_codec: Codec, read: Read) -> None:
        """`read` reads large values."""
        self._read_value = read
        self.workflow_id, self._runs, self._future, self._codec = workflow_id, runs, future, result_codec
        self._is_begun_here = False

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: its recorded result"

    def start(self, handle: WorkflowHandle[Any] | None) -> None:
        """`handle` is what DBOS gave where it was started here."""
        self._is_begun_here = handle is not None
        self._runs.when_interrupted(self.workflow_id, self._give_up)
        self._future.on_end(lambda _: self._runs.forget(self.workflow_id, self._give_up))
        name = f"end of {self.workflow_id}"
        threading.Thread(target=self._settle, args=(handle,), name=name, daemon=True).start()

    def interrupt(self, reason: str) -> None:  # noqa: ARG002 - DBOS records none
        """Let nothing more of it begin. One that another process runs goes on, without a wait here."""
        if not self._runs.interrupt(self.workflow_id, is_begun_here=self._is_begun_here):
            self._give_up(RunStopped(f"workflow {self.workflow_id!r}: its wait here was given up; run the id again"))

    def _settle(self, handle: WorkflowHandle[Any] | None) -> None:
        try:
            value = self._outcome(handle)
        except BaseException as ending:
            self._give_up(ending)
        else:
            with contextlib.suppress(InvalidStateError):
                self._future.set_result(value)

    def _give_up(self, ending: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):
            self._future.set_exception(ending)

    def _outcome(self, handle: WorkflowHandle[Any] | None) -> Any:
        found = self._read(handle)
        text = bytes(found.output).decode() if isinstance(found, OutcomeRow) else "null"
        return self._codec.decode(text, self, self._read_value)

    def _read(self, handle: WorkflowHandle[Any] | None) -> Any:
        work: Callable[[], Any] = (
            (lambda: handle.get_result(polling_interval_sec=POLL_SECONDS))
            if handle is not None
            else (lambda: DBOS.retrieve_workflow(self.workflow_id).get_result(polling_interval_sec=POLL_SECONDS))
        )
        try:
            return outside(work)
        except WorkflowFailed as failed:
            ending = decode_error(failed.record)
        except error.DBOSAwaitedWorkflowCancelledError:
            raise WorkflowCancelledError(f"workflow {self.workflow_id!r} was cancelled") from None
        except error.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded:
            raise StoreError(
                f"workflow {self.workflow_id!r} was set aside by DBOS: it was begun too often without an end, so "
                f"it may be what kills its processes; resume it to try again",
                path=self._runs.path,
            ) from None
        raise ending  # here, so that its own cause stays
