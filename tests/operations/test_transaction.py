"""A transactional step: what it changes in the file and its checkpoint are saved together, or neither is."""

from __future__ import annotations

import asyncio
import functools
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from durable import (
    Context,
    Engine,
    Moment,
    Retry,
    ScopeError,
    SerializationError,
    StoreError,
    Transaction,
    TransactionError,
    WorkflowCancelledError,
    current_step,
    step,
)
from durable.errors import FencedError
from durable.observer import crash_at
from durable.testing.inside import stored
from tests.support import workflows
from tests.support.processes import call_in_child, child, crash_in_child
from tests.support.workflows import act


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    with Engine(database) as opened:
        yield opened


def open_account(tx: Transaction, name: str, cents: int) -> None:
    tx.execute("create table if not exists accounts (name text primary key, cents integer check (cents >= 0))")
    tx.execute("insert into accounts values (?, ?)", (name, cents))


def move(tx: Transaction, source: str, target: str, cents: int) -> int:
    """Returns what is left."""
    tx.execute("update accounts set cents = cents + ? where name = ?", (cents, target))
    tx.execute("update accounts set cents = cents - ? where name = ?", (cents, source))
    left: int = tx.execute("select cents from accounts where name = ?", (source,)).fetchone()[0]
    return left


def pay(ctx: Context, *amounts: int) -> list[int]:
    """Two accounts, and payments from one to the other."""
    ctx.transaction(open_account, "Jane", 100)
    ctx.transaction(open_account, "Joe", 0)
    return [ctx.transaction(move, "Jane", "Joe", cents) for cents in amounts]


def in_transaction(engine: Engine, fn: Callable[..., Any], *args: Any, workflow_id: str = "emp_001") -> Any:
    """Its value, whatever that is."""

    def workflow(ctx: Context) -> None:
        nonlocal value
        value = ctx.transaction(fn, *args)

    value = None
    engine.run(workflow_id, workflow)
    return value


