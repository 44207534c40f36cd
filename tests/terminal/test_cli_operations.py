"""The commands that act on workflows on record: real processes that are sent to, cancelled, killed, interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from durable import Engine
from durable.terminal.commands import COMMANDS
from durable.testing import wait_for_change
from tests.support.command_line import Running, durable, error_of, open_gate, statuses, table
from tests.support.patience import patient
from tests.support.selection import first_alone

FLOWS = '''
import asyncio, os, signal
from datetime import timedelta
from pathlib import Path

from durable import Context, Retry, current_step, step

HERE = Path(__file__).parent


def say(what: str) -> str:
    with (HERE / "log").open("a") as log:
        log.write(what + "\\n")
    return what.upper()


def wait_at_the_gate(name: str) -> str:
    """Blocks until the test opens the gate."""
    (HERE / "gate").open().read()
    return say(name)


def report() -> str:
    current_step().publish("rows", 40, total=100)
    return wait_at_the_gate("reported")


def reports(ctx: Context) -> None:
    ctx.step(report)


def approval(ctx: Context, item: str = "laptop") -> str:
    ctx.step(say, f"order {item}")
    ctx.on_failure(say, f"return {item}")
    ctx.publish("progress", {"percent": 50})
    approved = ctx.wait_event("approval", type=bool, timeout_seconds=3600)
    ctx.publish("progress", {"percent": 100})
    return ctx.step(say, "yes" if approved else "no")


def errand(ctx: Context, *what: str) -> list[str]:
    return [ctx.step(say, one) for one in what or "abc"]


async def wait_at_the_gate_async(name: str) -> str:
    return await asyncio.to_thread(wait_at_the_gate, name)


async def at_the_gate_async(ctx: Context) -> list[str]:
    return [await ctx.submit(wait_at_the_gate_async, one) for one in "ab"]


def at_the_gate(ctx: Context) -> list[str]:
    ctx.on_failure(say, "undo")
    return [ctx.step(wait_at_the_gate, one) for one in "ab"]


@step(retry=Retry(attempts=2, delay_seconds=0.01, jitter=0))
def call() -> str:
    if not (HERE / "up").exists():
        (HERE / "up").touch()
        raise ConnectionError("no answer")
    return "answer"


def calling(ctx: Context) -> str:
    return ctx.step(call)


def fail() -> None:
    raise ValueError("out of paper")


def saga(ctx: Context) -> None:
    ctx.on_failure(say, "undo")
    ctx.step(fail)


def parent(ctx: Context) -> list[str]:
    return ctx.child(errand, "a").result()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def poison(ctx: Context) -> None:
    ctx.step(die)


def charge():
    say("charged")
    return object() if not Path("repaired").exists() else None


def unsaved(ctx: Context) -> None:
    ctx.step(charge)


def naps(ctx: Context) -> str:
    ctx.sleep(0.2)
    return ctx.step(say, "awake")
'''


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every command runs in a folder of its own that holds flows.py."""
    (tmp_path / "flows.py").write_text(FLOWS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DURABLE_CRASH_AT", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def gate(folder):
    """A pipe that a step reads from: it blocks until the test opens the gate."""
    os.mkfifo(folder / "gate")
    return folder / "gate"


def log(folder):
    return (folder / "log").read_text().splitlines()


def crash(workflow, workflow_id, step):
    durable("run", f"flows.py:{workflow}", workflow_id, "--crash-at", step, code=-signal.SIGKILL)


# ---- messages


def test_a_workflow_that_waits_says_for_what_and_how_to_send_it_and_goes_on_when_it_is_sent(folder):
    with Running("run", "flows.py:approval", "o1") as running:
        seen = running.read_until("To send it")
        sent = durable("send", "o1", "approval", "true")
        rest = running.end(0)

    assert re.search(
        r"^\[WAIT\] approval \(key: approval_4\) for 'approval' until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$",
        seen,
        re.MULTILINE,
    )
    assert "       To send it: python -m durable send o1 approval JSON\n" in seen
    assert sent.stdout == "sent 'approval' to o1\n"
    assert "[DONE] approval (key: approval_4)" in rest
    assert rest.endswith('workflow o1 completed: "YES"\n')


@pytest.mark.thorough
def test_a_message_that_is_sent_before_the_wait_is_received_and_a_key_makes_it_one(folder):
    crash("approval", "o1", "say_1:checkpointed")
    first = durable("send", "o1", "approval", "false", "--key", "k")
    second = durable("send", "o1", "approval", "true", "--key", "k")

    assert first.stdout == "sent 'approval' to o1\n"
    assert second.stdout == "a message with the key 'k' was sent to o1 before; nothing was sent\n"
    assert durable("run", "flows.py:approval", "o1").stdout.endswith('workflow o1 completed: "NO"\n')


@pytest.mark.thorough
def test_a_message_of_another_name_than_is_waited_for_is_noted(folder):
    with Running("run", "flows.py:approval", "o1") as running:
        running.read_until("To send it")
        sent = durable("send", "o1", "aproval")

        assert sent.stdout == "sent 'aproval' to o1\n"
        assert sent.stderr == "note: o1 does not wait for 'aproval' now; did you mean 'approval'?\n"


@pytest.mark.thorough
def test_what_cannot_be_sent_is_wrong_use(folder):
    durable("run", "flows.py:errand", "done")
    assert error_of("send", "done", "approval", "yes") == (
        "error: VALUE 'yes' is not valid JSON (Expecting value: line 1 column 1 (char 0)); "
        "text is quoted twice, as in '\"yes\"'\n"
    )
    assert "is not valid JSON (NaN is none)" in error_of("send", "done", "approval", "NaN")
    assert "is completed and receives nothing more" in error_of("send", "done", "approval", "1")
    assert "no workflow 'don'; did you mean 'done'?" in error_of("send", "don", "approval", "1")
    assert "there is no database 'other.db'" in error_of("send", "done", "approval", "1", "--db", "other.db")
    assert not Path("other.db").exists()


# ---- what is seen meanwhile


@pytest.mark.thorough
def test_a_wait_is_shown_by_steps_and_list_and_is_no_zombie_when_its_process_is_dead(folder):
    crash("approval", "o1", "approval_4:started")
    steps, listed = durable("steps", "o1").stdout, durable("list").stdout

    # shortly before midnight UTC the instant is one of tomorrow, and shown with its day
    assert re.search(r"approval_4 +event +waiting +1 +for 'approval' until\s+(\d\d:|\d{4}-)", steps)
    assert "on_failure" in steps
    assert "zombie" not in steps
    assert re.search(r"o1 +crashed +1 .* for 'approval'", listed)
    assert all(len(line) <= 80 for line in (steps + listed).splitlines())
    (waiting,) = [row for row in table("o1") if row["waits_for"]]
    assert (waiting["step_key"], waiting["waits_for"]["event"], waiting["zombie"]) == ("approval_4", "approval", False)


def test_a_retry_is_announced_with_its_instant(folder):
    seen = durable("run", "flows.py:calling", "c1").stdout

    assert "[RETRY] call (key: call_1): ConnectionError: no answer\n        Attempt 2 is due at 20" in seen
    assert "[RUN]  call (key: call_1) again, attempt 2\n[DONE] call (key: call_1)" in seen


def test_the_steps_of_a_child_are_printed_by_its_id_and_are_not_taken_for_the_parents(folder):
    seen = durable("run", "flows.py:parent", "p1").stdout

    assert "[WAIT] errand (key: errand_1) for workflow 'p1/errand_1'" in seen
    assert "[RUN]  p1/errand_1: say (key: say_1)" in seen
    assert "[DONE] workflow p1/errand_1 completed" in seen
    assert seen.endswith('workflow p1 completed: ["A"]\n')


@pytest.mark.thorough
def test_published_values_are_read_and_watched_until_the_end(folder):
    with Running("run", "flows.py:approval", "o1") as running:
        running.read_until("To send it")
        with Running("watch", "o1") as watching:
            first = watching.read_until("progress")
            half = durable("read", "o1", "progress", "--json").stdout
            durable("send", "o1", "approval", "true")
            rest = watching.end(0)
        running.end(0)

    assert re.fullmatch(r'[-\d]+ [:\d]+ UTC  progress: \{"percent": 50\}\n', first)
    assert half == '{"percent": 50}\n'
    assert rest.splitlines()[0].endswith('progress: {"percent": 100}')
    assert rest.splitlines()[1:] == ["workflow o1 completed"]
    lines = [json.loads(line) for line in durable("watch", "o1", "--json").stdout.splitlines()]
    assert [(line["name"], line["value"]["percent"]) for line in lines] == [("progress", 50), ("progress", 100)]
    assert "did you mean 'progress'?" in error_of("read", "o1", "progres")


@pytest.mark.thorough
def test_the_progress_of_a_step_is_watched(folder, gate):
    with Running("run", "flows.py:reports", "r1") as running:
        running.read_until("[RUN]  report")
        with Running("watch", "r1") as watching:
            seen = watching.read_until("rows 40 of 100 (40 %)")
            with Running("watch", "r1", "--json") as beside:
                line = json.loads(beside.read_until("}"))
                beside.interrupt()
                beside.end(130)
            open_gate(gate)
            rest = watching.end(0)
        running.end(0)

    assert re.fullmatch(r"[-\d]+ [:\d]+ UTC  report_1: rows 40 of 100 \(40 %\)\n?", seen)
    assert rest.strip() == "workflow r1 completed"
    assert line.pop("at")
    assert line == {"step": "report_1", "name": "rows", "value": 40, "total": 100.0}


@pytest.mark.thorough
def test_ctrl_c_ends_watching_and_not_the_workflow(folder):
    with Running("run", "flows.py:approval", "o1") as running:
        running.read_until("To send it")
        with Running("watch", "o1") as watching:
            watching.read_until("progress")
            watching.interrupt()
            assert "to watch again: python -m durable watch o1" in watching.end(130)
        durable("send", "o1", "approval", "true")
        running.end(0)


# ---- cancel


def test_cancelling_a_run_that_waits_ends_it_at_once_with_exit_code_1(folder):
    with Running("run", "flows.py:approval", "o1") as running:
        running.read_until("To send it")
        pid = running.process.pid
        cancelled = durable("cancel", "o1")
        rest = running.end(1)

    assert cancelled.stdout in (
        f"process {pid} runs o1 and cancels it: now if it waits, else after its step\n",
        "o1 is cancelled\n",
    )
    assert rest.endswith("[STOP] workflow o1 was cancelled; what was to be undone is undone.\n")
    assert "Traceback" not in rest
    assert log(folder) == ["order laptop", "return laptop"]
    again = durable("run", "flows.py:approval", "o1", code=1)
    assert again.stdout == "[STOP] workflow o1 was cancelled before, nothing ran; what was to be undone is undone.\n"
    assert json.loads(durable("run", "flows.py:approval", "o1", "--json", code=1).stdout)["status"] == "cancelled"


def test_cancelling_one_in_a_step_lets_it_end(folder, gate):
    with Running("run", "flows.py:at_the_gate", "g1") as running:
        running.read_until("[RUN]")
        cancelled = durable("cancel", "g1").stdout
        open_gate(gate)
        running.end(1)

    assert cancelled == f"process {running.process.pid} runs g1 and cancels it: now if it waits, else after its step\n"
    assert log(folder) == ["a", "undo"]


@pytest.mark.thorough
def test_one_that_a_dead_process_left_is_cancelled_and_undone_here(folder):
    crash("approval", "o1", "approval_4:started")
    assert durable("cancel", "o1", "flows.py").stdout == "o1 is cancelled\n"
    assert log(folder) == ["order laptop", "return laptop"]
    assert "is cancelled already" in error_of("cancel", "o1")


@pytest.mark.thorough
def test_one_whose_function_is_not_here_is_cancelled_as_soon_as_it_is(folder):
    crash("approval", "o1", "approval_4:started")
    (folder / "flows.py").rename(folder / "moved.py")
    cancelled = durable("cancel", "o1").stdout
    (folder / "moved.py").rename(folder / "flows.py")

    assert cancelled == (
        "o1 is cancelled as soon as its function is there to undo: python -m durable run flows:approval o1\n"
    )
    durable("run", "flows:approval", "o1", code=1)
    assert log(folder) == ["order laptop", "return laptop"]


def test_a_failure_that_was_undone_is_final_and_says_how_to_go_back(folder):
    failed = durable("run", "flows.py:saga", "s1", code=1)
    again = durable("run", "flows.py:saga", "s1", code=1)

    for each in (failed, again):
        assert "it is final.\n       To go back to a step: python -m durable rewind s1 --to STEP\n" in each.stdout
    assert again.stderr.endswith("ValueError: out of paper\n")
    assert log(folder) == ["undo"]


# ---- rewind and fork


@pytest.mark.thorough
def test_rewind_takes_steps_back_and_says_how_to_go_on(folder):
    durable("run", "flows.py:errand", "e1")
    rewound = durable("rewind", "e1", "--to", "say_2")

    assert rewound.stdout == (
        "rewound e1 to say_2: 1 kept, 2 taken back\nTo go on: python -m durable run flows:errand e1\n"
    )
    assert re.search(r"e1 +rewound +1 ", durable("list").stdout)
    assert durable("run", "flows:errand", "e1").stdout.endswith('workflow e1 completed: ["A", "B", "C"]\n')
    assert log(folder) == ["a", "b", "c", "b", "c"]
    assert len(table("e1", "--attempts")) == 5


@pytest.mark.thorough
def test_fork_makes_another_and_leaves_the_original(folder):
    durable("run", "flows.py:errand", "e1")
    before = table("e1")
    forked = durable("fork", "e1", "e2", "--at", "say_3")

    assert forked.stdout == (
        "forked e1 as e2 at say_3: 2 taken along\nTo go on: python -m durable run flows:errand e2\n"
    )
    assert "workflow e2: forked, 0 runs" in durable("steps", "e2").stdout
    assert durable("run", "flows:errand", "e2").stdout.endswith('workflow e2 completed: ["A", "B", "C"]\n')
    assert log(folder) == ["a", "b", "c", "c"]
    assert table("e1") == before


@pytest.mark.thorough
def test_steps_that_are_not_on_record_and_ids_that_are_taken_are_wrong_use(folder):
    durable("run", "flows.py:errand", "e1")
    assert error_of("rewind", "e1", "--to", "sy_2") == (
        "error: workflow 'e1' has no step 'sy_2' on record; did you mean 'say_2'?\n"
    )
    assert "did you mean 'say_3'?" in error_of("fork", "e1", "e2", "--at", "say3")
    assert "workflow 'e1' cannot become a fork of itself; give the fork an id of its own" in error_of(
        "fork", "e1", "e1", "--at", "say_3"
    )
    assert error_of("rewind", "e1") == "error: rewind needs either --to STEP or --failed-only\n"


# ---- recover and worker


def test_recover_resumes_what_dead_processes_left_and_tells_of_each(folder):
    crash("errand", "e1", "say_2:executed")
    crash("saga", "s1", "fail_2:started")
    crash("approval", "o1", "approval_4:started")
    recovered = durable("recover", "flows.py", code=1)

    assert "[RUN]  e1: say (key: say_2) again, attempt 2" in recovered.stdout
    assert "[DONE] workflow e1 completed" in recovered.stdout
    assert "[FAIL] workflow s1 failed" in recovered.stdout
    assert "[WAIT] o1: approval_4 for 'approval' until" in recovered.stdout
    assert recovered.stdout.endswith("3 resumed, of them 1 failed; 0 set aside; 0 left\n")
    assert durable("recover").stdout == "0 resumed, of them 0 failed; 0 set aside; 0 left\n"


@pytest.mark.thorough
def test_recover_sets_poison_aside_and_leaves_what_cannot_be_imported_or_is_running(folder, gate):
    for _ in range(3):
        durable("run", "flows.py:poison", "p1", code=-signal.SIGKILL)
    crash("errand", "e1", "say_1:executed")
    (folder / "flows.py").rename(folder / "other.py")
    with Running("run", "other.py:at_the_gate", "g1") as running:
        running.read_until("[RUN]")
        recovered = durable("recover", code=1)
        pid = running.process.pid

    assert "[STOP] workflow p1 set aside: its last runs made no progress" in recovered.stdout
    assert (
        "[STOP] workflow e1 left: workflow 'e1': its function 'flows:errand' cannot be imported here"
        in recovered.stdout
    )
    assert f"workflow g1 left: workflow 'g1' is already running in process {pid}" in recovered.stdout
    assert recovered.stdout.endswith("0 resumed, of them 0 failed; 1 set aside; 2 left\n")


def test_what_gets_nowhere_is_listed_as_set_aside_with_the_command_that_frees_it(folder):
    durable("run", "flows.py:unsaved", "u1", code=2)
    for _ in range(2):
        durable("recover", "flows.py", code=1)
    recovered = durable("recover", "flows.py", code=1)
    listed, steps = durable("list").stdout, durable("steps", "u1").stdout

    assert log(folder) == ["charged"] * 3
    assert "[STOP] workflow u1 set aside: its last runs made no progress" in recovered.stdout
    assert "u1         set aside" in listed
    (command,) = re.findall(r"u1 is set aside. To go on: python -m durable (.*)", listed)
    assert "run 3 stopped: SerializationError: step 'charge_1' of 'u1'" in steps
    assert command in steps
    assert json.loads(durable("list", "--json").stdout)[0]["state"] == "set aside"
    (folder / "repaired").touch()
    durable(*command.split())
    assert statuses("u1") == [("charge_1", "completed", False)]


@pytest.mark.thorough
def test_recover_finds_functions_in_the_modules_that_are_named(folder):
    crash("errand", "e1", "say_1:executed")
    (folder / "elsewhere").mkdir()
    (folder / "flows.py").rename(folder / "elsewhere" / "flows.py")

    assert "1 left\n" in durable("recover").stdout
    assert "1 resumed, of them 0 failed" in durable("recover", "elsewhere/flows.py").stdout


def test_recover_and_worker_leave_functions_of_modules_that_are_not_named(folder):
    crash("errand", "e1", "say_1:executed")
    recovered = durable("recover")
    with Running("worker") as worker:
        said = worker.read_until("[STOP] workflow e1 left")

    assert "0 resumed, of them 0 failed; 0 set aside; 1 left\n" in recovered.stdout
    advice = "name its module (modules=['flows'] of the engine, or `durable worker flows`)"
    assert advice in recovered.stdout
    assert advice in said
    with Running("worker", "flows") as worker:
        worker.read_until("[DONE] workflow e1 completed")
    assert log(folder) == ["a", "a", "b", "c"]


def test_recover_runs_our_examples_without_a_name(folder):
    durable("run", "onboarding", "emp_1", "--crash-at", "setup_access", code=-signal.SIGKILL)

    assert "1 resumed, of them 0 failed" in durable("recover").stdout


def test_a_worker_wakes_what_waits_recovers_what_dies_and_ends_with_ctrl_c(folder, gate):
    with Running("worker", "flows.py", "--concurrency", "4") as worker:
        worker.read_until("worker on workflow.db: up to 4 workflows at once; Ctrl+C ends it")
        crash("approval", "o1", "approval_4:started")
        crash("naps", "n1", "sleep_1:started")
        worker.read_until("[WAIT] o1: approval_4 for 'approval'")
        worker_has = durable("list").stdout
        durable("send", "o1", "approval", "true")
        worker.read_until("[DONE] workflow o1 completed")
        crash("at_the_gate", "g1", "wait_at_the_gate_2:started")
        worker.read_until("[RUN]  g1: wait_at_the_gate")
        worker.interrupt()
        worker.read_until("nothing new begins")
        open_gate(gate)
        rest = worker.end(130)

    assert "'approval'" in worker_has
    assert rest.endswith("[STOP] the worker has ended; what had completed is saved.\n")
    assert statuses("g1")[1] == ("wait_at_the_gate_2", "completed", False)
    with Engine("workflow.db") as engine:
        assert {each.workflow_id: each.status for each in engine.workflows()} == {
            "o1": "completed",
            "n1": "completed",
            "g1": "running",
        }
        assert engine.runs("g1")[-1].ended == "interrupted"
    assert log(folder)[-1] == "a"


@pytest.mark.parametrize("command", ["worker", "recover"])
def test_sigterm_lets_the_step_end_and_is_no_crash_of_the_workflow(gate, command):
    crash("at_the_gate", "g1", "wait_at_the_gate_2:started")
    with Running(command, "flows.py") as running:
        running.read_until("[RUN]  g1: wait_at_the_gate")
        running.terminate()
        said = running.read_until("nothing new begins")
        open_gate(gate)
        running.end(143)

    assert "[STOP] SIGTERM: g1/wait_at_the_gate_2 may end" in said
    assert statuses("g1")[1] == ("wait_at_the_gate_2", "completed", False)
    with Engine("workflow.db") as engine:
        last = engine.runs("g1")[-1]
    assert last.ended == "interrupted"
    assert "SIGTERM" in last.reason


@pytest.mark.parametrize("command", ["worker", "recover", "run"])
def test_sigterm_lets_a_coroutine_in_flight_end_too(gate, command):
    crash("at_the_gate_async", "g1", "wait_at_the_gate_async_1:started")
    of_run = ["g1"] if command == "run" else []
    with Running(command, "flows.py:at_the_gate_async" if of_run else "flows.py", *of_run) as running:
        running.read_until("[RUN]")
        running.terminate()
        running.read_until("nothing new begins")
        open_gate(gate)
        running.end(143)

    assert ("wait_at_the_gate_async_1", "completed", False) in statuses("g1")
    with Engine("workflow.db") as engine:
        last = engine.runs("g1")[-1]
    assert (last.ended, last.reason) == ("interrupted", "SIGTERM")


def test_a_second_sigterm_ends_a_worker_at_once(gate):
    crash("at_the_gate", "g1", "wait_at_the_gate_2:started")
    with Running("worker", "flows.py") as worker:
        worker.read_until("[RUN]  g1: wait_at_the_gate")
        worker.terminate()
        worker.read_until("nothing new begins")
        worker.terminate()
        said = worker.end(143)  # the gate is still closed

    assert "[STOP] left at once. To go on: python -m durable worker flows.py" in said


@pytest.mark.thorough
def test_two_workers_share_the_work_and_no_step_runs_twice(folder):
    for number in range(6):
        crash("naps", f"n{number}", "sleep_1:started")
    with Running("worker", "flows.py") as one, Running("worker", "flows.py") as other:
        for worker in (one, other):
            worker.read_until("Ctrl+C ends it")
        give_up_at = time.monotonic() + patient(20)
        with Engine("workflow.db") as engine:
            while engine.workflows("running"):
                assert time.monotonic() < give_up_at
                wait_for_change(engine)
        for worker in (one, other):
            worker.interrupt()
            worker.end(130)

    assert log(folder) == ["awake"] * 6


# ---- help


@pytest.mark.parametrize("command", first_alone(COMMANDS))
def test_each_command_explains_itself_in_80_columns(command):
    shown = durable(command, "--help").stdout

    assert f"Usage: python -m durable {command}" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert command in durable("--help").stdout
