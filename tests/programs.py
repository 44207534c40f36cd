"""Random programs of all operations, in one file and up to three processes, under random signals, against an oracle.

    python -m tests.programs --trials 300 --seed 1     # trial n has seed + n, so a run can be continued

A program is a list of statements. `play` performs it as a workflow, `Oracle` says in plain Python what must come of it.
A trial starts it, sends its processes SIGKILL, SIGTERM, SIGINT and SIGSTOP at random instants, starts dead ones again,
lets the last ones end, and compares. Some trials then cancel, rewind, fork or delete the workflow.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from durable import Context, Engine, Future, Retry, Transaction, current_step, step
from durable.errors import (
    StepNotFoundError,
    WorkflowBusyError,
    WorkflowCancelledError,
    WorkflowEndedError,
    WorkflowNotFoundError,
)
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import Child, Raised, eventually

Program = list[Any]
Asking = Generator[Future[Any], Any, Any]
Fault = Callable[[], None]

ID = "emp_001"
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP]
LONG_SECONDS, SHORT_SECONDS = 3600.0, 0.003
SET_ASIDE_SECONDS = 3.0  # workers that have not ended a workflow by then have set it aside


# ---- what the programs do


def note(label: str) -> str:
    """Have an effect: a line with the workflow, the key and the attempt."""
    me = current_step()
    line = f"{me.workflow_id}\t{me.key}\t{me.attempt}\t{label}\n"
    log = os.open(me.database.with_suffix(".effects"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)
    return label.upper()


async def note_async(label: str) -> str:
    return note(label)


def show(label: str, drawn: str) -> str:
    return note(label) if drawn else ""


@step(retry=Retry(attempts=100, delay_seconds=0.002, backoff=1, jitter=0))
def flaky(label: str, times: int) -> str:
    note(label)
    if current_step().attempt <= times:
        raise ConnectionError(label)
    return label.upper()


def refuse(label: str) -> str:
    note(label)
    raise ValueError(label)


def insert(connection: Transaction, label: str) -> str:
    connection.execute("create table if not exists ledger (label text)")
    connection.execute("insert into ledger values (?)", (label,))
    return label.upper()


def insert_alone(ctx: Context, label: str) -> str:
    return ctx.transaction(insert, label)


# ---- the workflows


def play(ctx: Context, program: Program) -> list[Any]:
    """Perform a program in a plain function."""
    return [_drive(_perform(ctx, statement, is_async=False)) for statement in program]


async def play_async(ctx: Context, program: Program) -> list[Any]:
    """Perform a program in a coroutine function."""
    return [await _drive_async(_perform(ctx, statement, is_async=True)) for statement in program]


def _drive(asking: Asking) -> Any:
    """Answer what a statement waits for with `result()`."""
    try:
        future = next(asking)
        while True:
            try:
                value = future.result()
            except ValueError as error:
                future = asking.throw(error)
            else:
                future = asking.send(value)
    except StopIteration as ended:
        return ended.value


async def _drive_async(asking: Asking) -> Any:
    """Answer what a statement waits for with `await`."""
    try:
        future = next(asking)
        while True:
            try:
                value = await future
            except ValueError as error:
                future = asking.throw(error)
            else:
                future = asking.send(value)
    except StopIteration as ended:
        return ended.value


def _perform(ctx: Context, statement: Program, *, is_async: bool) -> Asking:
    kind, *rest = statement
    return (yield from _STATEMENTS[kind](ctx, is_async, *rest))


def _step(ctx: Context, is_async: bool, label: str) -> Asking:
    return (yield ctx.submit(note, label)) if is_async else ctx.step(note, label)


def _step_async(ctx: Context, is_async: bool, label: str) -> Asking:
    return (yield ctx.submit(note_async, label)) if is_async else ctx.step(note_async, label)


def _flaky(ctx: Context, is_async: bool, label: str, times: int) -> Asking:
    return (yield ctx.submit(flaky, label, times)) if is_async else ctx.step(flaky, label, times)


def _caught(ctx: Context, is_async: bool, label: str) -> Asking:
    try:
        return (yield ctx.submit(refuse, label))
    except ValueError as error:
        return f"caught {error}"


def _fail(ctx: Context, is_async: bool, label: str) -> Asking:
    return (yield ctx.submit(refuse, label)) if is_async else ctx.step(refuse, label)


def _each(futures: list[Future[Any]]) -> Asking:
    if not futures:
        return []
    value = yield futures[0]
    return [value, *(yield from _each(futures[1:]))]


def _in_turn(ctx: Context, program: Program, *, is_async: bool) -> Asking:
    if not program:
        return []
    value = yield from _perform(ctx, program[0], is_async=is_async)
    return [value, *(yield from _in_turn(ctx, program[1:], is_async=is_async))]


def _together(ctx: Context, _: bool, labels: list[str]) -> Asking:
    futures = [ctx.submit(note if number % 3 else note_async, label) for number, label in enumerate(labels)]
    return (yield from _each(futures))


def _map(ctx: Context, is_async: bool, labels: list[str], limit: int) -> Asking:
    if is_async:
        return (yield from _together(ctx, is_async, labels))
    return ctx.map(note, labels, max_concurrent=limit)


def _branch(ctx: Context, _: bool, program: Program, of_coroutine: bool) -> Asking:
    return (yield ctx.branch(play_async if of_coroutine else play, program))


def _beside(ctx: Context, is_async: bool, beside: Program, program: Program) -> Asking:
    future = ctx.branch(play, beside)
    values = yield from _in_turn(ctx, program, is_async=is_async)
    return [(yield future), values]


def _try(ctx: Context, _: bool, program: Program) -> Asking:
    try:
        return (yield ctx.branch(play, program))
    except ValueError as error:
        return f"tried {error}"


def _child(ctx: Context, _: bool, program: Program, of_coroutine: bool) -> Asking:
    return (yield ctx.child(play_async if of_coroutine else play, program))


def _race(ctx: Context, _: bool, labels: list[str]) -> Asking:
    winner = yield ctx.first(*[ctx.submit(note, label) for label in labels])
    return (yield winner)


def _race_with_long_timer(ctx: Context, _: bool, label: str) -> Asking:
    timer: Future[Any] = ctx.timer(LONG_SECONDS)
    winner = yield ctx.first(timer, ctx.submit(note, label))
    return "timer" if winner is timer else (yield winner)


def _race_with_silence(ctx: Context, _: bool, label: str) -> Asking:
    timer = ctx.timer(SHORT_SECONDS)
    winner = yield ctx.first(ctx.event(f"never {label}"), timer)
    return "timer" if winner is timer else "message"


def _in_turn_of_their_ends(ctx: Context, is_async: bool, labels: list[str]) -> Asking:
    left, values = [ctx.submit(note, label) for label in labels], []
    while left:
        winner = yield ctx.first(*left)
        left.remove(winner)
        values.append((yield winner))
    return sorted(values)


def _receive(ctx: Context, _: bool, name: str, count: int) -> Asking:
    received = yield ctx.event(name)
    return [received, *((yield from _receive(ctx, False, name, count - 1)) if count > 1 else [])]


def _sleep(ctx: Context, _: bool) -> Asking:
    yield ctx.timer(SHORT_SECONDS)
    return "slept"


def _compensate(ctx: Context, _: bool, label: str) -> Asking:
    ctx.on_failure(note, label)
    return None
    yield


def _transact(ctx: Context, is_async: bool, label: str) -> Asking:
    return (yield ctx.branch(insert_alone, label)) if is_async else ctx.transaction(insert, label)


def _draw(ctx: Context, is_async: bool, label: str) -> Asking:
    drawn = f"{ctx.random()} {ctx.uuid4()} {ctx.now()}"  # a step that was given another one would diverge
    return (yield ctx.submit(show, label, drawn)) if is_async else ctx.step(show, label, drawn)


def _publish(ctx: Context, _: bool, name: str) -> Asking:
    ctx.publish(name, [name])
    return ctx.patched(name)
    yield


_STATEMENTS: dict[str, Any] = {
    "step": _step,
    "step async": _step_async,
    "flaky": _flaky,
    "caught": _caught,
    "fail": _fail,
    "together": _together,
    "map": _map,
    "branch": _branch,
    "beside": _beside,
    "try": _try,
    "child": _child,
    "race": _race,
    "race with long timer": _race_with_long_timer,
    "race with silence": _race_with_silence,
    "in turn of their ends": _in_turn_of_their_ends,
    "receive": _receive,
    "sleep": _sleep,
    "compensate": _compensate,
    "transact": _transact,
    "draw": _draw,
    "publish": _publish,
}
_SIMPLE = [
    "step", "step", "step async", "flaky", "caught", "together", "map", "race", "race with long timer",
    "race with silence", "in turn of their ends", "sleep", "transact", "draw", "publish",
]  # fmt: skip


# ---- how they are made


class Author:
    """Writes a program, the same for the same random numbers."""

    def __init__(self, rng: random.Random) -> None:
        self._rng, self._count = rng, 0

    def write(self) -> Program:
        """Return the program of a workflow; one in three fails at its end."""
        program = self._statements(self._rng.randint(2, 7), depth=0, in_order=True, own_id=True)
        return [*program, ["fail", self._label()]] if self._rng.random() < 0.33 else program

    def _label(self) -> str:
        self._count += 1
        return f"e{self._count:03}"

    def _labels(self) -> list[str]:
        return [self._label() for _ in range(self._rng.randint(2, 5))]

    def _statements(self, count: int, *, depth: int, in_order: bool, own_id: bool) -> Program:
        return [self._statement(depth=depth, in_order=in_order, own_id=own_id) for _ in range(count)]

    def _statement(self, *, depth: int, in_order: bool, own_id: bool) -> Program:
        """`in_order`: nothing goes on beside it. `own_id`: it belongs to the workflow that gets the messages."""
        kinds = [*_SIMPLE]
        kinds += ["compensate", "compensate"] if in_order else []
        kinds += ["receive"] if own_id else []
        kinds += ["branch", "beside", "try", "child"] if depth < 2 else []
        kind = self._rng.choice(kinds)
        inner = {"depth": depth + 1, "in_order": in_order, "own_id": own_id}
        match kind:
            case "flaky":
                return [kind, self._label(), self._rng.randint(0, 3)]
            case "together" | "race" | "in turn of their ends":
                return [kind, self._labels()]
            case "map":
                return [kind, self._labels(), self._rng.randint(1, 3)]
            case "branch":
                return [kind, self._few(**inner), self._rng.random() < 0.5]
            case "child":
                return [kind, self._few(**{**inner, "own_id": False}), self._rng.random() < 0.5]
            case "beside":
                inner["in_order"] = False
                return [kind, self._few(**inner), self._few(**inner)]
            case "try":
                return [kind, [*self._few(**inner), ["fail", self._label()]]]
            case "receive":
                return [kind, f"q{self._label()}", self._rng.randint(1, 3)]
            case "sleep":
                return [kind]
            case _:
                return [kind, self._label()]

    def _few(self, **inner: Any) -> Program:
        return self._statements(self._rng.randint(1, 3), **inner)


# ---- what must come of them


class OneOf(list[Any]):
    """Any of these values."""


class Oracle:
    """What must come of a program: its value or its error, its effects, what is undone, and the messages it needs."""

    def __init__(self, program: Program) -> None:
        self.effects: Counter[str] = Counter()  # how often each label must be noted at least
        self.in_order: list[str] = []  # labels whose first effects come one after the other
        self.compensations: list[str] = []  # in the order of their registration
        self.ledger: list[str] = []
        self.messages: list[tuple[str, str]] = []
        self.error: str | None = None
        self.value: Any = None
        try:
            self.value = self._values(program, in_order=True)
        except ValueError as error:
            self.error = str(error)
            self.effects.update(self.compensations)

    def _values(self, program: Program, *, in_order: bool, is_child: bool = False) -> list[Any]:
        return [self._value(statement, in_order, is_child) for statement in program]

    def _note(self, label: str, *, in_order: bool) -> str:
        self.effects[label] += 1
        if in_order:
            self.in_order.append(label)
        return label.upper()

    def _value(self, statement: Program, in_order: bool, is_child: bool) -> Any:
        kind, *rest = statement
        match kind:
            case "step" | "step async" | "draw" | "race with long timer" | "flaky":
                return self._note(rest[0], in_order=in_order)
            case "caught":
                return f"caught {self._note(rest[0], in_order=in_order).lower()}"
            case "fail":
                raise ValueError(self._note(rest[0], in_order=in_order).lower())
            case "together" | "map" | "in turn of their ends":
                return [self._note(label, in_order=False) for label in rest[0]]
            case "race":
                return OneOf(self._note(label, in_order=False) for label in rest[0])
            case "race with silence":
                return "timer"
            case "branch":
                return self._values(rest[0], in_order=in_order, is_child=is_child)
            case "child":
                return self._values(rest[0], in_order=in_order, is_child=True)
            case "beside":
                return [self._values(each, in_order=False, is_child=is_child) for each in rest]
            case "try":
                try:
                    return self._values(rest[0], in_order=in_order, is_child=is_child)
                except ValueError as error:
                    return f"tried {error}"
            case "receive":
                texts = [f"{rest[0]} {number}" for number in range(rest[1])]
                self.messages += [(rest[0], text) for text in texts]
                return texts
            case "sleep":
                return "slept"
            case "compensate":
                if not is_child:  # a child that completes keeps what it has done
                    self.compensations.append(rest[0])
                return None
            case "transact":
                self.ledger.append(rest[0])
                return rest[0].upper()
            case "publish":
                return True
        raise AssertionError(kind)


def fits(expected: Any, value: Any) -> bool:
    """Return whether a value is the expected one."""
    if isinstance(expected, OneOf):
        return value in expected
    if isinstance(expected, list):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(fits(one, other) for one, other in zip(expected, value, strict=True))
        )
    return bool(expected == value)


# ---- the processes


def live(
    pipe: Connection, path: Path, mode: str, program: Program, is_async: bool, seed: int, fault: Fault | None
) -> None:
    """One process of a trial: run the workflow, or work on the file, until the workflow has ended."""
    faulthandler.register(signal.SIGUSR1)
    if fault is not None:
        fault()
    if seed % 2:
        signal.signal(signal.SIGTERM, _exit)  # as a service does
    fn, suspends = play_async if is_async else play, mode in ("suspend", "work")
    with Engine(path, synchronous="normal", suspend=suspends, modules=["tests.programs"]) as engine:
        if (record := engine.find_workflow(ID)) is None or (record.status == "running" and mode != "work"):
            with contextlib.suppress(ValueError, WorkflowBusyError, WorkflowCancelledError):
                if mode == "run":
                    engine.run(ID, fn, program)
                elif mode == "work":
                    engine.start(ID, fn, program)
                else:
                    engine.start(ID, fn, program).result()
        while mode == "work" and (record := engine.find_workflow(ID)) is not None and record.status == "running":
            engine.recover()
            time.sleep(0.01)


def _exit(*_: object) -> None:
    sys.exit(143)


class Trial:
    """One program under one series of signals. `play` returns what was wrong, a sentence each."""

    def __init__(self, seed: int, folder: Path, fault: Fault | None = None) -> None:
        """With a fault, its processes have an engine that is wrong, see `tests.support.mutants`."""
        self._rng = rng = random.Random(seed)
        self.seed, self.path, self._fault = seed, folder / "workflow.db", fault
        self.program, self.is_async = Author(rng).write(), rng.random() < 0.4
        self.oracle = Oracle(self.program)
        self.mode = rng.choice(["run", "start", "suspend", "work"])
        self.signals: list[str] = []
        self._children: list[Child | None] = [None] * (rng.randint(2, 3) if self.mode == "work" else 1)
        self._wrong: list[str] = []

    def __str__(self) -> str:
        kind = "coroutine" if self.is_async else "function"
        return f"seed {self.seed}: {self.mode}, a {kind}, {', '.join(self.signals) or 'no signal'}: {self.program}"

    def play(self) -> list[str]:
        """Have it performed under signals, then to its end, then once more in another way."""
        then = self._rng.choice(["nothing", "fork", "rewind", "delete", "cancel"])
        try:
            self._disturb(cancels=then == "cancel")
            self._finish()
        finally:
            self._end_all()
        if not self._wrong:
            is_cancelled = self._check_end(may_be_cancelled=then == "cancel")
            if then in ("fork", "rewind", "delete") and not is_cancelled and self.oracle.error is None:
                self._go_another_way(then)
        return self._wrong

    # ---- signals

    def _disturb(self, *, cancels: bool) -> None:
        has_sent = False
        for _ in range(self._rng.randint(1, 6)):
            self._start_all()
            eventually(lambda: self._status() is not None or self._all_ended())
            if self._wrong:
                return
            if not has_sent and self._status() is not None:
                has_sent = self._send_messages()
            time.sleep(self._rng.uniform(0, 0.06))  # the instant is left to chance
            self._disturb_one(self._rng.choice(self._children))
        if cancels:
            self._cancel()
        while not has_sent and not self._wrong:
            self._start_all()
            eventually(lambda: self._status() is not None or self._all_ended())
            has_sent = self._status() is not None and self._send_messages()

    def _disturb_one(self, victim: Child | None) -> None:
        number = self._rng.choice(SIGNALS)
        if victim is None or not victim.is_alive():
            return
        self.signals.append(number.name)
        with contextlib.suppress(ProcessLookupError):
            victim.signal(number)
            if number is signal.SIGSTOP:
                time.sleep(self._rng.uniform(0, 0.05))
                victim.signal(signal.SIGCONT)
            else:
                self._reap(victim)

    def _start_all(self) -> None:
        if self._status() not in (None, "running"):
            return
        for place, child in enumerate(self._children):
            if child is None or not child.is_alive():
                if child is not None:
                    self._reap(child)
                arguments = (
                    self.path,
                    self.mode,
                    self.program,
                    self.is_async,
                    self._rng.randrange(100),
                    self._fault,
                )
                self._children[place] = Child(live, *arguments)

    def _reap(self, child: Child) -> None:
        """Wait for its end. What it raised is wrong unless a signal has asked for it."""
        try:
            child.join()
        except AssertionError as error:
            self._wrong.append(f"{error} after {self.signals[-1:]}")
            child.signal(signal.SIGUSR1)  # its threads are printed
            time.sleep(1)
            return
        with contextlib.suppress(EOFError):
            outcome = child.outcome()
            asked_for = "KeyboardInterrupt", "SystemExit", "ValueError"
            if isinstance(outcome, Raised) and outcome.type_name not in asked_for:
                self._wrong.append(f"a process ended with {outcome.type_name}: {outcome.text}")

    def _all_ended(self) -> bool:
        return not any(child is not None and child.is_alive() for child in self._children)

    def _end_all(self) -> None:
        for child in self._children:
            if child is not None:
                child.end()

    def _finish(self) -> None:
        """Let it end without signals. Workers leave one that was set aside after many crashes; a caller runs it."""
        began_at = time.monotonic()
        give_up_at = began_at + PATIENCE_SECONDS
        while self._status() == "running" and not self._wrong:
            self._start_all()
            if self.mode == "work" and time.monotonic() > began_at + SET_ASIDE_SECONDS:
                self.mode = "suspend"
                self._children.append(None)
            time.sleep(0.005)
            if time.monotonic() > give_up_at:
                self._wrong.append("it does not end")
        for child in self._children:
            if child is not None and not self._wrong:
                self._reap(child)
        if self._status() == "cancelled" and not self._wrong:
            self._let_children_end(give_up_at)

    def _let_children_end(self, give_up_at: float) -> None:
        """Let a worker cancel what was suspended in the instant of the cancellation: a child may outlast its parent."""
        with Engine(self.path, synchronous="normal", suspend=True, modules=["tests.programs"]) as engine:
            while any(each.status == "running" for each in engine.workflows()) and time.monotonic() < give_up_at:
                engine.recover()
                time.sleep(0.005)

    # ---- the file

    @contextlib.contextmanager
    def _engine(self) -> Iterator[Engine]:
        with Engine(self.path, synchronous="normal") as engine:
            yield engine

    def _status(self) -> str | None:
        if not self.path.exists():
            return None
        with contextlib.closing(sqlite3.connect(self.path, timeout=PATIENCE_SECONDS)) as connection:
            try:
                row = connection.execute("select status from workflows where id = ?", (ID,)).fetchone()
            except sqlite3.OperationalError:  # the tables are not there yet
                return None
        return row[0] if row else None

    def _send_messages(self) -> bool:
        with self._engine() as engine, contextlib.suppress(WorkflowEndedError):
            for number, (name, text) in enumerate(self.oracle.messages):
                engine.send(ID, name, text, key=f"m{number}")
        return True

    def _cancel(self) -> None:
        with self._engine() as engine, contextlib.suppress(WorkflowEndedError, WorkflowNotFoundError):
            engine.cancel(ID)

    def _noted(self) -> list[list[str]]:
        log = self.path.with_suffix(".effects")
        return [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []

    # ---- what must hold

    def _expect(self, holds: object, otherwise: str) -> None:
        if not holds:
            self._wrong.append(otherwise)

    def _check_end(self, *, may_be_cancelled: bool) -> bool:
        with self._engine() as engine:
            record = engine.workflow(ID)
            is_cancelled = record.status == "cancelled"
            if is_cancelled:
                self._expect(may_be_cancelled, "it is cancelled, and was not")
                self._check_undone(engine)
            else:
                self._check_outcome(engine, ID)
                self._check_effects()
            self._check_file(engine)
        return is_cancelled

    def _check_outcome(self, engine: Engine, workflow_id: str) -> None:
        oracle = self.oracle
        expected = "completed" if oracle.error is None else "failed"
        self._expect(engine.workflow(workflow_id).status == expected, f"{workflow_id} is not {expected}")
        before = len(self._noted())
        if oracle.error is None:
            value = engine.resume(workflow_id).result()
            self._expect(fits(oracle.value, value), f"its value is {value}, and should be {oracle.value}")
            self._expect(len(self._noted()) == before, "a completed workflow had effects again")
        else:
            recorded = engine.workflow(workflow_id).error or ""
            self._expect(f'"{oracle.error}"' in recorded, f"it failed with {recorded}, not {oracle.error}")
            undone = oracle.compensations[::-1]
            self._expect(self._in_order_of_first(undone) == undone, f"not undone in the order {undone}")

    def _check_effects(self) -> None:
        noted = Counter(label for *_, label in self._noted())
        oracle, disturbed = self.oracle, len(self.signals)
        self._expect(noted.keys() == oracle.effects.keys(), f"effects {sorted(noted)}, not {sorted(oracle.effects)}")
        flaky = dict(_find_flaky(self.program))
        for label, count in noted.items():
            most = 1 + disturbed + flaky.get(label, 0)
            self._expect(count <= most, f"{label} happened {count} times under {disturbed} signals")
        first = self._in_order_of_first(oracle.in_order)
        self._expect(first == oracle.in_order, f"the order was {first}, not {oracle.in_order}")

    def _in_order_of_first(self, labels: list[str]) -> list[str]:
        wanted = set(labels)
        return list(dict.fromkeys(label for *_, label in self._noted() if label in wanted))

    def _check_undone(self, engine: Engine) -> None:
        steps = engine.steps(ID)
        registered = [each for each in steps if each.kind == "on_failure"]
        undone = [each for each in steps if each.kind == "compensation"]
        self._expect(len(registered) == len(undone), f"{len(registered)} registered, {len(undone)} undone")
        labels = self._in_order_of_first(self.oracle.compensations)
        self._expect(labels == sorted(labels, reverse=True), f"undone in the order {labels}")
        self._expect(len(labels) == len(registered), f"{len(labels)} compensations had an effect")

    def _check_file(self, engine: Engine) -> None:
        """No row is left running, nothing waits, no attempt had its effect twice, each transaction happened once."""
        for each in engine.workflows():
            self._expect(each.status != "running", f"{each.workflow_id} is {each.status}")
            running = [row.step_key for row in engine.steps(each.workflow_id) if row.status == "running"]
            if each.status == "completed" and running:
                left = [key for key in running if not key.rpartition("/")[2].startswith(("sleep", "wait_event"))]
                self._expect(not left, f"{each.workflow_id} is completed, and {left} run")
        twice = [line for line, count in Counter(map(tuple, self._noted())).items() if count > 1]
        self._expect(not twice, f"the same attempt had its effect twice: {twice}")
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
            rows = connection.execute("select label from ledger").fetchall() if "ledger" in tables else []
        ledger = [label for (label,) in rows]
        wanted = self.oracle.ledger
        if engine.workflow(ID).status == "cancelled":
            wanted = [label for label in wanted if label in ledger]
        self._expect(sorted(ledger) == sorted(wanted), f"the ledger has {sorted(ledger)}, not {sorted(wanted)}")

    # ---- another way

    def _go_another_way(self, then: str) -> None:
        with self._engine() as engine:
            keys = [row.step_key for row in engine.steps(ID)]
            at = self._rng.choice(keys) if keys else ""
            self.signals.append(f"{then} {at}")
            if then == "delete":
                engine.delete(ID)
                self._expect(not engine.workflows(), "a deleted workflow is still there")
                return
            workflow_id = ID
            with contextlib.suppress(StepNotFoundError):
                if then == "fork":
                    workflow_id = "fork"
                    engine.fork(ID, workflow_id, at=at)
                else:
                    engine.rewind(ID, to=at)
                for number, (name, text) in enumerate(self.oracle.messages):
                    if then == "fork":
                        engine.send(workflow_id, name, text, key=f"m{number}")
                try:
                    value = engine.resume(workflow_id).result(PATIENCE_SECONDS)
                except TimeoutError:
                    self._wrong.append(f"after {then} to {at} it does not end")
                    return
                self._expect(fits(self.oracle.value, value), f"after {then} to {at} its value is {value}")


def _find_flaky(program: Program) -> Iterator[tuple[str, int]]:
    for statement in program:
        if statement[0] == "flaky":
            yield statement[1], statement[2]
        for part in statement[1:]:
            if isinstance(part, list) and part and isinstance(part[0], list):
                yield from _find_flaky(part)


def find_violations(seeds: range, fault: Fault | None = None) -> Iterator[tuple[int, str, list[str]]]:
    """Yield each trial that broke a promise: its seed, what it was, and what was wrong."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(seed, Path(folder), fault)
            if wrong := trial.play():
                yield seed, str(trial), wrong


def main() -> int:
    """Play trials, with progress, and return the number of violations."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1, help="of the first trial")
    asked = parser.parse_args()
    violations, began_at = 0, time.monotonic()
    for done, seed in enumerate(range(asked.seed, asked.seed + asked.trials), start=1):
        for _, what, wrong in find_violations(range(seed, seed + 1)):
            violations += 1
            print(what, *wrong, sep="\n    ", flush=True)
        if done % 50 == 0 or done == asked.trials:
            rate = done / (time.monotonic() - began_at)
            print(f"{done} trials, {violations} violations, {rate:.1f} a second; next seed {seed + 1}", flush=True)
    return min(violations, 1)


if __name__ == "__main__":
    sys.exit(importlib.import_module("tests.programs").main())  # so that the workflows have the names of this module
