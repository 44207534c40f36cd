"""The crash matrix: what it tries, what it finds and says, in a test, in a notebook, and on the command line."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from durable import Context, current_step
from durable.examples.approval import approval
from durable.examples.conditional import conditional
from durable.examples.loop import loop
from durable.examples.onboarding import onboarding
from durable.examples.saga import saga
from durable.examples.zombie import zombie
from durable.limits import payload
from durable.testing import DoesNotSurviveError, MatrixError, PayloadError, Plan, effect
from durable.testing import crash_matrix as from_the_package
from durable.testing.effects import Effect
from durable.testing.matrix.case import Case, CaseResult, Fault, Life, Remains, Seen, StepRow
from durable.testing.matrix.judge import Baseline, judge
from tests.support import workflows
from tests.support.patience import PATIENCE_SECONDS, SLOWNESS, patient
from tests.support.selection import first_alone

SOAK_KILLS = int(os.environ.get("DURABLE_SOAK_KILLS", "0"))
NO_KILLS = Plan(every_moment=False)


def call(name: str) -> str:
    effect("call", name)
    return name


def call_with_key(name: str) -> str:
    """The world is given the idempotency key, and so does the same request once."""
    effect("call", name, current_step().idempotency_key, once_per_key=True)
    return name


def silent(name: str) -> str:
    return name


def calls(ctx: Context, *names: str) -> list[str]:
    return [ctx.step(call, name) for name in names]


def calls_with_key(ctx: Context, name: str) -> str:
    return ctx.step(call_with_key, name)


def quiet(ctx: Context) -> str:
    return ctx.step(silent, ctx.step(silent, "a"))


def draw_lots() -> str:
    return uuid.uuid4().hex


def lottery(ctx: Context) -> str:
    return ctx.step(call, ctx.step(draw_lots))


def ask_the_clock(ctx: Context) -> str:
    """Not deterministic: what it asks for depends on when."""
    return ctx.step(call, str(time.monotonic_ns()))


BORN = uuid.uuid4().hex


def ask_the_module(ctx: Context) -> str:
    """Not deterministic: a restarted program imports the module anew."""
    return ctx.step(call, BORN)


def refuse() -> None:
    raise ValueError("not today")


def failing(ctx: Context) -> None:
    ctx.step(call, "a")
    ctx.step(refuse)


def sleepy(ctx: Context) -> str:
    return ctx.step(take_a_while, 0.3)


def take_a_while(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


# ---- every example, every moment


@pytest.mark.parametrize(
    ("workflow", "args"),
    first_alone(
        [
            (onboarding, ("Jane Doe", 0.0)),
            (loop, (0.0,)),
            (conditional, (0.5, 0.0)),
            (zombie, (0.0,)),
            (approval, ("laptop", 3000, 2000, 0.0, 0.0)),
            (saga, ("Jane", False, 0.0)),
            (workflows.journey, (1,)),
            (workflows.journey_async, (1,)),
            (failing, ()),
        ]
    ),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_example_survives_a_crash_at_every_moment_and_two_in_a_row(
    crash_matrix, workflow: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    report = crash_matrix(workflow, *args, plan=Plan(pairs=15, random=10, seed=5))

    report.assert_survives()
    points = report.baseline.runs[0].points()
    moments = Counter(point.partition(":")[0] for point in points)
    assert moments.pop("workflow") == 2
    assert moments.keys() == report.baseline.runs[0].last.remains.steps.keys()
    assert set(moments.values()) <= {3, 4}  # what is recorded at once is never `started`
    assert {str(judgement.case) for judgement in report.judgements} >= {f"kill at {point}" for point in points}
    assert report.kills > len(points)


@pytest.mark.thorough
def test_interrupts_and_second_owners_are_survived_at_every_moment(crash_matrix) -> None:
    report = crash_matrix(onboarding, "Jane", 0.0, plan=replace(NO_KILLS, interrupts=True, second_owner=True))

    report.assert_survives()
    assert report.kills == 0
    lives = [judgement.result.lives[0] for judgement in report.judgements]
    assert sum(life.interrupted for life in lives) == len(lives) / 2 - 1
    assert {life.second_owner for life in lives} == {None, "WorkflowBusyError", "got the recorded result"}


@pytest.mark.thorough
def test_random_instants_are_the_same_again_with_the_same_seed(crash_matrix) -> None:
    plans = [replace(NO_KILLS, random=4, pairs=4, seed=seed) for seed in (7, 7, 8)]
    run = CaseResult(Case(), (), tuple(Seen(1, f"step.{name}", "a_1", 1) for name in ("started", "executed")))

    first, again, other = (plan.cases(run, 0.01) for plan in plans)

    assert first == again
    assert first != other


# ---- what it says


def test_the_verdict_names_the_step_that_is_not_idempotent(crash_matrix) -> None:
    report = crash_matrix(onboarding, "Jane", 0.0)

    assert report.survives()
    assert not report.survives(idempotent=True)
    assert report.verdict().splitlines()[0].startswith("onboarding survives")
    assert (
        "provision_laptop is not idempotent: killed between effect and save, it had its effect twice "
        "(ordered a laptop for Jane)." in report.verdict()
    )
    assert report.cells["provision_laptop_2", "executed"] == "repeated"
    assert {report.cells["provision_laptop_2", m] for m in ("scheduled", "started", "checkpointed")} == {"survived"}
    with pytest.raises(DoesNotSurviveError, match="smallest failing case: kill at create_record_1:executed"):
        report.assert_survives(idempotent=True)


def test_a_step_that_gives_its_idempotency_key_to_the_world_is_idempotent(crash_matrix) -> None:
    report = crash_matrix(calls_with_key, "a")

    report.assert_survives(idempotent=True)
    assert report.cells["call_with_key_1", "executed"] == "survived"
    assert report.rows()[0]["runs_at_most"] == 2


def test_a_step_that_reports_no_effects_is_said_to_have_run_twice_and_no_more(crash_matrix) -> None:
    report = crash_matrix(quiet)

    report.assert_survives(idempotent=True)
    assert "silent ran twice; whether that does harm is not known" in report.verdict()
    assert report.cells["silent_1", "executed"] == "again"


def test_a_workflow_that_fails_whenever_it_is_run_is_said_to(crash_matrix) -> None:
    verdict = crash_matrix(failing).verdict()

    assert "Undisturbed, it fails: ValueError: not today." in verdict


def names_as_a_set(ctx: Context) -> set[str]:
    return {ctx.step(silent, "a"), *"bcdefgh"}


def test_equal_sets_are_no_other_result_in_whatever_order_they_are_written(crash_matrix) -> None:
    report = crash_matrix(names_as_a_set)

    report.assert_survives()


def test_a_step_that_is_left_to_chance_is_no_wrong_result(crash_matrix) -> None:
    report = crash_matrix(lottery)

    report.assert_survives()
    assert report.baseline.varying == {"draw_lots_1"}
    assert "Undisturbed, draw_lots_1 had different outcomes" in report.verdict()


def test_a_workflow_that_is_not_deterministic_is_found_out_with_the_case_and_how_to_replay_it(
    crash_matrix, tmp_path: Path
) -> None:
    report = crash_matrix(ask_the_clock)

    with pytest.raises(DoesNotSurviveError) as found:
        report.assert_survives()
    text = str(found.value)
    assert "smallest failing case: kill at call_1:started" in text
    assert "determinism: workflow 'case': step 'call_1' was recorded as call(" in text
    assert report.cells["call_1", "checkpointed"] == "broken"
    assert "to replay it by hand:" in text


@pytest.mark.thorough
def test_what_a_program_has_only_until_it_is_started_again_is_found_out_whatever_the_number_of_workers() -> None:
    report = from_the_package(ask_the_module, plan=Plan(workers=1))

    found = {str(judgement.case): {v.promise for v in judgement.violations} for judgement in report.broken}
    assert "determinism" in found["kill at call_1:started"]
    assert "determinism" in found["kill at call_1:checkpointed"]


@pytest.mark.thorough
def test_the_commands_to_replay_a_case_by_hand_do_what_they_say(crash_matrix, tmp_path: Path) -> None:
    report = crash_matrix(onboarding, "Jane", 0.0)
    case = next(j for j in report.judgements if str(j.case) == "kill at provision_laptop_2:executed")

    first, second = report.replay(case.result)

    crashed, resumed = (run_by_hand(command, tmp_path) for command in (first, second))
    assert crashed.returncode in (-9, 137), crashed.stderr
    assert resumed.returncode == 0, resumed.stderr
    assert "again, attempt 2" in resumed.stdout


ALONE = """
import time
from durable import Context

