"""Agents of pydantic-ai: each model request and each tool call is a step, through every crash."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, FunctionToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from durable import Context, Engine, Retry
from durable.observer import Moment
from durable.on_pydantic_ai import Durability, DurableAgent
from durable.testing import Plan
from tests.benchmarks.agents import CALLS, measure
from tests.support import agents
from tests.support.operations import post
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually

steady = FunctionToolset[None](id="steady")


@steady.tool_plain
def look() -> str:
    return "seen"


ANSWER = "found a, found b, higher, helped, guessed 2, paid 3"


def test_each_model_request_and_tool_call_is_a_step_with_a_readable_key(database: Path) -> None:
    with Engine(database) as engine:
        assert engine.run("emp_001", agents.support) == ANSWER
        rows = engine.steps("emp_001")
        names = [row.name for row in rows if row.step_key.startswith("support")]
        usage = [json.loads(row.output or "")["usage"] for row in rows if row.name == "model.request"]
        arguments = {row.step_key.rpartition("/")[2]: row.fingerprint for row in rows if row.name == "search"}

    assert sorted(names) == sorted([*["model.request"] * 5, "search", "search", "guess", "guess", "pay"])
    assert all(each["input_tokens"] > 0 and each["output_tokens"] > 0 for each in usage)
    assert set(arguments) == {"search_1"}


def test_a_replay_asks_no_model_and_no_tool(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def answer(ctx: Context) -> str:
        await ctx.submit(post, True, "approve pay")  # type: ignore[arg-type]
        told = (await DurableAgent(agents.agent).run(ctx, "please")).output
        if not asked:
            asked.append("once")
            raise KeyboardInterrupt
        return told

    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", answer)
        monkeypatch.setattr(agents, "effect", lambda *what: asked.append(f"{what} again"))
        assert engine.run("emp_001", answer) == ANSWER
    assert asked == ["once"]


@pytest.mark.parametrize(
    "workflow",
    [
        pytest.param(agents.support, marks=pytest.mark.thorough),
        pytest.param(agents.support_in_pieces, marks=pytest.mark.thorough),
    ],
    ids=lambda fn: fn.__name__,
)
def test_no_completed_request_and_no_completed_call_is_made_again_after_a_crash_at_any_moment(
    crash_matrix, workflow: Callable[..., Any]
) -> None:
    report = crash_matrix(workflow, plan=Plan(pairs=6, random=6, seed=3, seconds=240))

    report.assert_survives()
    run = report.baseline.runs[0]
    assert {str(judgement.case) for judgement in report.judgements} >= {f"kill at {point}" for point in run.points()}


def test_a_tool_that_requires_approval_waits_without_a_thread_and_what_waits_is_published(database: Path) -> None:
    with Engine(database, suspend=True) as engine:
        started = engine.start("emp_001", agents.support_without_approval)
        eventually(lambda: [run.ended for run in engine.runs("emp_001")] == ["suspended"])
        asked = engine.read("emp_001", "approvals")
        engine.send("emp_001", "approve pay", "too much")

        assert asked == [{"tool": "pay", "args": {"amount": 3}}]
        assert started.result().endswith("guessed 2, too much")


def test_a_retry_of_a_tool_is_an_attempt_of_its_step(database: Path) -> None:
    tries: list[int] = []
    tools = FunctionToolset[None](id="tools")

    @tools.tool_plain(metadata={"durable": Retry(attempts=3, delay_seconds=0.001)})
    def unreliable() -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return "at last"

    agent = Agent(TestModel(), name="support", toolsets=[tools], capabilities=[Durability()])

    async def workflow(ctx: Context) -> str:
        return (await DurableAgent(agent).run(ctx, "please")).output

    with Engine(database) as engine:
        assert "at last" in engine.run("emp_001", workflow)
        assert [row.attempt for row in engine.steps("emp_001") if row.name == "unreliable"] == [3]


def test_no_key_depends_on_whether_parallel_tools_end_together(database: Path) -> None:
    """While they run, the framework waits in tasks of its own: one more for each tool that ends alone."""
    called: list[str] = []
    tools = FunctionToolset[None](id="tools")
    saved: list[str | None] = []

    @tools.tool_plain
    async def look(what: str) -> str:
        called.append(what)
        while what == "b" and "look" not in saved:  # noqa: ASYNC110 - the observer is called in another thread
            await asyncio.sleep(0.01)
        return what

    @tools.tool_plain(sequential=True)
    async def order() -> str:
        called.append("order")
        return "ordered"

    def decide(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if agents.count_responses(messages) == 0:
            calls = [ToolCallPart("look", {"what": what}, what) for what in "ab"]
            return ModelResponse(parts=[*calls, ToolCallPart("order", {}, "order")])
        return ModelResponse(parts=[TextPart(" ".join(agents.results_in(messages)))])

    agent = Agent(FunctionModel(decide), name="support", toolsets=[tools], capabilities=[Durability()])

    async def workflow(ctx: Context) -> str:
        told = (await DurableAgent(agent).run(ctx, "please")).output
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return told

    def note(moment: Moment) -> None:
        if moment.name == "step.checkpointed":
            saved.append(moment.step_name)

    interrupted: list[bool] = []
    with Engine(database, observers=[note]) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        assert engine.run("emp_001", workflow) == "a b ordered"
    assert sorted(called) == ["a", "b", "order"]


def test_a_streamed_answer_is_published_as_it_comes_and_recorded_as_a_whole(database: Path) -> None:
    published: list[dict[str, Any]] = []

    def read() -> dict[str, Any]:
        with Engine(database) as other:
            return {each.name: each.value for each in other.progress("emp_001")}

    async def say(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        for word in ("one", " two", "x" * 3000):
            yield word
            while not (found := read()) or found["text"][-1] != word[-1]:
                assert time.monotonic() < give_up_at
                await asyncio.sleep(0.01)
            published.append(found)

    agent = Agent(FunctionModel(stream_function=say), name="support", capabilities=[Durability(stream=True)])

    async def workflow(ctx: Context) -> str:
        told = (await DurableAgent(agent).run(ctx, "please")).output
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return told

    interrupted: list[bool] = []
    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("emp_001", workflow)
        told = engine.run("emp_001", workflow)
        names = [step.name for step in engine.steps("emp_001")]

    assert published == [{"text": "one"}, {"text": "one two"}, {"text": "x" * 1500}]
    assert told == "one two" + "x" * 3000
    assert names == ["model.request_stream"]
    assert read() == {}


def test_a_stream_that_is_only_published_takes_no_step_for_the_events_of_tools(database: Path) -> None:
    agent = Agent(TestModel(), name="support", toolsets=[steady], capabilities=[Durability(stream=True)])

    async def workflow(ctx: Context) -> str:
        return (await DurableAgent(agent).run(ctx, "please")).output

    with Engine(database) as engine:
        assert engine.run("emp_001", workflow) == '{"look":"seen"}'
        names = [step.name for step in engine.steps("emp_001")]
    assert sorted(names) == ["look", "model.request_stream", "model.request_stream"]


def test_without_pydantic_ai_the_error_names_the_install() -> None:
    code = "import sys; sys.modules['pydantic_ai'] = None; import durable.on_pydantic_ai"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert 'pip install "durable-lab[pydantic-ai]"' in done.stderr


def test_outside_of_a_workflow_the_agent_runs_as_without(database: Path) -> None:
    def answer(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("hello")])

    agent = Agent(FunctionModel(answer), name="support", capabilities=[Durability()])

    assert asyncio.run(agent.run("please")).output == "hello"
    assert not database.exists()


@pytest.mark.parametrize(
    "agent", [Agent(TestModel(), name="support"), Agent(TestModel(), capabilities=[Durability(name="x")])]
)
def test_an_agent_without_name_or_capability_is_refused(agent: Agent[None, str]) -> None:
    with pytest.raises(ValueError, match=r"capabilities=\[Durability\(\)\]"):
        DurableAgent(agent)


@pytest.mark.thorough
def test_after_a_kill_only_the_call_that_it_hit_is_made_again() -> None:
    kills, repeated, right = measure("durable")

    assert (kills, right) == (len(CALLS), len(CALLS))
    assert not +repeated


@pytest.mark.thorough
def test_the_table_beside_the_other_integration_counts_what_that_makes_again() -> None:
    assert +measure("dbos")[1] == Counter(search=8)
