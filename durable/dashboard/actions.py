"""Actions: what a dashboard that is allowed to may do to a workflow, by an engine."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from durable.engine import Engine


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One action on one workflow. `text` is the JSON of a message, `step` the key of a step or a branch."""

    do: Literal["resume", "retry", "send", "cancel", "rewind", "fork"]
    workflow_id: str
    event: str = ""
    text: str = "null"
    step: str = ""
    new_id: str = ""


def perform(engine: Engine, order: Order) -> str:
    """Perform an action and return what became of it, in words. Raises what the engine raises.

    A workflow that is resumed or retried runs in this process, in a thread; this does not wait for it. Raises
    ValueError if a message is not valid JSON.
    """
    workflow_id = order.workflow_id
    if order.do in ("resume", "retry"):
        engine.resume(workflow_id)
        return "It runs in this process now."
    if order.do == "send":
        engine.send(workflow_id, order.event, read_json(order.text))
        return f"The message {order.event!r} is on record."
    if order.do == "cancel":
        engine.cancel(workflow_id)
        return "Its cancellation is on record."
    if order.do == "rewind":
        engine.rewind(workflow_id, to=order.step)
        return f"It stands before {order.step} now. Resume runs it from there."
    engine.fork(workflow_id, order.new_id, at=order.step)
    return f"{order.new_id} stands before {order.step} now. Open it to resume it."


def read_json(text: str) -> Any:
    """Return the value of JSON text. Raises ValueError, with advice."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f'the value is not valid JSON ({error}); text is quoted, as in "yes"') from None
