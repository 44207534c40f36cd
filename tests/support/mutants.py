"""Wrong engines, each wrong in one way. A child of the crash matrix becomes one before it opens its database."""

from __future__ import annotations

import contextlib
import random
import time
from itertools import chain
from typing import Any

from msgspec.structs import replace

from durable import Context
from durable.errors import StoreError
from durable.replay import Call, Frame, Outcome, Step, drivers, effect_of
from durable.replay.log import Checkpoint
from durable.replay.run import Run
from durable.store.database.connection import Connection
from durable.store.log import FileLog
from durable.store.ownership import locks
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
        future = self.future(call.name)

        def work() -> Any:
            time.sleep(random.uniform(0, 0.002))
            step = self.reach(call)
            if step.outcome is None:
                step.fn = effect_of(call, self.run)
                drivers.in_thread(self.run, step)
            return self.run.give(step)

        self.launch(future, lambda: self.run.workers.submit(lambda: future.settle(work)))
        return future

    Context._submit = submit
    Frame._may_draw = lambda self: True


def checkpoint_before_the_effect() -> None:
    """The step is on record as completed before it has run; its result is added later."""
    begin = Run.begin

    def begin_and_end(self: Run, step: Step) -> None:
        begin(self, step)
        step.outcome = Outcome("completed", "null", None, self.now())
        self.log.end((step,))
        self.notify("step.checkpointed", step)

    Run.begin = begin_and_end


def checkpoint_behind_the_effect() -> None:
    """The step says that it is saved, and is so only when the next one is."""
    late: list[Any] = []
    end, close = FileLog.end, FileLog.close

    def end_late(self: FileLog, steps: Any) -> None:
        for earlier in late:
            end(self, earlier)
        late[:] = [steps]

    def close_late(self: FileLog, *args: Any) -> None:
        for earlier in late:
            end(self, earlier)
        close(self, *args)

    FileLog.end, FileLog.close = end_late, close_late


def result_not_round_tripped() -> None:
    """The first run gets what the step returned, a replay what JSON made of it."""
    judge = Run.judge

    def keep_value(self: Run, step: Step) -> Outcome:
        value = step.value
        outcome = judge(self, step)
        step.value = value
        return outcome

    Run.judge = keep_value


def no_owner_lock() -> None:
    """Any process that wants to run a workflow id may."""
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
    live = drivers.in_thread

    def in_thread(run: Run, step: Step) -> None:
        try:
            live(run, step)
        except KeyboardInterrupt:
            step.raised = RuntimeError("interrupted")
            step.outcome = run.judge(step)
            run.end(step)

    drivers.in_thread = in_thread


def synchronous_off() -> None:
    """Nothing is ever flushed to the disk."""
    Connection._set_synchronous = lambda self, db, durable: db.execute("pragma synchronous = off")


def failed_save_ignored() -> None:
    """A save that the disk refuses is taken for done."""
    commit = Connection._commit

    def commit_anyway(self: Connection, changes: list[Any], durable: bool) -> list[Any]:
        try:
            return commit(self, changes, durable)
        except StoreError:
            return [1] * len(changes)

    Connection._commit = commit_anyway


def forgotten_checkpoint() -> None:
    """The last saved step is not read again."""
    read, begin = FileLog.read, FileLog.begin
    FileLog.read = lambda self: iter([list(chain.from_iterable(read(self)))[:-1]])

    def begin_over(self: FileLog, steps: Any) -> None:
        for step in steps:
            sql = "delete from steps where workflow_id = ? and step_key = ?"
            self._connection.write((sql, (self.workflow_id, step.key)))
        begin(self, steps)

    FileLog.begin = begin_over


def running_taken_for_completed() -> None:
    """A row that a crash left running is taken for a result."""
    read = FileLog.read

    def read_pages(self: FileLog) -> Any:
        rows = map(Checkpoint.of, chain.from_iterable(read(self)))
        taken = [row._replace(status="completed", output='"?"') if row.status == "running" else row for row in rows]
        return iter([[row.row() for row in taken]])

    FileLog.read = read_pages
    Checkpoint.is_intact = lambda self: True


# ---- wrong operations