def greet(at: int) -> int:
    return at

def alone(ctx: Context) -> int:
    return ctx.step(greet, time.monotonic_ns())
"""


@pytest.mark.thorough
def test_a_case_of_a_file_somewhere_else_can_be_replayed_from_where_one_is(
    crash_matrix, tmp_path: Path, monkeypatch
) -> None:
    """As with pytest from the project's folder, where the test's own folder is on the path of modules."""
    folder = tmp_path / "my tests"
    folder.mkdir()
    (folder / "test_of_alone.py").write_text(ALONE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    report = crash_matrix(importlib.import_module("test_of_alone").alone)

    first, second = report.replay(report.broken[0].result)

    crashed, resumed = (run_by_hand(command, tmp_path) for command in (first, second))
    assert crashed.returncode in (-9, 137), crashed.stderr
    assert "the code now calls greet(" in resumed.stderr


def run_by_hand(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a shell, with `durable` being this project's."""
    as_module = command.replace("durable run", f"exec {shlex.quote(sys.executable)} -m durable run")
    return subprocess.run(
        as_module, shell=True, cwd=folder, capture_output=True, text=True, timeout=patient(30), check=False
    )


def test_the_table_and_the_picture_tell_the_cells_apart_by_shape_and_by_colour(crash_matrix) -> None:
    report = crash_matrix(onboarding, "Jane", 0.0)

    table, picture = report.table(), report._repr_html_()
    line = next(line for line in table.splitlines() if line.startswith("provision_laptop_2"))
    assert re.split(r"\s+", line) == ["provision_laptop_2", "\u25cf", "\u25cf", "\u25c6", "\u25cf", "2"]
    assert str(report) == f"{report.verdict()}\n\n{table}"
    assert "onboarding survives" in picture.split("<table>")[0]  # words first
    assert picture.count("color:#a86b00") == 4 + 1  # four steps, and the legend
    assert picture.count("<tr>") == 1 + 5


