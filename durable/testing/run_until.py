"""Crashing on purpose, for our tests and the users' own: a real process, a real SIGKILL, at a named moment.

run_until_crash("workflow.db", "emp_001", onboarding, "Jane", at="provision_laptop:executed")
assert Engine("workflow.db").run("emp_001", onboarding, "Jane") == ...
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from durable.engine import Engine, Synchronous
from durable.errors import DurableError
from durable.limits.payload import dump, load
from durable.observer import crash, crash_at

__all__ = ["NoCrashError", "crash", "crash_at", "run_until_crash"]


class NoCrashError(DurableError):
    """The child process ended without reaching the moment of its crash. `exitcode` is that of the child."""

    def __init__(self, message: str, *, exitcode: int | None) -> None:
        super().__init__(message)
        self.exitcode = exitcode


def run_until_crash(
    path: str | os.PathLike[str],
    workflow_id: str,
    workflow: Callable[..., Any],
    /,
    *args: Any,
    at: str,
    synchronous: Synchronous = "full",
    **kwargs: Any,
) -> None:
    """Run a workflow in a child process that is killed at a moment, `STEP[:MOMENT]` as in `DURABLE_CRASH_AT`.

    The workflow can be defined in a notebook, as for the crash matrix. Raises NoCrashError if the child does not reach
    the moment, ValueError for a moment that does not exist, PayloadError if the workflow cannot be sent to a process.
    """
    crash_at.parse(at)
    child = multiprocessing.get_context("spawn").Process(
        target=_run, args=(os.fspath(path), synchronous, at, workflow_id, dump(workflow, args, kwargs))
    )
    child.start()
    child.join()
    if child.exitcode not in (-9, 137):
        raise NoCrashError(
            f"workflow {workflow_id!r} ended without reaching {at!r} (exit code {child.exitcode}); name a step that it "
            f"runs, by name or key",
            exitcode=child.exitcode,
        )


def _run(path: str, synchronous: Synchronous, at: str, workflow_id: str, payload: bytes) -> None:
    workflow, args, kwargs, *_ = load(payload)
    with Engine(path, synchronous=synchronous, observers=[crash_at.parse(at)]) as engine:
        engine.run(workflow_id, workflow, *args, **kwargs)
