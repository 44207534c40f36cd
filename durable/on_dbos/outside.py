"""Calling DBOS from outside of its workflows, from any place: a step, an event loop, a notebook cell.

Within a workflow DBOS records what it is asked as a step, and answers from the record ever after; where an event loop
runs it refuses. So such calls are made in an empty context, and in a thread of their own where they have to be.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from durable.parallel.future import Future, wait
from durable.replay.keys import is_loop_running

P = ParamSpec("P")
T = TypeVar("T")


def outside(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it as if no workflow ran here."""
    return off_loop(functools.partial(contextvars.Context().run, fn, *args, **kwargs))


def off_loop(work: Callable[[], T]) -> T:
    """Call it here, or in another thread while this one runs an event loop."""
    if not is_loop_running():
        return work()
    done: Future[T] = Future()
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(done.settle, work), name="off the event loop").start()
    wait([done])
    return done.result()
