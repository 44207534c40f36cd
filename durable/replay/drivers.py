"""Drivers: each performs what the life of a step asks for, in its own way. DBOS has one more, see `durable.on_dbos`."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from durable.parallel.future import Future
from durable.replay.run import Run
from durable.replay.step import Request, Step, life
from durable.values.codec import may_be_large

Launch: TypeAlias = Callable[[Future[Any], Callable[[], object]], None]


def in_thread(run: Run, step: Step) -> None:
    """Perform a step in this thread, up to its outcome."""
    requests = life(step, run.judge)
    while (due := _advance(run, step, requests)) is not None:
        run.wait([due])
        due.result()


def at_once(run: Run, step: Step, provide: Callable[[], Any]) -> None:
    """Perform a step that has no effect outside: its row is written together with its outcome."""
    for request in life(step, run.judge):
        if request == "begin":
            run.notify("step.scheduled", step)
            run.check()
        elif request == "call":
            step.value = provide()
            run.notify("step.executed", step)  # a crash here loses nothing but a value that no code has seen
        else:
            run.record(step)


def begin_open(run: Run, step: Step) -> Callable[[Callable[[], Any]], None]:
    """Begin a step whose effect the caller performs, in this thread. Return the function that ends the step.

    That function is called with a function that returns the result of the effect, or raises its error.
    An attempt that was due later begins now.
    """
    step.wake_at, requests = None, life(step, run.judge)
    next(requests)
    run.begin(step)

    def end(effect: Callable[[], Any]) -> None:
        step.fn = effect
        _advance(run, step, requests)

    return end


async def on_loop(run: Run, step: Step) -> Any:
    """Perform a step of a coroutine function on the event loop, with its bookkeeping elsewhere. Return its value."""
    step.thread = "event loop"
    requests = life(step, run.judge)
    request: Request | None = next(requests)
    while request is not None:
        if request == "wait":
            await run.waits.until(step)
        elif request == "call":
            await run.call_async(step)
            if may_be_large(step.value):  # storing it takes time, and would hold up other coroutines
                request = await run.workers.call(next, requests, None)
                continue
        elif run.observers or not run.can_batch:  # they may block
            await run.workers.call(run.begin if request == "begin" else run.end, step)
        elif request == "begin":
            await run.batch.start(step)
        else:
            await run.batch.end(step)
            run.ended(step)
        request = next(requests, None)
    return run.give(step)


def in_worker(run: Run, step: Step, future: Future[Any], launch: Launch) -> None:
    """Perform a parallel step in a worker thread. It holds no thread while it waits for its next attempt."""
    requests, context = life(step, run.judge), contextvars.copy_context()

    def work() -> None:
        step.thread = threading.current_thread().name
        try:
            if (due := _advance(run, step, requests)) is not None:
                return _go_on(due, future, launch, begin)
            value = run.give(step)
        except BaseException as error:
            return future.set_exception(error)
        return future.set_result(value)

    def begin() -> None:
        context.copy().run(run.workers.submit, work)  # the call that began the last attempt may not have returned

    launch(future, begin)


def in_batch(run: Run, step: Step, future: Future[Any], launch: Launch) -> None:
    """Perform a parallel step in the batch, which saves many in one transaction. No observer watches it."""
    launch(future, Piece(run, step, future, launch).go_on)


class Piece:
    """A step as the batch sees it."""

    def __init__(self, run: Run, step: Step, future: Future[Any], launch: Launch) -> None:
        self.step = step
        self._run, self._future, self._launch = run, future, launch
        self._context, self._requests = contextvars.copy_context(), life(step, run.judge)
        self._error: BaseException | None = None

    @property
    def is_ended(self) -> bool:
        """Return whether there is an outcome to save. After an interrupt there is none."""
        return self._error is None

    def go_on(self) -> None:
        """Begin the next attempt as soon as it is due."""
        if next(self._requests) == "begin":
            self._run.batch.submit(self)
        else:
            _go_on(self._run.waits.until(self.step), self._future, self._launch, self.go_on)

    def perform(self) -> None:
        """Perform the effect, in a thread of the pool."""
        try:
            self._context.run(self._perform)
        except BaseException as error:
            self._error = error

    def settle(self, error: BaseException | None) -> None:
        """Note that the outcome is saved, or why it is not. Callbacks of the user run in another thread."""
        error = error or self._error
        if error is None:
            self._run.ended(self.step)
            if self.step.outcome is not None and self.step.outcome.wake_at is not None:
                return self._launch(self._future, self.go_on)
            error = self.step.error
        tell = functools.partial(_tell, self._future, error, self.step.value)
        return self._run.workers.submit(tell) if self._future.is_watched else tell()

    def _perform(self) -> None:
        next(self._requests)  # call
        self.step.thread = threading.current_thread().name
        self._run.call(self.step)
        next(self._requests)  # end


def _go_on(due: Future[None], future: Future[Any], launch: Launch, begin: Callable[[], object]) -> None:
    """Begin the next attempt of a parallel step once it is due; or end its future with the error of the wait."""

    def go_on(ended: Future[None]) -> None:
        if ended.ending is not None:
            future.set_exception(ended.ending)
        else:
            launch(future, begin)

    due.on_end(go_on)


def _tell(future: Future[Any], error: BaseException | None, value: Any) -> None:
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def _advance(run: Run, step: Step, requests: Iterator[Request]) -> Future[None] | None:
    """Do in this thread what the life of a step yields, up to its end or to a wait. Return the future of that wait."""
    for request in requests:
        if request == "begin":
            run.begin(step)
        elif request == "call":
            run.call(step)
        elif request == "end":
            run.end(step)
        elif not (due := run.waits.until(step)).has_ended():
            return due
        else:
            due.result()
    return None
