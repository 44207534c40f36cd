"""The fast path of a replay (`Frame.recall`) equals the rule (`Frame.reach`), for any history and any program.

A history is made by running one program several times, each time with other failures and another end, and then by
changing rows. Another program is run on two copies of it: with the fast path, and without.
"""

from __future__ import annotations

import copy
import functools
import inspect
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from durable import Context, Retry, step
from durable.replay import frame
from durable.replay.keys import Scope
from durable.replay.log import Checkpoint
from durable.replay.run import Run
from durable.testing.memory import Memory
from tests.support.memory import run, saved_anew

# ---- programs


class World:
    """The effects, and what the steps of a run meet."""

    def __init__(self) -> None:
        self.begin(frozenset(), -1)

    def begin(self, failing: frozenset[str], end: int) -> None:
        """Begin a run: what fails in it, and the effect with which it ends."""
        self.effects: list[str] = []
        self.failing, self.end = failing, end

    def meet(self, what: str) -> None:
        if len(self.effects) == self.end:
            raise SystemExit
        self.effects.append(what)
        if what in self.failing:
            raise ValueError(what)


world = World()


def number(n: Any) -> int:
    world.meet(f"number {n}")
    return len(str(n))


def text(n: Any) -> str:
    world.meet(f"text {n}")
    return str(n)


def nothing(n: Any) -> None:
    world.meet(f"nothing {n}")


def anything(n: Any) -> Any:
    world.meet(f"anything {n}")
    return {"n": [str(n)]}


@step(retry=Retry(attempts=2))
def retried(n: Any) -> str:
    world.meet(f"retried {n}")
    return str(n)


def pair(bound: Any, n: Any) -> str:
    world.meet(f"pair {bound} {n}")
    return f"{bound} {n}"


class Size(IntEnum):
    """Its members are recorded beside a result."""

    SMALL = 1
    LARGE = 2


def size(n: Any) -> Size:
    world.meet(f"size {n}")
    return Size.LARGE if n else Size.SMALL


FUNCTIONS: list[Callable[..., Any]] = [number, text, nothing, anything, retried, functools.partial(pair, 1), size]


class Incomparable:
    """An argument without content."""

    def __str__(self) -> str:
        return "?"


@dataclass
class Point:
    """An argument whose fingerprint leaves a field out."""

    x: int
    y: int = 0

    def __str__(self) -> str:
        return f"{self.x} {self.y}"


@dataclass(frozen=True)
class Op:
    """One operation of a program. `how` is step, submit or branch; nested in a step or in a thread it is refused."""

    how: str
    fn: int = 0
    argument: Any = 0
    name: str | None = None
    catches: bool = False
    body: tuple[Op, ...] = ()


Program = tuple[Op, ...]


def perform(ctx: Context, program: Program) -> list[Any]:
    """Have the operations of a program, one after the other."""
    values: list[Any] = []
    for op in program:
        try:
            values.append(perform_one(ctx, op))
        except ValueError as error:
            if not op.catches:
                raise
            values.append(f"caught {error}")
    return values


def perform_one(ctx: Context, op: Op) -> Any:
    if op.how == "branch":
        return ctx.branch(perform, op.body).result()
    if op.how == "nested":
        return ctx.step("nested", lambda: ctx.step(number, op.argument))
    fn = FUNCTIONS[op.fn]
    argument = {None: Incomparable(), "point": Point(1)}.get(op.argument, op.argument)
    call = (fn, argument) if op.name is None else (op.name, fn, argument)
    if op.how == "submit":
        return ctx.submit(*call).result()
    if op.how == "thread":
        with ThreadPoolExecutor(thread_name_prefix="other") as pool:
            return pool.submit(ctx.step, *call).result()
    return ctx.step(*call)


ARGUMENTS = st.sampled_from([0, 1, "a", None, "point"])
PLAIN_OPS = st.builds(
    Op,
    how=st.sampled_from(["step"] * 6 + ["submit"] * 2 + ["nested"]),
    fn=st.integers(0, len(FUNCTIONS) - 1),
    argument=ARGUMENTS,
    name=st.sampled_from([None, None, None, "other", "number"]),
    catches=st.booleans(),
)
OPS = PLAIN_OPS | st.builds(Op, how=st.just("branch"), body=st.lists(PLAIN_OPS, max_size=3).map(tuple))
PROGRAMS = st.lists(OPS, min_size=1, max_size=6).map(tuple)


# ---- histories


class Change(NamedTuple):
    """What is done to the row in one place of a history, or to an operation of the program."""

    place: int
    what: str


ROW_CHANGES = [
    "checksum", "no output", "other type", "no JSON", "fingerprint", "first version", "no fingerprint", "running",
    "attempt", "kind", "gone",
]  # fmt: skip
PROGRAM_CHANGES = ["argument", "function", "name", "how", "thread", "insert", "drop"]


def change_row(memory: Memory, change: Change) -> None:
    """Change a row as a fault, an older version or another backend would have it."""
    keys = sorted(memory.steps)
    if not keys:
        return
    key = keys[change.place % len(keys)]
    row: Checkpoint = memory.steps[key]
    if change.what == "checksum":
        memory.steps[key] = row._replace(checksum=(row.checksum or 0) + 1)
    elif change.what == "fingerprint":
        memory.steps[key] = row._replace(fingerprint='["z"]')
    elif change.what == "first version":
        texts = {'2:["<Incomparable: not compared>"]': '["<no JSON form>"]', '2:[{"x":1}]': '[{"x":1,"y":0}]'}
        memory.steps[key] = row._replace(fingerprint=texts.get(row.fingerprint or "", '["a"]'))
    elif change.what == "kind":
        memory.steps[key] = row._replace(kind="publish")
    elif change.what == "no fingerprint":
        memory.steps[key] = row._replace(fingerprint=None)
    elif change.what == "running":
        memory.steps[key] = row._replace(status="running", output=None, error=None, checksum=None)
    elif change.what == "attempt":
        memory.attempts.append(row._replace(status="running", output=None, error=None, checksum=None))
        memory.steps[key] = row._replace(attempt=row.attempt + 1)
    elif change.what == "gone":
        del memory.steps[key]
    elif row.status == "completed":
        output = {"no output": None, "other type": '["z"]', "no JSON": "{"}.get(change.what, row.output)
        memory.steps[key] = saved_anew(row._replace(output=output))


