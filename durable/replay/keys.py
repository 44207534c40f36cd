"""Step keys: who may draw them, and in which order.

A scope is the workflow function itself, or one branch of it. It hands out the numbers 1, 2, 3, ... in the order in
which its function *calls* durable operations, and only to the thread and the asyncio task that runs that function. That
is what makes a key the same in every run, however threads are scheduled.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from durable.errors import InvalidNameError, ScopeError

MAX_NAME_LENGTH = 200


class Scope:
    """The counter of one function, and the right to draw from it. `path` is the branch's key, empty at the top."""

    __slots__ = (
        "_task",
        "_thread",
        "blocked_on",
        "closed",
        "in_step",
        "number",
        "on_blocked",
        "on_ended",
        "parent",
        "path",
        "prefix",
        "retried_epoch",
        "unwinding",
        "workflow_id",
    )

    def __init__(self, workflow_id: str, path: str = "", parent: Scope | None = None) -> None:
        self.workflow_id = workflow_id
        self.path = path
        self.parent = parent
        self.closed = False
        self.in_step = ""  # the key of the step that its function is in
        self.blocked_on: dict[object, list[Any]] = {}  # what its function waits for: all of the futures of each list
        self.on_blocked: Callable[[], object] = lambda: None  # told that it waits for more
        self.on_ended: Callable[[Any], object] = lambda _: None  # told of each of its futures that has ended
        self.unwinding: BaseException | None = None  # set when its function is told that it has to wait, or is given up
        self.retried_epoch = 0  # the run that changed the outcome of a failed step of this scope, see history.py
        self.number = 0  # that was drawn last
        self.prefix = f"{path}/" if path else ""
        self.adopt()

    def waiting_for(self, futures: list[Any]) -> _Waiting:
        """Return a block in which its function waits for all of these."""
        return _Waiting(self, futures)

    def on_unwinding(self, error: BaseException) -> None:
        """Let the function begin nothing more: it is on its way out."""
        self.unwinding = error

    def adopt(self) -> None:
        """Make the current thread and task the owner."""
        self._thread = threading.get_ident()
        self._task = _current_task()

    def is_owner(self) -> bool:
        """Whether the current thread and task run this scope's function."""
        return self._thread == threading.get_ident() and self._task is _current_task()

    def draw(self, name: str) -> tuple[str, int]:
        """The next key of this scope and its number. Raises ScopeError from any other place than its function."""
        if not self.is_owner() or self.in_step or self.closed:
            raise self._misuse(name)
        if self.unwinding is not None:
            raise self.unwinding  # in a `finally`, on the way out
        self.number += 1
        return f"{self.prefix}{name}_{self.number}", self.number

    def peek(self, name: str) -> tuple[str, int]:
        """What `draw` would give, under the same conditions, without taking it."""
        key, number = self.draw(name)
        self.number -= 1
        return key, number

    def may_draw(self) -> bool:
        """Whether `draw` would not raise."""
        return (
            self._thread == threading.get_ident()
            and ("asyncio" not in sys.modules or self._task is _current_task())  # without it there are no tasks
            and not (self.in_step or self.closed or self.unwinding)
        )

    def _misuse(self, name: str) -> ScopeError:
        function = f"branch {self.path!r}" if self.path else "the workflow function"
        if self.closed:
            what = f"was called after {function} had ended; call it before, and keep ctx out of callbacks"
        elif self.in_step and self._thread == threading.get_ident():
            what = (
                "was called inside a step; a step is one unit, so call both from the workflow, or make it a ctx.branch"
            )
        elif self._thread != threading.get_ident():
            what = (
                f"was called in thread {threading.current_thread().name!r}, which does not run {function}; start "
                f"parallel work with ctx.submit (one step) or ctx.branch (several), not with threads"
            )
        else:
            what = (
                f"was called in another asyncio task than the one that runs {function}; start parallel work with "
                f"ctx.submit (one step) or ctx.branch (several), not with create_task or gather over ctx"
            )
        return ScopeError(f"workflow {self.workflow_id!r}: operation {name!r} {what}")


class _Waiting:
    """A block in which a scope's function waits for all of these: so a clock may tell if time can be skipped."""

    __slots__ = ("_futures", "_scope")

    def __init__(self, scope: Scope, futures: list[Any]) -> None:
        self._scope, self._futures = scope, futures

    def __enter__(self) -> None:
        self._scope.blocked_on[self] = self._futures
        self._scope.on_blocked()

    def __exit__(self, *_: object) -> None:
        del self._scope.blocked_on[self]
        if self._scope.blocked_on:  # a coroutine goes on that had gathered several
            self._scope.on_blocked()


def check_name(name: str) -> None:
    """Raise InvalidNameError unless this can be a step's name, and so a part of its key."""
    if name == "<lambda>":
        raise InvalidNameError(
            "a lambda has no name to recognise it by; pass one, as in ctx.step('double', lambda: ...)"
        )
    if not name or len(name) > MAX_NAME_LENGTH or "/" in name or not is_plain_text(name):
        raise InvalidNameError(
            f"step name {name[:50]!r}: expected 1 to {MAX_NAME_LENGTH} characters, without '/', NUL and lone surrogates"
        )


def check_message_key(event: str, key: object) -> None:
    """Raise InvalidNameError unless several messages may be given this key, or none."""
    if key is not None and not (isinstance(key, str) and is_plain_text(key)):
        raise InvalidNameError(f"message {event!r}: its key {key!r}: expected a str without NUL and lone surrogates")


def is_plain_text(text: str) -> bool:
    """Whether SQLite and JSON both keep this text as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def is_loop_running() -> bool:
    """Whether an asyncio event loop runs in this thread. Does not import asyncio: without it there are no loops.

    Another thread may be importing asyncio just now. What its module does not define yet cannot be in use here.
    """
    find = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return find is not None and find() is not None


def _current_task() -> Any:
    """The asyncio task that runs here, or None."""
    find = getattr(sys.modules.get("asyncio"), "current_task", None)
    return find() if find is not None and is_loop_running() else None
