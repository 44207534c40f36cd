"""The command line, as a user meets it: real processes of `python -m durable`, killed and interrupted for real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import psutil
import pytest
import yaml

from durable import Context, Engine
from durable.examples.effects import list_effects
from durable.formats import Pickled
from durable.store.database import trial
from durable.terminal import cli, doctor, launcher
from durable.terminal.output.usage import UsageError
from durable.terminal.run.target import split
from tests.support import large
from tests.support.command_line import COMMAND_SECONDS, PROGRAM, Running, durable, error_of, open_gate, statuses, table
from tests.support.patience import patient
from tests.support.selection import first_alone

FLOWS = '''
import os, sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from durable import Context

GATE = Path(__file__).with_name("gate")


@dataclass
class Order:
    number: int
    day: date


def double(value: int) -> int:
    return value * 2


def wait_at_the_gate(name: str) -> str:
    """Blocks until the test opens the gate."""
    GATE.open().read()
    return name


def alone(ctx: Context, name: str = "a") -> str:
    ctx.step(double, 1)
    ctx.step(wait_at_the_gate, name)
    return ctx.step(str, name)


def together(ctx: Context) -> list[str]:
    first = ctx.submit(wait_at_the_gate, "first")
    second = ctx.submit(double, 2)
    return [first.result(), str(second.result())]


def many(ctx: Context, count: int = 40) -> list[int]:
    return ctx.map(double, range(count))


def by_a_helper(ctx: Context) -> list[int]:
    return many(ctx, 3)


def typed(ctx: Context, order: Order, *, factor: float = 1.0) -> str:
    return f"{type(order).__name__} {order.day:%d.%m.%Y} {order.number} {factor!r}"


def options(ctx: Context, first: int = 0, **others: int) -> dict[str, int]:
    return {"first": first, **others}


def charge(card: str) -> str:
    if not Path(__file__).with_name("paid").exists():
        raise ValueError(f"card {card} was refused")
    return "paid"


def pay(ctx: Context, card: str = "4711") -> str:
    ctx.step(double, 1)
    return ctx.step(charge, card)


def leave() -> None:
    sys.exit(0)


def leaving(ctx: Context) -> None:
    ctx.step(leave)


def surrogate() -> str:
    return "\\ud800"


def unsaveable(ctx: Context) -> None:
    ctx.step(surrogate)


async def greet(name: str) -> str:
    return f"hello {name}"


async def asynchronous(ctx: Context, name: str = "a") -> str:
    return await ctx.submit(greet, name)


double_it = lambda ctx: 2
NUMBER = 7
'''


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every command runs in a folder of its own that holds flows.py."""
    (tmp_path / "flows.py").write_text(FLOWS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DURABLE_CRASH_AT", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("DURABLE_PROGRESS", "DURABLE_COURSE"):
        monkeypatch.setenv(name, "")  # `durable lab` sets them for its kernels, and here they are to be forgotten
    return tmp_path


@pytest.fixture
def gate(folder):
    """A pipe that a step reads from: it blocks until `open_gate` was called."""
    os.mkfifo(folder / "gate")
    return folder / "gate"


# ---- crash and resume by hand


def test_a_crash_between_effect_and_save_is_announced_and_the_same_short_command_resumes(folder):
    crashed = durable(
        *("run", "onboarding", "emp_demo", "--input", '{"delay_seconds": 0.2}'),
        *("--crash-at", "provision_laptop:executed"),
        code=-signal.SIGKILL,
    )

    lines = crashed.stdout.splitlines()
    assert lines[:3] == [
        "workflow emp_demo: run 1 in workflow.db",
        "[RUN]  create_record (key: create_record_1)",
        "[DONE] create_record (key: create_record_1)",
    ]
    assert lines[-4:] == [
        "[DONE] setup_access (key: setup_access_3)",
        "[KILL] provision_laptop (key: provision_laptop_2) at step.executed:",
        "       its effect has happened, its result is not saved.",
        "       This process kills itself now. To go on: python -m durable run onboarding emp_demo",
    ]
    assert statuses("emp_demo") == [
        ("create_record_1", "completed", False),
        ("provision_laptop_2", "running", True),
        ("setup_access_3", "completed", False),
    ]

    resumed = durable("run", "onboarding", "emp_demo")

    lines = resumed.stdout.splitlines()
    assert [*lines[:2], *sorted(lines[2:4]), *lines[4:8]] == [
        "workflow emp_demo: run 2 in workflow.db, goes on from what is saved",
        "[SKIP] create_record (key: create_record_1)",
        "[RUN]  provision_laptop (key: provision_laptop_2) again, attempt 2",  # in parallel to the next line
        "[SKIP] setup_access (key: setup_access_3)",
        "[DONE] provision_laptop (key: provision_laptop_2)",
        "[RUN]  send_welcome_email (key: send_welcome_email_4)",
        "[DONE] send_welcome_email (key: send_welcome_email_4)",
        "workflow emp_demo completed: {",
    ]
    assert list_effects(folder / "workflow.db") == [
        "created a record for John Doe",
        "opened accounts for John Doe",
        "ordered a laptop for John Doe",
        "ordered a laptop for John Doe",
        "sent a welcome to emp_demo@company.com",
    ]


@pytest.mark.thorough
def test_the_command_that_a_crash_names_works_as_it_stands_also_with_a_hostile_id_and_a_path_with_spaces(folder):
    (folder / "my data").mkdir()
    hostile = "--'; drop table steps; -- $(rm x)"
    durable(
        *("run", "--db", "my data/my.db", "--crash-at", "loop_step_2", "--input", '{"delay_seconds": 0}'),
        *("--", "loop", hostile),
        code=-signal.SIGKILL,
    )
    named = durable("list", "--db", "my data/my.db", "--json")
    assert [row["workflow_id"] for row in json.loads(named.stdout)] == [hostile]

    advice = durable("steps", "--db", "my data/my.db", "--", hostile).stdout.splitlines()[-1]
    command = advice.removeprefix("To go on: ").replace("python", shlex.quote(sys.executable), 1)
    resumed = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=patient(60)
    )

    assert resumed.stdout.endswith("completed: [10, 20, 30]\n"), resumed.stderr


