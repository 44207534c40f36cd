"""Wrong engines, each wrong in one way. A child of the crash matrix becomes one before it opens its database."""

from __future__ import annotations

import contextlib
import random
import time
from itertools import chain
from typing import Any

from durable.replay.attempt import Attempt

from durable import Context
from durable.errors import StoreError
from durable.replay.call import Call
from durable.replay.keys import Scope
from durable.replay.log import Checkpoint
from durable.replay.run import Run
from durable.store import locks
from durable.store.connection import Connection
from durable.store.store import Store
from durable.testing import effect

# ---- the workflow that shows each of them


def pick(what: str) -> str:
    effect("pick", what)
    return what.upper()


def weigh(what: str) -> float:
    effect("weigh", what)
    return len(what)  # an int, where a float was announced: it comes back from JSON as a float


def label(weight: float, text: str) -> str:
    effect("label", text)
    return f"{text}: {weight!r} kg"


def refuse() -> str:
    effect("refuse")
    raise ValueError("no stamps today")


def post(text: str) -> str:
    effect("post", text)
    return f"posted {text}"


def parcel(ctx: Context, address: str) -> str:
    """A step, two in parallel and a branch, a failure that is caught, a step."""
    weight = ctx.step(weigh, address)
    picked = [ctx.submit(pick, what) for what in ("cup", "plate")]
    text = ctx.branch(label_it, weight, address)
    try:
        ctx.step(refuse)
    except ValueError as error:
        stamps = str(error)
    return ctx.step(post, " ".join([text.result(), *[one.result() for one in picked], stamps]))


def label_it(ctx: Context, weight: float, text: str) -> str:
    return ctx.step(label, weight, text)


# ---- the wrong engines


def counter_drawn_in_the_worker() -> None:
    """The key of a parallel step is drawn by the thread that runs it, when it gets there."""

    def submit(self: Context, fn: Any, args: Any, kwargs: Any, turnstile: Any = None) -> Any:
        call = Call(fn, args, kwargs)
        future = self._new_future(call.name)

        def work() -> Any:
            time.sleep(random.uniform(0, 0.002))
            return self._try(call).result()

        self._launch(future, lambda: self._run.workers.submit(lambda: future.settle(work)))
        return future

    def draw(self: Scope, name: str) -> tuple[str, int]:
        self.number += 1
        return f"{self.prefix}{name}_{self.number}", self.number

    Context._submit, Scope.draw = submit, draw


def checkpoint_before_the_effect() -> None:
    """The step is on record as completed before it has run; its result is added later."""

    def result(self: Attempt) -> Any:
        self._begin("main")
        run = self._run
        run.save(run.store.complete_step, self.key, "null", run.now())
        self._notify("step.checkpointed")
        try:
            value = self.call.fn(*self.call.args, **self.call.kwargs)
        except Exception as error:
            raise self._fail(error) from None
        self._notify("step.executed")
        output, decoded = self.call.codec.round_trip(value, self)
        run.save(run.store.complete_step, self.key, output, run.now())
        return decoded

    _keep_current_step(result)


def _keep_current_step(result: Any) -> None:
    from durable.replay.step_info import current

    def with_step(self: Attempt) -> Any:
        token = current.set(self.info)
        try:
            return (result(self),)
        finally:
            current.reset(token)

    Attempt.once = with_step


def checkpoint_behind_the_effect() -> None:
    """The step says that it is saved, and is so only when the next one is."""
    late: list[Any] = []
    save = Store.complete_step

    def complete_step(self: Store, *args: Any) -> bool:
        for earlier in late:
            save(self, *earlier)
        late[:] = [args]
        return True

    def complete_workflow(self: Store, *args: Any) -> bool:
        for earlier in late:
            save(self, *earlier)
        return finish(self, *args)

    finish = Store.complete_workflow
    Store.complete_step, Store.complete_workflow = complete_step, complete_workflow


def result_not_round_tripped() -> None:
    """The first run gets what the step returned, a replay what JSON made of it."""
    complete = Attempt._complete

    def keep_value(self: Attempt, value: Any) -> Any:
        complete(self, value)
        return value

    Attempt._complete = keep_value


def no_owner_lock() -> None:
    """Whoever wants to run a workflow id may."""
    for way in (locks.Ranges, locks.Files):
        way.lock = lambda self, fd, workflow_id: True


