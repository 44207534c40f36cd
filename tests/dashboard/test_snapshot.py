"""The snapshot: the workflows of a file as data, by questions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from durable.dashboard.rows import Rows
from durable.dashboard.snapshot import LONG, PAGE_STEPS, PAGE_WORKFLOWS, SHORT, read_question, show, take
from durable.dashboard.timeline import draw_timeline, infer_runs
from durable.store.reader import Reader
from durable.store.records import StepRecord, WorkflowRecord
from tests.dashboard.flows import ATTACK, HOSTILE_ID
from tests.dashboard.flows import LONG as LENGTH


@pytest.fixture(scope="module")
def reader(world):
    with Reader(world) as reader:
        yield reader


def ask(reader, **question):
    answer = take(reader, read_question(question))
    assert json.loads(json.dumps(answer)) == answer  # plain JSON values
    return answer


def ids(answer):
    return [row["id"] for row in answer["rows"]]


def test_the_list_has_each_workflow_with_its_state(reader) -> None:
    answer = ask(reader, sort="created", descending=False)

    assert {row["id"]: row["state"] for row in answer["rows"]} == {
        "crashed_1": "crashed",
        "order_1": "completed",
        "order_1/parcel_4": "completed",
        "order_2": "completed",
        "failed_1": "failed",
        "undone_1": "failed",
        HOSTILE_ID: "completed",
        "long_1": "completed",
        "many_1": "completed",
        "forked_1": "forked",
        "waiting_1": "waiting",
        "cancelled_1": "cancelled",
    }
    assert answer["counts"] == {"running": 3, "completed": 6, "failed": 2, "cancelled": 1}
    assert answer["total"] == 12
    assert (answer["database"], answer["size"]) == ("my flow.db", PAGE_WORKFLOWS)


def test_a_question_filters_and_sorts_and_the_counts_leave_its_status_out(reader) -> None:
    answer = ask(reader, prefix="order_", status="completed", sort="id", descending=False)

    assert ids(answer) == ["order_1", "order_1/parcel_4", "order_2"]
    assert ids(ask(reader, function="tests.dashboard.flows:approved", sort="id")) == ["waiting_1", "cancelled_1"]
    assert ask(reader, status="failed", prefix="f")["counts"] == {
        "running": 1,
        "completed": 0,
        "failed": 1,
        "cancelled": 0,
    }
    assert ask(reader, status="failed", prefix="f")["total"] == 1
    assert ids(ask(reader, since=(datetime.now(UTC) + timedelta(days=1)).isoformat())) == []
    assert ids(ask(reader, offset=12)) == []


@pytest.mark.parametrize(
    "question", [{"sort": "1; drop table"}, {"offset": -1}, {"since": "soon"}, {"step": 1 << 70}, 7]
)
def test_a_question_of_another_form_is_refused(question) -> None:
    with pytest.raises(msgspec.ValidationError):
        read_question(question)


def test_a_workflow_is_shown_with_its_attempts_values_children_and_runs(reader) -> None:
    shown = show(reader, "order_1", 0, PAGE_STEPS)
    knock = shown["steps"][2]

    assert [step["key"] for step in shown["steps"]] == ["progress_1", "pack_2", "knock_3", "parcel_4"]
    assert [(each["attempt"], each["status"]) for each in knock["earlier"]] == [(1, "failed"), (2, "failed")]
    assert knock["earlier"][0]["error"]["text"] == {"text": "ConnectionError: no answer 1"}
    assert (knock["attempt"], knock["state"], knock["output"]) == (3, "completed", {"text": '"opened"'})
    assert [(each["name"], each["value"]) for each in shown["published"]] == [("progress", {"text": '{"packed":0.5}'})]
    assert [(child["id"], child["parent"]) for child in shown["children"]] == [("order_1/parcel_4", "order_1")]
    assert [(run["epoch"], run["how"]) for run in shown["lives"]] == [(1, "completed")]
    assert json.loads(shown["output"]["text"])["packed"] == "packed a lamp"
    assert shown["timeline"]["lanes"] == ["main"]


def test_a_crash_a_failure_and_a_wait_are_told(reader) -> None:
    crashed, failed, waiting = (show(reader, each, 0, PAGE_STEPS) for each in ("crashed_1", "failed_1", "waiting_1"))

    assert [step["state"] for step in crashed["steps"][:2]] == ["completed", "zombie"]
    assert [run["how"] for run in crashed["lives"]] == ["crashed"]
    assert failed["error"]["text"] == {"text": f"ValueError: no money: {ATTACK}"}
    assert "in charge" in failed["error"]["traceback"]["text"]
    assert (failed["final"], show(reader, "undone_1", 0, PAGE_STEPS)["final"]) == (False, True)
    assert [(wait["event"], wait["child"]) for wait in waiting["waits"]] == [("approval", None)]
    assert [(each["event"], each["received_by"]) for each in waiting["messages"]] == [("other", None)]


def test_long_values_are_cut_and_say_how_long_they_are(reader) -> None:
    row = next(row for row in ask(reader)["rows"] if row["id"] == "long_1")
    shown = show(reader, "long_1", 0, PAGE_STEPS)

    assert (len(row["result"]["text"]), row["result"]["length"]) == (SHORT, LENGTH + len('"packed "'))
    assert (len(shown["output"]["text"]), shown["output"]["length"]) == (LONG, LENGTH + len('"packed "'))


def test_steps_come_in_pages(reader) -> None:
    answer = ask(reader, open="many_1", step=200)["open"]

    assert (answer["first"], answer["steps_total"], len(answer["steps"])) == (200, 230, 30)
    assert answer["steps"][0]["key"] == "pack_201"
    assert len(ask(reader, open="many_1")["open"]["steps"]) == PAGE_STEPS


def test_a_missing_workflow_is_a_problem_in_words(reader) -> None:
    assert ask(reader, open="order_11")["open"] == {
        "id": "order_11",
        "problem": "no workflow 'order_11'; did you mean 'order_1'?",
    }


def step_row(key: str, epoch: int, start: float, end: float) -> StepRecord:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    times = begun + timedelta(seconds=start), begun + timedelta(seconds=end)
    return StepRecord("w", key, "completed", None, key, "step", 1, 1, epoch, None, None, *times, "main")


@pytest.mark.parametrize("status", ["running", "completed"])
def test_without_a_list_of_runs_the_timeline_follows_from_the_steps(status):
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    workflow = WorkflowRecord("w", "flows:f", "{}", status, None, None, 3, begun, begun)
    steps = [step_row("a_1", 1, 0, 1), step_row("b_2", 1, 1, 2), step_row("c_3", 3, 60, 62)]
    rows = Rows(workflow, steps)
    timeline = draw_timeline(rows, begun + timedelta(seconds=63))

    assert [run.ended for run in infer_runs(rows)] == ["stopped", None if status == "running" else "stopped"]
    assert [(life["crashed"], life["replayed"]) for life in timeline["lives"]] == [(False, 0), (False, 2)]
    assert [bar["key"] for bar in timeline["bars"]] == ["a_1", "b_2", "c_3"]
    assert timeline["bars"][2]["start"] > timeline["bars"][1]["start"] + timeline["bars"][1]["width"]
    assert draw_timeline(Rows(workflow), begun) is None