def test_no_text_of_the_user_s_becomes_markup(crash_matrix) -> None:
    report = crash_matrix(calls, "<script>alert(1)</script>")

    assert "not idempotent" in report._repr_html_()
    assert "<script>" not in report._repr_html_()


# ---- bounds


def test_the_time_limit_ends_it_and_what_was_not_tried_does_not_count_as_survived(crash_matrix) -> None:
    report = crash_matrix(sleepy, plan=Plan(seconds=0.8))

    assert not report.is_complete
    assert 0 < len(report.judgements) < report.planned
    assert "The time limit of 0.8 s came after" in report.verdict()
    with pytest.raises(DoesNotSurviveError, match="time limit"):
        report.assert_survives()


def test_progress_is_told_case_by_case(crash_matrix) -> None:
    seen: list[tuple[int, int]] = []
    crash_matrix.func(calls, "a", pool=crash_matrix.keywords["pool"], progress=lambda *now: seen.append(now))

    assert seen == [(number, 6) for number in range(7)]


def test_what_is_no_workflow_and_what_never_ends_undisturbed_is_an_error_at_once(crash_matrix) -> None:
    with pytest.raises(MatrixError, match="undisturbed, the workflow is stopped by an error"):
        crash_matrix(workflow_with_set)
    with pytest.raises(MatrixError, match="ends its process"):
        crash_matrix(workflow_that_exits)


def workflow_with_set(ctx: Context) -> None:
    ctx.step(make_set)


def make_set():
    return {1}


def workflow_that_exits(ctx: Context) -> None:
    ctx.step(leave)


def leave() -> None:
    os._exit(3)


INTERRUPTED = """
import signal, socket, time
from durable import Context
from durable.testing import Plan, crash_matrix

def hang(port: int) -> None:
    socket.create_connection(("127.0.0.1", port)).recv(1)

def hanging(ctx: Context, port: int) -> None:
    ctx.step(hang, port)

signal.signal(signal.SIGINT, signal.default_int_handler)
crash_matrix(hanging, {port}, plan=Plan(workers=1))
"""


def test_after_ctrl_c_no_life_goes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        script = INTERRUPTED.format(port=server.getsockname()[1])
        matrix = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
        life, _ = server.accept()
        with life:
            matrix.send_signal(signal.SIGINT)
            assert matrix.wait(PATIENCE_SECONDS) != 0

            life.settimeout(30)
            assert life.recv(1) == b""  # its end of the connection is closed with its process


# ---- closures, notebooks


