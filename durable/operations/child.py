"""Child workflows: with an id, rows and runs of their own. The parent waits for their outcomes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from durable.errors import NoThreadError, RunStopped, WorkflowCancelledError
from durable.operations.wait import WaitFor, came, start
from durable.parallel.future import Future
from durable.recovery.names import former_names_of, name_of_workflow, short_name
from durable.replay import Frame, Outcome, Wait
from durable.replay.keys import MAX_ID_LENGTH, check_id
from durable.replay.log import keeping_waits
from durable.replay.run import Run, Running
from durable.values import codec
from durable.values.fingerprint import fingerprint

if TYPE_CHECKING:
    from durable.operations.bounds import Bounds

GLANCE_SECONDS = 1.0  # how often to look whether the process that runs a child is still alive


class Child(WaitFor):
    """The end of a workflow that this one has asked for."""

    __slots__ = ("_fn", "_handle", "_is_watched", "_workflow_id")

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], workflow_id: str | None) -> None:
        if workflow_id:
            check_id(workflow_id)
        function = name_of_workflow(fn)
        name = short_name(function)
        super().__init__("child", name, codec.codec_of_result(fn, f"child workflow {name!r}: its result"))
        codec.encode_arguments(fn, args, kwargs, f"child workflow {name!r}")  # raises if the arguments do not fit
        self.args, self.kwargs, self.fingerprint = args, kwargs, fingerprint(args, kwargs)
        self._handle: Running | None = None  # where this process runs it
        self._is_watched = False
        self._fn, self._workflow_id = fn, workflow_id

    def id_of(self, run: Run, key: str) -> str:
        """Return the child's workflow id."""
        return self._workflow_id or _shortened(f"{run.workflow_id}/{key}")

    def wait(self, run: Run, key: str) -> Wait:
        """Return a wait for its end."""
        return Wait(child_id=self.id_of(run, key))

    def begin(self, run: Run, key: str, *, is_new: bool) -> Callable[[BaseException], object] | None:
        """Start it, unless an earlier run of the parent started it and it has ended."""
        if is_new or self._find_end(run, key) is None:
            self._start(run, key, anew=is_new)
        return self._give_up

    def look(self, run: Run, key: str, wake_at: datetime | None) -> Outcome | None:
        """Return how it has ended. If another process ran it and has died, this one takes it over."""
        has_ended = self._handle is not None and self._handle.done()
        outcome = self._find_end(run, key)
        if outcome is None and self._handle is None:
            self._start(run, key, anew=False)
        elif outcome is None and has_ended and self._handle is not None and (error := self._handle.ending):
            raise error  # its run was interrupted, or stopped by an error of the engine, and then so is this one
        return outcome

    def look_again_at(self, run: Run) -> datetime | None:
        """Return when to look whether another process that runs it has died."""
        return None if self._handle is not None else run.clock() + timedelta(seconds=GLANCE_SECONDS)

    def on_end(self, wake: Callable[[], object]) -> None:
        """Call `wake` when its run has ended. It may have no outcome, and then no row says so."""
        if self._handle is not None and not self._is_watched:
            self._is_watched = True
            self._handle.when_done(wake)

    def _start(self, run: Run, key: str, *, anew: bool) -> None:
        try:
            self._handle = run.start_child(self.id_of(run, key), self._fn, self.args, self.kwargs, anew=anew)
        except NoThreadError as error:
            raise run.find_no_thread() from error

    def _give_up(self, error: BaseException) -> None:
        if self._handle is not None and isinstance(error, RunStopped):  # Ctrl+C of the parent is one of the child too
            self._handle.interrupt()

    def _find_end(self, run: Run, key: str) -> Outcome | None:
        """Return its output or its error, as it has recorded them."""
        child_id = self.id_of(run, key)
        found = keeping_waits(run.log).find_end(child_id)
        if found is None:
            return None
        status, output, error = found
        if status == "cancelled":
            return came(run, None, WorkflowCancelledError(f"workflow {child_id!r} was cancelled"))
        return Outcome("completed" if error is None else "failed", output, error, run.now())


def child(
    frame: Frame,
    fn: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    workflow_id: str | None,
    bounds: Bounds | None = None,
) -> Future[Any]:
    """Return a future of its result. It begins now, or when the bounds allow it."""
    call = Child(fn, args, kwargs, workflow_id)
    for former in former_names_of(fn):
        name = short_name(former)
        if frame.run.history.has(frame.scope.peek(name)[0]):
            call.name = name
    return start(frame, call, bounds)


def _shortened(workflow_id: str) -> str:
    """Return an automatic id, with a hash in place of its middle if it is too long: children may nest to any depth."""
    if len(workflow_id) <= MAX_ID_LENGTH:
        return workflow_id
    digest = hashlib.sha256(workflow_id.encode()).hexdigest()[:32]
    kept = (MAX_ID_LENGTH - len(digest) - 2) // 2
    return f"{workflow_id[:kept]}~{digest}~{workflow_id[-kept:]}"