def swallowed_interrupt() -> None:
    """Ctrl+C in the middle of the bookkeeping is lost."""
    notify = Run.notify

    def be_deaf(self: Run, *args: Any) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            notify(self, *args)

    Run.notify = be_deaf


def interrupt_as_an_outcome() -> None:
    """Ctrl+C is recorded as the failure of the step in flight."""
    make = Attempt.result

    def result(self: Attempt) -> Any:
        try:
            return make(self)
        except KeyboardInterrupt:
            raise self._fail(RuntimeError("interrupted")) from None

    Attempt.result = result


def synchronous_off() -> None:
    """Nothing is ever flushed to the disk."""
    Connection._set_synchronous = lambda self, db, durable: db.execute("pragma synchronous = off")


def failed_save_ignored() -> None:
    """What the disk refuses is taken for saved."""
    commit = Connection._commit

    def commit_anyway(self: Connection, changes: list[Any], durable: bool) -> list[Any]:
        try:
            return commit(self, changes, durable)
        except StoreError:
            return [1] * len(changes)

    Connection._commit = commit_anyway


def forgotten_checkpoint() -> None:
    """The last saved step is not read again."""
    read = Store.read_pages
    Store.read_pages = lambda self, workflow_id: iter([list(chain.from_iterable(read(self, workflow_id)))[:-1]])
    Attempt._begin = _begin_over(Attempt._begin)


def _begin_over(begin: Any) -> Any:
    def begin_anew(self: Attempt, thread: str) -> None:
        self._run.store.connection.write(
            ("delete from steps where workflow_id = ? and step_key = ?", (self._run.workflow_id, self.key))
        )
        begin(self, thread)

    return begin_anew


def running_taken_for_completed() -> None:
    """A row that a crash left running is taken for a result."""
    read = Store.read_pages

    def read_pages(self: Store, workflow_id: str) -> Any:
        rows = map(Checkpoint.of, chain.from_iterable(read(self, workflow_id)))
        taken = [row._replace(status="completed", output='"?"') if row.status == "running" else row for row in rows]
        return iter([[row.row() for row in taken]])

    Store.read_pages = read_pages
    Checkpoint.is_intact = lambda self: True


# ---- wrong operations


def race_not_recorded() -> None:
    """Who wins is decided anew in each life."""
    from durable.operations.race import _Race

    _Race._save = lambda self, winner: winner


def message_taken_before_it_is_saved() -> None:
    """It is marked as received in one transaction, and is the outcome of the wait in the next."""
    from durable.operations.event import Event

    look = Event.look

    def take(self: Any, run: Run, key: str, wake_at: Any) -> Any:
        outcome = look(self, run, key, wake_at)
        if outcome is not None and outcome.message_id is not None:
            run.store.connection.write(("update messages set received_by = ? where id = ?", (key, outcome.message_id)))
            return outcome._replace(message_id=None)
        return outcome

    Event.look = take


def compensations_of_this_life_alone() -> None:
    """What an earlier life has registered is not undone."""
    from durable.operations import saga

    register = saga.on_failure

    def on_failure(frame: Any, *args: Any) -> None:
        before = set(frame._run.history.left())
        register(frame, *args)
        for key in before & frame._run.compensations.keys():
            del frame._run.compensations[key]

    saga.on_failure = on_failure


def child_begun_anew() -> None:
    """After a crash of its parent a child begins again from the top."""
    from durable.operations.child import Child

    begin = Child.begin

    def begin_anew(self: Any, run: Run, key: str, *, is_new: bool) -> Any:
        if not is_new:
            mine = (self.id_of(run, key),)
            for table, column in (("steps", "workflow_id"), ("workflows", "id"), ("runs", "workflow_id")):
                run.store.connection.write((f"delete from {table} where {column} = ?", mine))
        return begin(self, run, key, is_new=is_new)

    Child.begin = begin_anew


def value_drawn_anew() -> None:
    """What the engine itself provides is another in each life."""
    from durable.operations import record as module

    record = module.record

    def draw(frame: Any, call: Any, provide: Any) -> Any:
        key, value = record(frame, call, provide)
        return key, provide() if call.name in ("now", "uuid4", "random") else value

    module.record = draw


def retries_forgotten() -> None:
    """A failure that is to be tried again is taken for the outcome after a crash."""
    from durable.store.waits import Waits

    Waits.list_instants = lambda self, workflow_id: {}
