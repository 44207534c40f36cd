"""Bad input: every way that we know of to use the engine wrongly, or to hand it a file that it cannot trust.

Each is answered by a clear error of ours before any effect, and nothing is lost: once the cause is repaired, the
interrupted workflow that was there before goes on, and repeats nothing.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from durable import (
    Context,
    DurableError,
    Engine,
    NonDeterminismError,
    ScopeError,
    SerializationError,
    StoreError,
    WorkflowBusyError,
    WorkflowConflictError,
    current_step,
)
from durable.errors import CorruptionError, InvalidNameError, SchemaVersionError, WorkflowNotFoundError
from durable.store.ownership.owner import lock_path
from durable.testing.inside import stored

# Values that stand in the file once each, so that a test can find and flip their digits.
STEP_OUTPUT, ARGUMENT, RESULT, REFUND = 731245, 918273, 135790, 864209


OBJECT = '"<World: not compared>"'  # of the method that is the step


class World:
    """A database with history: `done` is completed, `failed` has failed, `half` was interrupted between two steps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "workflow.db"
        self.effects: list[str] = []
        self.is_first_life = True
        with Engine(self.path) as engine:
            engine.run("done", self.done)
            with pytest.raises(LookupError):
                engine.run("failed", self.failed)
            with pytest.raises(KeyboardInterrupt):
                engine.run("half", self.half, ARGUMENT)
        self.is_first_life = False
        self.copy = self.damaged = self.path.read_bytes()  # no engine is open
        self.rows = self.read_rows()
        self.effects.clear()

    def first(self, *_: object) -> int:
        self.effects.append("first")
        return STEP_OUTPUT

    def second(self, *_: object) -> None:
        self.effects.append("second")

    def broken(self) -> None:
        raise LookupError(f"no order {REFUND}")

    def done(self, ctx: Context) -> int:
        ctx.step("done", self.second)
        return RESULT

    def failed(self, ctx: Context) -> None:
        ctx.step(self.broken)

    def half(self, ctx: Context, number: int) -> int:
        ctx.step(self.first, "order")
        if self.is_first_life:
            raise KeyboardInterrupt
        ctx.step(self.second)
        return number

    def run_half(self) -> int:
        with Engine(self.path) as engine:
            return engine.run("half", self.half, ARGUMENT)

    def run_new(self, workflow: Callable[[Context], Any], **options: Any) -> Any:
        with Engine(self.path, **options) as engine:
            return engine.run("new", workflow)

    def read_rows(self) -> list[Any]:
        db = sqlite3.connect(self.path)
        try:
            return [
                db.execute("select * from steps where workflow_id in ('done', 'failed', 'half')").fetchall(),
                db.execute("select id, function, arguments, output from workflows where id <> 'new'").fetchall(),
            ]
        finally:
            db.close()

    def change_file(self, change: Callable[[bytes], bytes]) -> None:
        before = self.path.read_bytes()
        after = change(before)
        assert after != before
        self.path.write_bytes(after)

    def flip_digit(self, number: int) -> "World":
        """Add 1 to the last digit of a number wherever it stands in the file."""
        assert str(number).encode() in self.copy
        self.change_file(lambda data: data.replace(str(number).encode(), str(number ^ 1).encode()))
        return self

    def execute(self, *statements: str) -> None:
        db = sqlite3.connect(self.path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    def replace_by_other_program(self, version: int, *statements: str) -> None:
        self.path.unlink()
        self.execute(*statements, f"pragma user_version = {version}")

    def put_back(self) -> None:
        """Restore the file from the copy."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.path.write_bytes(self.copy)


@dataclasses.dataclass
class Bad:
    """A mistake: what is done, the error's class, what it says, its attributes, which effects came before it."""

    what: str
    act: Callable[[World], object]
    error: type[Exception]
    says: tuple[str, ...]
    has: dict[str, Any] = dataclasses.field(default_factory=dict)
    effects: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.what


def with_engine(use: Callable[..., object], **options: Any) -> Callable[[World], object]:
    def act(world: World) -> object:
        with Engine(world.path, **options) as engine:
            return use(engine, world)

    return act


def in_workflow(body: Callable[..., object], **options: Any) -> Callable[[World], object]:
    """A new workflow with this body."""

    def act(world: World) -> object:
        def workflow(ctx: Context) -> None:
            body(ctx, world)

        return world.run_new(workflow, **options)

    return act


def in_async_workflow(body: Callable[[Context, World], Any]) -> Callable[[World], object]:
    def act(world: World) -> object:
        async def workflow(ctx: Context) -> None:
            await body(ctx, world)

        return world.run_new(workflow)

    return act


def on_file(damage: Callable[..., object]) -> Callable[[World], object]:
    """Damage the file, then go on with the interrupted workflow."""

    def act(world: World) -> object:
        damage(world)
        world.damaged = world.path.read_bytes()
        return world.run_half()

    return act


def with_crash_point(text: str) -> Callable[[World], object]:
    def act(world: World) -> object:
        os.environ["DURABLE_CRASH_AT"] = text
        try:
            return world.run_half()
        finally:
            del os.environ["DURABLE_CRASH_AT"]

    return act


def changed_code(body: Callable[[Context, World], object]) -> Callable[[World], object]:
    """Other code under the name of the interrupted workflow."""

    def act(world: World) -> object:
        def half(ctx: Context, number: int) -> None:
            body(ctx, world)

        half.__qualname__ = World.half.__qualname__
        with Engine(world.path) as engine:
            return engine.run("half", half, ARGUMENT)

    return act


def in_thread(fn: Callable[[], object]) -> None:
    """Call it in a thread, and let nobody see how it ended."""

    def call() -> None:
        with contextlib.suppress(DurableError):
            fn()

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def delete_under_the_run(world: World) -> object:
    def delete() -> None:
        world.effects.append("delete")
        for suffix in ("", "-wal", "-shm"):
            world.path.with_name(world.path.name + suffix).unlink(missing_ok=True)

    def workflow(ctx: Context) -> None:
        ctx.step(delete)
        ctx.step(world.second)

    return world.run_new(workflow)


def replace_under_the_run(world: World) -> object:
    def replace() -> None:
        world.effects.append("replace")
        other = world.path.with_name("other.db")
        Engine(other).close()
        other.replace(world.path)

    def workflow(ctx: Context) -> None:
        ctx.step(replace)
        ctx.step(world.second)

    return world.run_new(workflow)


def use_after_the_end(world: World) -> object:
    kept: list[Context] = []
    world.run_new(lambda_free(kept.append))
    return kept[0].step(world.first)


def use_branch_context_after_its_end(ctx: Context, world: World) -> object:
    kept: list[Context] = []
    ctx.branch("keep", kept.append).result()
    return kept[0].step(world.first)


def lambda_free(fn: Callable[[Context], object]) -> Callable[[Context], None]:
    def workflow(ctx: Context) -> None:
        fn(ctx)

    return workflow


async def in_other_task(ctx: Context, world: World) -> None:
    async def other() -> None:
        ctx.submit(world.first)

    await asyncio.create_task(other())


async def gather_over_branches_context(ctx: Context, world: World) -> None:
    async def other() -> None:
        with contextlib.suppress(ScopeError):  # swallowed, and yet the run does not complete
            ctx.submit(world.first)

    await asyncio.gather(other(), other())


async def block_the_loop(ctx: Context, world: World) -> None:
    may_end = threading.Event()
    future = ctx.submit("wait", may_end.wait, 10)
    try:
        future.result()
    finally:
        may_end.set()


class Nameless:
    """A function by its behaviour, without a name."""

    def __call__(self, *_: object) -> None:
        raise AssertionError("it must not be called")


def takes_nothing() -> None:
    raise AssertionError("it must not be called")


nested = "inside a step", "ctx.branch"
stray = "ctx.submit", "ctx.branch", "thread"

BAD_IDS: list[tuple[str, Any, str]] = [
    ("empty", "", "1 to 255 characters"),
    ("over-long", "x" * 256, "1 to 255 characters"),
    ("with NUL", "a\0b", "without NUL"),
    ("with a lone surrogate", "a\ud800", "lone surrogates"),
    ("an int", 7, "expected a str, got int"),
    ("None", None, "expected a str, got NoneType"),
    ("bytes", b"emp_001", "expected a str, got bytes"),
]
BAD: list[Bad] = [
    # ---- ids and names
    *(
        Bad(
            f"id {what}: {method}",
            with_engine(lambda e, w, i=value, m=method, a=args: getattr(e, m)(i, *a(w))),
            InvalidNameError,
            ("workflow id", says),
        )
        for what, value, says in BAD_IDS
        for method, args in [
            ("run", lambda w: [w.half, ARGUMENT]),
            ("start", lambda w: [w.half, ARGUMENT]),
            ("resume", lambda _: []),
            ("workflow", lambda _: []),
            ("steps", lambda _: []),
            ("owner", lambda _: []),
            ("delete", lambda _: []),
            ("cancel", lambda _: []),
            ("send", lambda _: ["news"]),
        ]
    ),
    *(
        Bad(
            f"id {what}: child",
            in_workflow(lambda ctx, w, i=value: ctx.child(w.half, ARGUMENT, workflow_id=i)),
            InvalidNameError,
            ("workflow id", says),
        )
        for what, value, says in BAD_IDS
        if value
    ),
    *(
        Bad(
            f"a message key {what}",
            with_engine(lambda e, _, k=key: e.send("half", "news", key=k)),
            InvalidNameError,
            ("message 'news'", "expected a str"),
        )
        for what, key in [("that is a UUID", UUID(int=7)), ("with NUL", "a\0"), ("with a lone surrogate", "\ud800")]
    ),
    Bad(
        "id unknown",
        with_engine(lambda e, _: e.workflow("hal")),
        WorkflowNotFoundError,
        ("no workflow 'hal'", "did you mean 'half'"),
        {"workflow_id": "hal"},
    ),
    Bad(
        "id unknown to delete",
        with_engine(lambda e, _: e.delete("x")),
        WorkflowNotFoundError,
        ("no workflow 'x'", "workflow.db"),
        {"workflow_id": "x"},
    ),
    Bad(
        "resume of a function that cannot be imported",
        with_engine(lambda e, w: e.resume("half")),
        WorkflowNotFoundError,
        ("cannot be imported here", "engine.run('half', function)"),
        {"workflow_id": "half"},
    ),
    Bad(
        "a lambda as workflow",
        with_engine(lambda e, w: e.run("new", lambda _: None)),
        InvalidNameError,
        ("function with a name", "use def"),
    ),
    Bad(
        "no function as workflow",
        with_engine(lambda e, w: e.run("new", "half")),
        InvalidNameError,
        ("function with a name",),
    ),
    Bad(
        "a lambda as step",
        in_workflow(lambda ctx, w: ctx.step(lambda: w.first(1))),
        InvalidNameError,
        ("lambda", "ctx.step('double', lambda: ...)"),
    ),
    Bad(
        "a lambda submitted",
        in_workflow(lambda ctx, w: ctx.submit(lambda: w.first(1))),
        InvalidNameError,
        ("lambda", "pass one"),
    ),
    Bad(
        "a lambda mapped",
        in_workflow(lambda ctx, w: ctx.map(lambda _: w.first(), [1])),
        InvalidNameError,
        ("lambda", "pass one"),
    ),
    Bad(
        "a lambda as branch",
        in_workflow(lambda ctx, w: ctx.branch(lambda inner: inner.step(w.first))),
        InvalidNameError,
        ("lambda", "pass one"),
    ),
    Bad(
        "an object without a name as step",
        in_workflow(lambda ctx, _: ctx.step(Nameless())),
        InvalidNameError,
        ("Nameless has no name", "ctx.step('charge', fn)"),
    ),
    Bad(
        "the value of a call as step",
        in_workflow(lambda ctx, _: ctx.step(7)),
        TypeError,
        ("ctx.step(fn, x), not ctx.step(fn(x))",),
    ),
    Bad(
        "a name without a function", in_workflow(lambda ctx, _: ctx.step("charge")), TypeError, ("expected a function",)
    ),
    *(
        Bad(
            f"a step name {what}",
            in_workflow(lambda ctx, w, n=name: ctx.step(n, w.first)),
            InvalidNameError,
            ("step name", "1 to 200 characters"),
        )
        for what, name in [
            ("empty", ""),
            ("over-long", "x" * 201),
            ("with a slash", "a/b"),
            ("with NUL", "a\0"),
            ("with a lone surrogate", "\udc00"),
        ]
    ),
    Bad(
        "a branch name with a slash",
        in_workflow(lambda ctx, w: ctx.branch("a/b", lambda inner: inner.step(w.first))),
        InvalidNameError,
        ("step name 'a/b'",),
    ),
    # ---- arguments
    Bad(
        "a workflow that takes no context",
        with_engine(lambda e, _: e.run("new", takes_nothing)),
        TypeError,
        ("workflow 'new'", "too many positional arguments"),
    ),
    Bad(
        "arguments that do not fit",
        with_engine(lambda e, w: e.run("new", w.half)),
        TypeError,
        ("workflow 'new'", "number"),
    ),
    Bad(
        "an argument of the wrong type",
        with_engine(lambda e, w: e.run("new", w.half, "7")),
        SerializationError,
        ("argument 'number'", "int"),
        {"type_name": "str"},
    ),
    Bad(
        "the id of another workflow",
        with_engine(lambda e, w: e.run("half", w.done)),
        WorkflowConflictError,
        ("World.half", "World.done", "use another workflow id"),
        {"workflow_id": "half"},
    ),
    Bad(
        "the id of a completed workflow",
        with_engine(lambda e, w: e.run("done", w.half, 1)),
        WorkflowConflictError,
        ("use another workflow id", "delete"),
        {"workflow_id": "done"},
    ),
    Bad(
        "other arguments",
        with_engine(lambda e, w: e.run("half", w.half, 7)),
        WorkflowConflictError,
        (str(ARGUMENT), "7", "use another workflow id"),
        {"workflow_id": "half"},
    ),
    Bad(
        "other arguments, started",
        with_engine(lambda e, w: e.start("half", w.half, 7)),
        WorkflowConflictError,
        ("use another workflow id",),
        {"workflow_id": "half"},
    ),
    # ---- the engine
    Bad(
        "synchronous",
        with_engine(lambda *_: None, synchronous="fast"),
        ValueError,
        ("synchronous", "'full', 'normal' or 'off'", "'fast'"),
    ),
    Bad("no workers", with_engine(lambda *_: None, max_workers=0), ValueError, ("max_workers", "at least 1", "0")),
    Bad(
        "max_concurrent",
        in_workflow(lambda ctx, w: ctx.map(w.first, [1], max_concurrent=0)),
        ValueError,
        ("max_concurrent", "at least 1"),
    ),
    *(
        Bad(f"DURABLE_CRASH_AT={text}", with_crash_point(text), ValueError, ("crash point", says))
        for text, says in [
            ("first:later", "executed, part_stored, checkpointed"),
            (":executed", "STEP[:MOMENT]"),
            ("first:executed:now", "moments"),
            ("workflow:executed", "completed"),
        ]
    ),
    Bad(
        "an engine that is closed",
        lambda w: closed_engine(w).run("half", w.half, ARGUMENT),
        StoreError,
        ("closed", "open a new Engine"),
        {"path": "workflow.db"},
    ),
    Bad(
        "an engine that is closed, asked",
        lambda w: closed_engine(w).steps("half"),
        StoreError,
        ("closed", "open a new Engine"),
    ),
    # ---- the file
    Bad("no file: memory", lambda _: Engine(":memory:"), StoreError, ("path of a file", "memory survives no crash")),
    Bad("no file: empty path", lambda _: Engine(""), StoreError, ("path of a file",)),
    Bad("a path with NUL", lambda _: Engine("a\0b"), StoreError, ("NUL",)),
    Bad("a path that is bytes of no text", lambda _: Engine(os.fsdecode(b"\xff")), StoreError, ("lone surrogates",)),
    Bad(
        "a missing folder",
        lambda w: Engine(w.path.parent / "missing" / "workflow.db"),
        StoreError,
        ("folder that exists",),
    ),
    Bad("a folder that is a file", lambda w: Engine(w.path / "workflow.db"), StoreError, ("folder that exists",)),
    Bad("a folder as file", lambda w: Engine(w.path.parent), StoreError, ("must name a file",)),
    Bad(
        "a file that is no database",
        on_file(lambda w: w.change_file(lambda _: b"name,laptop\n" * 1000)),
        CorruptionError,
        ("not a database", "does not exist yet"),
        {"path": "workflow.db"},
    ),
    Bad(
        "a short file that is no database",
        on_file(lambda w: w.change_file(lambda _: b"name")),
        CorruptionError,
        ("not a database",),
    ),
    Bad(
        "a truncated file",
        on_file(lambda w: w.change_file(lambda data: data[: len(data) // 2])),
        CorruptionError,
        ("damaged", "restore it from a copy"),
        {"path": "workflow.db"},
    ),
    Bad(
        "a file cut within its header",
        on_file(lambda w: w.change_file(lambda data: data[:60])),
        CorruptionError,
        ("damaged", "restore it from a copy"),
    ),
    Bad(
        "a file of a newer schema",
        on_file(lambda w: w.execute("pragma user_version = 99")),
        SchemaVersionError,
        ("schema version 99", "newer version of durable-lab"),
        {"path": "workflow.db"},
    ),
    *(
        Bad(
            f"a file of another program with a table steps, version {version}",
            on_file(lambda w, v=version: w.replace_by_other_program(v, "create table steps (id, what)")),
            SchemaVersionError,
            ("another program", "use another file"),
            {"path": "workflow.db"},
        )
        for version in (0, 1, -1)
    ),
    Bad(
        "a file of another program, of our version",
        on_file(lambda w: w.replace_by_other_program(1, "create table places (url)")),
        SchemaVersionError,
        ("another program", "use another file"),
    ),
    Bad(
        "a flipped digit in a stored output",
        on_file(lambda w: w.flip_digit(STEP_OUTPUT)),
        CorruptionError,
        ("step 'first_1' of 'half'", "checksum", "restore", "delete this workflow"),
        {"path": "workflow.db"},
    ),
    Bad(
        "a flipped digit in a workflow's arguments",
        on_file(lambda w: w.flip_digit(ARGUMENT)),
        CorruptionError,
        ("workflow 'half'", "checksum", "restore", "delete this workflow"),
    ),
    Bad(
        "a flipped digit in a workflow's result",
        lambda w: with_engine(lambda e, _: e.run("done", w.done))(w.flip_digit(RESULT)),
        CorruptionError,
        ("workflow 'done'", "checksum", "restore"),
    ),
    Bad(
        "a flipped digit in a recorded error",
        lambda w: with_engine(lambda e, _: e.run("failed", w.failed))(w.flip_digit(REFUND)),
        CorruptionError,
        ("'failed'", "checksum", "restore"),
    ),
    Bad(
        "a checksum taken away",
        on_file(lambda w: w.execute("update steps set checksum = null")),
        CorruptionError,
        ("step 'first_1' of 'half'", "checksum"),
    ),
    Bad(
        "the database deleted under the run",
        delete_under_the_run,
        StoreError,
        ("deleted or replaced", "put it back"),
        {"path": "workflow.db"},
        ("delete",),
    ),
    Bad(
        "the database replaced under the run",
        replace_under_the_run,
        StoreError,
        ("deleted or replaced", "put it back"),
        {"path": "workflow.db"},
        ("replace",),
    ),
    # ---- where ctx may be used
    Bad(
        "a step within a step",
        in_workflow(lambda ctx, w: ctx.step("outer", lambda: ctx.step(w.first))),
        ScopeError,
        ("'first'", *nested),
    ),
    Bad(
        "a step submitted within a step",
        in_workflow(lambda ctx, w: ctx.step("outer", lambda: ctx.submit(w.first))),
        ScopeError,
        ("'first'", *nested),
    ),
    Bad(
        "a branch within a step",
        in_workflow(lambda ctx, w: ctx.step("outer", lambda: ctx.branch("inner", w.first))),
        ScopeError,
        ("'inner'", *nested),
    ),
    Bad(
        "a step within a submitted step",
        in_workflow(lambda ctx, w: ctx.submit("outer", lambda: ctx.step(w.first)).result()),
        ScopeError,
        ("'first'", *stray),
    ),
    Bad(
        "a step within a mapped step",
        in_workflow(lambda ctx, w: ctx.map(named("outer", lambda _: ctx.step(w.first)), [1])),
        ScopeError,
        ("'first'", *stray),
    ),
    Bad(
        "a step within an async step",
        in_workflow(lambda ctx, w: ctx.step(as_async("outer", lambda: ctx.step(w.first)))),
        ScopeError,
        ("'first'", *stray),
    ),
    Bad(
        "the outer ctx within a branch",
        in_workflow(lambda ctx, w: ctx.branch("side", lambda _: ctx.step(w.first)).result()),
        ScopeError,
        ("'first'", *stray),
    ),
    Bad(
        "ctx in a stray thread",
        in_workflow(lambda ctx, w: in_thread(lambda: ctx.step(w.first))),
        ScopeError,
        ("'first'", *stray),
    ),
    Bad(
        "ctx in a thread pool",
        in_workflow(lambda ctx, w: in_pool(lambda: ctx.step(w.first))),
        ScopeError,
        ("'first'", *stray),
    ),
    Bad(
        "ctx in another task",
        in_async_workflow(in_other_task),
        ScopeError,
        ("'first'", "task", "ctx.submit", "ctx.branch"),
    ),
    Bad(
        "ctx in gathered tasks that swallow the error",
        in_async_workflow(gather_over_branches_context),
        ScopeError,
        ("'first'", "task"),
    ),
    Bad(
        "ctx after the workflow has ended",
        use_after_the_end,
        ScopeError,
        ("'first'", "after the workflow function had ended", "call it before"),
    ),
    Bad(
        "ctx after its branch has ended",
        in_workflow(use_branch_context_after_its_end),
        ScopeError,
        ("'first'", "had ended"),
    ),
    Bad(
        "an async step in an async workflow, not awaited",
        in_async_workflow(lambda ctx, w: as_async("wait", lambda: ctx.step(as_async("later", w.first)))()),
        ScopeError,
        ("ctx.step", "await ctx.submit"),
    ),
    Bad(
        "map in an async workflow",
        in_async_workflow(lambda ctx, w: as_async("wait", lambda: ctx.map(w.first, [1]))()),
        ScopeError,
        ("ctx.map", "await asyncio.gather"),
    ),
    Bad(
        "result() in an async workflow",
        in_async_workflow(block_the_loop),
        ScopeError,
        ("await", "block the event loop"),
    ),
    Bad(
        "current_step outside of a step",
        in_workflow(lambda ctx, _: current_step()),
        ScopeError,
        ("outside of a step", "ctx.step"),
    ),
    Bad(
        "its own id run within a step",
        lambda w: run_own_id_in_a_step(w, "new"),
        WorkflowBusyError,
        (f"already running in process {os.getpid()}", "use another id"),
    ),
    # ---- changed code; the many ways are in test_divergence.py
    Bad(
        "a step renamed",
        changed_code(lambda ctx, w: ctx.step(w.second, "order")),
        NonDeterminismError,
        ("first", "second", "new workflow id"),
        {"workflow_id": "half", "step_key": "first_1"},
    ),
    Bad(
        "a step inserted",
        changed_code(lambda ctx, w: (ctx.step(w.second), ctx.step(w.first, "order"))),
        NonDeterminismError,
        ("first", "second", "old code"),
        {"workflow_id": "half", "step_key": "first_1"},
    ),
    Bad(
        "a step removed",
        changed_code(lambda ctx, w: None),
        NonDeterminismError,
        ("first_1", "without asking", "new workflow id"),
        {"workflow_id": "half", "step_key": "first_1", "called": "nothing"},
    ),
    Bad(
        "a step's arguments changed",
        changed_code(lambda ctx, w: ctx.step(w.first, "laptop")),
        NonDeterminismError,
        (f'first({OBJECT},"order")', f'first({OBJECT},"laptop")'),
        {"recorded": f'first({OBJECT},"order")', "called": f'first({OBJECT},"laptop")'},
    ),
    Bad(
        "a step turned into a branch",
        changed_code(lambda ctx, w: ctx.branch("first", lambda inner: inner.step(w.second)).result()),
        NonDeterminismError,
        ("first as a branch", "old code"),
        {"step_key": "first_1"},
    ),
]


def closed_engine(world: World) -> Engine:
    engine = Engine(world.path)
    engine.close()
    engine.close()
    return engine


def named(name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return fn(*args)

    call.__name__ = name
    return call


def as_async(name: str, fn: Callable[[], Any]) -> Callable[[], Any]:
    async def call() -> Any:
        return fn()

    call.__name__ = name
    return call


def in_pool(fn: Callable[[], object]) -> object:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return pool.submit(fn).result()


def run_own_id_in_a_step(world: World, workflow_id: str) -> object:
    with Engine(world.path) as engine:

        def workflow(ctx: Context) -> None:
            ctx.step("again", lambda: engine.run(workflow_id, workflow))

        return engine.run(workflow_id, workflow)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_input_is_a_clear_error_before_any_effect_and_nothing_is_lost(world: World, bad: Bad) -> None:
    with pytest.raises(bad.error) as caught:
        bad.act(world)

    assert type(caught.value) is bad.error
    assert [part for part in bad.says if part not in str(caught.value)] == []
    for name, value in bad.has.items():
        found = getattr(caught.value, name)
        assert (found.name if isinstance(found, Path) else found) == value
    assert world.effects == list(bad.effects)
    if bad.error is SchemaVersionError:  # it is somebody's file, so not a byte of it may change
        assert world.path.read_bytes() == world.damaged
        assert sorted(path.name for path in world.path.parent.iterdir()) == ["workflow.db", "workflow.db-locks"]

    try:
        is_whole = world.read_rows() == world.rows and world.damaged == world.copy
    except sqlite3.DatabaseError:
        is_whole = False
    if not is_whole:
        world.put_back()
    world.effects.clear()

    assert world.read_rows() == world.rows
    assert world.run_half() == ARGUMENT
    assert world.effects == ["second"]


HOSTILE_IDS = [
    "'; drop table steps; --",
    '"); select 1; --',
    "../..",
    "../../etc/passwd",
    "/",
    "C:\\temp\\x",
    "CON",
    ".",
    "\U0001f984",
    "caf\u00e9",
    unicodedata.normalize("NFD", "caf\u00e9"),
    "emp_001",
    "EMP_001",
    "emp_001 ",
    "emp_001/first_1",
    "%s%n{0}",
    "$(reboot)",
    "line\nbreak\t\x1b[31m",
    "\u202eright to left",
    "x" * 255,
    "\U0001f984" * 255,
    "null",
    "0",
]


def test_hostile_ids_work_and_stay_distinct(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def note() -> str:
        step = current_step()
        keys[step.workflow_id] = step.idempotency_key
        return step.workflow_id

    def workflow(ctx: Context) -> str:
        return ctx.step(note)

    with Engine(tmp_path / "workflow.db") as engine:
        results = [engine.run(workflow_id, workflow) for workflow_id in HOSTILE_IDS]

        assert results == HOSTILE_IDS
        assert len(set(keys.values())) == len(HOSTILE_IDS)
        assert sorted(record.workflow_id for record in engine.workflows()) == sorted(HOSTILE_IDS)
        assert [step.value for workflow_id in HOSTILE_IDS for step in engine.steps(workflow_id)] == HOSTILE_IDS
        assert [engine.run(workflow_id, workflow) for workflow_id in HOSTILE_IDS] == HOSTILE_IDS
        assert [engine.owner(workflow_id) for workflow_id in HOSTILE_IDS] == [None] * len(HOSTILE_IDS)
        engine.delete("../..")
        assert len(engine.workflows()) == len(HOSTILE_IDS) - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workflow.db", "workflow.db-locks"]
    files = {lock_path(tmp_path / "workflow.db", workflow_id) for workflow_id in HOSTILE_IDS}
    assert set((tmp_path / "workflow.db-locks").iterdir()) == files  # none of them left the folder


@pytest.mark.parametrize(
    "name", ["'; drop table steps; --", "\U0001f984", "step_1", "1", "_", "a b", "x" * 200, "..", "a\nb"]
)
def test_hostile_step_names_work(tmp_path: Path, name: str) -> None:
    def workflow(ctx: Context) -> None:
        ctx.step(name, int)
        ctx.branch(name, lambda inner: inner.step(name, int)).result()

    with Engine(tmp_path / "workflow.db") as engine:
        engine.run("wf", workflow)

        assert [step.step_key for step in engine.steps("wf")] == [f"{name}_1", f"{name}_2/{name}_1"]


@pytest.mark.parametrize(
    "name", ["with space.db", "per%20cent.db", "question?mode=memory.db", "hash#.db", "\U0001f984.db", "file:x", "-"]
)
def test_hostile_file_names_work_and_are_one_file_each(tmp_path: Path, name: str) -> None:
    def workflow(_: Context) -> int:
        return 7

    with Engine(tmp_path / name) as engine:
        assert engine.run("wf", workflow) == 7

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"{name}-locks"])


def test_a_file_cut_anywhere_is_refused_before_any_effect(world: World) -> None:
    pages = len(world.copy) // 4096
    assert pages > 5

    for cut in [100, 4096, 5000, *(4096 * page for page in range(2, pages))]:
        world.put_back()
        world.change_file(lambda data: data[:cut])  # noqa: B023 - called at once
        with pytest.raises(CorruptionError) as caught:
            world.run_half()
        assert caught.value.path == world.path, cut
        assert world.effects == [], cut

    world.put_back()
    assert world.run_half() == ARGUMENT


def test_a_workflow_that_fails_its_checksum_can_be_deleted_as_the_message_says(world: World) -> None:
    world.flip_digit(ARGUMENT)

    with Engine(world.path) as engine:
        engine.delete("half")
        assert [record.workflow_id for record in engine.workflows()] == ["done", "failed"]
        assert engine.run("half", world.half, ARGUMENT) == ARGUMENT

    assert world.effects == ["first", "second"]


def test_a_bad_step_in_one_workflow_leaves_the_others_alone(world: World) -> None:
    world.flip_digit(STEP_OUTPUT)

    with Engine(world.path) as engine:
        assert engine.run("done", world.done) == RESULT
        with pytest.raises(CorruptionError):
            engine.run("half", world.half, ARGUMENT)


# ---- a forked child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_an_engine_used_in_a_forked_child_is_refused_there_and_unharmed_here(world: World) -> None:
    with Engine(world.path) as engine:
        said = _say_in_fork(lambda: engine.run("half", world.half, ARGUMENT), world.effects)
        closed = _say_in_fork(engine.close)

        assert said["error"] == "StoreError"
        assert f"opened in process {os.getpid()}" in said["message"]
        assert "open an Engine in the child" in said["message"]
        assert said["effects"] == []
        assert closed["error"] is None
        assert engine.run("half", world.half, ARGUMENT) == ARGUMENT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_an_engine_forked_while_a_thread_saves_is_refused_in_the_child_at_once(world: World) -> None:
    # A thread forks from within a transaction: the child inherits every lock as held, and nobody there to release it.
    with Engine(world.path) as engine:
        said: list[dict[str, Any]] = []
        stored(engine).connection.write(lambda _: said.append(_say_in_fork(engine.workflows)))

    assert [answer["error"] for answer in said] == ["StoreError"]


def _say_in_fork(fn: Callable[[], object], effects: Sequence[str] = ()) -> dict[str, Any]:
    """Call it in a forked child; which error came out of it. The child is killed when it says nothing for 10 s."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        error = None
        try:
            fn()
        except BaseException as caught:
            error = caught
        answer: dict[str, Any] = {
            "error": error and type(error).__name__,
            "message": str(error),
            "effects": list(effects),
        }
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    assert text, "the child was stuck"
    return dict(json.loads(text))


# ---- read-only files and folders; root may write everywhere, so a child that is nobody tries

AS_NOBODY = """
import json, os, signal, sys
import durable, durable.errors, difflib, pathlib
from durable import Context, Engine

path = sys.argv[1]
effects = []
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

def effect() -> None:
    effects.append("effect")

def workflow(ctx: Context) -> None:
    ctx.step(effect)

error = None
try:
    with Engine(path) as engine:
        engine.run("new", workflow)
except durable.DurableError as caught:
    error = caught
said = {"error": error and type(error).__name__, "message": str(error), "effects": effects}
print(json.dumps(said | {"path": str(getattr(error, "path", ""))}))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that also nobody can reach: those of pytest are its user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="durable-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def run_as_nobody(path: Path) -> dict[str, Any]:
    script = subprocess.run([sys.executable, "-c", AS_NOBODY, path], capture_output=True, text=True, check=False)
    assert script.returncode == 0, script.stderr
    return dict(json.loads(script.stdout))


def give_to_nobody(*paths: Path) -> None:
    if os.getuid() == 0:
        for path in paths:
            os.chown(path, 65534, 65534)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="this system has other rights than those of users")
@pytest.mark.parametrize("what", ["file", "folder", "folder of a new file", "folder of the locks", "shared memory"])
def test_what_may_not_be_written_is_found_before_any_effect_and_nothing_is_lost(open_folder: Path, what: str) -> None:
    world = World(open_folder)
    path, locks = world.path, world.path.with_name("workflow.db-locks")
    give_to_nobody(open_folder, path, locks, *locks.iterdir())
    if what == "file":
        path.chmod(0o444)
    elif what == "folder":
        open_folder.chmod(0o555)
    elif what == "folder of a new file":
        path = open_folder / "new.db"
        open_folder.chmod(0o555)
    elif what == "folder of the locks":
        locks.chmod(0o555)
        for file in locks.iterdir():
            file.chmod(0o444)
    else:
        (open_folder / "workflow.db-shm").mkdir()

    said = run_as_nobody(path)

    assert said["error"] == "StoreError"
    assert what == "shared memory" or "writable" in said["message"]
    assert what != "file" or "-shm" in said["message"]
    assert said["path"] == str(path)
    assert said["effects"] == []

    if what == "shared memory":
        (open_folder / "workflow.db-shm").rmdir()
    open_folder.chmod(0o755)
    for changed in [*open_folder.iterdir(), *locks.iterdir()]:  # with -wal and -shm, which take the rights of the file
        changed.chmod(0o755)
    assert run_as_nobody(world.path)["effects"] == ["effect"]  # or it was never the rights that stopped it
    assert world.read_rows() == world.rows
