"""Agents of pydantic-ai in a workflow: each model request and each tool call is a step.

    agent = Agent("openai:gpt-5", name="support", toolsets=[tools], capabilities=[Durability()])

    async def answer(ctx: Context, question: str) -> str:
        return (await DurableAgent(agent).run(ctx, question)).output

Needs the extra: `pip install "durable-lab[pydantic-ai]"`.
"""

try:
    import pydantic_ai.durable_exec as _durable_exec
except ImportError as error:
    raise ImportError(
        "durable.on_pydantic_ai needs pydantic-ai-slim 2.62 or newer, which is not installed here; "
        'pip install "durable-lab[pydantic-ai]"'
    ) from error

from durable.on_pydantic_ai.agent import DurableAgent
from durable.on_pydantic_ai.durability import Durability

__all__ = ["Durability", "DurableAgent"]

del _durable_exec
