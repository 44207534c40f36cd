"""Process: DBOS itself, of which there is one in a process, and the one DBOS workflow that calls all functions."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from dbos import DBOS, DBOSConfig

from durable.errors import NotSupportedError
from durable.on_dbos.store.connection import wait_for_lost_databases
from durable.on_dbos.store.rows import OutcomeRow
from durable.on_dbos.store.workflows import WORKFLOW

Execute = Callable[..., OutcomeRow]

# DBOS reports this of each workflow that fails, and it is for the caller that asks for its result
_EXPECTED = "Exception encountered in background workflow"
cancelled: deque[str] = deque(maxlen=1000)  # workflows that were cancelled as their own last act, of which DBOS warns
_lock = threading.Lock()
_current: list[Process] = []


class Process:
    """DBOS, launched for one engine. Workflows that this executor has left unfinished are taken up at once."""

    def __init__(self, config: DBOSConfig, execute: Execute, queues: Sequence[str] = ()) -> None:
        """Raises NotSupportedError if another engine is open in this process."""
        self.execute = execute
        with _lock:
            check_alone()
            _current.append(self)
        try:
            wait_for_lost_databases()
            DBOS(config=config)
            logging.getLogger("dbos").addFilter(_is_news)
            DBOS.listen_queues(queues)  # else it would run whatever is in any queue
            DBOS.launch()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let DBOS go, and another engine in."""
        with _lock:
            if self in _current:
                DBOS.destroy()
                logging.getLogger("dbos").removeFilter(_is_news)
                _current.remove(self)


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)  # `set_aside` counts those without progress
def workflow(function: str, arguments: dict[str, Any], forked: list[dict[str, Any]] | None = None) -> OutcomeRow:
    """Call the function of this path with these arguments; `forked` are rows that it begins with."""
    return _current[0].execute(function, arguments, forked or [])


def check_alone() -> None:
    """Raise NotSupportedError if an engine is open in this process."""
    if _current:
        raise NotSupportedError(
            "DBOS runs once in a process, and another DBOSEngine is open in this one; share it, or close it",
            operation="a second DBOSEngine",
        )


def _is_news(record: logging.LogRecord) -> bool:
    text = str(record.msg)
    return not text.startswith(_EXPECTED) and not any(text.startswith(f"Workflow {each} outcome") for each in cancelled)
