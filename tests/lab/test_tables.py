"""The rows as DataFrames: what stands in them, of which types, and that looking changes nothing."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from durable import Context, Engine, lab
from durable.errors import StoreError
from durable.examples.onboarding import onboarding
from durable.lab.views import tables
from durable.testing import run_until_crash
from tests.support.processes import child


def measure(value: float) -> float:
    return value


def break_down() -> None:
    raise ValueError("out of paper")


def measuring(ctx: Context) -> None:
    ctx.step(measure, 1.5)
    ctx.step(break_down)


@pytest.fixture
def crashed(database):
    run_until_crash(database, "emp_001", onboarding, "Jane Doe", 0.0, at="provision_laptop:executed")
    return database


def test_the_steps_table_has_one_row_a_step_in_program_order_with_decoded_outputs(database):
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)
    steps = lab.steps(database, "emp_001")

    assert list(steps.index) == ["create_record_1", "provision_laptop_2", "setup_access_3", "send_welcome_email_4"]
    assert list(steps.status) == ["completed"] * 4
    assert steps.output["create_record_1"]["name"] == "Jane Doe"
    assert steps.output["setup_access_3"] == "emp_001@company.com"


def test_columns_have_real_types(database):
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)
    steps = lab.steps(database, "emp_001")

    assert isinstance(steps.status.dtype, pd.CategoricalDtype)
    assert str(steps.started_at.dt.tz) == "UTC"
    assert pd.api.types.is_timedelta64_dtype(steps.duration)
    assert (steps.duration >= pd.Timedelta(0)).all()


def test_a_crash_is_seen_in_the_table_and_in_the_lives(crashed):
    assert lab.steps(crashed, "emp_001").status["provision_laptop_2"] == "running"
    assert pd.isna(lab.steps(crashed, "emp_001").duration["provision_laptop_2"])
    assert list(tables.lives(crashed, "emp_001").ended) == ["crashed"]
    assert lab.workflows(crashed).lives["emp_001"] == 1


def test_the_lives_say_why_a_run_ended_without_an_outcome(database):
    left = [True]

    def leave() -> None:
        if left.pop():
            raise KeyboardInterrupt

    def leaving(ctx: Context) -> None:
        ctx.step(leave)

    with Engine(database) as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run("w", leaving)
        left.append(False)
        engine.run("w", leaving)
    lives = tables.lives(database, "w")

    assert list(lives.ended) == ["interrupted", "completed"]
    assert list(lives.reason) == ["KeyboardInterrupt", None]


def test_the_history_keeps_the_attempt_that_a_later_one_superseded(crashed):
    with Engine(crashed) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)
    history = tables.history(crashed, "emp_001")

    assert list(history.loc["provision_laptop_2"].status) == ["running", "completed"]
    assert list(history.loc["provision_laptop_2"].epoch) == [1, 2]
    assert list(history.index.get_level_values("step_key").unique()) == list(lab.steps(crashed, "emp_001").index)
    assert list(tables.lives(crashed, "emp_001").ended) == ["crashed", "completed"]


def test_without_an_id_the_steps_of_all_workflows_are_listed(database):
    with Engine(database) as engine:
        for workflow_id in ("emp_001", "emp_002"):
            engine.run(workflow_id, onboarding, "Jane Doe", 0.0)
    steps = lab.steps(database)

    assert steps.index.names == ["workflow_id", "step_key"]
    assert list(steps.loc["emp_002"].index) == list(lab.steps(database, "emp_002").index)
    assert list(lab.workflows(database).index) == ["emp_001", "emp_002"]


def test_an_error_is_told_in_words(database):
    with Engine(database) as engine, pytest.raises(ValueError, match="out of paper"):
        engine.run("m", measuring)

    assert lab.steps(database, "m").error["break_down_2"] == "ValueError: out of paper"
    assert lab.workflows(database).error["m"] == "ValueError: out of paper"


def test_nothing_recorded_is_an_empty_table_with_the_same_columns(database):
    Engine(database).close()

    assert lab.steps(database, "nobody").empty
    assert lab.workflows(database).empty
    assert list(lab.steps(database, "nobody").columns) == list(lab.steps(database).columns)


def test_looking_makes_no_file(database):
    with pytest.raises(StoreError):
        lab.steps(database)

    assert list(database.parent.iterdir()) == []


def test_a_workflow_that_is_running_is_no_obstacle(database):
    seen = []

    def look(moment) -> None:
        seen.append((moment.name, list(lab.steps(database, "emp_001").status)))

    with Engine(database, observers=[look]) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)

    assert ("step.started", ["running"]) in seen
    assert pd.isna(tables.lives(database, "emp_001").ended_at).sum() == 0


# ---- before and after


def resume(database) -> None:
    with Engine(database) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)


@pytest.fixture
def repeated(database):
    """Four steps one after the other, killed between effect and save of the second, and resumed."""
    run_until_crash(database, "w", writing, 4, at="note_2:executed")
    with Engine(database) as engine:
        engine.run("w", writing, 4)
    return database


@pytest.mark.thorough
def test_compare_keeps_what_a_rewind_took_back(repeated):
    with Engine(repeated) as engine:
        engine.rewind("w", to="note_2")
    compared = lab.compare(repeated, "w")

    assert list(compared["", "change"]) == ["unchanged", "taken back"]
    assert list(compared.loc["note_2", "at the crash"]) == ["running", 1, None]
    assert compared.loc["note_2", "now"].isna().all()
    assert "taken back" in compared._repr_html_()


def test_compare_puts_the_table_at_the_crash_beside_the_one_now_and_says_what_changed(repeated):
    compared = lab.compare(repeated, "w")

    assert list(compared.index) == list(lab.steps(repeated, "w").index)
    assert list(compared["", "change"]) == ["unchanged", "tried again", "new", "new"]
    assert list(compared.loc["note_1", "at the crash"]) == list(compared.loc["note_1", "now"]) == ["completed", 1, 0]
    assert list(compared.loc["note_2", "at the crash"]) == ["running", 1, None]
    assert list(compared.loc["note_2", "now"]) == ["completed", 2, 1]
    assert pd.isna(compared["at the crash", "attempt"]["note_3"])
    assert isinstance(compared["", "change"].dtype, pd.CategoricalDtype)
    assert isinstance(compared["now", "status"].dtype, pd.CategoricalDtype)


@pytest.mark.thorough
def test_a_notebook_marks_the_rows_that_changed_and_only_those(repeated):
    html = lab.compare(repeated, "w")._repr_html_()

    styles = html.partition("</style>")[0].split("}")
    rows_marked = {
        int(row) for style in styles if "background-color" in style for row in re.findall(r"_row(\d)", style)
    }
    assert rows_marked == {1, 2, 3}
    assert "tried again" in html


def test_compare_finds_an_earlier_crash_by_its_life(crashed):
    run_until_crash(crashed, "emp_001", onboarding, "Jane Doe", 0.0, at="send_welcome_email:started")
    resume(crashed)

    assert lab.compare(crashed, "emp_001", life=1)["", "change"]["send_welcome_email_4"] == "new"
    assert lab.compare(crashed, "emp_001")["", "change"]["send_welcome_email_4"] == "tried again"
    with pytest.raises(ValueError, match=r"life 3 did not; these did: \[1, 2\]"):
        lab.compare(crashed, "emp_001", life=3)


def napping(ctx: Context) -> None:
    ctx.step(note, 1)
    ctx.sleep(0.2)
    ctx.step(note, 3)


def test_a_wait_that_a_later_life_took_over_stood_in_the_table_at_the_crash(database):
    run_until_crash(database, "n", napping, at="sleep_2:started")
    with Engine(database) as engine:
        engine.run("n", napping)
    compared = lab.compare(database, "n")

    assert list(compared["", "change"]) == ["unchanged", "completed since", "new"]
    assert list(compared.loc["sleep_2", "at the crash"]) == ["running", 1, None]


def test_compare_without_a_crash_is_an_error_that_says_so(database):
    resume(database)

    with pytest.raises(ValueError, match="'emp_001': no life of it ended in a crash"):
        lab.compare(database, "emp_001")


# ---- while another process writes


def write_on(pipe, database) -> None:
    """Many small steps, one after the other, until the parent has seen enough."""
    with Engine(database) as engine:
        engine.run("m", writing, 200)
    pipe.send("written")


def note(number: int) -> int:
    return number


def writing(ctx: Context, count: int) -> None:
    for number in range(count):
        ctx.step(note, number)


@pytest.mark.thorough
def test_a_database_that_another_process_writes_to_is_no_obstacle(database):
    Engine(database).close()
    seen = []
    with child(write_on, database) as writer:
        while not writer.pipe.poll():
            seen.append(len(lab.steps(database, "m")))
            lab.history(database, "m")
            lab.workflows(database)
        writer.join()

    assert seen == sorted(seen)
    assert any(0 < count < 200 for count in seen)  # it was read while it was written
    assert list(lab.steps(database, "m").output) == list(range(200))


# ---- read from an engine


def test_from_an_engine_the_tables_are_those_of_its_file(crashed):
    with Engine(crashed) as engine:
        engine.run("emp_001", onboarding, "Jane Doe", 0.0)

        for table in (lab.steps, lab.history):
            pd.testing.assert_frame_equal(table(engine, "emp_001"), table(crashed, "emp_001"))
        pd.testing.assert_frame_equal(lab.steps(engine), lab.steps(crashed))
        pd.testing.assert_frame_equal(lab.workflows(engine), lab.workflows(crashed))


@pytest.mark.thorough
def test_from_an_engine_on_postgresql_the_tables_say_the_same(database, postgres_url, tmp_path, monkeypatch):
    from durable.on_dbos import DBOSEngine

    monkeypatch.chdir(tmp_path)  # where the effects are written down
    told = []
    for make in (lambda: Engine(database), lambda: DBOSEngine(postgres_url)):
        with make() as engine:
            engine.run("emp_001", onboarding, "Jane Doe", 0.0)
            columns = ["status", "attempt", "output", "error", "epoch"]
            told.append((lab.steps(engine, "emp_001")[columns], lab.history(engine, "emp_001")[["status", "output"]]))
            assert lab.workflows(engine).status.tolist() == ["completed"]

    pd.testing.assert_frame_equal(told[0][0], told[1][0])
    pd.testing.assert_frame_equal(told[0][1], told[1][1])