def race_not_recorded() -> None:
    """The winner is decided anew in each life."""
    from durable.operations.race import _Race

    _Race._save = lambda self, winner: winner


def hosted_tasks_of_one_scope() -> None:
    """The tasks of hosted code count their operations together, in the order in which they happen to ask."""
    from durable.operations.host import _Host

    _Host._open = lambda self, scope, key, position: self.frame.part(self.frame.scope)


def message_taken_before_it_is_saved() -> None:
    """It is marked as received in one transaction, and is the outcome of the wait in the next."""
    from durable.operations.event import Event

    look = Event.look

    def take(self: Any, run: Run, key: str, wake_at: Any) -> Any:
        outcome = look(self, run, key, wake_at)
        if outcome is not None and outcome.message is not None:
            run.log._connection.write(("update messages set received_by = ? where id = ?", (key, outcome.message)))
            return replace(outcome, message=None)
        return outcome

    Event.look = take


def compensations_of_this_life_alone() -> None:
    """What an earlier life has registered is not undone."""
    from durable.operations import saga

    register = saga.on_failure

    def on_failure(frame: Any, *args: Any) -> None:
        before = set(frame.run.history.left())
        register(frame, *args)
        for key in before & frame.run.compensations.keys():
            del frame.run.compensations[key]

    saga.on_failure = on_failure


def child_begun_anew() -> None:
    """After a crash of its parent a child begins again from the top."""
    from durable.operations.child import Child

    begin = Child.begin

    def begin_anew(self: Any, run: Run, key: str, *, is_new: bool) -> Any:
        if not is_new:
            mine = (self.id_of(run, key),)
            for table, column in (("steps", "workflow_id"), ("workflows", "id"), ("runs", "workflow_id")):
                run.log._connection.write((f"delete from {table} where {column} = ?", mine))
        return begin(self, run, key, is_new=is_new)

    Child.begin = begin_anew


def value_drawn_anew() -> None:
    """A value that the engine itself provides is another in each life."""
    record = Frame.record

    def draw(self: Frame, step: Step, provide: Any) -> Any:
        value = record(self, step, provide)
        return provide() if step.call.name in ("now", "uuid4", "random") else value

    Frame.record = draw


def retries_forgotten() -> None:
    """A failure that is to be tried again is taken for the outcome after a crash."""
    FileLog.list_waiting = lambda self: {}


# ---- faults that the engine once had


def loser_of_a_race_cancelled() -> None:
    """The loser of a race that a cancellation ends is an error of its function, and nobody looks what was missed."""
    from durable.errors import Abandoned, Suspended
    from durable.parallel.future import Future
    from durable.replay.history import History

    def unasked_error(self: Future[Any]) -> BaseException | None:
        error = None if self.asked else self.ending
        return None if self.raced and isinstance(error, Suspended | Abandoned) else error

    Future.unasked_error = unasked_error
    History.check_registered = lambda self: None


def only_ctrl_c_held_back() -> None:
    """The handlers of all other signals run in the middle of the bookkeeping, and may raise there."""
    from durable import signals

    signals._NUMBERS, signals._ALARM = (int(signals.signal.SIGINT),), int(signals.signal.SIGINT)


def progress_not_counted() -> None:
    """A workflow is set aside after three crashes, wherever they were."""
    from durable.store.rows.workflows import Workflows

    def has_crashed(self: Workflows, workflow_id: str, times: int) -> bool:
        sql = "select count(*) >= ? from runs where workflow_id = ? and coalesce(ended, 'crashed') = 'crashed'"
        return bool(self._read(sql, (times, workflow_id))[0][0])

    Workflows.has_got_nowhere = has_crashed


def changed_argument_unseen() -> None:
    """The arguments of a step are looked at before it alone."""
    Call.find_change = lambda self: None


def default_taken_for_a_difference() -> None:
    """A field that was added with a default makes another call."""
    from durable.values import content

    content._is_default = lambda part, default: False


def anything_called_for_an_error() -> None:
    """What a recorded error names is looked up anywhere, and called with its arguments."""
    import pydoc

    from durable.values import failures

    failures.find_class = lambda name: pydoc.locate(name.replace(":", "."))
    failures._Reader._make = lambda self, cls, number, record: self._errors.__setitem__(number, cls(*record["args"]))