def change_program(program: Program, change: Change) -> Program:
    """Change the code in one place."""
    place = change.place % len(program)
    op = program[place]
    new = {
        "argument": Op(op.how, op.fn, "changed", op.name, op.catches, op.body),
        "function": Op(op.how, (op.fn + 1) % len(FUNCTIONS), op.argument, op.name, op.catches, op.body),
        "name": Op(op.how, op.fn, op.argument, "renamed", op.catches, op.body),
        "how": Op("submit" if op.how == "step" else "step", op.fn, op.argument, op.name, op.catches),
    }
    new["thread"] = Op("thread", op.fn, op.argument, op.name, op.catches)
    if change.what == "insert":
        return (*program[:place], Op("step"), *program[place:])
    if change.what == "drop":
        return (*program[:place], *program[place + 1 :])
    return (*program[:place], new[change.what], *program[place + 1 :])


class Life(NamedTuple):
    """One run that makes the history."""

    failing: frozenset[str]
    end: int


ENDED_EARLY = Life(frozenset(), 1)
FAILING = st.sampled_from(["number 0", "text a", "nothing 1", "retried 0", "anything ?"])
LIVES = st.lists(
    st.builds(Life, failing=st.frozensets(FAILING, max_size=2), end=st.integers(-1, 6)), min_size=1, max_size=3
)
ROWS_CHANGED = st.lists(st.builds(Change, st.integers(0, 9), st.sampled_from(ROW_CHANGES)), max_size=2)
PROGRAM_CHANGED = st.lists(st.builds(Change, st.integers(0, 9), st.sampled_from(PROGRAM_CHANGES)), max_size=1)


# ---- both ways


class Watched(Context):
    """A context whose scopes and histories can be looked at afterwards."""

    seen: list[tuple[Run, Scope]]

    def __init__(self, run: Run, scope: Scope) -> None:
        super().__init__(run, scope)
        self.seen.append((run, scope))


class BySlowPath(Watched):
    """A context without the fast path."""

    def recall(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return frame.UNKNOWN


def observe(program: Program, memory: Memory, life: Life, context: type[Watched]) -> dict[str, Any]:
    """Run a program, and return all that can be seen of the run."""
    world.begin(life.failing, life.end)
    context.seen = []
    ended: Any
    try:
        ended = run(perform, program, memory=memory, context=context)
    except (Exception, SystemExit) as error:
        ended = type(error), str(error), getattr(error, "__notes__", [])
    return {
        "ended": ended,
        "effects": world.effects,
        "drawn": {scope.path: scope.number for _, scope in context.seen},
        "left": [sorted(run.history.rows) for run, _ in context.seen][:1],
        "steps": memory.steps,
        "attempts": memory.attempts,
        "waits": memory.waits,
        "ends": memory.ends,
    }


def check_that_both_agree(fast: type[Watched], examples: int, *, shrinks: bool = True) -> None:
    """Raise AssertionError for a history and a program that `fast` answers otherwise than the rule."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if shrinks else [])],
        report_multiple_bugs=False,
    )
    @given(PROGRAMS, LIVES, ROWS_CHANGED, PROGRAM_CHANGED, LIVES)
    @example((Op("step"), Op("step", 1)), [ENDED_EARLY], [], [Change(0, "thread")], [ENDED_EARLY])  # a rare one
    def check(program: Program, past: list[Life], rows: list[Change], code: list[Change], now: list[Life]) -> None:
        memory = Memory()
        for life in past:
            observe(program, memory, life, BySlowPath)
        for each in rows:
            change_row(memory, each)
        for each in code:
            program = change_program(program, each) or program
        other = copy.deepcopy({name: value for name, value in vars(memory).items() if name != "lock"})
        twin = Memory()
        vars(twin).update(other)
        for life in now:
            assert observe(program, memory, life, fast) == observe(program, twin, life, BySlowPath)

    check()


def test_the_fast_path_equals_the_rule() -> None:
    check_that_both_agree(Watched, 150)


@pytest.mark.thorough
def test_the_fast_path_equals_the_rule_in_thousands_of_histories() -> None:
    check_that_both_agree(Watched, 3000)


CONDITIONS = {
    "unusual": "or unusual is not None",
    "fingerprint": "or (recorded != first_version(args, kwargs) and recorded != fingerprint_of_call(fn, args, kwargs))",
    "checksum": 'or stored != crc32(f"{key}\\0completed\\0{output}\\0".encode())  # as `Checkpoint.is_intact` has it',
    "misuse": "or not self._may_draw()",
    "number": "scope.number += 1",
    "row": "del history.rows[key]",
}


@pytest.mark.thorough
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_fast_path_without_one_of_its_conditions_is_found_out(condition: str) -> None:
    source = textwrap.dedent(inspect.getsource(frame.Frame.recall))
    assert CONDITIONS[condition] in source
    code: dict[str, Any] = {}
    exec(source.replace(CONDITIONS[condition], ""), vars(frame), code)
    broken = type("Broken", (Watched,), {"recall": code["recall"]})

    with pytest.raises(AssertionError):
        check_that_both_agree(broken, 2000, shrinks=False)
