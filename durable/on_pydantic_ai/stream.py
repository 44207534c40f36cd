"""The text of a model as it comes, published as progress of the step that asks the model."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.messages import AgentStreamEvent, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.tools import AgentDepsT, RunContext

from durable.replay.step_info import find_current_step

PROGRESS = "text"
SHOWN_CHARACTERS = 1500  # the last ones: progress has a bound of 10 kB, and a control character takes 6 bytes


def publishing(handler: EventStreamHandler[AgentDepsT] | None) -> EventStreamHandler[AgentDepsT]:
    """Return a handler that publishes the text as it comes, and hands all events on to another handler."""

    async def handle(ctx: RunContext[AgentDepsT], events: AsyncIterable[AgentStreamEvent]) -> None:
        published = _publish(events)
        if handler is not None:
            await handler(ctx, published)
        async for _ in published:
            pass

    return handle


async def _publish(events: AsyncIterable[AgentStreamEvent]) -> AsyncIterator[AgentStreamEvent]:
    text = ""
    async for event in events:
        new = _text_of(event)
        if new and (step := find_current_step()) is not None:
            text = (text + new)[-SHOWN_CHARACTERS:]
            step.publish(PROGRESS, text.encode(errors="replace").decode())  # half a character may come first
        yield event


def _text_of(event: AgentStreamEvent) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""
