"""An agent of pydantic-ai without a network, for the crash matrix: each model request and each tool call is counted."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from pydantic_ai import Agent, FunctionToolset, ModelRetry
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from durable import Context
from durable.on_pydantic_ai import Durability, DurableAgent
from durable.testing import effect
from tests.support.operations import post

tools = FunctionToolset[None](id="tools")


def count_responses(messages: list[ModelMessage]) -> int:
    return sum(isinstance(message, ModelResponse) for message in messages)


def results_in(messages: list[ModelMessage]) -> list[Any]:
    return [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


def decide(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Ask for two tools at once, for one that has to be tried again, for a sub-agent, and for one to be approved."""
    turn = count_responses(messages)
    effect("model", turn)
    calls = [
        [ToolCallPart("search", {"query": query}, f"search {query}") for query in ("a", "b")],
        [ToolCallPart("guess", {"number": 1}, "guess 1"), ToolCallPart("ask_helper", {}, "ask")],
        [ToolCallPart("guess", {"number": 2}, "guess 2"), ToolCallPart("pay", {"amount": 3}, "pay")],
    ]
    return ModelResponse(parts=calls[turn] if turn < len(calls) else [TextPart(", ".join(results_in(messages)))])


async def decide_in_pieces(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    """The same, as a stream."""
    for index, part in enumerate(decide(messages, info).parts):
        if isinstance(part, ToolCallPart):
            yield {index: DeltaToolCall(part.tool_name, part.args_as_json_str(), part.tool_call_id)}
        elif isinstance(part, TextPart):
            for word in part.content.split(" "):
                yield f"{word} "


@tools.tool_plain
async def search(query: str) -> str:
    effect("search", query)
    return f"found {query}"


@tools.tool_plain
def guess(number: int) -> str:
    effect("guess", number)
    if number == 1:
        raise ModelRetry("higher")
    return f"guessed {number}"


@tools.tool_plain(requires_approval=True)
def pay(amount: int) -> str:
    effect("pay", amount)
    return f"paid {amount}"


def help_out(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    effect("helper", count_responses(messages))
    return ModelResponse(parts=[TextPart("helped")])


helper = Agent(FunctionModel(help_out), name="helper", capabilities=[Durability()])


@tools.tool_plain(metadata={"durable": False})
async def ask_helper() -> str:
    """No step: the requests of the other agent are steps of their own."""
    return (await helper.run("help")).output


agent = Agent(FunctionModel(decide), name="support", toolsets=[tools], capabilities=[Durability()])


async def take_events(_: Any, events: AsyncIterable[Any]) -> None:
    async for _event in events:
        pass


streaming = Agent(
    FunctionModel(decide, stream_function=decide_in_pieces),
    name="support",
    toolsets=[tools],
    capabilities=[Durability(event_stream_handler=take_events)],
)


async def support(ctx: Context) -> str:
    """The whole conversation, with an approval that a step of its own sends."""
    await ctx.submit(post, True, "approve pay")  # type: ignore[arg-type]
    return (await DurableAgent(agent).run(ctx, "please")).output


async def support_in_pieces(ctx: Context) -> str:
    await ctx.submit(post, True, "approve pay")  # type: ignore[arg-type]
    return (await DurableAgent(streaming).run(ctx, "please")).output


async def support_without_approval(ctx: Context) -> str:
    return (await DurableAgent(agent).run(ctx, "please")).output