def test_a_closure_over_plain_data_goes_along(crash_matrix) -> None:
    names = ["a", "b"]

    def greet(name: str) -> str:
        effect("greet", name)
        return f"hello {name}"

    def greetings(ctx: Context) -> list[str]:
        return [ctx.step(greet, name) for name in names]

    report = crash_matrix(greetings)

    report.assert_survives()
    assert list(report.not_idempotent) == ["greet_1", "greet_2"]


def test_a_closure_over_what_cannot_go_along_is_refused_in_words(crash_matrix) -> None:
    lock = threading.Lock()

    def ask(ctx: Context) -> bool:
        return lock.locked()

    with pytest.raises(PayloadError, match="let it and its arguments hold plain data only"):
        crash_matrix(ask)


def test_without_cloudpickle_a_closure_is_refused_with_the_remedy(crash_matrix, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    def empty(ctx: Context) -> None: ...

    with pytest.raises(PayloadError, match="pip install cloudpickle"):
        crash_matrix(empty)


NOTEBOOK = """
from __future__ import annotations
from dataclasses import dataclass
from durable import Context
from durable.testing import crash_matrix, effect

@dataclass
class Order:
    number: int

class SoldOutError(Exception): ...

def place(number: int) -> Order:
    effect("order", number)
    return Order(number)

def refuse(order: Order) -> None:
    raise SoldOutError(order.number)

def shopping(ctx: Context, number: int) -> Order:
    order = ctx.step(place, number)
    try:
        ctx.step(refuse, order)
    except SoldOutError:
        order = ctx.step(place, order.number + 1)
    return order

report = crash_matrix(shopping, 7)
print(report.verdict())
report.assert_survives()
"""


@pytest.mark.thorough
def test_a_workflow_of_a_notebook_or_a_script_works_with_its_own_types(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], cwd=tmp_path, capture_output=True, text=True, timeout=patient(60), check=False
    )

    assert done.returncode == 0, done.stderr
    assert "shopping survives" in done.stdout
    assert "place is not idempotent" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_in_a_notebook_the_report_is_a_cell_s_last_line_words_first() -> None:
    source = NOTEBOOK.replace("from __future__ import annotations\n", "") + "report"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])

    nbclient.NotebookClient(notebook, timeout=round(patient(60))).execute()

    shown = notebook.cells[0].outputs[-1]["data"]["text/html"]
    assert shown.startswith("<div><p>shopping survives")
    assert shown.index("place is not idempotent") < shown.index("<table>")


def test_it_works_where_an_event_loop_is_running(crash_matrix) -> None:
    async def cell() -> bool:
        return crash_matrix(calls, "a").survives()

    assert asyncio.run(cell())


def test_a_payload_is_by_name_where_it_can_be() -> None:
    data = payload.dump(calls, ("a",), {})

    assert b"tests.crash.test_crash_matrix" in data
    assert len(data) < 200


# ---- effects