@pytest.mark.parametrize("at", first_alone(["scheduled", "started", "executed", "checkpointed"]))
def test_a_crash_point_may_be_any_moment_by_name_or_key(at):
    start = ("run", "loop", "l", "--input", '{"delay_seconds": 0}')
    crashed = durable(*start, "--crash-at", f"loop_step_2:{at}", code=-signal.SIGKILL)

    assert f"[KILL] loop_step (key: loop_step_2) at step.{at}:" in crashed.stdout
    assert durable("run", "loop", "l").stdout.endswith("completed: [10, 20, 30]\n")


def test_a_crash_point_of_the_environment_is_announced_too():
    environment = os.environ | {"DURABLE_CRASH_AT": "workflow:completed"}
    crashed = durable("run", "flows:many", "m", env=environment, code=-signal.SIGKILL)

    assert "[KILL] workflow m at workflow.completed:\n       its result is saved.\n" in crashed.stdout


def test_a_crash_point_that_is_never_reached_is_noted_with_what_may_have_been_meant():
    done = durable("run", "flows:by_a_helper", "m", "--crash-at", "duoble")

    assert done.stderr == "note: the crash point duoble:executed was never reached; did you mean 'double'?\n"


@pytest.mark.parametrize("step", ["double_3", "m/double_3", "double", "workflow"])
def test_a_crash_point_that_the_workflow_has_is_not_refused(step):
    durable("run", "flows:many", "m", "--crash-at", step, code=-signal.SIGKILL)


def test_a_completed_workflow_shows_its_recorded_result_and_runs_nothing():
    durable("run", "flows:many", "m", "--input", '{"count": 2}')

    again = durable("run", "flows:many", "m")

    assert again.stdout == "workflow m was completed before, nothing ran; its recorded result: [0, 2]\n"


# ---- how a workflow is named


@pytest.mark.parametrize(
    "workflow", ["flows:options", "flows.py:options", "./flows.py:options", "my flows/f l.py:options", "script:options"]
)
def test_a_workflow_may_be_named_by_module_or_file(folder, workflow):
    (folder / "my flows").mkdir()
    (folder / "my flows" / "neighbour.py").write_text(FLOWS, encoding="utf-8")
    (folder / "my flows" / "f l.py").write_text("from neighbour import options", encoding="utf-8")
    (folder / "script").write_text(FLOWS, encoding="utf-8")
    workflow = workflow if workflow != "script:options" else "./script:options"

    assert durable("run", workflow, "w").stdout.endswith('completed: {"first": 0}\n')


@pytest.mark.thorough
def test_a_file_run_as_a_script_and_named_on_the_command_line_is_the_same_workflow(folder):
    main = (
        "\nif __name__ == '__main__':\n    import durable\n    durable.Engine('workflow.db').run('m', many, count=2)\n"
    )
    (folder / "flows.py").write_text(FLOWS + main, encoding="utf-8")
    subprocess.run([sys.executable, "flows.py"], check=True, timeout=COMMAND_SECONDS)

    assert "was completed before" in durable("run", "flows.py:many", "m").stdout


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("C:\\x.py:f", ("C:\\x.py", "f")),
        ("C:\\x.py", ("C:\\x.py", "")),
        ("a b/c d.py:Class.method", ("a b/c d.py", "Class.method")),
        ("package.module:f", ("package.module", "f")),
        ("onboarding", ("onboarding", "")),
        ("x.py:", ("x.py:", "")),
        (":f", (":f", "")),
    ],
)
def test_a_workflow_argument_is_split_at_the_colon_before_a_function(text, parts):
    assert split(text) == parts


def test_the_installed_command_finds_modules_in_the_current_folder_and_names_itself():
    script = Path(sys.executable).with_name("durable")
    words = [script, "run", "flows:many", "m", "--crash-at", "double_1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.endswith("To go on: durable run flows:many m\n")


def test_an_async_workflow_runs():
    assert durable("run", "flows:asynchronous", "a").stdout.endswith('completed: "hello a"\n')


# ---- the input


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("workflow", "given", "result"),
    [
        (
            "flows:typed",
            '{"order": {"number": 3, "day": "2026-11-23"}, "factor": 2}',
            '"Order 23.11.2026 3 2.0"',
        ),
        ("flows:options", '{"first": 1, "second": 2}', '{"first": 1, "second": 2}'),
        ("flows:options", "{}", '{"first": 0}'),
        ("flows:asynchronous", '{"name": "Zoë 🎉"}', '"hello Zoë 🎉"'),
    ],
)
def test_the_input_is_decoded_to_the_annotated_types(workflow, given, result):
    assert durable("run", workflow, "w", "--input", given).stdout.endswith(f"completed: {result}\n")


