"""Tools of an MCP server, which is a process of its own: each of their calls is a step, through every crash."""

from __future__ import annotations

import json
import sys
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from durable import Context, Engine
from durable.observer import crash_at
from durable.on_pydantic_ai import Durability, DurableAgent
from tests.support.agents import count_responses, results_in
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import crash_in_child, eventually

SERVER = Path(__file__).parents[1] / "support" / "mcp_server.py"
ITEMS = ("laptop", "desk")


def decide(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Ask for two prices at once, then tell them."""
    if count_responses(messages) == 0:
        return ModelResponse(parts=[ToolCallPart("price_of", {"item": item}, item) for item in ITEMS])
    return ModelResponse(parts=[TextPart(" ".join(map(str, results_in(messages))))])


def buyer(server: Any) -> Agent[None, str]:
    """Return an agent with the tools of a server."""
    from pydantic_ai.mcp import MCPToolset  # takes seconds, for which no other test waits

    toolset = MCPToolset[None](server, id="shop", init_timeout=PATIENCE_SECONDS)
    return Agent(FunctionModel(decide), name="buyer", toolsets=[toolset], capabilities=[Durability()])


async def compare(ctx: Context, log: str) -> str:
    from fastmcp.client.transports import StdioTransport

    server = StdioTransport(sys.executable, [str(SERVER), log])
    return (await DurableAgent(buyer(server)).run(ctx, "what do they cost?")).output


def run_compare(_: Connection, database: Path, at: str) -> None:
    """As another process, which dies at a moment."""
    with Engine(database, observers=[crash_at.parse(at)]) as engine:
        engine.run("emp_001", compare, f"{database}.calls")


def calls(database: Path) -> list[tuple[str, int]]:
    """Return what was called in which process of the server, in order."""
    log = Path(f"{database}.calls")
    lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return [(item, int(pid)) for item, pid in lines]


@pytest.mark.thorough
@pytest.mark.parametrize("at", ["mcp_server__shop.get_tools:executed", "price_of:executed", "price_of:checkpointed"])
def test_no_completed_call_of_an_mcp_server_is_made_again_after_a_kill(database: Path, at: str) -> None:
    crash_in_child(run_compare, database, at)
    before = calls(database)
    eventually(lambda: not any(psutil.pid_exists(pid) for _, pid in before))  # it ends with its client
    with Engine(database) as engine:
        saved = [step for step in engine.steps("emp_001") if step.status == "completed"]
        done = {json.loads(step.fingerprint)[0]["item"] for step in saved if step.name == "price_of"}
        answer = engine.run("emp_001", compare, f"{database}.calls")
        steps = engine.steps("emp_001")
    after = Counter(item for item, _ in calls(database)[len(before) :])

    assert answer == "900 250"
    assert [step.name for step in steps].count("price_of") == len(ITEMS)
    assert after == Counter(set(ITEMS) - done)
    assert all(step in steps for step in saved)


@pytest.mark.thorough
def test_a_replay_needs_no_mcp_server_and_moves_no_key(database: Path) -> None:
    """The first run connects to the server and disconnects, in hosted code; the replay does neither."""
    from mcp.server import MCPServer

    served: list[str] = []
    server = MCPServer("shop")

    @server.tool()
    def price_of(item: str) -> int:
        served.append(item)
        return len(item)

    async def ask_twice() -> list[str]:
        agent = buyer(server)
        return [(await agent.run("what do they cost?")).output for _ in range(2)]

    async def workflow(ctx: Context) -> list[str]:
        told = await ctx.host(ask_twice())
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return told

    interrupted: list[bool] = []
    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        assert sorted(served) == sorted(ITEMS * 2)
        assert engine.run("emp_001", workflow) == ["6 4"] * 2
    assert len(served) == 2 * len(ITEMS)
