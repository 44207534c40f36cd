"""Context: the typed face of a workflow. It is an executor that remembers; `durable.replay` says how."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypedDict, TypeVar, Unpack, overload

from durable.face import Face
from durable.limits.progress import follow
from durable.parallel.future import Future
from durable.recovery.registry import takes_context
from durable.replay.call import Call, Operation, is_async, split_name
from durable.replay.frame import UNKNOWN, Frame, effect_of
from durable.replay.function import is_outcome
from durable.replay.keys import Scope
from durable.signals import held_back, let_through
from durable.values import codec
from durable.values.instants import check_instant

if TYPE_CHECKING:
    from uuid import UUID

    from durable.operations.bounds import Bounds
    from durable.operations.open_step import OpenStep
    from durable.operations.race import AsCompleted
    from durable.store.transaction import Transaction

    class MapLimits(TypedDict, total=False):
        """The bounds of the calls of a map."""

        max_concurrent: int | None
        per_second: float | None


P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


# A signal that comes within an import may leave a lock that all later imports wait for: each import of ours within a
# function is made in a block that holds signals back.


class Context(Frame, metaclass=Face):
    """The first argument of every workflow and branch function. Only that function may call it, in its own thread.

    Each operation takes the next number of its function as it is called, and has a row with the key `<name>_<number>`.
    On a replay it is answered from that row. A call from another thread or task, or from within a step, raises
    ScopeError. A call that differs from its row raises NonDeterminismError before it has an effect.

        >>> def greet(ctx: Context, name: str) -> str:
        ...     return ctx.step(str.upper, name)
        >>> engine.run("greet_1", greet, "ann")
        'ANN'
        >>> [step.step_key for step in engine.steps("greet_1")]
        ['upper_1']
    """

    def __dir__(self) -> Iterable[str]:
        return dir(type(self))

    workflow_id = Frame.workflow_id

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
        NonDeterminismError if something else is on record or `fn` changes an argument in place, SerializationError for
        a result without JSON form.
        """
        if self.run.history.rows and (value := self.recall(fn, args, kwargs)) is not UNKNOWN:
            return value
        with held_back():
            call = Call(fn, args, kwargs, self.run.plans.find(fn))
            step = self.reach(call)
            return self.run.give(step) if step.outcome else self.perform(step, effect_of(call, self.run))

    @overload
    def open_step(self, name: str, /, *args: Any, type: type[T]) -> OpenStep[T]: ...
    @overload
    def open_step(self, name: str, /, *args: Any) -> OpenStep[Any]: ...
    def open_step(self, name: str, /, *args: Any, type: Any = Any) -> OpenStep[Any]:
        """Return a step whose effect is the caller's own block; the key is drawn now, the arguments identify it.

            with ctx.open_step("epoch", number) as step:
                if not step.is_recorded:
                    step.complete(train(number))
            losses = step.value

        The row says running before the block begins. An exception out of the block is its outcome, and a replay raises
        it as the block is entered. `type` says how the value is stored. No other operation may be called in the block
        before `complete`. Raises as `step` does, and ScopeError in a coroutine and for a block left without an outcome.
        """
        with held_back():
            from durable.operations.open_step import open_step

            return open_step(self, name, args, type)

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
        """Do as `step` does, alongside what follows. Its key is drawn now, in program order; the future is its result.

        Its error is raised when the future is asked. An error that no code asked for fails the workflow. The workflow
        ends only when all that it submitted has ended and is saved.

            >>> def both(ctx: Context) -> int:
            ...     one, two = ctx.submit(abs, -1), ctx.submit(abs, -2)
            ...     return one.result() + two.result()
            >>> engine.run("both_1", both)
            3
        """
        with held_back():
            return self._submit(fn, args, kwargs)

    @overload
    def map(
        self, fn: Callable[[A], Coroutine[Any, Any, T]], a: Iterable[A], /, **limits: Unpack[MapLimits]
    ) -> list[T]: ...
    @overload
    def map(self, fn: Callable[[A], T], a: Iterable[A], /, **limits: Unpack[MapLimits]) -> list[T]: ...
    @overload
    def map(
        self,
        fn: Callable[[A, B], Coroutine[Any, Any, T]],
        a: Iterable[A],
        b: Iterable[B],
        /,
        **limits: Unpack[MapLimits],
    ) -> list[T]: ...
    @overload
    def map(
        self, fn: Callable[[A, B], T], a: Iterable[A], b: Iterable[B], /, **limits: Unpack[MapLimits]
    ) -> list[T]: ...
    @overload
    def map(
        self, fn: Callable[[Context, A], Coroutine[Any, Any, T]], a: Iterable[A], /, **limits: Unpack[MapLimits]
    ) -> list[T]: ...
    @overload
    def map(self, fn: Callable[[Context, A], T], a: Iterable[A], /, **limits: Unpack[MapLimits]) -> list[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        /,
        *more: Iterable[Any],
        **limits: Unpack[MapLimits],
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
        **limits: Unpack[MapLimits],
    ) -> list[T]: ...
    def map(
        self, fn: Any, /, *iterables: Iterable[Any], max_concurrent: int | None = None, per_second: float | None = None
    ) -> list[Any]:
        """Submit each tuple of items, at most `max_concurrent` at once; the results in the order of the items.

        A function whose first parameter is annotated `Context` is run as a child workflow for each. No more than
        `per_second` calls begin in any second, a whole number, or less than 1; further attempts count, too. After a
        crash the first begins a second later, for the calls before. Waits for all of them, also when one fails; then
        raises the first error in program order, with the others noted. Raises ValueError for a bound out of range.

            >>> def total(ctx: Context, *prices: int) -> list[int]:
            ...     return ctx.map(abs, prices, max_concurrent=2)
            >>> engine.run("total_1", total, -1, 2, -3)
            [1, 2, 3]
        """
        with held_back():
            self.refuse_to_block("ctx.map", "await asyncio.gather(*[ctx.submit(fn, item) for item in items])")
            bounds = self._bounds(max_concurrent, per_second)
            submit = self._child if takes_context(fn) else self._submit
            rows, futures = let_through(zip, *iterables), list[Future[Any]]()
            while (items := let_through(next, rows, None)) is not None:  # they may be generators of the user's
                futures.append(submit(fn, items, {}, bounds))
            with self.waiting_for(futures), follow(self.run, futures):
                self.run.wait(futures)
            errors = [error for future in futures if (error := future.exception()) is not None]
            if errors:
                raise self.run.merge(sorted(errors, key=is_outcome))
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
        """Run `fn(child_ctx, *args, **kwargs)` alongside what follows: several steps, with keys of their own.

        A branch is part of the workflow's code: it is replayed with it, and its result is not stored. It has a thread
        of its own, or a task if it is a coroutine function.

            >>> def equip(ctx: Context, person: str) -> str:
            ...     return ctx.step(str.upper, person)
            >>> def team(ctx: Context) -> list[str]:
            ...     return [future.result() for future in [ctx.branch(equip, "ann"), ctx.branch(equip, "bob")]]
            >>> engine.run("team_1", team)
            ['ANN', 'BOB']
            >>> [step.step_key for step in engine.steps("team_1")]
            ['equip_1/upper_1', 'equip_2/upper_1']
        """
        with held_back():
            name, fn, args = split_name(fn, args)
            run = self.run
            key, _, _ = self.draw(name, run.history.expect_branch, name)
            child = type(self)(run, Scope(self.workflow_id, key, self.scope))
            future = self.future(key, after=())  # the frame of the child knows what is done for it
            run.frames.add(child)
            future.on_end(lambda _: run.end_frame(child))

            def begin() -> None:
                if is_async(fn):
                    run.workers.spawn(child.call_async(fn, args, kwargs), future)
                else:
                    run.workers.start_thread(key, lambda: future.settle(lambda: child.call(fn, args, kwargs)))

            self.launch(future, begin)
            return future

    def host(self, coroutine: Coroutine[Any, Any, T], /, name: str = "host") -> Future[T]:
        """Run code that was not written for workflows, an agent framework say, alongside what follows, as a branch.

        Its tasks ask for operations by `hosted_step` and `current_context`. Each task that it creates has a scope of
        its own, numbered in the order of creation under its parent. A replay runs the code again and answers those
        operations from the record; what it does besides them is done again. Tasks that it leaves are cancelled.
        """
        with held_back():
            from durable.operations.host import host

            return host(self.branch, name, coroutine)

    @overload
    def child(
        self,
        workflow: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        workflow_id: str | None = None,
        **kwargs: Any,
    ) -> Future[T]: ...
    @overload
    def child(
        self, workflow: Callable[..., T], /, *args: Any, workflow_id: str | None = None, **kwargs: Any
    ) -> Future[T]: ...
    def child(
        self, workflow: Callable[..., Any], /, *args: Any, workflow_id: str | None = None, **kwargs: Any
    ) -> Future[Any]:
        """Run another workflow alongside what follows, under an id and with rows of its own; the future is its result.

        The id is `<this workflow's id>/<key>` unless one is given. It is cancelled with this one. Its failure is raised
        when the future is asked, as is WorkflowCancelledError if it was cancelled. Raises WorkflowConflictError if the
        id belongs to another call.
        """
        with held_back():
            return self._child(workflow, args, kwargs, workflow_id=workflow_id)

    # ---- waiting

    def sleep(self, seconds: float | timedelta) -> None:
        """Wait for a duration from the first time that this is reached: after a crash, only for the rest.

        It is a number of seconds or a timedelta. Raises ValueError for a number that can only be a timestamp.
        """
        self.refuse_to_block("ctx.sleep", "await ctx.timer(seconds)")
        self.timer(seconds).result()

    def sleep_until(self, instant: datetime) -> None:
        """Wait until an instant, which must have a time zone. An instant in the past is no wait.

        Raises TypeError if it is not a datetime, and ValueError without a time zone.
        """
        self.refuse_to_block("ctx.sleep_until", "await ctx.timer(instant)")
        self.timer(check_instant(instant, "sleep_until")).result()

    def timer(self, until: float | timedelta | datetime) -> Future[None]:
        """Do as `sleep` or `sleep_until` does, alongside what follows: to be awaited, or raced with others.

        >>> def patient(ctx: Context) -> bool:
        ...     answer, deadline = ctx.event("answer"), ctx.timer(0.01)
        ...     return ctx.first(answer, deadline).result() is deadline
        >>> engine.run("patient_1", patient)
        True
        """
        with held_back():
            from durable.operations.timer import timer

            return timer(self, until)

    @overload
    def wait_event(self, name: str, *, type: type[T], timeout_seconds: float | timedelta | None = None) -> T: ...
    @overload
    def wait_event(self, name: str, *, timeout_seconds: float | timedelta | None = None) -> Any: ...
    def wait_event(self, name: str, *, type: Any = Any, timeout_seconds: float | timedelta | None = None) -> Any:
        """Wait for the next message that `engine.send(workflow_id, name, value)` has left, or leaves; its value.

        First sent, first received; one sent before the wait is not lost. After `timeout_seconds` (seconds or a
        timedelta), counted from the first time that this is reached, raises WaitTimeoutError; that is recorded, and
        stays so. Raises SerializationError for a message that is not of the type; it counts as received.

            >>> def ask(ctx: Context) -> str:
            ...     return ctx.wait_event("answer", type=str, timeout_seconds=86400)
            >>> handle = engine.start("ask_1", ask)
            >>> engine.send("ask_1", "answer", "yes")
            True
            >>> handle.result()
            'yes'
        """
        self.refuse_to_block("ctx.wait_event", "await ctx.event(...)")
        return self.event(name, type=type, timeout_seconds=timeout_seconds).result()

    @overload
    def event(self, name: str, *, type: type[T], timeout_seconds: float | timedelta | None = None) -> Future[T]: ...
    @overload
    def event(self, name: str, *, timeout_seconds: float | timedelta | None = None) -> Future[Any]: ...
    def event(self, name: str, *, type: Any = Any, timeout_seconds: float | timedelta | None = None) -> Future[Any]:
        """Do the same as `wait_event`, alongside what follows: to be awaited, or raced with something else."""
        with held_back():
            from durable.operations.event import event

            return event(self, name, type, timeout_seconds)

    def first(self, *futures: Future[T]) -> Future[Future[T]]:
        """Return a future of the one that is the first to end, in whatever way; the winner is recorded.

        A loser is not stopped. But the workflow, as it ends, no longer waits for the timers, events and children that
        a loser still waits for.
        """
        with held_back():
            from durable.operations.race import first

            return first(self, futures)

    def as_completed(self, futures: Iterable[Future[T]]) -> AsCompleted[T]:
        """Return the futures in the order in which they end, for `for` and `async for`; the order is recorded.

        A replay gets them in the recorded order. An error of a future is raised when that future is asked.
        """
        with held_back():
            from durable.operations.race import AsCompleted

        return AsCompleted(self, futures)

    # ---- transactions, published values, compensations

    def transaction(self, fn: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a step on your own tables in the engine's file: `fn(connection, *args)`, saved with its checkpoint.

        Its changes there and its outcome are saved both or not at all, so its effect happens once. Every other writer
        to the file waits meanwhile: keep it short, and let it wait for nothing. Raises as
        `step` does, and TransactionError for what the connection is guarded against, see `Transaction`.
        """
        with held_back():
            from durable.operations.transaction import transaction

            self.refuse_to_block(
                "ctx.transaction", "await ctx.branch(fn), where the plain function fn(ctx) calls ctx.transaction"
            )
            value: T = transaction(self, fn, args, kwargs)
            return value

    def publish(self, name: str, value: Any, *, type: Any = None) -> None:
        """Let others see a value, as `engine.read(workflow_id, name)` and `engine.watch(workflow_id)`.

        `type` says how it is stored if its class does not, as in `list[Laptop]`. Raises SerializationError for a value
        without exact form.

            >>> def halfway(ctx: Context) -> None:
            ...     ctx.publish("progress", 0.5)
            >>> engine.run("halfway_1", halfway)
            >>> engine.read("halfway_1", "progress")
            0.5
        """
        with held_back():
            from durable.operations.publish import publish

            publish(self, name, value, type)

    def on_failure(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Register a compensation: a step to run if this workflow fails, or is cancelled, from here on.

        They run in reverse order, and survive a crash in the middle. A workflow that has compensated is final: running
        its id again raises its recorded error, and runs nothing.
        """
        with held_back():
            from durable.operations.saga import on_failure

            on_failure(self, fn, args, kwargs)

    # ---- values that would differ from run to run

    def now(self) -> datetime:
        """Return the current instant, in UTC; on a replay, the instant that it was."""
        return self._record("now", datetime, self.run.clock)

    def uuid4(self) -> UUID:
        """Return a random UUID; on a replay, the same."""
        with held_back():
            import uuid

        return self._record("uuid4", uuid.UUID, uuid.uuid4)

    def random(self) -> float:
        """Return a random number from 0 up to 1; on a replay, the same."""
        with held_back():
            import random

        return self._record("random", float, random.random)

    def patched(self, name: str) -> bool:
        """Return whether new code may run here: true for executions new to this place, false for those past it.

        `if ctx.patched("with-badge"): ... else: <the old code>` changes a workflow while executions of it are running.
        """
        with held_back():
            from durable.operations.patch import patched

            return patched(self, name)

    def _record(self, name: str, kind: type[T], provide: Callable[[], T]) -> T:
        with held_back():
            from durable.operations.record import record

            value: T = record(self, Operation(name, name, codec.codec_of(kind, name)), provide)[1]
            return value

    @property
    def frame(self) -> Frame:
        """The frame of this function, for operations from outside this package, see `durable.replay`."""
        return self

    # ---- within

    def _bounds(self, max_concurrent: int | None, per_second: float | None) -> Bounds | None:
        if max_concurrent is None and per_second is None:
            return None
        from durable.operations.bounds import Bounds

        return Bounds(self.run, max_concurrent, per_second)

    def _child(
        self,
        workflow: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        bounds: Bounds | None = None,
        workflow_id: str | None = None,
    ) -> Future[Any]:
        from durable.operations.child import child

        return child(self, workflow, args, kwargs, workflow_id, bounds)

    def _submit(
        self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bounds: Bounds | None = None
    ) -> Future[Any]:
        if self.run.history.rows and (value := self.recall(fn, args, kwargs)) is not UNKNOWN:
            scope, name = self.scope, self.run.plans[fn].name
            future = self.future(f"{scope.prefix}{name}_{scope.number}")
            future.set_result(value)
            return future
        call = Call(fn, args, kwargs, self.run.plans.find(fn))
        step = self.reach(call)
        if step.outcome is not None:
            return self.answer(step)
        effect = effect_of(call, self.run)
        future = self.future(step.key)
        if bounds is None:
            self.perform_alongside(step, effect, future)
        else:
            begin = functools.partial(self.perform_alongside, step, bounds.paced(step, effect), future)
            bounds.enter(future, functools.partial(contextvars.copy_context().run, begin))
        return future