NOTHING_RAN = [
    (["run", "onbording", "x"], "no example 'onbording'; did you mean 'onboarding'?"),
    (
        ["run", "qqq", "x"],
        "no example 'qqq'; expected an example (onboarding, loop, conditional, zombie, approval, saga), package",
    ),
    (["run", "flows.py", "x"], "flows.py: name the function too, as in flows.py:alone"),
    (["run", "flows.many", "x"], "flows.many: name the function too, as in flows.many:FUNCTION"),
    (["run", "flows:mony", "x"], "flows has no function 'mony'; did you mean 'many'?"),
    (["run", "flows:NUMBER", "x"], "flows:NUMBER: workflow 7: expected a function with a name"),
    (["run", "flows:double_it", "x"], "expected a function with a name"),
    (["run", "flow:many", "x"], "there is no module 'flow' here"),
    (["run", "flow.py:many", "x"], "there is no file 'flow.py'"),
    (["run", "flows:many", ""], "workflow id '': expected 1 to 255 characters"),
    (["run", "flows:many", "x", "--input", "{"], "--input '{' is not valid JSON"),
    (
        ["run", "flows:many", "x", "--input", "[1]"],
        '--input [1]: expected a JSON object of arguments, as in {"count":40}',
    ),
    (
        ["run", "flows:many", "x", "--input", '{"cuont": 1}'],
        "flows:many has no argument 'cuont'; did you mean 'count'?",
    ),
    (["run", "flows:many", "x", "--input", '{"count": "a"}'], "--input, argument 'count' does not fit int"),
    (["run", "flows:typed", "x"], "missing a required argument: 'order'; give it with --input"),
    (
        ["run", "flows:many", "x", "--crash-at", "double:exceuted"],
        "checkpointed, failed, replayed; did you mean 'executed'?",
    ),
    (["run", "flows:many", "x", "--crash-at", ":executed"], "expected STEP[:MOMENT]"),
    (["run", "flows:many", "x", "--crash-at", "duoble"], "flows:many has no such step; did you mean 'double'?"),
    (["run", "flows:many", "x", "--crash-at", "pay_2"], "flows:many has no such step; its steps are double"),
    (["run", "flows:many", "x", "--slow", "-1"], "error: invalid value for '--slow'"),
    (["run", "flows:many"], "error: missing argument 'ID'; see "),
    (["run", "flows:many", "x", "--db", "nowhere/workflow.db"], "the path must name a file in a folder that exists"),
    (["run", "flows:many", "x", "--db", "."], "the path must name a file"),
    (["run", "flows:many", "x", "--db", "flows.py"], "file is not a database"),
    (["steps", "x"], "there is no database 'workflow.db'"),
    (["list"], "there is no database 'workflow.db'"),
    (["list", "--db", "nowhere/x.db"], "there is no database 'nowhere/x.db'"),
    (["list", "--db", "flows.py"], "file is not a database"),
    (["delete", "x", "--yes"], "there is no database 'workflow.db'"),
    (["lab", "99"], "no notebook '99'"),
    (["steppes", "x"], "error: no such command 'steppes'; did you mean 'steps'"),
]


@pytest.mark.parametrize(
    ("words", "message"), first_alone(NOTHING_RAN), ids=[" ".join(words) for words, _ in NOTHING_RAN]
)
def test_wrong_use_is_a_clear_error_with_exit_code_2_and_leaves_nothing_behind(folder, words, message):
    before = sorted(path.name for path in folder.iterdir())

    said = error_of(*words)
    assert message in said
    assert said.splitlines()[-1].startswith("error: ")
    assert [line for line in said.splitlines() if line.startswith(("Error", "Usage", "Try"))] == []
    left = {path.name for path in folder.iterdir()} - {"__pycache__", "workflow.db", "workflow.db-locks"}
    assert sorted(left) == before
    assert not (folder / "workflow.db").exists() or json.loads(durable("list", "--json").stdout) == []


def test_a_file_that_cannot_be_imported_shows_its_own_line_and_no_machinery(folder):
    (folder / "broken.py").write_text("def f(ctx):\n    pass\n\nraise RuntimeError('no key')\n", encoding="utf-8")

    done = durable("run", "broken.py:f", "x", code=2)

    assert done.stderr.splitlines() == [
        "Traceback (most recent call last):",
        f'  File "{folder}/broken.py", line 4, in <module>',
        "    raise RuntimeError('no key')",
        "RuntimeError: no key",
        "error: broken.py cannot be imported: RuntimeError: no key",
    ]


def test_a_file_named_like_a_module_in_use_is_refused(folder):
    (folder / "json.py").write_text("def f(ctx): pass", encoding="utf-8")

    assert "a module 'json' is in use by Python itself" in error_of("run", "./json.py:f", "x")


@pytest.mark.thorough
def test_the_id_of_another_call_is_refused():
    durable("run", "flows:many", "m", "--input", '{"count": 2}')

    assert "was now called as flows:options with {}" in error_of("run", "flows:options", "m")
    assert 'was now called as flows:many with {"count":3}' in error_of(
        "run", "flows:many", "m", "--input", '{"count": 3}'
    )


# ---- failure


def test_a_failed_workflow_exits_with_1_a_short_traceback_and_the_command_that_tries_again(folder):
    failed = durable("run", "flows:pay", "p", code=1)

    assert failed.stdout.splitlines() == [
        "workflow p: run 1 in workflow.db",
        "[RUN]  double (key: double_1)",
        "[DONE] double (key: double_1)",
        "[RUN]  charge (key: charge_2)",
        "[FAIL] charge (key: charge_2): ValueError: card 4711 was refused",
        "[FAIL] workflow p failed; completed steps are kept.",
        "       To try the failed step anew: python -m durable run flows:pay p",
    ]
    assert re.findall(r"^  File .*, in (\w+)$", failed.stderr, re.MULTILINE) == ["pay", "charge"]
    assert failed.stderr.endswith("ValueError: card 4711 was refused\n")

    (folder / "paid").touch()
    assert durable("run", "flows:pay", "p").stdout.endswith('completed: "paid"\n')


def test_a_run_that_the_engine_refuses_to_go_on_with_exits_with_2_and_one_line():
    done = durable("run", "flows:unsaveable", "u", code=2)

    assert done.stderr.startswith("error: step 'surrogate_1' of 'u': its result has a str, with a lone surrogate")
    assert done.stderr.count("\n") == 1


def test_a_step_that_leaves_the_process_is_an_interrupt_and_no_success():
    done = durable("run", "flows:leaving", "l", code=130)

    assert "[STOP] workflow l interrupted by SystemExit(0); what had completed is saved." in done.stdout
    assert "\nrun 1 interrupted: SystemExit\n" in durable("steps", "l").stdout


# ---- Ctrl+C and SIGTERM

STOPS = {
    "Ctrl+C": (signal.SIGINT, 130, "", "KeyboardInterrupt"),
    "SIGTERM": (signal.SIGTERM, 143, " by SIGTERM", "SIGTERM"),
}