def select(database: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as db:
        return db.execute(sql).fetchall()


def balances(database: Path) -> dict[str, int]:
    return dict(select(database, "select name, cents from accounts"))


def stands(engine: Engine, workflow_id: str = "emp_001") -> list[tuple[str, int, str]]:
    return [(row.step_key, row.attempt, row.status) for row in engine.steps(workflow_id)]


# ---- both or neither


def test_what_it_changes_is_saved_and_not_changed_again(engine: Engine) -> None:
    def workflow(ctx: Context) -> list[int]:
        left = pay(ctx, 10, 20)
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return left

    interrupted: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        engine.run("emp_001", workflow)

    assert engine.run("emp_001", workflow) == [90, 70]
    assert balances(engine.path) == {"Jane": 70, "Joe": 30}
    assert stands(engine) == [
        ("open_account_1", 1, "completed"),
        ("open_account_2", 1, "completed"),
        ("move_3", 1, "completed"),
        ("move_4", 1, "completed"),
    ]
    assert {(row.kind, row.thread) for row in engine.steps("emp_001")} == {("transaction", "main")}


def test_a_failure_undoes_its_changes_and_is_the_outcome(engine: Engine) -> None:
    def workflow(ctx: Context) -> str:
        pay(ctx)
        try:
            ctx.transaction(move, "Jane", "Joe", 1000)
        except sqlite3.IntegrityError as error:
            told.append(str(error))
        if len(told) == 1:
            raise KeyboardInterrupt
        return told[-1]

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        engine.run("emp_001", workflow)

    assert engine.run("emp_001", workflow) == "CHECK constraint failed: cents >= 0"
    assert told == ["CHECK constraint failed: cents >= 0"] * 2
    assert balances(engine.path) == {"Jane": 100, "Joe": 0}
    assert stands(engine)[2:] == [("move_3", 1, "failed")]


def test_a_failed_workflow_tries_its_transaction_anew(engine: Engine) -> None:
    with pytest.raises(sqlite3.IntegrityError) as failed:
        engine.run("emp_001", pay, 1000)
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as db:
        db.execute("update accounts set cents = 5000 where name = 'Jane'")

    assert engine.run("emp_001", pay, 1000) == [4000]
    assert "move" in [entry.name for entry in failed.traceback]
    assert balances(engine.path) == {"Jane": 4000, "Joe": 1000}
    assert stands(engine)[2:] == [("move_3", 2, "completed")]
    assert [(row.step_key, row.attempt, row.status) for row in engine.attempts("emp_001")] == [("move_3", 1, "failed")]


def test_a_value_without_json_form_ends_the_run_and_undoes_all(engine: Engine) -> None:
    def leave_something(tx: Transaction) -> object:
        open_account(tx, "Jane", 1)
        return threading.Lock()

    with pytest.raises(SerializationError, match="step 'leave_something_1' of 'emp_001': its result"):
        in_transaction(engine, leave_something)

    assert stands(engine) == []
    assert select(engine.path, "select name from sqlite_master where name = 'accounts'") == []
    assert engine.workflow("emp_001").status == "running"


def test_the_moments_are_those_of_a_step_without_a_start(database: Path) -> None:
    moments: list[tuple[str, str | None, int | None]] = []

    def watch(moment: Moment) -> None:
        if moment.step_key in ("move_3", "move_4"):
            moments.append((moment.name, moment.step_key, moment.attempt))

    with Engine(database, observers=[watch]) as engine:
        for _ in range(2):
            with pytest.raises(sqlite3.IntegrityError):
                engine.run("emp_001", pay, 10, 1000)

    assert moments == [
        ("step.scheduled", "move_3", 1),
        ("step.executed", "move_3", 1),
        ("step.checkpointed", "move_3", 1),
        ("step.scheduled", "move_4", 1),
        ("step.executed", "move_4", 1),
        ("step.failed", "move_4", 1),
        ("step.replayed", "move_3", 1),
        ("step.scheduled", "move_4", 2),
        ("step.executed", "move_4", 2),
        ("step.failed", "move_4", 2),
    ]


# ---- crashes


def run_and_crash(pipe: Connection, database: Path, moment: str) -> Any:
    with Engine(database, observers=[crash_at("move_3", moment)]) as engine:
        return engine.run("emp_001", pay, 10)


@pytest.mark.parametrize(
    ("moment", "saved"), [("scheduled", False), ("executed", False), ("checkpointed", True), ("replayed", True)]
)
def test_a_crash_leaves_both_or_neither(database: Path, moment: str, saved: bool) -> None:
    if moment == "replayed":
        crash_in_child(run_and_crash, database, "checkpointed")
    crash_in_child(run_and_crash, database, moment)
    with Engine(database) as engine:
        after_crash = balances(database)["Joe"], len(engine.steps("emp_001"))
        value = engine.run("emp_001", pay, 10)

        assert after_crash == ((10, 3) if saved else (0, 2))
        assert value == [90]
        assert balances(database) == {"Jane": 90, "Joe": 10}
        assert [row.attempt for row in engine.steps("emp_001")] == [1, 1, 1]


def note(tx: Transaction, line: int) -> int:
    tx.execute("create table if not exists ledger (line integer)")
    tx.execute("insert into ledger values (?)", (line,))
    return line


def keep_ledger(ctx: Context, lines: int) -> int:
    """Transactions among steps of other threads."""
    for line in range(lines):
        busy = ctx.submit(act, f"beside {line}")
        ctx.transaction(note, line)
        busy.result()
    return lines


def keep_ledger_until_killed(pipe: Connection, database: Path) -> Any:
    def tell(moment: Moment) -> None:
        if moment.name != "step.replayed":
            pipe.send(moment.name)

    with Engine(database, observers=[tell]) as engine:
        return engine.run("emp_001", keep_ledger, 400)


@pytest.mark.thorough
def test_the_table_and_the_checkpoints_never_disagree_whenever_it_is_killed(database: Path) -> None:
    chance = random.Random(7)
    kept: list[int] = []
    for _ in range(12):
        with child(keep_ledger_until_killed, database) as killed:
            for _ in range(chance.randint(20, 60)):
                killed.receive()
            time.sleep(chance.uniform(0, 0.002))  # the instant of the kill is the chance here
            killed.kill()
        saved = "select count(*), sum(output) from steps where kind = 'transaction' and status = 'completed'"
        ledger = "select count(*), sum(line) from ledger"
        assert select(database, saved) == select(database, ledger)
        assert select(database, "select 1 from steps where kind = 'transaction' and status <> 'completed'") == []
        kept.append(select(database, ledger)[0][0])

    assert kept[0] > 0, "it was killed before it had begun"
    assert kept == sorted(set(kept)), "a life made no progress"
    assert kept[-1] < 400, "it was never killed"
    with Engine(database) as engine:
        assert engine.run("emp_001", keep_ledger, 400) == 400
    assert select(database, "select line from ledger order by rowid") == [(line,) for line in range(400)]


# ---- interrupts


def run_and_be_interrupted(pipe: Connection, database: Path) -> Any:
    never = threading.Event()

    def dawdle(tx: Transaction) -> str:
        open_account(tx, f"Jane {len(tries)}", 1)
        tries.append(1)
        if len(tries) == 1:
            pipe.send("it runs")
            never.wait()
        return "there"

    def workflow(ctx: Context) -> str:
        return ctx.transaction(dawdle)

    tries: list[int] = []
    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            return stands(engine), engine.run("emp_001", workflow), stands(engine)
    return "not interrupted"


def run_and_be_interrupted_by_its_own_check(_: Connection, database: Path, which: int) -> Any:
    calls = iter(range(1000))

    def trace(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "_authorize" and next(calls) == which:
            signal.raise_signal(signal.SIGINT)  # in a callback of SQLite's

    with Engine(database) as engine:
        sys.settrace(trace)
        try:
            engine.run("emp_001", pay, 10)
        except KeyboardInterrupt:
            sys.settrace(None)
            return engine.run("emp_001", pay, 10), [run.ended for run in engine.runs("emp_001")]
    return "not interrupted"


@pytest.mark.parametrize("which", [0, 3, 10])
def test_ctrl_c_is_heard_while_sqlite_asks_what_is_allowed(database: Path, which: int) -> None:
    outcome = call_in_child(run_and_be_interrupted_by_its_own_check, database, which)

    assert outcome == ([90], ["interrupted", "completed"])
    assert balances(database) == {"Jane": 90, "Joe": 10}


def insert_slowly(pipe: Connection, database: Path) -> Any:
    def rows() -> Iterator[tuple[str, int]]:
        yield "Jane", 1
        pipe.send("it runs")
        threading.Event().wait()

    def workflow(ctx: Context) -> None:
        ctx.transaction(open_account, "Joe", 0)
        ctx.transaction(insert)

    def insert(tx: Transaction) -> None:
        tx.executemany("insert into accounts values (?, ?)", rows())

    with Engine(database) as engine:
        try:
            engine.run("emp_001", workflow)
        except KeyboardInterrupt:
            return stands(engine)
    return "not interrupted"


def test_ctrl_c_is_heard_while_rows_are_made(database: Path) -> None:
    with child(insert_slowly, database) as interrupted:
        interrupted.receive()
        interrupted.signal(signal.SIGINT)

        assert interrupted.outcome() == [("open_account_1", 1, "completed")]
    assert balances(database) == {"Joe": 0}


def test_ctrl_c_undoes_it_and_the_same_process_goes_on(database: Path) -> None:
    with child(run_and_be_interrupted, database) as interrupted:
        interrupted.receive()
        interrupted.signal(signal.SIGINT)

        assert interrupted.outcome() == ([], "there", [("dawdle_1", 1, "completed")])
    assert balances(database) == {"Jane 1": 1}


def test_an_exit_undoes_it(engine: Engine) -> None:
    def leave(tx: Transaction) -> None:
        open_account(tx, "Jane", 1)
        sys.exit(7)

    with pytest.raises(SystemExit):
        in_transaction(engine, leave)

    assert stands(engine) == []
    assert [run.ended for run in engine.runs("emp_001")] == ["interrupted"]
    assert select(engine.path, "select name from sqlite_master where name = 'accounts'") == []
    assert in_transaction(engine, note, 1, workflow_id="next") == 1


# ---- who may not begin one


def test_a_run_that_was_taken_over_does_not_call_the_function(engine: Engine) -> None:
    def workflow(ctx: Context) -> None:
        with closing(sqlite3.connect(engine.path, isolation_level=None)) as db:
            db.execute("update workflows set epoch = epoch + 1")
        ctx.transaction(note, 1)

    with pytest.raises(FencedError):
        engine.run("emp_001", workflow)

    assert stands(engine) == []
    assert select(engine.path, "select name from sqlite_master where name = 'ledger'") == []


def test_a_cancelled_workflow_does_not_call_the_function(engine: Engine) -> None:
    def workflow(ctx: Context) -> None:
        engine.cancel("emp_001")
        ctx.transaction(note, 1)

    with pytest.raises(WorkflowCancelledError):
        engine.run("emp_001", workflow)

    assert stands(engine) == []
    assert select(engine.path, "select name from sqlite_master where name = 'ledger'") == []


def test_an_async_workflow_is_told_to_use_a_branch(engine: Engine) -> None:
    async def wrong(ctx: Context) -> int:
        return ctx.transaction(note, 1)

    async def right(ctx: Context) -> int:
        return await ctx.branch(write)

    def write(ctx: Context) -> int:
        return ctx.transaction(note, 2)

    with pytest.raises(ScopeError, match=r"await ctx\.branch\(fn\)"):
        engine.run("wrong", wrong)

    assert engine.run("right", right) == 2
    assert select(engine.path, "select line from ledger") == [(2,)]
    assert [row.step_key for row in engine.steps("right")] == ["write_1/note_1"]


async def note_later(tx: Transaction, line: int) -> int:
    await asyncio.sleep(0)
    return note(tx, line)


@pytest.mark.parametrize(
    "fn",
    [
        note_later,
        step(name="note", retry=Retry())(functools.partial(note)),
        step(name="note", timeout_seconds=1)(functools.partial(note)),
        step(name="note", isolate=True)(functools.partial(note)),
    ],
)
def test_what_a_transaction_cannot_honour_is_refused(engine: Engine, fn: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"make what needs them a ctx\.step before it"):
        in_transaction(engine, fn, 1)

    assert stands(engine) == []


def test_a_database_that_is_gone_ends_the_run(engine: Engine) -> None:
    def vanish(tx: Transaction) -> None:
        note(tx, 1)
        engine.path.unlink()

    def workflow(ctx: Context) -> None:
        ctx.transaction(vanish)
        after.append("it went on")

    after: list[str] = []
    with pytest.raises(StoreError, match="the file was deleted or replaced"):
        engine.run("emp_001", workflow)

    assert after == []


# ---- alone on the connection


def test_it_runs_in_the_workflows_thread_while_others_save(database: Path) -> None:
    def count(tx: Transaction, name: str) -> list[int]:
        tx.execute("create table if not exists counts (name text, number integer)")
        before: int = tx.execute("select count(*) from counts").fetchone()[0]
        time.sleep(random.Random(f"{name}{before}").uniform(0, 0.002))  # time for another to come between
        tx.execute("insert into counts values (?, ?)", (name, before))
        return [before, threading.get_ident()]

    def leg(ctx: Context, name: str) -> list[int]:
        mine = []
        for number in range(10):
            ctx.submit(act, f"{name} {number}").result()
            before, thread = ctx.transaction(count, name)
            assert thread == threading.get_ident()
            mine.append(before)
        return mine

    def workflow(ctx: Context) -> list[int]:
        legs = [ctx.branch(leg, name) for name in "abcd"]
        ctx.map(act, [str(number) for number in range(100)])
        return sorted(number for future in legs for number in future.result())

    with Engine(database) as engine:
        value = engine.run("emp_001", workflow)

    assert value == list(range(40))
    assert select(database, "select number from counts order by rowid") == [(number,) for number in range(40)]
    assert len(workflows.effects(database)) == 140


def test_the_engine_itself_is_out_of_reach_meanwhile(engine: Engine) -> None:
    def ask(tx: Transaction) -> int:
        note(tx, 1)
        return len(engine.steps("emp_001"))

    with pytest.raises(ScopeError, match=r"the engine was used within ctx\.transaction"):
        in_transaction(engine, ask)

    assert select(engine.path, "select name from sqlite_master where name = 'ledger'") == []
    assert stands(engine) == [("ask_1", 1, "failed")]


def test_an_operation_within_it_ends_the_run(engine: Engine) -> None:
    def workflow(ctx: Context) -> None:
        def nest(tx: Transaction) -> str:
            note(tx, 1)
            return ctx.step(act, "inside")

        ctx.transaction(nest)

    with pytest.raises(ScopeError, match="was called inside a step"):
        engine.run("emp_001", workflow)

    assert stands(engine) == []
    assert workflows.effects(engine.path) == []
    assert [run.ended for run in engine.runs("emp_001")] == ["stopped"]


def test_it_ends_with_its_function(engine: Engine) -> None:
    kept: list[Any] = []

    def keep(tx: Transaction) -> None:
        kept.extend([tx, tx.execute("select value from json_each('[1, 2, 3]')")])

    in_transaction(engine, keep)
    tx, cursor = kept

    for use in (lambda: tx.execute("select 1"), tx.cursor, lambda: tx.executemany("select 1", [])):
        with pytest.raises(TransactionError, match="step 'keep_1' of 'emp_001', in its transaction: it has ended"):
            use()
    with pytest.raises(sqlite3.ProgrammingError):
        cursor.fetchone()


def test_rows_that_were_not_fetched_do_not_hold_the_file(engine: Engine) -> None:
    kept: list[Any] = []

    def look(tx: Transaction) -> int:
        kept.append(cursor := tx.cursor())
        cursor.execute("select value from json_each('[1, 2, 3]') where (select count(*) from accounts) = 2")
        value: int = cursor.fetchone()[0]
        return value

    engine.run("emp_001", pay)
    value = in_transaction(engine, look, workflow_id="emp_002")
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as db:
        db.execute("update accounts set cents = 7")  # a reader that stayed behind could not write any more

    assert value == 1
    assert in_transaction(engine, move, "Jane", "Joe", 1, workflow_id="emp_003") == 6


# ---- what it is guarded against

KNOWN_TO_THE_ENGINE = "select 1 from workflows where id = ? and epoch = ?"  # a statement that it keeps prepared

GUARDED = {
    "commit": "the transaction is the engine's",
    "end": "the transaction is the engine's",
    "rollback": "the transaction is the engine's",
    "begin": "the transaction is the engine's",
    "savepoint mine": "the transaction is the engine's",
    "release work": "the transaction is the engine's",
    "rollback to work": "the transaction is the engine's",
    "attach ':memory:' as other": "the connection is the engine's",
    "detach main": "the connection is the engine's",
    "pragma synchronous = off": "the connection is the engine's",
    "pragma table_info(steps)": "the connection is the engine's",
    "create temp table steps (x)": "the table 'steps' is the engine's",
    "create temp table my_steps (x)": "the connection is the engine's",
    "create temp view v as select 1": "the connection is the engine's",
    "create temp trigger t after insert on steps begin select 1; end": "the connection is the engine's",
    "select * from steps": "the table 'steps' is the engine's",
    "select count(*) from main.STEPS": "the table 'STEPS' is the engine's",
    "select (select max(epoch) from runs)": "the table 'runs' is the engine's",
    "insert into messages (id) values (1)": "the table 'messages' is the engine's",
    "update workflows set status = 'completed'": "the table 'workflows' is the engine's",
    "delete from attempts": "the table 'attempts' is the engine's",
    "drop table deleted": "the table 'deleted' is the engine's",
    "alter table waits add column mine": "the table 'waits' is the engine's",
    "create index my_ones on waits (1)": "the table 'waits' is the engine's",
    "drop index timers": "the table 'waits' is the engine's",
    "create trigger my_trigger after insert on steps begin select 1; end": "the table 'steps' is the engine's",
    "insert into mine select step_key from steps": "the table 'steps' is the engine's",
    "select * from a_view_of_steps": "the table 'steps' is the engine's",
    "insert into watched values (1)": "the table 'steps' is the engine's",
}


@pytest.fixture
def furnished(engine: Engine) -> Engine:
    """With tables of the user's, some of them set as traps."""
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as db:
        db.execute("create table mine (steps text)")
        db.execute("create table watched (x)")
        db.execute("create view a_view_of_steps as select * from steps")
        db.execute("create trigger t after insert on watched begin delete from steps; end")
    return engine


@pytest.mark.parametrize(("sql", "reason"), GUARDED.items())
def test_it_is_guarded(furnished: Engine, sql: str, reason: str) -> None:
    def trespass(tx: Transaction) -> None:
        tx.execute("insert into mine values ('before')")
        tx.execute(sql)

    tables = "select name, sql from sqlite_master order by name"
    before = select(furnished.path, tables)
    with pytest.raises(TransactionError, match=f"step 'trespass_1' of 'emp_001', in its transaction: {reason}"):
        in_transaction(furnished, trespass)

    assert select(furnished.path, "select * from mine") == []
    assert select(furnished.path, tables) == before
    assert stands(furnished) == [("trespass_1", 1, "failed")]


def test_it_is_guarded_against_what_the_engine_has_prepared(engine: Engine) -> None:
    def trespass(tx: Transaction) -> None:
        tx.execute(KNOWN_TO_THE_ENGINE, ("emp_001", 1))

    stored(engine).connection.read(KNOWN_TO_THE_ENGINE, ("emp_001", 1))
    with pytest.raises(TransactionError, match="the table 'workflows' is the engine's"):
        in_transaction(engine, trespass)


def test_it_is_guarded_through_its_cursors_too(furnished: Engine) -> None:
    def trespass(tx: Transaction, how: str) -> None:
        tx.execute("insert into mine values ('before')")
        cursor = tx.cursor()
        {
            "execute": lambda: cursor.execute("delete from steps"),
            "executemany": lambda: cursor.executemany("update steps set output = ?", [(1,)]),
            "executescript": lambda: cursor.executescript("insert into mine values ('script')"),
            "of the rows": lambda: tx.execute("select 1").execute("commit"),
        }[how]()

    for how in ("execute", "executemany", "executescript", "of the rows"):
        with pytest.raises(TransactionError, match="in its transaction"):
            in_transaction(furnished, trespass, how, workflow_id=how)

    assert select(furnished.path, "select * from mine") == []


def test_even_the_connection_behind_a_cursor_does_not_commit(furnished: Engine) -> None:
    def trespass(tx: Transaction) -> None:
        tx.execute("insert into mine values ('before')").connection.commit()

    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        in_transaction(furnished, trespass)

    assert select(furnished.path, "select * from mine") == []


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_rollback_by_a_conflict_is_a_failure_and_nothing_slips_out(furnished: Engine, goes_on: bool) -> None:
    def collide(tx: Transaction) -> None:
        tx.execute("create unique index only on mine (steps)")
        tx.execute("insert into mine values ('a')")
        try:
            tx.execute("insert or rollback into mine values ('a')")
        except sqlite3.IntegrityError:
            if goes_on:
                tx.execute("insert into mine values ('b')")  # would be committed at once, whatever follows

    with pytest.raises(TransactionError, match="SQLite has rolled it back"):
        in_transaction(furnished, collide)

    assert select(furnished.path, "select * from mine") == []
    assert stands(furnished) == [("collide_1", 1, "failed")]


def test_what_is_ones_own_is_free(furnished: Engine) -> None:
    def furnish(tx: Transaction) -> list[list[Any]]:
        tx.execute("create table rooms (id integer primary key, waits text, runs integer)")
        tx.execute("create index by_waits on rooms (waits)")
        tx.execute("create trigger copy after insert on rooms begin insert into mine values (new.waits); end")
        tx.execute("create view full_rooms as select * from rooms where runs > 1")
        tx.execute("create virtual table words using fts5 (text)")
        tx.execute("insert into words values ('durable execution')")
        cursor = tx.executemany("insert into rooms (waits, runs) values (?, ?)", [("a", 1), ("b", 2)])
        tx.execute("alter table rooms add column steps text default 'x'")
        (key,) = tx.execute("insert into rooms (waits) values ('c') returning id").fetchone()
        found = [
            tx.execute("with steps as (select waits, runs, steps from full_rooms) select * from steps"),
            tx.cursor().execute("select steps from mine order by 1"),
            tx.execute("select * from words where words match 'execution'"),
        ]
        return [[cursor.rowcount, key], *[list(row) for rows in found for row in rows]]

    value = in_transaction(furnished, furnish)

    assert value == [[2, 3], ["b", 2, "x"], ["a"], ["b"], ["c"], ["durable execution"]]
    assert select(furnished.path, "select count(*) from rooms") == [(3,)]


def test_it_may_ask_for_its_own_facts(engine: Engine) -> None:
    def ask(_: Transaction) -> str:
        return current_step().idempotency_key

    assert in_transaction(engine, ask) == "emp_001/ask_1"
