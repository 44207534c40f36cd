"""Calls that an agent repeats after a crash: `python -m tests.benchmarks.agents`.

One agent of pydantic-ai makes three model requests and three tool calls. It runs in a process that is killed by SIGKILL
right after one of these six calls, each of them in turn, and then goes on in another. Counted is how often each was
made. The call that the kill hit was not saved, so no engine can know that it was made; the others were. Beside durable
stands pydantic-ai's own integration of DBOS, as it comes, and with each tool marked as a step by hand.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, FunctionToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from rich.console import Console
from rich.progress import track
from rich.table import Table

CALLS = ["request 1", "search a", "search b", "request 2", "search c", "request 3"]
ANSWER = "found a, found b, found c"
SECONDS = 60
ENGINES = {
    "durable": "durable",
    "dbos": "DBOS integration of pydantic-ai",
    "dbos_steps": "the same, each tool marked by hand with @DBOS.step",
}


def make_agent(call: Callable[[str], None], capability: Any, mark: Callable[[Any], Any] = lambda fn: fn) -> Agent[None]:
    """Return the agent. `call` is called as it calls something, `mark` marks a tool."""

    def decide(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        call(f"request {turn + 1}")
        asked = [["a", "b"], ["c"]]
        if turn < len(asked):
            return ModelResponse(parts=[ToolCallPart("search", {"query": each}, each) for each in asked[turn]])
        found = [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        return ModelResponse(parts=[TextPart(", ".join(found))])

    async def search(query: str) -> str:
        await asyncio.sleep(query == "b")  # a second, so that the other call is saved before the kill after this one
        call(f"search {query}")
        return f"found {query}"

    tools = FunctionToolset[None](id="tools")
    tools.add_function(mark(search), takes_ctx=False)
    return Agent(FunctionModel(decide), name="finder", toolsets=[tools], capabilities=[capability])


def caller(folder: Path, killed: str) -> Callable[[str], None]:
    """Return what notes a call, and kills this process after one of them, once."""

    def call(what: str) -> None:
        with (folder / "calls").open("a", encoding="utf-8") as file:
            file.write(f"{what}\n")
        if what == killed and (folder / "calls").read_text(encoding="utf-8").split("\n").count(what) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    return call


# ---- the engines, each in a process of its own


def run_durable(folder: Path, killed: str) -> str:
    from durable import Context, Engine
    from durable.on_pydantic_ai import Durability, DurableAgent

    agent = make_agent(caller(folder, killed), Durability())

    async def find(ctx: Context) -> str:
        return str((await DurableAgent(agent).run(ctx, "please")).output)

    with Engine(folder / "workflow.db") as engine:
        return str(engine.run("w", find))


def run_dbos(folder: Path, killed: str, mark: Callable[[Any], Any] = lambda fn: fn) -> str:
    from dbos import DBOS, SetWorkflowID
    from pydantic_ai.durable_exec.dbos import DBOSDurability

    url = f"sqlite:///{folder / 'dbos.sqlite'}"
    DBOS(config={"name": "agents", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    logging.disable()
    agent = make_agent(caller(folder, killed), DBOSDurability(), mark)

    @DBOS.workflow()
    async def find() -> str:
        return str((await agent.run("please")).output)

    DBOS.launch()  # goes on with what another process left

    async def wait() -> str:
        with SetWorkflowID("w"):
            handle: Any = await DBOS.start_workflow_async(find)
        result: Awaitable[str] = handle.get_result()
        return await result

    return asyncio.run(wait())


def run_dbos_steps(folder: Path, killed: str) -> str:
    from dbos import DBOS

    return run_dbos(folder, killed, DBOS.step())


# ---- the table


def measure(name: str) -> tuple[int, Counter[str], int]:
    """Return how many kills it took, how often calls were repeated that were saved, and how many answers were right."""
    kills, repeated, right = 0, Counter[str](), 0
    for killed in track(CALLS, transient=True, console=Console(stderr=True), description=name):
        with tempfile.TemporaryDirectory(prefix="durable-agents-") as folder:
            command = [sys.executable, "-m", "tests.benchmarks.agents", name, folder, killed]
            first = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
            kills += first.returncode == -signal.SIGKILL
            second = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            right += second.stdout.strip().endswith(ANSWER)
            counts = Counter((Path(folder) / "calls").read_text(encoding="utf-8").splitlines())
        for call, count in counts.items():
            repeated[call.split()[0]] += count - 1 - (call == killed)
    return kills, repeated, right


def main() -> None:
    table = Table(
        "engine", "kills", "saved model requests made again", "finished tool calls made again", "right answers"
    )
    for name, title in ENGINES.items():
        kills, repeated, right = measure(name)
        table.add_row(title, f"{kills}", f"{repeated['request']}", f"{repeated['search']}", f"{right} of {len(CALLS)}")
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(globals()[f"run_{sys.argv[1]}"](Path(sys.argv[2]), sys.argv[3]), flush=True)
        os._exit(0)  # DBOS has threads that would hold the process up