@pytest.mark.parametrize("name", STOPS)
@pytest.mark.parametrize("workflow", first_alone(["alone", "together"]))
def test_the_first_signal_lets_the_steps_in_flight_end_and_names_the_command_that_resumes(gate, workflow, name):
    number, code, by, reason = STOPS[name]
    with Running("run", f"flows:{workflow}", "w") as command:
        if "[DONE] double" not in command.read_until("[RUN]  wait_at_the_gate") and workflow == "together":
            command.read_until("[DONE] double")
        command.process.send_signal(number)
        said = command.read_until(f"[STOP] {name}")
        open_gate(gate)
        rest = command.end(code)

    key = "wait_at_the_gate_2" if workflow == "alone" else "wait_at_the_gate_1"
    assert f"[STOP] {name}: {key} may end, nothing new begins; {name} again leaves at once" in said
    assert rest.splitlines() == [
        f"[DONE] wait_at_the_gate (key: {key})",
        f"[STOP] workflow w interrupted{by}; what had completed is saved.",
        f"       To go on: python -m durable run flows:{workflow} w",
    ]
    assert f"\nrun 1 interrupted: {reason}\n" in durable("steps", "w").stdout
    assert {status for _, status, _ in statuses("w")} == {"completed"}
    assert "[RUN]  wait_at_the_gate" not in durable("run", f"flows:{workflow}", "w").stdout


@pytest.mark.parametrize("name", STOPS)
def test_the_second_signal_leaves_at_once(gate, name):
    number, code, _, _ = STOPS[name]
    with Running("run", "flows:together", "w") as command:
        if "[RUN]  wait_at_the_gate" not in command.read_until("[DONE] double"):
            command.read_until("[RUN]  wait_at_the_gate")
        command.process.send_signal(number)
        command.read_until(f"[STOP] {name}")
        command.process.send_signal(number)
        rest = command.end(code)  # the gate is still closed

    assert rest == "\n[STOP] left at once. To go on: python -m durable run flows:together w\n"
    assert statuses("w") == [("wait_at_the_gate_1", "running", True), ("double_2", "completed", False)]


def as_first_process():
    """Return the words that begin a command as the first process of a container, without a handler for SIGTERM.

    Where a system makes no namespaces, the command is the child of a shell, and the test asks less.
    """
    words = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        return ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
    return words