def test_effect_does_nothing_where_no_matrix_watches(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    effect("order", "laptop")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_effect_outside_of_a_step_is_an_error_where_a_matrix_watches(crash_matrix) -> None:
    with pytest.raises(MatrixError, match=r"effect\(\) was called outside of a step"):
        crash_matrix(effect_outside)


def effect_outside(ctx: Context) -> None:
    effect("order")


# ---- in pytest and on the command line


@pytest.mark.thorough
def test_the_fixture_comes_with_the_package(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent("""
        import time
        from durable import Context

        def now() -> float:
            return 1.0

        def mine(ctx: Context) -> float:
            return ctx.step(now)

        def wrong(ctx: Context) -> float:
            return ctx.step("now", lambda at: 1.0, time.monotonic_ns())

        def test_mine(crash_matrix):
            crash_matrix(mine).assert_survives()

        def test_wrong(crash_matrix):
            crash_matrix(wrong).assert_survives()
        """)
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )

    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "smallest failing case: kill at now_1:started" in done.stdout
    assert "DURABLE_CRASH_AT=now_1:started durable run test_mine:wrong case --db case.db" in done.stdout


def read_what_is_around() -> tuple[str, str, str]:
    from found_in_tmp import there

    return Path("here.txt").read_text(), os.environ["DURABLE_TEST_AROUND"], there


def looking_around(ctx: Context) -> tuple[str, str, str]:
    return ctx.step(read_what_is_around)


def test_a_life_has_around_it_what_the_test_has(crash_matrix, tmp_path: Path, monkeypatch) -> None:
    """The processes of the fixture are older than this test's folder, variable and path."""
    crash_matrix(quiet, plan=NO_KILLS)
    (tmp_path / "here.txt").write_text("file")
    (tmp_path / "found_in_tmp.py").write_text("there = 'module'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DURABLE_TEST_AROUND", "variable")
    monkeypatch.syspath_prepend(tmp_path)

    report = crash_matrix(looking_around)

    report.assert_survives()
    assert report.baseline.runs[0].last.result == "('file', 'variable', 'module')"


def command(*words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "durable", "crash", *words],
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_line_crashes_an_example_at_every_moment() -> None:
    said = command("onboarding")

    assert "onboarding survives: however it was disturbed, it ended as undisturbed (18 cases, 18 kills" in said
    assert "provision_laptop_2" in said


@pytest.mark.thorough
def test_the_command_line_tells_programs_too_and_takes_a_seed() -> None:
    said = json.loads(command("loop", "--random", "20", "--pairs", "5", "--seed", "7", "--json"))

    assert said["survives"] is True
    assert said["cases"] == said["planned"] == 25
    assert said["kills"] > 15
    assert [row["step"] for row in said["steps"]] == ["loop_step_1", "loop_step_2", "loop_step_3", "workflow"]


@pytest.mark.thorough
def test_a_soak_is_every_moment_and_as_many_random_instants_and_pairs_as_are_asked_for() -> None:
    said = json.loads(command("loop", "--soak", "--random", "6", "--pairs", "2", "--json"))
    every_moment = json.loads(command("loop", "--json"))

    assert said["survives"] is True
    assert said["cases"] == said["planned"] == every_moment["cases"] + 8


@pytest.mark.thorough
def test_the_command_line_fails_with_the_smallest_case_where_a_workflow_does_not_survive() -> None:
    said = command("zombie", "--idempotent", code=1)

    assert "smallest failing case: kill at step_before_1:executed" in said
    assert "DURABLE_CRASH_AT=step_before_1:executed durable run zombie case" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [(["onbording"], "did you mean 'onboarding'"), (["loop", "--input", '{"x": 1}'], "has no argument 'x'")],
)
def test_wrong_use_is_one_line(words: list[str], said: str) -> None:
    assert said in command(*words, code=2)


# ---- the judge itself: it accepts a good story, and rejects each broken one


def row(
    key: str = "a_1", status: str = "completed", attempt: int = 1, arguments: str = "[]", output: str = "1"
) -> StepRow:
    return StepRow(key, "a", status, attempt, arguments, None if status == "running" else output, None)


def left(*rows: StepRow, status: str = "running", output: str | None = None, effects: int = 1) -> Remains:
    return Remains(status, output, None, {r.key: r for r in rows}, effects=(Effect("ring", "a_1"),) * effects)


def moments(life: int, *names: str, attempt: int = 1) -> tuple[Seen, ...]:
    return tuple(Seen(life, f"step.{name}", "a_1", attempt) for name in names)


END = left(row(), status="completed", output="1")
BASELINE = Baseline.of(
    [CaseResult(Case(), (Life(None, "completed", END),), moments(1, "started", "executed", "checkpointed"))]
)
KILL = Fault("kill", "a_1:checkpointed")
AFTER_SAVE = left(row())
SAVED = moments(1, "started", "executed", "checkpointed")
BETWEEN = left(row(status="running"))
TWICE = left(row(attempt=2), status="completed", output="1", effects=2)
REPEATED = (*moments(1, "started", "executed"), *moments(2, "started", "executed", "checkpointed", attempt=2))


def story(killed: Remains, end: Remains, trace: tuple[Seen, ...], **last: Any) -> CaseResult:
    last_life = Life(None, last.pop("ended", "completed"), end, **last)
    return CaseResult(Case((KILL,)), (Life(KILL, "killed", killed), last_life), trace)


@pytest.mark.parametrize(
    "good",
    [
        story(AFTER_SAVE, END, SAVED),
        story(BETWEEN, TWICE, REPEATED),
    ],
    ids=["killed after the save", "killed between effect and save"],
)
def test_the_judge_accepts_a_good_story(good: CaseResult) -> None:
    assert judge(good, BASELINE).violations == ()


