"""Keys: what identifies a step, and the counter that hands keys out.

A scope is the workflow function itself, or one branch of it. It counts 1, 2, 3, ... in the order in which its function
*calls* durable operations. That makes a key the same in every run, however threads are scheduled.
"""

from __future__ import annotations

import sys
from typing import Any

from durable.errors import InvalidNameError

MAX_NAME_LENGTH = 200
MAX_ID_LENGTH = 255


class Scope:
    """The counter of one function. `path` is the key of its branch, empty for the workflow function.

    `retried_epoch` is the run that changed the outcome of a failed step of this scope, see `durable.replay.history`.
    """

    __slots__ = ("number", "parent", "path", "prefix", "retried_epoch", "workflow_id")

    def __init__(self, workflow_id: str, path: str = "", parent: Scope | None = None) -> None:
        self.workflow_id, self.path, self.parent = workflow_id, path, parent
        self.prefix = f"{path}/" if path else ""
        self.number = 0  # the last one handed out
        self.retried_epoch = 0

    def peek(self, name: str) -> tuple[str, int]:
        """Return the next key and its number, without taking it."""
        return f"{self.prefix}{name}_{self.number + 1}", self.number + 1

    def draw(self, name: str) -> tuple[str, int]:
        """Take the next key and its number."""
        self.number += 1
        return f"{self.prefix}{name}_{self.number}", self.number


def name_in(step_key: str) -> str:
    """Return the name in a key: `order_laptop` for `equip_2/order_laptop_1`."""
    return step_key.rpartition("/")[2].rpartition("_")[0]


def program_order(step_key: str) -> tuple[int, ...]:
    """Return the numbers in a key, (2, 1) for `equip_2/order_laptop_1`. Sorting by it gives program order."""
    return tuple(int(part.rpartition("_")[2]) for part in step_key.split("/"))


def idempotency_key(workflow_id: str, step_key: str) -> str:
    """Return `<workflow id>/<step key>`. A slash in the id becomes %2F, so that two steps never share a key."""
    return f"{workflow_id.replace('%', '%25').replace('/', '%2F')}/{step_key}"


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


def check_id(workflow_id: object) -> None:
    """Raise InvalidNameError unless this can be a workflow's id."""
    if not isinstance(workflow_id, str):
        raise InvalidNameError(f"workflow id {workflow_id!r}: expected a str, got {type(workflow_id).__name__}")
    if not workflow_id or len(workflow_id) > MAX_ID_LENGTH or not is_plain_text(workflow_id):
        raise InvalidNameError(
            f"workflow id {workflow_id[:MAX_ID_LENGTH]!r}: expected 1 to {MAX_ID_LENGTH} characters, without NUL and "
            f"lone surrogates"
        )


def check_message_key(event: str, key: object) -> None:
    """Raise InvalidNameError unless this can be a message's key, by which a repeated message is recognised."""
    if key is not None and not (isinstance(key, str) and is_plain_text(key)):
        raise InvalidNameError(f"message {event!r}: its key {key!r}: expected a str without NUL and lone surrogates")


def is_plain_text(text: str) -> bool:
    """Return whether SQLite and JSON both keep this text as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def is_loop_running() -> bool:
    """Return whether an asyncio event loop runs in this thread. Does not import asyncio: without it there is no loop.

    Another thread may be importing asyncio just now. A name that its module does not define yet cannot be in use here.
    """
    find = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return find is not None and find() is not None


def current_task() -> Any:
    """Return the asyncio task that runs here, or None."""
    if "asyncio" not in sys.modules or not is_loop_running():
        return None
    find = getattr(sys.modules["asyncio"], "current_task", None)
    return None if find is None else find()
