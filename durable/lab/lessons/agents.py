"""The exercises of notebook 13: a payment that an agent makes once, and a conversation that is forked.

An agent cannot be sent to another process, so `hire` makes it anew in each run, from functions that can.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, FunctionToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from durable import Context, Engine
from durable.examples.effects import have_effect, list_effects
from durable.lab.course.crashes import crash_everywhere, effects_of, find_fault
from durable.lab.lessons.zombies import place_order
from durable.lab.questions.checks import Exercise, Verdict, not_yet, right
from durable.on_pydantic_ai import Durability, DurableAgent
from durable.testing import run_until_crash

__all__ = ["decide", "hire", "q1", "q2", "run_until_crash", "transfer"]

# ---- the world of this notebook


def decide(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Stand in for a language model: ask for the price, then for the payment, then answer."""
    turn = sum(isinstance(message, ModelResponse) for message in messages) + 1
    have_effect(f"model request {turn}")
    said = [part.content for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    if turn == 1:
        return ModelResponse(parts=[ToolCallPart("price_of", {"item": "desk"})])
    if turn == 2:
        return ModelResponse(parts=[ToolCallPart("pay", {"euros": said[0]})])
    return ModelResponse(parts=[TextPart(f"The answer to the payment: {said[0]}")])


def hire(price_of: Callable[..., Any], pay: Callable[..., Any], *, asks: bool = True) -> Agent[None, str]:
    """Make an agent of two tools. `asks` is whether a payment has to be approved."""
    tools = FunctionToolset[None](id="shop")
    tools.add_function(price_of, name="price_of", takes_ctx=False)
    tools.add_function(pay, name="pay", takes_ctx=False, requires_approval=asks)
    return Agent(FunctionModel(decide), name="buyer", toolsets=[tools], capabilities=[Durability()])


def transfer(key: str, euros: int) -> str:
    """Send money by a bank that knows keys: a known one is answered as before. For use in steps."""
    place_order(key, f"transfer of {euros} euros")
    return f"{euros} euros are on their way"


def price_of(item: str) -> int:
    """Look a price up."""
    have_effect(f"looked up a {item}")
    return 250


def pay(euros: int) -> str:
    """Send money by a bank that knows no keys."""
    have_effect(f"paid {euros} euros")
    return f"{euros} euros are on their way"


async def purchase(ctx: Context, wish: str) -> str:
    """Have an agent buy something."""
    return str((await DurableAgent(hire(price_of, pay)).run(ctx, wish)).output)


# ---- q1


def judge_payment(pay: Callable[[int], str]) -> Verdict:
    """Kill an agent that pays by the reader's tool at every moment, and count the payments."""

    async def buys(ctx: Context, wish: str) -> str:
        return str((await DurableAgent(hire(price_of, pay, asks=False)).run(ctx, wish)).output)

    report = crash_everywhere(buys, "a desk")
    payment = "ordered a transfer of 250 euros"
    if effects_of(report).count(payment) != 1:
        return not_yet(f"undisturbed it did {effects_of(report)}; expected is one transfer of 250 euros.")
    if fault := find_fault(report):
        return fault
    for judgement, repeat in report.not_idempotent.values():
        if payment in dict(repeat.effects):
            return not_yet(f"{judgement.case}, then resumed: 250 euros were sent twice.", report._repr_html_())
    if two_purchases(pay) != 2:
        return not_yet("a second purchase, under another id: its 250 euros were not sent. It had the key of the first.")
    return right(f"{report.kills} kills, and 250 euros were sent once in each.", report._repr_html_())


def two_purchases(pay: Callable[[int], str]) -> int:
    """Return how many payments two agents make, each in a workflow of its own."""

    def pays(ctx: Context) -> None:
        ctx.step("pay", pay, 250)

    db = Path(tempfile.mkdtemp()) / "course.db"
    with Engine(db) as engine:
        engine.run("p1", pays)
        engine.run("p2", pays)
    return len(list_effects(db))


q1 = Exercise(
    "13.q1",
    judge_payment,
    "A tool is a step. So within it, current_step() knows a key that is the same on each attempt.",
    "transfer(current_step().idempotency_key, euros)",
)

# ---- q2


def judge_fork(at: str) -> Verdict:
    """Fork a purchase at the step, refuse the payment there, and look what was asked again."""
    db = Path(tempfile.mkdtemp()) / "course.db"
    with Engine(db) as engine:
        whole = engine.start("p1", purchase, "a desk")
        engine.send("p1", "approve pay", True)
        whole.result()
        if at not in [step.step_key for step in engine.steps("p1")]:
            return not_yet(f"there is no step {at!r}; the keys are in the table above")
        engine.fork("p1", "fork", at=at)
        engine.send("fork", "approve pay", False)
        answer = engine.resume("fork").result()
    again = list_effects(db, "fork")
    if "denied" not in answer:
        return not_yet(f"the fork answers {answer!r}: the approval was before the step, so it came along.")
    if len(again) > 1:
        return not_yet(f"it is refused, and more than the last request was made again: {', '.join(again)}.")
    return right("the fork has the conversation up to the question, and another answer to it.")


q2 = Exercise(
    "13.q2",
    judge_fork,
    "All before the step comes along, and the step itself does not. Which one is to have another outcome?",
    "The one that waited for the message.",
)
