"""The facts that a step may ask about itself while it runs, in its thread, its coroutine or its process."""

from __future__ import annotations

import contextvars
from numbers import Real
from pathlib import Path  # at run time too, for typing.get_type_hints
from typing import Any, Protocol

import msgspec

from durable.errors import NotSupportedError, ScopeError
from durable.replay.keys import check_name, idempotency_key
from durable.values.progress import encode_progress


class Reporter(Protocol):
    """An object that gets the progress of steps, see `durable.limits.progress`."""

    def report(self, step: StepInfo, name: str, value: str, total: float | None) -> None:
        """Take a value, as JSON text. Any thread may call it."""
        ...


class StepInfo(msgspec.Struct, frozen=True):
    """The facts that a step may ask about itself.

    `attempt` counts from 1; `database` is the file in which its workflow is saved; `run` is the number of the run.
    """

    workflow_id: str
    key: str
    attempt: int
    database: Path
    run: int = 0
    reporter: Reporter | None = None

    def __str__(self) -> str:
        return f"step {self.key!r} of {self.workflow_id!r}"

    def __repr__(self) -> str:
        return f"StepInfo{self._facts()!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        return StepInfo, self._facts()  # another process has no reporter, unless it is given one

    def _facts(self) -> tuple[Any, ...]:
        return self.workflow_id, self.key, self.attempt, self.database, self.run

    @property
    def idempotency_key(self) -> str:
        """`<workflow id>/<step key>`, the same on each attempt: give it to the outside world along with the request."""
        return idempotency_key(self.workflow_id, self.key)

    def publish(self, name: str, value: Any, *, total: float | None = None) -> None:
        """Show others how far this step is: `publish("rows", 40, total=100)`. It may be called in every turn of a loop.

        The latest value of each name is kept. Values are written five times a second at most, those of all steps of a
        workflow together, so a step that ends at once may never show one. With a `total`, a number is drawn as a bar.

        Progress belongs to this attempt, and no code of the workflow can read it: it is no checkpoint. It is gone once
        the attempt has ended, with whatever outcome, or the run. If the process dies, the last one that was written
        stays to be seen until the next run begins. In `ctx.transaction`, nothing is seen before the end. From any
        thread of the step, and from its process with `isolate`.

        Raises InvalidNameError; SerializationError for a value that is not plain JSON, or takes more than 10 kB;
        TypeError for a total without a number; NotSupportedError in a process of your own.
        """
        if self.reporter is None:
            raise NotSupportedError(
                f"{self}: this copy of it has no way to publish, in another process, say; publish in the step itself",
                operation="publish",
            )
        if total is not None and not all(isinstance(each, Real) for each in (value, total)):
            raise TypeError(f"{self}: expected numbers, got {value!r} of {total!r}; leave total out")
        check_name(name)
        self.reporter.report(self, name, encode_progress(value, str(self)), None if total is None else float(total))


current: contextvars.ContextVar[tuple[Any, ...] | None] = contextvars.ContextVar("durable_step", default=None)
"""A function that returns the facts, and its arguments: a partial of them would take as long as two calls."""


def context_of_caller() -> contextvars.Context:
    """Return a copy of the caller's context variables, for a workflow that is started there. It is in no step."""
    context = contextvars.copy_context()
    context.run(current.set, None)
    return context


def find_current_step() -> StepInfo | None:
    """Return the step that is running here, or None."""
    found = current.get()
    if found is None:
        return None
    find, *args = found
    info: StepInfo = find(*args)
    return info


def current_step() -> StepInfo:
    """Return the step that is running here. Raises ScopeError outside of a step."""
    if (info := find_current_step()) is None:
        raise ScopeError(
            "current_step() was called outside of a step; call it in a function that ctx.step or ctx.submit runs"
        )
    return info
