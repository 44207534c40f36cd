"""The widget of the dashboard without a browser: what its thread sends, and what it does where it is allowed to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from durable import Context, Engine, lab
from durable.dashboard.snapshot import Question
from durable.dashboard.watch import Watch
from durable.errors import StoreError
from durable.lab.dashboard import ACTION
from durable.store.reader import Reader
from tests.support.patience import PATIENCE_SECONDS
from tests.support.processes import eventually

permit = threading.Event()


def greet(name: str) -> str:
    return f"hello {name}"


def greeting(ctx: Context, name: str = "Ann") -> str:
    return ctx.step(greet, name)


def refuse() -> str:
    if not permit.is_set():
        raise ValueError("no permit")
    return "permitted"


def permitted(ctx: Context) -> str:
    ctx.step(greet, "Ann")
    return ctx.step(refuse)


def asked(ctx: Context) -> str:
    return ctx.wait_event("approval", type=str)


@pytest.fixture
def engine(tmp_path):
    permit.clear()
    with Engine(tmp_path / "my flow.db") as engine:
        engine.run("first", greeting)
        yield engine
        engine.stop()


@pytest.fixture
def show(engine):
    """Makes widgets, and closes them."""
    made = []

    def make(**options):
        made.append(lab.dashboard(engine.path, **options))
        return made[-1]

    yield make
    for widget in made:
        widget.close()


class Heard(list):
    """The answers of a watch, and a way to wait for the next."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def take(self, answer) -> None:
        with self._changed:
            self.append(answer)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) >= count, PATIENCE_SECONDS), self


@pytest.fixture
def watch(engine):
    heard = Heard()
    with Reader(engine.path) as reader:
        watch = Watch(reader, heard.take)
        watch.heard = heard
        yield watch
        watch.close()


def ids(answer):
    return [row["id"] for row in answer["rows"]]


def test_a_watch_answers_each_question_at_once_and_again_when_the_answer_changes(engine, watch) -> None:
    watch.ask(Question())
    watch.heard.wait_for(1)
    watch.ask(Question(prefix="sec"))
    watch.heard.wait_for(2)
    engine.run("second", greeting)
    watch.heard.wait_for(3)
    watch.ask(Question(prefix="sec"))  # the same answer, to a new question
    watch.heard.wait_for(4)

    assert [ids(answer) for answer in watch.heard] == [["first"], [], ["second"], ["second"]]


def test_a_watch_that_rests_does_not_look_until_it_is_asked(engine, watch, monkeypatch) -> None:
    watch.ask(Question())
    watch.heard.wait_for(1)
    watch.rest()
    eventually(lambda: watch._question is None)
    engine.run("second", greeting)
    looks = []
    monkeypatch.setattr(watch, "_look", lambda question: looks.append(question) or {"rows": []})
    watch.ask(Question(prefix="x"))
    watch.heard.wait_for(2)

    assert looks == [Question(prefix="x")]


def test_a_database_that_cannot_be_read_is_a_problem_and_the_watch_goes_on(tmp_path) -> None:
    path, heard = tmp_path / "other.db", Heard()
    with Engine(path) as engine:
        engine.run("first", greeting)
    with Reader(path) as reader:
        watch = Watch(reader, heard.take)
        watch.ask(Question())
        heard.wait_for(1)
        path.write_bytes(b"no database" * 1000)
        heard.wait_for(2)
        watch.ask(Question())
        heard.wait_for(3)
        watch.close()

    assert ids(heard[0]) == ["first"]
    assert all("other.db" in answer["problem"] for answer in heard[1:])


def test_the_widget_has_its_first_picture_at_once_and_follows_a_question(engine, show) -> None:
    widget = show()
    assert ids(widget.answer) == ["first"]
    assert repr(widget) == "dashboard of my flow.db: 1 completed; run this cell to see it"
    widget.handle({"ask": {"open": "first"}})
    eventually(lambda: "open" in widget.answer)

    assert widget.answer["open"]["steps"][0]["key"] == "greet_1"


def test_a_widget_of_a_missing_database_says_so_and_makes_none(tmp_path) -> None:
    with pytest.raises(StoreError, match=r"none\.db"):
        lab.dashboard(tmp_path / "none.db")

    assert list(tmp_path.iterdir()) == []


def test_without_leave_nothing_is_done(engine, show) -> None:
    widget = show()
    widget.handle({"act": {"do": "rewind", "workflow_id": "first", "step": "greet_1"}})

    assert ACTION not in {thread.name for thread in threading.enumerate()}  # none begins, and none has ended
    assert engine.workflow("first").status == "completed"
    assert widget.said == {}


def act(widget, **order):
    before = widget.said.get("number", 0)
    widget.handle({"act": order})
    eventually(lambda: widget.said.get("number", 0) > before)
    return widget.said["text"]


def test_a_workflow_is_rewound_forked_and_resumed(engine, show) -> None:
    widget = show(allow=True)

    assert act(widget, do="fork", workflow_id="first", new_id="copy", step="greet_1") == (
        "copy stands before greet_1 now. Open it to resume it."
    )
    assert act(widget, do="resume", workflow_id="copy") == "It runs in this process now."
    eventually(lambda: engine.workflow("copy").status == "completed")
    assert act(widget, do="rewind", workflow_id="first", step="greet_1") == (
        "It stands before greet_1 now. Resume runs it from there."
    )
    assert (engine.workflow("first").status, engine.steps("first")) == ("running", [])


def test_a_failed_workflow_is_tried_again_and_keeps_its_steps(engine, show) -> None:
    with pytest.raises(ValueError, match="no permit"):
        engine.run("failed", permitted)
    permit.set()
    widget = show(allow=True)

    act(widget, do="retry", workflow_id="failed")
    eventually(lambda: engine.workflow("failed").status == "completed")
    assert [(step.step_key, step.attempt) for step in engine.steps("failed")] == [("greet_1", 1), ("refuse_2", 2)]


def test_a_waiting_workflow_gets_a_message_and_another_is_cancelled(engine, show) -> None:
    one, other = engine.start("one", asked), engine.start("other", asked)
    widget = show(allow=True)

    assert act(widget, do="send", workflow_id="one", event="approval", text='"yes"') == (
        "The message 'approval' is on record."
    )
    assert one.result(timeout=PATIENCE_SECONDS) == "yes"
    assert act(widget, do="cancel", workflow_id="other") == "Its cancellation is on record."
    eventually(lambda: engine.workflow("other").status == "cancelled")
    eventually(other.done)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ({"do": "rewind", "workflow_id": "first", "step": "gret_1"}, "StepNotFoundError"),
        ({"do": "send", "workflow_id": "first", "event": "x"}, "WorkflowEndedError"),
        (
            {"do": "send", "workflow_id": "first", "event": "x", "text": "yes"},
            "ValueError: the value is not valid JSON",
        ),
        ({"do": "cancel", "workflow_id": "furst"}, "did you mean 'first'?"),
        ({"do": "fork", "workflow_id": "first", "step": "greet_1", "new_id": "first"}, "WorkflowConflictError"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(engine, show, order, text) -> None:
    widget = show(allow=True)

    assert text in act(widget, **order)
    assert widget.said["is_done"] is False
    assert engine.workflow("first").status == "completed"


def test_the_list_counts_days_in_utc(show) -> None:
    at = datetime.fromisoformat(show().answer["rows"][0]["updated"])

    assert at.tzinfo == UTC
    assert (datetime.now(UTC) - at).total_seconds() < 3600
