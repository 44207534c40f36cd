"""Hosted code: code that was not written for workflows, an agent framework say, as a branch of a workflow.

It runs in asyncio tasks of its own, and asks for operations as `durable.hosted` says. Each task has a
scope, which counts its operations. The key of the scope is drawn from the parent's counter as the task is created, so
no key depends on which of several tasks is quicker. Tasks that ask for no operation are not counted, as far as one
can know: how many of them there are may depend on time.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from durable.errors import DurableError
from durable.parallel.future import Future
from durable.replay import Frame, held_back
from durable.replay.keys import Scope, current_task, name_in
from durable.replay.step_info import find_current_step

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

# A workflow counts as waiting after so many looks in a row at which no task had begun or gone on since the last one.
# One long interval would not do: a task that holds the loop up would use it up alone.
QUIET_LOOKS = 5
LOOK_SECONDS = 0.01  # between two looks
_TASK = "subtask"
_TASK_BEFORE = "task"  # the name in older files, which count all tasks
_WAITS = frozenset({"asyncio.locks", "asyncio.queues"})  # their coroutines only wait for others

_uncounted: contextvars.ContextVar[bool] = contextvars.ContextVar("durable_uncounted", default=False)
_places: weakref.WeakKeyDictionary[Any, _Place] = weakref.WeakKeyDictionary()  # by the task


def find_frame() -> Frame | None:
    """Return the frame of the task of hosted code that runs here, or None. A step is one unit, and has none."""
    task = current_task()
    place = None if task is None or find_current_step() is not None else _places.get(task)
    return None if place is None else place.open()


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
    """See `durable.hosted`."""
    token = _uncounted.set(True)
    try:
        yield
    finally:
        _uncounted.reset(token)


def host(branch: Callable[..., Future[T]], name: str, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run hosted code alongside what follows; the future is its result. `branch` is `ctx.branch`."""
    if not hasattr(coroutine, "close"):
        raise TypeError(f"ctx.host: expected a coroutine, as agent.run(...) returns one, got {coroutine!r}")
    try:
        future = branch(name, _run_hosted, coroutine)
    except BaseException:
        coroutine.close()  # it was never begun
        raise
    future.on_end(lambda _: coroutine.close())  # the same, if its task could not begin
    return future


async def _run_hosted(frame: Frame, coroutine: Coroutine[Any, Any, T]) -> T:
    with held_back():
        hosted = _Host(frame)
    try:
        return await coroutine
    finally:
        await hosted.end()


class _Host:
    """The tasks of one coroutine that is hosted."""

    def __init__(self, frame: Frame) -> None:
        import asyncio

        self.frame, self.loop = frame, asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._moving: Future[None] | None = None  # counts as work in flight, so that the workflow is not idle
        self._quiet_looks = 0
        rows = frame.run.history.left()
        self.counts_all = any(key.startswith(f"{frame.scope.prefix}{_TASK_BEFORE}_") for key in rows)
        frame.blocked_on = _Blocked(self.move)
        _places[asyncio.current_task()] = _Place(self, frame.scope, lambda: frame)
        if not isinstance(self.loop.get_task_factory(), _TaskFactory):
            self.loop.set_task_factory(_TaskFactory(self.loop.get_task_factory()))

    def add(self, task: asyncio.Task[Any], coroutine: Any, parent: Scope) -> None:
        """Give a new task its place, under the task that has created it."""
        place = None
        if self.counts_all or not (_uncounted.get() or _only_waits(coroutine)):
            key, position = parent.draw(_TASK_BEFORE if self.counts_all else _TASK)
            scope = Scope(parent.workflow_id, key, parent)
            place = _places[task] = _Place(self, scope, lambda: self._open(scope, key, position))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._end_task, place))
        self.move()

    def _open(self, scope: Scope, key: str, position: int) -> Frame:
        run, parent = self.frame.run, scope.parent
        try:
            run.history.expect_branch(name_in(key), parent or scope, key, position)
        except DurableError as error:
            raise run.stop(error) from None
        part = self.frame.part(scope)
        run.frames.add(part)
        return part

    def _end_task(self, place: _Place | None, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if place is not None and place.frame is not None:
            place.frame.close_part()

    def move(self) -> None:
        """Note that a task begins or goes on: it may ask for an operation soon."""
        self._quiet_looks = 0
        if self._moving is None:
            self._moving = self.frame.future("")
            self.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._quiet_looks += 1
        if self._quiet_looks < QUIET_LOOKS:
            self.loop.call_later(LOOK_SECONDS, self._look)
        elif self._moving is not None:
            moving, self._moving = self._moving, None
            moving.set_result(None)

    async def end(self) -> None:
        """Cancel the tasks that the code has left, and wait for them, as the end of an event loop does."""
        import asyncio

        while left := set(self._tasks):
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        self._quiet_looks = QUIET_LOOKS
        self._look()


class _Place:
    """The place of a task of hosted code: its scope, and its frame once it asks for an operation."""

    def __init__(self, hosted: _Host, scope: Scope, make: Callable[[], Frame]) -> None:
        self.hosted, self.scope, self._make = hosted, scope, make
        self.frame: Frame | None = None

    def open(self) -> Frame:
        """Return the frame. To be called in the task itself."""
        if self.frame is None:
            with held_back():
                self.frame = self._make()
        return self.frame


class _Blocked(dict[object, list[Any]]):
    """The waits of the tasks of hosted code. As a wait ends, its task goes on."""

    def __init__(self, on_end: Callable[[], object]) -> None:
        super().__init__()
        self._on_end = on_end

    def __delitem__(self, wait: object) -> None:
        super().__delitem__(wait)
        self._on_end()


class _TaskFactory:
    """Makes the tasks of a loop, and gives those that hosted code creates their places."""

    def __init__(self, make: Callable[..., Any] | None) -> None:
        self._make = make

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        import asyncio

        task = (
            asyncio.Task(coroutine, loop=loop, **options)
            if self._make is None
            else self._make(loop, coroutine, **options)
        )
        creator = asyncio.current_task(loop)
        if creator is not None and (parent := _places.get(creator)) is not None:
            parent.hosted.add(task, coroutine, parent.scope)
        return task


def _only_waits(coroutine: Any) -> bool:
    """Return whether it is one of asyncio's own, as `Event.wait()` and `Queue.get()` are."""
    frame = getattr(coroutine, "cr_frame", None)
    return frame is not None and frame.f_globals.get("__name__") in _WAITS
