# ruff: noqa: B018, F841, PLR0915 - lines that do nothing but have a type, as many as there are promises
"""The typed contract: what a type checker sees of the public names. Checked by tests/package/test_types.py, never run.

Each line that ends in `# wrong` must be an error to mypy and to pyright; any other line must not be one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future as StandardFuture
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, assert_type
from uuid import UUID

from durable import Context, Engine, Future, Handle, Moment, Retry, StepInfo, Transaction, current_step, step, workflow
from durable.on_dbos import DBOSEngine

T = TypeVar("T")


@dataclass
class Employee:
    name: str
    laptop: str | None = None


def create_record(name: str) -> Employee:
    return Employee(name)


async def create_record_later(name: str) -> Employee:
    await asyncio.sleep(0)
    return Employee(name)


def ship(employee: Employee, address: str, *, express: bool = False) -> int:
    return len(address) + express


def add(left: int, right: int) -> float:
    return left + right


def beep() -> None:
    pass


def first(items: list[T]) -> T:  # a generic step keeps its type
    return items[0]


@step(name="charge", retry=Retry(attempts=5, on=(ConnectionError,)), timeout_seconds=30, isolate=True)
def charge(account: str, cents: int) -> bool:
    return True


@workflow(former_names=["shop.old:named"])
def named(ctx: Context, name: str) -> Employee:
    return ctx.step(create_record, name)


@step(timeout_seconds=2.5)
async def charge_later(account: str, cents: int) -> bool:
    return True


def book(tx: Transaction, account: str, cents: int = 0, *, note: str = "") -> int:
    assert_type(tx.execute("select 1").fetchall(), list[Any])
    tx.executemany("insert into t values (?)", [(1,)]).rowcount
    tx.cursor().fetchone()

    tx.execute(7)  # wrong
    tx.commit()  # wrong
    tx.executescript("commit")  # wrong
    return cents


class Shop:
    def price(self, item: str) -> float:
        return float(len(item))

    async def price_later(self, item: str) -> float:
        return float(len(item))


def equip(ctx: Context, employee: Employee, *, spare: bool = False) -> list[str]:
    return [employee.name]


async def equip_later(ctx: Context, employee: Employee) -> list[str]:
    return [employee.name]


def onboarding(ctx: Context, name: str = "John Doe", *, delay_seconds: float = 0.0) -> Employee:
    # steps: their value, and their arguments
    assert_type(ctx.step(create_record, name), Employee)
    assert_type(ctx.step(create_record, name=name), Employee)
    assert_type(ctx.step(create_record_later, name), Employee)
    assert_type(ctx.step(ship, Employee(name), "here", express=True), int)
    assert_type(ctx.step(Shop().price, "a"), float)
    assert_type(ctx.step(Shop().price_later, "a"), float)
    assert_type(ctx.step(first, [1, 2]), int)
    assert_type(ctx.step(beep), None)
    assert_type(ctx.step("create", create_record, name), Employee)
    assert_type(ctx.step("create", create_record_later, name), Employee)
    assert_type(ctx.step("ship", ship, Employee(name), "here", express=True), int)
    assert_type(ctx.step("double", lambda: 2 * 7), int)

    ctx.step(create_record)  # wrong
    ctx.step(create_record, 7)  # wrong
    ctx.step(create_record, name, name)  # wrong
    ctx.step(create_record, nam=name)  # wrong
    ctx.step(ship, Employee(name), "here", True)  # wrong
    ctx.step(ship, "here", Employee(name))  # wrong
    ctx.step(create_record_later, 7)  # wrong
    ctx.step(create_record(name))  # wrong
    ctx.step("create", create_record)  # wrong
    ctx.step("create", create_record, 7)  # wrong
    ctx.step("create", create_record_later, 7)  # wrong
    ctx.step("create")  # wrong
    ctx.step(7)  # wrong
    ctx.step(create_record, name).salary  # wrong
    number: int = ctx.step(create_record, name)  # wrong

    # futures
    assert_type(ctx.submit(create_record, name), Future[Employee])
    assert_type(ctx.submit(create_record, name).result(), Employee)
    assert_type(ctx.submit(create_record_later, name), Future[Employee])
    assert_type(ctx.submit("create", create_record, name), Future[Employee])
    assert_type(ctx.submit("create", create_record_later, name).result(timeout=1), Employee)
    standard: StandardFuture[Employee] = ctx.submit(create_record, name)
    awaitable: Awaitable[Employee] = ctx.submit(create_record, name)

    ctx.submit(create_record)  # wrong
    ctx.submit(create_record, 7)  # wrong
    ctx.submit("create", create_record, 7)  # wrong
    ctx.submit(create_record_later, 7)  # wrong
    other: Future[int] = ctx.submit(create_record, name)  # wrong

    # map
    assert_type(ctx.map(create_record, ["a", "b"]), list[Employee])
    assert_type(ctx.map(create_record_later, ["a", "b"], max_concurrent=2), list[Employee])
    assert_type(ctx.map(add, [1, 2], [3, 4]), list[float])
    assert_type(ctx.map(create_record, (name for _ in range(3))), list[Employee])
    assert_type(ctx.map(Shop().price, "abc"), list[float])

    ctx.map(create_record, [1, 2])  # wrong
    ctx.map(create_record_later, [1, 2])  # wrong
    ctx.map(create_record, 7)  # wrong
    ctx.map(create_record, ["a"], max_concurrent="2")  # wrong
    ctx.map(add, [1, 2], ["3", "4"])  # wrong
    ctx.map(add, [1, 2])  # wrong

    # branches
    assert_type(ctx.branch(equip, Employee(name)), Future[list[str]])
    assert_type(ctx.branch(equip, Employee(name), spare=True).result(), list[str])
    assert_type(ctx.branch(equip_later, Employee(name)), Future[list[str]])
    assert_type(ctx.branch("equip", equip, Employee(name)), Future[list[str]])
    assert_type(ctx.branch("equip", equip_later, Employee(name)), Future[list[str]])

    ctx.branch(equip)  # wrong
    ctx.branch(equip, name)  # wrong
    ctx.branch(equip, Employee(name), spare="yes")  # wrong
    ctx.branch("equip", equip, name)  # wrong
    ctx.branch(create_record, name)  # wrong
    ctx.branch(beep)  # wrong

    # children
    assert_type(ctx.child(onboarding, "Jane"), Future[Employee])
    assert_type(ctx.child(onboarding_later, "Jane", workflow_id="emp_002").result(), Employee)

    ctx.child(onboarding, "Jane", workflow_id=7)  # wrong
    child: Future[int] = ctx.child(onboarding, "Jane")  # wrong

    # waiting
    assert_type(ctx.wait_event("hired", type=Employee, timeout_seconds=60), Employee)
    assert_type(ctx.event("hired", type=Employee), Future[Employee])
    assert_type(ctx.timer(60), Future[None])
    assert_type(ctx.timer(timedelta(minutes=1)), Future[None])
    ctx.sleep(timedelta(minutes=1))
    ctx.sleep_until(60)  # wrong
    assert_type(
        ctx.first(ctx.submit(create_record, name), ctx.event("hired", type=Employee)).result().result(), Employee
    )
    assert_type([one.result() for one in ctx.as_completed([ctx.submit(create_record, name)])], list[Employee])

    ctx.wait_event("hired", type=Employee).salary  # wrong
    ctx.sleep("1 hour")  # wrong
    ctx.on_failure(ship, Employee(name))  # wrong

    # a marked function keeps its type
    assert_type(charge("a", 7), bool)
    assert_type(ctx.step(charge, "a", 7), bool)
    assert_type(ctx.step(charge_later, "a", cents=7), bool)
    assert_type(ctx.submit(charge, "a", 7), Future[bool])
    assert_type(ctx.map(charge, ["a"], [7]), list[bool])

    charge("a")  # wrong
    charge("a", "7")  # wrong
    ctx.step(charge, "a", "7")  # wrong
    ctx.submit(charge_later, 7, "a")  # wrong
    step(charge)  # wrong
    step(retry=3)  # wrong
    step(timeout_seconds="1")  # wrong
    step(isolated=True)  # wrong
    Retry(attempts="5")  # wrong
    Retry(on=ConnectionError)  # wrong
    Retry(on=(7,))  # wrong
    Retry(retries=5)  # wrong

    # blocks
    with ctx.open_step("block", 1) as opened:
        opened.complete("a")
    assert_type(opened.is_recorded, bool)
    with ctx.open_step("block", type=int) as counted:
        counted.complete("a")  # wrong
    assert_type(counted.value, int)

    # transactions
    assert_type(ctx.transaction(book, "a", 7), int)
    assert_type(ctx.transaction(book, account="a", note="x"), int)

    ctx.transaction(book)  # wrong
    ctx.transaction(book, 7)  # wrong
    ctx.transaction(book, "a", amount=7)  # wrong
    ctx.transaction(charge, "a", 7)  # wrong
    ctx.transaction(beep)  # wrong
    text: str = ctx.transaction(book, "a")  # wrong

    # what is told, and what would else differ
    assert_type(ctx.publish("progress", 7), None)
    assert_type(ctx.publish("progress", [Employee(name)], type=list[Employee]), None)
    assert_type(ctx.now(), datetime)
    assert_type(ctx.uuid4(), UUID)
    assert_type(ctx.random(), float)
    assert_type(ctx.patched("with-badge"), bool)

    ctx.publish("progress")  # wrong
    ctx.publish(7, "progress")  # wrong
    ctx.publish("progress", 7, int)  # wrong
    ctx.now(7)  # wrong
    ctx.patched()  # wrong
    ctx.patched(7)  # wrong
    instant: str = ctx.now()  # wrong

    assert_type(ctx.workflow_id, str)
    ctx.workflow_id = "other"  # wrong
    return Employee(name)


async def onboarding_later(ctx: Context, name: str) -> Employee:
    assert_type(await ctx.submit(create_record, name), Employee)
    assert_type(await ctx.submit(create_record_later, name), Employee)
    assert_type(await ctx.submit("create", create_record_later, name), Employee)
    assert_type(await ctx.branch(equip_later, Employee(name)), list[str])
    both = await asyncio.gather(ctx.submit(create_record, name), ctx.submit(add, 1, 2))
    assert_type(both, tuple[Employee, float])

    await ctx.step(create_record, name)  # wrong
    text: str = await ctx.submit(create_record, name)  # wrong
    return both[0]


def run_them(engine: Engine) -> None:
    assert_type(engine.run("emp_002", named, "Jane"), Employee)
    assert_type(engine.run("emp_001", onboarding), Employee)
    assert_type(engine.run("emp_001", onboarding, "Jane", delay_seconds=1), Employee)
    assert_type(engine.run("emp_001", onboarding_later, "Jane"), Employee)
    assert_type(engine.start("emp_001", onboarding, "Jane"), Handle[Employee])
    assert_type(engine.start("emp_001", onboarding_later, "Jane"), Handle[Employee])
    assert_type(engine.start("emp_001", onboarding, "Jane").result(), Employee)
    assert_type(engine.start("emp_001", onboarding, "Jane").result(timeout=2.5), Employee)
    assert_type(engine.start("emp_001", onboarding, "Jane").done(), bool)
    assert_type(engine.stop(timeout_seconds=2.5), bool)
    assert_type(engine.resume("emp_001"), Handle[Any])
    assert_type([wait.event for wait in engine.waits("emp_001")], list[str | None])
    assert_type(engine.rewind("emp_001", to="act_3"), None)
    assert_type(engine.restart("emp_001", onboarding, "Jane"), Employee)
    assert_type(engine.fork("emp_001", "emp_002", at="act_3"), None)
    assert_type(engine.workflow("emp_001").status, str)
    assert_type([step.step_key for step in engine.steps("emp_001")], list[str])

    engine.rewind("emp_001", "act_3")  # wrong
    engine.rewind("emp_001", to=3)  # wrong
    engine.fork("emp_001", "emp_002")  # wrong
    engine.run(onboarding, "Jane")  # wrong
    engine.run("emp_001", onboarding, 7)  # wrong
    engine.run("emp_001", onboarding, "Jane", 1.0)  # wrong
    engine.run("emp_001", onboarding, nam="Jane")  # wrong
    engine.run("emp_001", onboarding_later)  # wrong
    engine.run("emp_001", onboarding_later, 7)  # wrong
    engine.run("emp_001", create_record, "Jane")  # wrong
    engine.run(1, onboarding)  # wrong
    engine.start("emp_001", onboarding, 7)  # wrong
    engine.start("emp_001", onboarding_later, 7)  # wrong
    engine.run("emp_001", onboarding).salary  # wrong
    number: int = engine.start("emp_001", onboarding).result()  # wrong


async def await_them(engine: Engine) -> None:
    assert_type(await engine.start("emp_001", onboarding, "Jane"), Employee)
    assert_type(await engine.start("emp_001", onboarding_later, "Jane"), Employee)

    number: int = await engine.start("emp_001", onboarding)  # wrong
    await engine.run("emp_001", onboarding_later, "Jane")  # wrong


# the same workflows on the other engine
def run_them_on_dbos(engine: DBOSEngine) -> None:
    assert_type(engine.run("emp_001", onboarding, "Jane", delay_seconds=1), Employee)
    assert_type(engine.run("emp_001", onboarding_later, "Jane"), Employee)
    assert_type(engine.start("emp_001", onboarding, "Jane"), Handle[Employee])
    assert_type(engine.start("emp_001", onboarding_later, "Jane").result(timeout=2.5), Employee)
    assert_type([step.step_key for step in engine.steps("emp_001")], list[str])
    assert_type(engine.send("emp_001", "approval", 7), bool)

    engine.run("emp_001", onboarding, 7)  # wrong
    engine.start("emp_001", onboarding_later, 7)  # wrong
    engine.run("emp_001", create_record, "Jane")  # wrong
    engine.fork("emp_001", "emp_002")  # wrong
    DBOSEngine("postgresql://me@host/flows", "machine-1")  # wrong


def either(engine: Engine | DBOSEngine) -> Employee:
    assert_type(engine.workflow("emp_001").status, str)
    return engine.run("emp_001", onboarding, "Jane")


def look(moment: Moment) -> None:
    assert_type(moment.step_key, str | None)


def open_them(path: Path) -> None:
    with Engine(path, synchronous="normal", max_workers=4, observers=[look]) as engine:
        assert_type(engine, Engine)
    Engine("workflow.db", observers=[print, look])

    Engine(7)  # wrong
    Engine("workflow.db", max_workers="4")  # wrong
    Engine("workflow.db", "full")  # wrong
    Engine("workflow.db", synchronous="fast")  # wrong
    Engine("workflow.db", observers=[create_record])  # wrong


def inside_a_step() -> None:
    assert_type(current_step(), StepInfo)
    assert_type(current_step().idempotency_key, str)
    assert_type(current_step().attempt, int)


# a function that takes any workflow is typed in the same way
def run_twice(engine: Engine, workflow: Callable[[Context], int]) -> tuple[int, int]:
    return engine.run("a", workflow), engine.run("b", workflow)
