"""How code that `ctx.host` runs asks for operations: an agent framework, say, that was not written for workflows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from durable.errors import ScopeError
from durable.replay.step_info import find_current_step

if TYPE_CHECKING:
    from durable.context import Context

__all__ = ["current_context", "hosted_step", "is_hosted", "uncounted_tasks"]


def is_hosted() -> bool:
    """Return whether code that `ctx.host` runs is here, in one of its own tasks and outside of steps."""
    from durable.operations.host import find_frame

    return find_frame() is not None


def current_context() -> Context:
    """Return the context of the task that runs here, in code that `ctx.host` runs. Only that task may use it.

    Raises ScopeError elsewhere, and within a step, which is one unit and asks for no operation.
    """
    from durable.operations.host import find_frame

    if (frame := find_frame()) is None:
        raise ScopeError(
            "no context is current here; run the code by ctx.host(coroutine), and ask for operations in its own tasks, "
            "outside of steps"
        )
    return cast("Context", frame)


async def hosted_step(name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run `fn(*args, **kwargs)` as a step of the workflow that hosts this code. `fn` may be a coroutine function.

    Within a step it is only called: that step is recorded as one. Raises what `fn` raised; ScopeError outside of code
    that `ctx.host` runs.
    """
    if find_current_step() is None:
        return await current_context().submit(name, fn, *args, **kwargs)
    value = fn(*args, **kwargs)
    return await value if hasattr(value, "__await__") else value


def uncounted_tasks() -> AbstractContextManager[None]:
    """Return a block in which hosted code creates tasks that ask for no operation, and so have no key.

    It is for code that a replay does not need: closing a connection that a step has opened. Its tasks would move the
    keys of all later ones.
    """
    from durable.operations.host import uncounted

    return uncounted()