@pytest.mark.parametrize(
    ("promise", "broken"),
    [
        ("once", story(AFTER_SAVE, TWICE, (*SAVED, *moments(2, "started")))),
        ("checkpoint", story(AFTER_SAVE, left(row(output="2"), status="completed", output="1"), SAVED)),
        ("checkpoint", story(AFTER_SAVE, left(status="completed", output="1"), SAVED)),
        ("checkpoint", story(BETWEEN, END, SAVED)),
        ("result", story(AFTER_SAVE, left(row(), status="completed", output="2"), SAVED)),
        ("result", story(AFTER_SAVE, left(row(), status="failed"), SAVED, ended="failed")),
        ("keys", story(left(), left(row("b_1"), status="completed", output="1"), ())),
        ("arguments", story(left(), left(row(arguments="[2]"), status="completed", output="1"), ())),
        ("arguments", story(left(row(status="running", arguments="[2]")), END, ())),
        ("lost", story(AFTER_SAVE, left(row(), status="completed", output="1", effects=0), SAVED)),
        ("gap", story(AFTER_SAVE, left(row(), status="completed", output="1", effects=2), SAVED)),
        ("gap", story(left(), END, moments(2, "started", "executed", "started"))),
        ("running", story(BETWEEN, left(row(status="running"), status="completed", output="1"), ())),
        ("determinism", story(AFTER_SAVE, AFTER_SAVE, SAVED, ended="stopped", error=("NonDeterminismError", ""))),
        ("owner", story(AFTER_SAVE, AFTER_SAVE, SAVED, ended="stopped", error=("WorkflowBusyError", "busy"))),
        ("ends", story(AFTER_SAVE, AFTER_SAVE, SAVED, ended="stopped", error=("StoreError", "no room"))),
        ("ends", story(AFTER_SAVE, AFTER_SAVE, SAVED, ended="hung")),
        ("ends", story(AFTER_SAVE, AFTER_SAVE, SAVED, ended="died")),
        ("integrity", story(AFTER_SAVE, replace(END, damage=("row 1 missing from index",)), SAVED)),
    ],
)  # fmt: skip
def test_the_judge_rejects_a_story_that_breaks_a_promise(promise: str, broken: CaseResult) -> None:
    assert promise in {violation.promise for violation in judge(broken, BASELINE).violations}


# ---- a disk that fails


@pytest.mark.thorough
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None,
    reason="making a disk fail on purpose takes Linux and a C compiler (cc)",
)
def test_a_disk_that_is_full_or_fails_at_any_call_is_survived(tmp_path: Path) -> None:
    library, source = tmp_path / "failing_disk.so", Path(__file__).parents[1] / "faults" / "failing_disk.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)

    report = from_the_package(calls, "a", "b", plan=replace(NO_KILLS, disk=library, synchronous="full"))

    report.assert_survives()
    ended = [judgement.result.lives[0].ended for judgement in report.judgements]
    assert ended.count("stopped") > 10, ended  # else the disk did not fail where it matters
    assert any(str(judgement.case).startswith("disk error 5") for judgement in report.judgements)  # EIO, of a flush
    assert any(str(judgement.case).startswith("disk error 28") for judgement in report.judgements)  # ENOSPC


# ---- speed, and the soak


@pytest.mark.thorough
def test_cases_are_quick_since_their_processes_are_forked_from_warm_ones(crash_matrix) -> None:
    report = crash_matrix(onboarding, "Jane", 0.0, plan=replace(NO_KILLS, random=60, seed=1))

    report.assert_survives()
    # alone on two cores it makes 40 in a second; a process started anew takes 0.3 s for each life
    assert len(report.judgements) / report.seconds * SLOWNESS > 5


@pytest.mark.thorough
def test_a_soak_of_kills_finds_no_violation(crash_matrix) -> None:
    """`DURABLE_SOAK_KILLS=2000 pytest -k soak`; here a few, so that it is known to work."""
    wanted = SOAK_KILLS or 50
    kills, seed = 0, random.Random(0)
    for workflow, args in itertools.cycle([(onboarding, ("Jane", 0.0)), (workflows.journey, (2,))]):
        plan = replace(NO_KILLS, random=max(20, wanted // 4), pairs=max(5, wanted // 20), seed=seed.randrange(1000))
        report = crash_matrix(workflow, *args, plan=replace(plan, seconds=600.0))
        report.assert_survives()
        kills += report.kills
        if kills >= wanted:
            break
