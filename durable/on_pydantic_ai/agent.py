"""DurableAgent: runs of an agent, from the prompt to the last answer, with the approvals that its tools ask for."""

from __future__ import annotations

from typing import Any, Generic

from pydantic_ai import AgentRunResult, DeferredToolRequests, DeferredToolResults, ToolDenied
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.output import OutputDataT
from pydantic_ai.tools import AgentDepsT

from durable.context import Context
from durable.on_pydantic_ai.durability import Durability

APPROVALS = "approvals"


class DurableAgent(Generic[AgentDepsT, OutputDataT]):
    """An agent whose runs are part of a workflow."""

    def __init__(self, agent: AbstractAgent[AgentDepsT, OutputDataT]) -> None:
        """The agent has a name, and `Durability()` among its capabilities. Raises ValueError without."""
        if not agent.name or Durability.from_agent(agent) is None:
            raise ValueError(
                "the agent needs a name and the capability: Agent(..., name=..., capabilities=[Durability()])"
            )
        self.agent = agent

    async def run(self, ctx: Context, prompt: Any = None, **options: Any) -> AgentRunResult[OutputDataT]:
        """Run the agent, hosted by the workflow; `options` are those of `agent.run`. Return its result.

        A tool that requires approval waits for a message, `engine.send(workflow_id, "approve <tool>", answer)`: true,
        false, or why not. Several calls of one tool take the messages in the order of the calls. The calls that wait
        are published as "approvals".
        """
        options.setdefault("output_type", [self.agent.output_type, DeferredToolRequests])
        while True:
            result: AgentRunResult[Any] = await ctx.host(
                self.agent.run(prompt, **options), name=self.agent.name or "agent"
            )
            if not isinstance(result.output, DeferredToolRequests):
                return result
            prompt = None
            answers = await self._ask(ctx, result.output)
            options |= {"message_history": result.all_messages(), "deferred_tool_results": answers}

    async def _ask(self, ctx: Context, requests: DeferredToolRequests) -> DeferredToolResults:
        if requests.calls:
            names = ", ".join(call.tool_name for call in requests.calls)
            raise NotImplementedError(f"external tools are not supported: {names}; make each a tool that waits")
        waiting = [{"tool": call.tool_name, "args": call.args_as_dict()} for call in requests.approvals]
        ctx.publish(APPROVALS, waiting)
        messages = [ctx.event(f"approve {call.tool_name}") for call in requests.approvals]
        results = DeferredToolResults()
        for call, message in zip(requests.approvals, messages, strict=True):
            answer = await message
            results.approvals[call.tool_call_id] = ToolDenied(answer) if isinstance(answer, str) else bool(answer)
        ctx.publish(APPROVALS, [])
        return results