def test_sigterm_ends_a_command_that_is_the_first_process_of_a_container(gate):
    words = [*as_first_process(), *PROGRAM, "run", "flows:alone", "w"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as outside:
        try:
            while "[RUN]  wait_at_the_gate" not in outside.stdout.readline():
                assert outside.poll() is None
            children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
            os.kill(int(children.read_text()), signal.SIGTERM)
            while "[STOP] SIGTERM" not in outside.stdout.readline():
                assert outside.poll() is None
            open_gate(gate)
            assert outside.wait(COMMAND_SECONDS) == 143
        finally:
            outside.kill()

    assert "\nrun 1 interrupted: SIGTERM\n" in durable("steps", "w").stdout


def test_ctrl_c_ends_the_waiting_of_slow():
    with Running("run", "flows:many", "w", "--input", '{"count": 1}', "--slow", "3600") as command:
        command.read_until("[RUN]  double")
        command.interrupt()
        assert "[DONE] double (key: double_1)" in command.end(130)


@pytest.mark.thorough
def test_slow_makes_each_step_take_longer():
    begin = time.monotonic()
    durable("run", "loop", "l", "--input", '{"delay_seconds": 0}', "--slow", "0.1")
    durations = [step["ended_at"] > step["started_at"] for step in table("l")]

    assert durations == [True, True, True]
    assert time.monotonic() - begin > 0.3


# ---- what is printed, and where


@pytest.mark.thorough
def test_lines_of_parallel_steps_are_whole():
    lines = durable("run", "flows:many", "m", "--input", '{"count": 100}').stdout.splitlines()

    steps = [line for line in lines if line.startswith("[")]
    assert len(steps) == 200
    assert all(re.fullmatch(r"\[(RUN|DONE)\] {1,2}double \(key: double_\d+\)", line) for line in steps)


@pytest.mark.thorough
def test_a_closed_output_pipe_does_not_stop_the_workflow():
    with Running("run", "flows:many", "m") as command:
        command.process.stdout.readline()
        command.process.stdout.close()
        assert command.process.wait(COMMAND_SECONDS) == 0
        assert command.process.stderr.read() == ""

    assert json.loads(durable("list", "--json").stdout)[0]["status"] == "completed"


@pytest.mark.thorough
def test_json_of_run_is_one_document_on_stdout_and_the_rest_goes_to_stderr():
    done = durable("run", "flows:many", "m", "--input", '{"count": 2}', "--json")
    assert json.loads(done.stdout) == {
        "workflow_id": "m",
        "status": "completed",
        "already_completed": False,
        "run": 1,
        "output": [0, 2],
        "error": None,
    }
    assert "[RUN]  double (key: double_1)" in done.stderr

    assert json.loads(durable("run", "flows:many", "m", "--json").stdout)["already_completed"] is True
    failed = json.loads(durable("run", "flows:pay", "p", "--json", code=1).stdout)
    assert failed["status"] == "failed"
    assert failed["error"] == {"type": "builtins:ValueError", "message": "card 4711 was refused"}
    left = json.loads(durable("run", "flows:leaving", "l", "--json", code=130).stdout)
    assert left["status"] == "interrupted"


def test_run_imports_no_table_no_notebook_and_no_jupyter(folder):
    (folder / "look.py").write_text(
        textwrap.dedent("""
            import sys
            from durable.terminal.cli import main
            sys.argv = ["durable", "run", "loop", "l", "--input", '{"delay_seconds": 0}']
            try:
                main()
            except SystemExit:
                heavy = {"rich", "pandas", "matplotlib", "IPython", "jupyterlab", "durable.lab"}
                print(sorted((heavy | {"asyncio", "multiprocessing"}) & set(sys.modules)))
        """),
        encoding="utf-8",
    )

    done = subprocess.run(
        [sys.executable, "look.py"], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
    )

    assert done.stdout.splitlines()[-2:] == ["workflow l completed: [10, 20, 30]", "[]"], done.stderr


@pytest.mark.thorough
def test_version_and_help_say_what_there_is():
    assert re.fullmatch(r"durable \d+\.\d+\.\d+\n", durable("--version").stdout)
    text = durable("--help").stdout
    assert all(command in text for command in ("run", "demo", "steps", "list", "delete", "lab", "doctor"))
    assert "\n    130  interrupted" in text
    assert not any("\\b" in durable(command, "--help").stdout for command in ("run", "lab", "doctor"))
    assert "--crash-at provision_laptop:executed" in durable("run", "--help").stdout


# ---- looking


def test_a_zombie_step_is_called_so_and_the_way_on_is_named():
    durable("run", "zombie", "z", "--input", '{"delay_seconds": 0}', "--crash-at", "zombie_step", code=-signal.SIGKILL)

    shown = durable("steps", "z").stdout
    assert re.search(r"^ zombie_step_2 +running \(zombie\) +1", shown, re.MULTILINE)
    assert shown.endswith(
        "workflow z: crashed, 1 run\n"
        "A zombie step was begun and not saved: its effect may have happened. The next run tries it again.\n"
        "To go on: python -m durable run zombie z\n"
    )
    assert re.search(r"^ z +crashed +1 ", durable("list").stdout, re.MULTILINE)

    durable("run", "zombie", "z")
    assert durable("steps", "z").stdout.endswith("workflow z: completed, 2 runs\n")
    assert [(step["attempt"], step["zombie"]) for step in table("z", "--attempts")] == [
        (1, False),
        (1, True),
        (2, False),
        (1, False),
    ]


@pytest.mark.thorough
def test_a_workflow_that_runs_is_not_called_a_zombie_and_is_refused_with_its_pid(gate):
    durable("run", "flows:alone", "w", "--crash-at", "wait_at_the_gate:started", code=-signal.SIGKILL)
    with Running("run", "flows:alone", "w") as command:
        command.read_until("[RUN]  wait_at_the_gate")
        pid = command.process.pid

        assert statuses("w")[-1] == ("wait_at_the_gate_2", "running", False)
        assert [step["zombie"] for step in table("w", "--attempts")] == [False, True, False]
        assert f"running in process {pid}" in durable("steps", "w").stdout
        assert json.loads(durable("list", "--json").stdout)[0]["owner"] == pid
        assert f"is already running in process {pid}" in error_of("run", "flows:alone", "w")
        assert f"is already running in process {pid}" in error_of("delete", "w", "--yes")
        open_gate(gate)
        command.end(0)


def test_steps_shows_results_and_errors_in_a_narrow_terminal():
    durable("run", "flows:pay", "p", code=1)

    lines = durable("steps", "p").stdout.splitlines()

    assert [line.split() for line in lines[3:5]] == [
        ["double_1", "completed", "1", "2"],
        ["charge_2", "failed", "1", "ValueError:", "card", "4711", "was", "refused"],
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.thorough
def test_ids_and_keys_are_shown_in_full_where_the_terminal_is_too_narrow_for_them(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    ids = [f"3f2504e0-4f89-11d3-9a0c-0305e82c330{number}" for number in range(2)]  # they differ in their last letter
    for workflow_id in ids:
        durable("run", "flows:pay", workflow_id, code=1)

    workflows = [line.split() for line in durable("list").stdout.splitlines()[3:5]]
    steps = [line.split()[:3] for line in durable("steps", ids[0]).stdout.splitlines()[3:5]]

    assert [[*row[:3], row[5]] for row in workflows] == [[each, "failed", "1", "flows:pay"] for each in ids]
    assert steps == [["double_1", "completed", "1"], ["charge_2", "failed", "1"]]


@pytest.mark.thorough
def test_a_misspelt_id_is_answered_with_the_one_that_may_have_been_meant():
    durable("run", "flows:many", "emp_demo")

    assert error_of("steps", "emp_dmo") == "error: no workflow 'emp_dmo' in 'workflow.db'; did you mean 'emp_demo'?\n"
    assert "did you mean 'emp_demo'?" in error_of("delete", "emp_dmo", "--yes")


@pytest.mark.thorough
def test_list_shows_all_or_those_of_a_status():
    durable("run", "flows:many", "m")
    durable("run", "flows:pay", "p", code=1)

    assert [row["workflow_id"] for row in json.loads(durable("list", "--json").stdout)] == ["m", "p"]
    assert [row["workflow_id"] for row in json.loads(durable("list", "--json", "--status", "failed").stdout)] == ["p"]
    assert durable("list", "--status", "cancelled").stdout == "no workflows that are cancelled\n"
    assert "did you mean 'failed'?" in error_of("list", "--status", "faild")


@pytest.mark.thorough
@pytest.mark.parametrize("words", [["list"], ["steps", "x"], ["delete", "x", "--yes"]])
def test_looking_at_the_database_of_another_program_does_not_touch_it(folder, words):
    with sqlite3.connect(folder / "other.db") as other:
        other.execute("create table orders (id)")
    other.close()
    before = (folder / "other.db").read_bytes()

    assert "other.db' holds no workflows yet" in error_of(*words, "--db", "other.db")
    assert (folder / "other.db").read_bytes() == before


# ---- what is printed, and to where


@pytest.mark.thorough
@pytest.mark.parametrize(
    "words", [["run", "flows:asynchronous", "é"], ["list"], ["steps", "é"], ["export"]], ids=lambda words: words[0]
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_programs_read_is_utf_8_whatever_the_locale(words, encoding):
    durable("run", "flows:asynchronous", "é", "--input", '{"name": "Zoë 😀"}')
    command = [*PROGRAM, *words, *(["--json"] if words[0] != "export" else [])]

    done = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"PYTHONIOENCODING": encoding})

    assert json.loads(done.stdout)
    assert "hello Zoë 😀" in done.stdout.decode()


needs_a_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@pytest.mark.thorough
@needs_a_full_disk
def test_a_workflow_goes_on_where_what_it_prints_finds_no_room_and_its_exit_code_is_its_own():
    with Path("/dev/full").open("w") as full:
        words = [*PROGRAM, "run", "flows:many", "m"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("note: nothing more is shown (No space left on device)")
    assert [row["status"] for row in json.loads(durable("list", "--json").stdout)] == ["completed"]


@pytest.mark.thorough
@needs_a_full_disk
@pytest.mark.parametrize("words", [["list"], ["steps", "m"], ["list", "--json"], ["export"]], ids=" ".join)
def test_output_that_finds_no_room_is_an_error_in_a_line(words):
    durable("run", "flows:many", "m")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (2, "error: the output cannot be written: No space left on device\n")


@pytest.mark.thorough
@pytest.mark.parametrize("words", [["list", "--db", "a" * 300], ["run", f"{'a' * 300}.py:f", "x"]], ids=["db", "file"])
def test_a_path_that_cannot_be_looked_at_is_an_error_in_a_line(words):
    error = error_of(*words)

    # from 3.14 on, Python says that it does not exist
    assert re.fullmatch(r"error: ('.*a+(\.py)?': File name too long|there is no (file|database) 'a+.*)\n", error)


# ---- delete


@pytest.mark.thorough
def test_delete_asks_first_and_without_a_terminal_needs_yes():
    durable("run", "flows:many", "m")

    assert "cannot ask for confirmation without a terminal; pass --yes" in error_of("delete", "m")
    assert durable("delete", "m", "--yes").stdout == "deleted 'm'\n"
    assert "no workflow 'm'" in error_of("steps", "m")


@pytest.mark.parametrize(("answer", "code", "left"), first_alone([("y\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1)]))
def test_delete_does_what_is_answered_in_a_terminal(answer, code, left):
    durable("run", "flows:many", "m")
    ours, theirs = os.openpty()
    process = subprocess.Popen([*PROGRAM, "delete", "m"], stdin=theirs, stdout=subprocess.PIPE, text=True)
    os.write(ours, answer.encode())

    out, _ = process.communicate(timeout=COMMAND_SECONDS)

    os.close(ours)
    os.close(theirs)
    assert "delete workflow 'm' and its 40 steps?" in out
    assert process.returncode == code
    assert len(json.loads(durable("list", "--json").stdout)) == left


@pytest.mark.thorough
def test_ctrl_c_at_the_question_deletes_nothing_and_is_an_interrupt():
    durable("run", "flows:many", "m")
    ours, theirs = os.openpty()
    with Running("delete", "m", stdin=theirs) as command:
        os.read(command.process.stdout.fileno(), 8)  # the question is there
        command.interrupt()

        assert command.end(130).endswith("\nnothing was deleted\n")

    os.close(ours)
    os.close(theirs)
    assert len(json.loads(durable("list", "--json").stdout)) == 1


# ---- the demo


def test_the_demo_crashes_and_resumes_for_real_in_seconds_and_leaves_nothing_behind(folder):
    (folder / "tmp").mkdir()
    shown = durable(
        "demo", env=os.environ | {"TMPDIR": str(folder / "tmp"), "DURABLE_CRASH_AT": "create_record"}
    ).stdout

    assert """--input '{"delay_seconds": 0.5}'""" in shown  # four steps, two of them at once
    pids = re.findall(r"process (\d+) (killed by SIGKILL|ended with exit code 0)", shown)
    assert [how for _, how in pids] == ["killed by SIGKILL", "ended with exit code 0"]
    assert pids[0][0] != pids[1][0]
    assert re.search(r"provision_laptop_2 +running \(zombie\) +1", shown)
    assert f"process {pids[0][0]} is dead: a zombie" in shown
    for key, what in {
        "create_record_1": "skipped",
        "provision_laptop_2": "ran again",
        "setup_access_3": "skipped",
        "send_welcome_email_4": "ran",
    }.items():
        assert re.search(rf"^ {key} +completed +\d +{what} ", shown, re.MULTILINE)
    assert "2 of 4 steps were skipped" in shown
    assert "2 times in the log: ordered a laptop for John Doe." in shown
    assert shown.rstrip().endswith("durable lab")
    assert list((folder / "tmp").iterdir()) == []


# ---- doctor


def test_doctor_finds_a_healthy_database_healthy():
    durable("run", "flows:many", "m")
    shown = durable("doctor").stdout

    assert "journal_mode=wal, synchronous=FULL" in shown
    assert f"sqlite        {sqlite3.sqlite_version}" in shown
    assert "SQLite and the checksums of all rows find nothing wrong" in shown
    verdicts = {row["subject"]: row["verdict"] for row in json.loads(durable("doctor", "--json").stdout)}
    assert verdicts["integrity"] == verdicts["locks"] == verdicts["pragmas"] == "ok"


def test_doctor_says_that_there_is_no_database_yet_and_makes_none(folder):
    assert "there is no 'workflow.db' yet" in durable("doctor").stdout
    assert sorted(path.name for path in folder.iterdir()) == ["flows.py"]


@pytest.mark.thorough
def test_doctor_finds_a_flipped_digit(folder):
    durable("run", "flows:many", "m")
    with sqlite3.connect(folder / "workflow.db") as database:
        database.execute("update steps set output = '3' where step_key = 'double_2'")
    database.close()

    assert "fail  integrity     workflow 'm': the outcome of step 'double_2'" in durable("doctor", code=1).stdout


@pytest.mark.thorough
def test_gc_drops_the_large_values_that_doctor_finds_unused_and_doctor_finds_damaged_ones(folder):
    with Engine(folder / "workflow.db") as engine:
        engine.run("wf", large.crate)
    with sqlite3.connect(folder / "workflow.db") as database:
        database.execute("delete from value_uses where used_by = 'scraps_4'")
        database.execute("update value_parts set data = zeroblob(length(data)) where number = 2")
    database.close()

    shown = " ".join(durable("doctor", code=1).stdout.split())
    assert "note values 1 large value of 1,400,000 bytes, which no row names; `durable gc` drops them" in shown
    assert "named by 'again_3' of 'wf', 'load_2' of 'wf', is missing or does not match its hash" in shown
    assert durable("gc").stdout == "dropped 1 large value of 1,400,000 bytes\n"
    assert json.loads(durable("gc", "--json").stdout) == {"values": 0, "bytes": 0}
    assert "large value of" not in durable("doctor", code=1).stdout


def fit() -> Annotated[list, Pickled]:
    return [1]


def fitting(ctx: Context) -> str:
    ctx.step("plain", lambda: '"format":"pickle/1"')
    ctx.step(fit)
    return "done"


@pytest.mark.thorough
def test_doctor_names_the_rows_that_were_saved_by_pickle(folder):
    with Engine(folder / "workflow.db") as engine:
        engine.run("wf", fitting)

    assert "note pickle saved by pickle, and read only if the code asks for it: wf: fit_2 " in " ".join(
        [*durable("doctor").stdout.split(), ""]
    )


@pytest.mark.thorough
def test_doctor_finds_a_file_that_is_no_database_and_a_folder_that_is_not_there():
    assert "file is not a database" in durable("doctor", "--db", "flows.py", code=1).stdout
    assert "cannot hold a database" in durable("doctor", "--db", "nowhere/x.db", code=1).stdout


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        *[(version, "warn") for version in ("3.7.0", "3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2")],
        *[(version, "ok") for version in ("3.44.6", "3.44.9", "3.50.7", "3.51.3", "3.52.0", "4.0.0")],
    ],
)
def test_doctor_knows_which_sqlite_has_the_wal_reset_fault(version, verdict):
    assert doctor._sqlite(version).verdict == verdict


MOUNTS = """\
30 22 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw
31 30 0:41 / /home/local rw - xfs /dev/sdb1 rw
32 22 0:42 / /mnt/my\\040share rw - cifs //server/share rw
33 22 0:43 / /dev/shm rw - tmpfs tmpfs rw
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
"""


@pytest.mark.parametrize(
    ("folder_name", "kind", "verdict"),
    [
        ("/data", "ext4", "ok"),
        ("/home/me", "nfs4", "warn"),
        ("/home/local/me", "xfs", "ok"),
        ("/homes", "ext4", "ok"),
        ("/mnt/my share/x", "cifs", "warn"),
        ("/dev/shm", "tmpfs", "warn"),
    ],
)
def test_doctor_warns_of_network_file_systems_and_of_memory(folder_name, kind, verdict):
    assert doctor.find_file_system(Path(folder_name), lambda: MOUNTS) == kind
    assert doctor._file_system(Path(folder_name), lambda: MOUNTS).verdict == verdict


def test_doctor_finds_locks_that_let_two_owners_in(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "Owner", lambda path, workflow_id: type("Lock", (), {"release": lambda self: None})())

    verdicts = {finding.subject: finding.verdict for finding in doctor._try_out(tmp_path / "x.db")}

    assert verdicts["locks"] == "fail"


# ---- the lab


def test_lab_without_its_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda name: None if name == "anywidget" else name)

    with pytest.raises(UsageError, match=r'needs anywidget; install it with: python -m pip install -e "\.\[lab\]"'):
        launcher.launch("01", None, browser=False, further=[])


def test_notebooks_are_copied_once_and_never_over_a_readers_work(tmp_path):
    shipped, copies = tmp_path / "shipped", tmp_path / "durable-course"
    (shipped / "images").mkdir(parents=True)
    (shipped / "01.ipynb").write_text("ours", encoding="utf-8")
    (shipped / "images" / "a.png").write_bytes(b"png")
    launcher.copy_notebooks(shipped, copies)
    (copies / "01.ipynb").write_text("mine", encoding="utf-8")
    (shipped / "02.ipynb").write_text("new", encoding="utf-8")

    assert launcher.copy_notebooks(shipped, copies) == copies
    assert (copies / "01.ipynb").read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in copies.rglob("*")) == ["01.ipynb", "02.ipynb", "a.png", "images"]


def make_notebook(path):
    import nbformat

    cell = nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("stream", text="2")])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


@pytest.mark.thorough
def test_a_notebook_is_found_by_name_and_misspelling_it_is_answered(tmp_path):
    ours = make_notebook(tmp_path / "01_crash.ipynb")

    assert launcher.find_notebook("01_crash.ipynb", tmp_path) == ours
    assert launcher.find_notebook("01_crash", tmp_path) == ours
    with pytest.raises(UsageError, match=r"did you mean '01_crash\.ipynb'\?"):
        launcher.find_notebook("01_crush.ipynb", tmp_path)


@pytest.mark.parametrize(
    ("words", "launched"),
    [
        ([], ("README.md", None, True, [])),
        (["my.ipynb", "--port", "7", "--no-browser"], ("my.ipynb", 7, False, [])),
        (["--ip", "0.0.0.0", "--port", "7"], ("README.md", 7, True, ["--ip", "0.0.0.0"])),
        (["--no-browser", "--allow-root"], ("README.md", None, False, ["--allow-root"])),
        (["my.ipynb", "--allow-root", "--A.b=c"], ("my.ipynb", None, True, ["--allow-root", "--A.b=c"])),
    ],
)
def test_lab_hands_further_options_on_to_jupyterlab(monkeypatch, words, launched):
    calls = []
    monkeypatch.setattr(
        launcher,
        "launch",
        lambda name, port, *, browser, further, folder: calls.append((name, port, browser, further)) or 0,
    )
    cli.app(["lab", *words], standalone_mode=False)

    assert calls == [launched]


def test_the_notebook_that_lab_opens_by_default_is_there():
    assert launcher.find_notebook(cli.DEFAULT_NOTEBOOK, launcher.shipped_notebooks()).is_file()


@pytest.mark.parametrize("options", [{}, {"folder": "my course"}])
def test_lab_copies_the_course_and_works_there(folder, monkeypatch, capsys, options):
    commands = []
    monkeypatch.setattr(launcher, "_run", lambda words: commands.append(words) or 0)
    monkeypatch.setattr(launcher, "is_root", lambda: True)
    launcher.launch("01_crash_and_resume", None, browser=False, further=[], **options)
    course = folder / options.get("folder", "durable-course")
    said = capsys.readouterr()

    assert (course / "01_crash_and_resume.ipynb").is_file()
    assert (course / "solved" / "01_crash_and_resume.ipynb").is_file()
    assert f"--ServerApp.root_dir={course}" in commands[0]
    assert commands[0][-1] == "--allow-root"
    assert "you are root, as in a container" in said.err
    assert f"the course is in {course}" in said.out


@pytest.mark.parametrize(
    ("notebook", "opens"), [(cli.DEFAULT_NOTEBOOK, "/durable/course"), ("glossary.md", "/lab/tree/glossary.md")]
)
def test_lab_opens_the_page_of_the_course_and_notes_progress_beside_the_copies(folder, monkeypatch, notebook, opens):
    commands = []
    monkeypatch.setattr(launcher, "_run", lambda words: commands.append(words) or 0)
    launcher.launch(notebook, None, browser=False, further=[])

    assert f"--LabApp.default_url={opens}" in commands[0]
    assert os.environ["DURABLE_PROGRESS"] == str(folder / "durable-course" / "progress.txt")
    assert os.environ["DURABLE_COURSE"] == str(launcher.shipped_notebooks())


def test_lab_opens_a_notebook_of_your_own_where_it_is_and_copies_nothing(folder, monkeypatch):
    commands = []
    monkeypatch.setattr(launcher, "_run", lambda words: commands.append(words) or 0)
    make_notebook(folder / "mine.ipynb")
    launcher.launch("mine.ipynb", None, browser=False, further=[])

    assert f"--ServerApp.root_dir={folder}" in commands[0]
    assert not (folder / "durable-course").exists()


def test_lab_from_a_wheel_names_the_install_of_a_wheel(monkeypatch, tmp_path):
    assert launcher.install_lab() == 'python -m pip install -e ".[lab]"'
    monkeypatch.setattr(launcher, "_PACKAGE", tmp_path / "site-packages" / "durable")
    assert launcher.install_lab() == 'python -m pip install "durable-lab[lab]"'


@pytest.mark.thorough
def test_shipped_notebooks_are_trusted(tmp_path, monkeypatch):
    import nbformat
    from nbformat.sign import NotebookNotary

    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    ours, another = make_notebook(tmp_path / "01.ipynb"), make_notebook(tmp_path / "other.ipynb")
    another.write_text(another.read_text(encoding="utf-8").replace("1 + 1", "2 + 2"), encoding="utf-8")
    launcher.trust([ours])

    is_trusted = [NotebookNotary().check_signature(nbformat.read(path, as_version=4)) for path in (ours, another)]
    assert is_trusted == [True, False]


def patiently(find, complaint):
    """What is found, as soon as there is something."""
    give_up_at = time.monotonic() + COMMAND_SECONDS
    while not (found := find()):
        assert time.monotonic() < give_up_at, complaint
        time.sleep(0.02)
    return found


def start_kernel(api):
    """The server's answer, or None where it does not listen yet: it names its address a little too early."""
    request = urllib.request.Request(api, data=b"{}", method="POST")
    try:
        return urllib.request.urlopen(request, timeout=COMMAND_SECONDS).read()
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return None
        raise


def find_kernel(server_pid, seen):
    """A living kernel of a server that was not seen yet, or None."""
    for child in psutil.Process(server_pid).children(recursive=True):
        try:
            if child.pid not in seen and "ipykernel" in " ".join(child.cmdline()):
                return child
        except psutil.Error:  # it has just died
            continue
    return None


@pytest.mark.thorough
def test_the_lab_server_opens_the_notebook_and_outlives_more_crashes_than_jupyter_allows_by_default(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    make_notebook(tmp_path / "my crash.ipynb")
    words = ["lab", "my crash.ipynb", "--no-browser", "--allow-root", "--ServerApp.port_retries=50"]
    with subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            address = next(found for line in process.stderr if (found := re.search(r"http://localhost\S+", line)))[0]
            assert "/lab/tree/my%20crash.ipynb?token=" in address
            api = address.replace("/lab/tree/my%20crash.ipynb", "/api/kernels")
            patiently(lambda: start_kernel(api), "the server never listened")
            seen = []
            for crash in range(7):  # the 6th is final by default
                kernel = patiently(lambda: find_kernel(process.pid, seen), f"no kernel any more after {crash} crashes")
                seen.append(kernel.pid)
                kernel.kill()
        finally:  # killed, since a server told to end while it restarts a kernel may wait for ever
            kernels = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for kernel in kernels:
                with contextlib.suppress(psutil.NoSuchProcess):
                    kernel.kill()


# ---- the conda environment


def test_the_conda_environment_names_what_conda_has_and_leaves_the_rest_to_pip():
    root = Path(__file__).parents[2]
    environment = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.match(r"[\w-]+", entry)[0] for entry in environment["dependencies"] if isinstance(entry, str)}
    extras = project["optional-dependencies"]
    needed = {re.match(r"[\w-]+", entry)[0] for entry in project["dependencies"] + extras["lab"] + extras["test"]}

    assert environment["channels"] == ["conda-forge"]
    assert environment["dependencies"][-1] == {"pip": ["-e .[lab,test]"]}
    assert f"python{project['requires-python']}" in environment["dependencies"]
    assert {"ipywidgets", "pandas", "matplotlib", "nbclient", "pytest"} <= named
    # of conda-forge's playwright Binder gets no browser; axe-playwright-python comes from pip, on top of it
    assert needed - named == {"durable-lab", "playwright", "axe-playwright-python"}
    assert named - needed == {"python", "pip"}
