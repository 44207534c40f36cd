"""Context: what a workflow sees. It is an executor that remembers.

The replay rule is `Context._replay`: each operation draws its key from program order; a key with an outcome on record
is answered from the record; any other is tried, and its outcome recorded. That is all there is to durable execution.
The rest of the package makes sure that it is true.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from durable.attempt import Attempt, Recorded
from durable.call import Call, is_async, split_name
from durable.errors import CorruptionError, DurableError, RunStopped, ScopeError
from durable.future import Future, wait_async
from durable.interrupt import held_back, let_through
from durable.run import Run
from durable.scope import Scope

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


class Context:
    """The first argument of every workflow and branch function. Only that function may call it, in its own thread."""

    def __init__(self, run: Run, scope: Scope) -> None:
        self._run = run
        self._scope = scope
        self._pending: dict[Future[Any], None] = {}  # what has not ended, or has failed; in program order

    @property
    def workflow_id(self) -> str:
        """The id that the user gave to this execution."""
        return self._run.workflow_id

    # ---- operations

    @overload
    def step(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def step(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def step(self, name: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def step(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def step(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn(*args, **kwargs)` here and record its result; every later run gets the recorded result instead.

        A name may stand before `fn`, else its own is used. A coroutine function is run on the engine's event loop.
        Raises what `fn` raised, as recorded. Raises ScopeError outside of the workflow's own thread and task,
        NonDeterminismError where something else is on record, SerializationError for a result without JSON form.
        """
        with held_back():
            found = self._replay(Call(fn, args, kwargs))
            if isinstance(found, Recorded):
                return found.result()
            self._scope.in_step = True
            try:
                return self._await(found) if found.call.is_async else found.result()
            finally:
                self._scope.in_step = False

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    @overload
    def submit(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...
    @overload
    def submit(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Like `step`, but beside what comes next. Its key is drawn now, in program order; the future is its result.

        Its error comes out where the future is asked; one that nobody asked for fails the workflow.
        """
        with held_back():
            return self._submit(Call(fn, args, kwargs), _Turnstile(None))

    @overload
    def map(
        self, fn: Callable[[A], Coroutine[Any, Any, T]], a: Iterable[A], /, *, max_concurrent: int | None = None
    ) -> list[T]: ...
    @overload
    def map(self, fn: Callable[[A], T], a: Iterable[A], /, *, max_concurrent: int | None = None) -> list[T]: ...
    @overload
    def map(
        self,
        fn: Callable[[A, B], Coroutine[Any, Any, T]],
        a: Iterable[A],
        b: Iterable[B],
        /,
        *,
        max_concurrent: int | None = None,
    ) -> list[T]: ...
    @overload
    def map(
        self, fn: Callable[[A, B], T], a: Iterable[A], b: Iterable[B], /, *, max_concurrent: int | None = None
    ) -> list[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        /,
        *more: Iterable[Any],
        max_concurrent: int | None = None,
    ) -> list[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        /,
        *more: Iterable[Any],
        max_concurrent: int | None = None,
    ) -> list[T]: ...
    def map(self, fn: Any, /, *iterables: Iterable[Any], max_concurrent: int | None = None) -> list[Any]:
        """`submit` for each tuple of items, at most `max_concurrent` at once; the results in the order of the items.

        Waits for all of them, also when one fails; then raises the first error in program order, with the others noted.
        """
        if max_concurrent is not None and max_concurrent < 1:
            raise ValueError(f"max_concurrent: expected at least 1, got {max_concurrent}")
        with held_back():
            self._refuse_to_block("ctx.map", "await asyncio.gather(*[ctx.submit(fn, item) for item in items])")
            turnstile = _Turnstile(max_concurrent)
            futures = [self._submit(Call(fn, items, {}), turnstile) for items in zip(*iterables, strict=False)]
            self._run.wait(futures)
            errors = [error for future in futures if (error := future.exception()) is not None]
            if errors:
                raise self._run.merge(errors)
            return [future.result() for future in futures]

    @overload
    def branch(
        self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...
    @overload
    def branch(self, fn: Callable[Concatenate[Context, P], T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    @overload
    def branch(
        self,
        name: str,
        fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]: ...
    @overload
    def branch(
        self, name: str, fn: Callable[Concatenate[Context, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...
    def branch(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(child_ctx, *args, **kwargs)` beside what comes next: several steps, with keys of their own.

        A branch is part of the workflow's code: it is replayed with it, and its result is not stored. It has a thread
        of its own, or a task if it is a coroutine function.
        """
        with held_back():
            name, fn, args = split_name(fn, args)
            key, _, _ = self._draw(name, lambda *place: self._run.history.expect_branch(name, *place))
            child = Context(self._run, Scope(self.workflow_id, key, self._scope))
            future = self._new_future()

            def begin() -> None:
                if is_async(fn):
                    spawned = self._run.workers.spawn(child.call_async(fn, args, kwargs))
                    spawned.add_done_callback(lambda done: future.settle(done.result))
                else:
                    self._run.workers.start_thread(key, lambda: future.settle(lambda: child.call(fn, args, kwargs)))

            self._launch(future, begin)
            return future

    # ---- the replay rule

    def _replay(self, call: Call) -> Recorded | Attempt:
        """An operation with an outcome on record is answered from it; any other is tried, and recorded.

        A row that says `running` was left behind by a crash: its effect may have happened, nobody knows. It is tried
        again, which is why a step is executed at least once, and recorded once.
        """
        run, scope = self._run, self._scope
        key, position, row = self._draw(call.name, lambda *place: run.history.take(call, *place))
        if row is None:
            return Attempt(run, scope, call, key, position, run.history.count_tries(key) + 1)
        if row.status == "running":
            return Attempt(run, scope, call, key, position, row.attempt + 1)
        if not row.is_intact():
            raise run.stop(
                CorruptionError(
                    f"step {key!r} of {run.workflow_id!r}: its stored outcome does not match its checksum; restore "
                    f"{str(run.database)!r} from a copy, or delete this workflow",
                    path=run.database,
                )
            )
        run.history.note_outcome(scope, key, row.epoch)
        run.notify("step.replayed", key, call.name, row.attempt)
        return Recorded(run, call, row)

    def _draw(self, name: str, look_up: Callable[[Scope, str, int], T]) -> tuple[str, int, T]:
        """The next key, and what the history says of its place. What is wrong here ends the run, not the workflow."""
        self._run.check()
        try:
            key, position = self._scope.draw(name)
            return key, position, look_up(self._scope, key, position)
        except DurableError as error:
            raise self._run.stop(error) from None

    # ---- parallel work

    def _submit(self, call: Call, turnstile: _Turnstile) -> Future[Any]:
        found = self._replay(call)
        future = self._new_future()
        if isinstance(found, Recorded):
            future.settle(found.result)
            return future
        workers, context = self._run.workers, contextvars.copy_context()

        def begin() -> None:
            if call.is_async:
                spawned = context.run(workers.spawn, found.result_async())
                spawned.add_done_callback(lambda done: future.settle(done.result))
            else:
                context.run(workers.submit, lambda: future.settle(found.result))

        future.add_done_callback(turnstile.leave)
        turnstile.enter(lambda: self._launch(future, begin))
        return future

    def _launch(self, future: Future[Any], begin: Callable[[], None]) -> None:
        """Begin parallel work. Where no thread can be had any more, as the interpreter ends, the run is interrupted."""
        try:
            begin()
        except RuntimeError:
            self._run.interrupt()
            future.set_exception(RunStopped(f"workflow {self.workflow_id!r}: no thread could be started"))

    def _new_future(self) -> Future[Any]:
        future: Future[Any] = Future(self._run.workers.event_loop.is_current)
        self._pending[future] = None
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Any) -> None:
        if future.unasked_error() is None:
            del self._pending[future]

    def _await(self, attempt: Attempt) -> Any:
        """Run a coroutine step on the event loop, and wait for it."""
        self._refuse_to_block("ctx.step", "await ctx.submit(...)")
        spawned = self._run.workers.spawn(attempt.result_async())
        self._run.wait([spawned])
        return spawned.result()

    def _refuse_to_block(self, operation: str, instead: str) -> None:
        if self._run.workers.event_loop.is_current():
            error = ScopeError(f"{operation} would block the event loop that runs this async workflow; write {instead}")
            raise self._run.stop(error)

    # ---- the function that this context was made for

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run it in this thread. Returns or raises only when all that it has submitted has ended and is saved."""
        self._scope.adopt()
        try:
            value = let_through(fn, self, *args, **kwargs)
        except BaseException as error:
            self._close(error)
            self._run.wait(self._pending)
            self._raise_unasked(error)
            raise
        self._close(None)
        self._run.wait(self._pending)
        self._raise_unasked(None)
        return value

    async def call_async(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same for a coroutine function, in this task."""
        self._scope.adopt()
        try:
            value = await fn(self, *args, **kwargs)
        except BaseException as error:
            self._close(error)
            await wait_async(list(self._pending), self._run.interrupt)
            self._raise_unasked(error)
            raise
        self._close(None)
        if cancelled := await wait_async(list(self._pending), self._run.interrupt):
            raise cancelled
        self._raise_unasked(None)
        return value

    def finish(self) -> None:
        """The workflow has returned: raise NonDeterminismError for checkpoints that it never asked for."""
        self._run.history.finish(self._scope)

    def _close(self, error: BaseException | None) -> None:
        self._scope.closed = True
        if error is not None and not isinstance(error, Exception):
            self._run.interrupt()

    def _raise_unasked(self, error: BaseException | None) -> None:
        """An error that nobody asked for fails the function; where it fails anyway, it is noted."""
        unasked = [found for future in list(self._pending) if (found := future.unasked_error()) is not None]
        unasked.sort(key=lambda found: isinstance(found, Exception))  # an interrupt comes first, it is no outcome
        if error is None and unasked:
            raise self._run.merge(unasked)
        if isinstance(error, Exception) and unasked:
            self._run.merge([error, *unasked])


class _Turnstile:
    """Lets at most so many begin at once, and another whenever one has ended."""

    def __init__(self, limit: int | None) -> None:
        self._free = limit
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def enter(self, begin: Callable[[], None]) -> None:
        """Begin now, or as soon as there is room."""
        with self._lock:
            if self._free == 0:
                self._waiting.append(begin)
                return
            if self._free is not None:
                self._free -= 1
        begin()

    def leave(self, _: object) -> None:
        """One has ended."""
        if self._free is None:
            return
        with self._lock:
            begin = self._waiting.popleft() if self._waiting else None
            if begin is None:
                self._free += 1
        if begin is not None:
            begin()
