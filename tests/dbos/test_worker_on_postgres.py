"""`durable worker --engine` and `durable submit`: real processes on a real PostgreSQL, interrupted, killed, cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.support.command_line import PROGRAM, Running, durable, error_of
from tests.support.postgres import Server
from tests.support.processes import eventually

FLOWS = '''
from pathlib import Path
from durable import Context

HERE = Path(__file__).parent


def say(what: str) -> str:
    with (HERE / "log").open("a") as log:
        log.write(what + "\\n")
    return what.upper()


def wait_at_the_gate(what: str) -> str:
    """Ends once the test has opened the gate."""
    say(what)
    while not (HERE / "gate").exists():
        pass
    return say("after")


def errand(ctx: Context, *what: str) -> list[str]:
    return [ctx.step(say, one) for one in what or "ab"]


def gate(ctx: Context) -> str:
    ctx.step(say, "before")
    said: str = ctx.step(wait_at_the_gate, "at the gate")
    ctx.step(say, "and on")
    return said


def family(ctx: Context) -> str:
    return ctx.child(gate, workflow_id="kid").result() + ctx.child(shop_is_open, workflow_id="other kid").result()


def crowd(ctx: Context) -> None:
    ctx.map(errand_at_the_gate, range(6))


def errand_at_the_gate(ctx: Context, number: int) -> str:
    return ctx.step(wait_at_the_gate, f"at the gate {number}")


def approval(ctx: Context) -> str:
    ctx.step(say, "before")
    return ctx.wait_event("approval", type=str)


def shop_is_open(ctx: Context) -> str:
    ctx.step(say, "to the shop")
    return ctx.step(enter, "shop")


def enter(what: str) -> str:
    if not (HERE / "open").exists():
        raise ConnectionError("closed")
    return say(what)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands are run, with the workflows beside them."""
    path = tmp_path / "my flows"
    path.mkdir()
    (path / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return path


def log(folder: Path) -> list[str]:
    path = folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def submit(url: str, *words: str) -> str:
    return durable("submit", *words, "--engine", url).stdout


@contextmanager
def worker(url: str, *words: str) -> Iterator[Running]:
    with Running("worker", "--engine", url, *words, "flows.py") as running:
        assert "Ctrl+C ends it" in running.read_until("Ctrl+C ends it")
        yield running


def status(url: str, workflow_id: str) -> str:
    with psycopg.connect(url) as connection:
        sql = "select status from dbos.workflow_status where workflow_uuid = %s"
        row = connection.execute(sql, [workflow_id]).fetchone()
        return str(row and row[0])


# ---- what is submitted is run


def test_what_is_submitted_is_run_by_whichever_worker_is_there(folder: Path, postgres_url: str) -> None:
    said = submit(postgres_url, "flows.py:errand", "e1", "--input", '{"what": ["x", "y"]}')
    assert said == "workflow e1 submitted to the queue 'default'\n"

    with worker(postgres_url) as running:
        lines = running.read_until("workflow e1 completed").splitlines()

    assert lines[0].startswith("workflow e1: run 1 in test_")
    assert lines[1:] == [
        "[RUN]  e1: say (key: say_1)",
        "[DONE] e1: say (key: say_1)",
        "[RUN]  e1: say (key: say_2)",
        "[DONE] e1: say (key: say_2)",
        "[DONE] workflow e1 completed",
    ]
    assert log(folder) == ["x", "y"]


@pytest.mark.thorough
def test_a_worker_takes_from_its_own_queue_alone(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:errand", "slow", "--queue", "slow")
    submit(postgres_url, "flows.py:errand", "usual")

    with worker(postgres_url) as running:
        running.read_until("workflow usual completed")
        with worker(postgres_url, "--queue", "slow") as other:
            assert "slow: say" in other.read_until("workflow slow completed")
        running.interrupt()
        assert "slow" not in running.end(130)


@pytest.mark.thorough
def test_no_more_than_the_concurrency_run_at_once(folder: Path, postgres_url: str) -> None:
    for number in range(3):
        submit(postgres_url, "flows.py:gate", f"g{number}")

    with worker(postgres_url, "--concurrency", "2") as running:
        eventually(lambda: log(folder).count("at the gate") == 2)
        waiting = [number for number in range(3) if status(postgres_url, f"g{number}") == "ENQUEUED"]
        (folder / "gate").touch()
        running.read_until(f"workflow g{waiting[0]} completed")

    assert len(waiting) == 1


@pytest.mark.thorough
def test_children_count_among_those_that_run_at_once(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:crowd", "c1")

    with worker(postgres_url, "--concurrency", "2") as running:
        eventually(lambda: len(log(folder)) == 2)
        eventually(lambda: all(status(postgres_url, f"c1/errand_at_the_gate_{n}") == "PENDING" for n in range(1, 7)))
        begun = len(log(folder))
        (folder / "gate").touch()
        running.read_until("workflow c1 completed")

    assert begun == 2
    assert len(log(folder)) == 12


@pytest.mark.thorough
def test_the_same_id_again_tells_how_it_stands_and_starts_nothing(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:errand", "e1")
    assert submit(postgres_url, "flows.py:errand", "e1") == (
        "workflow e1 was submitted before, and has not ended; nothing was submitted\n"
    )
    with worker(postgres_url) as running:
        running.read_until("workflow e1 completed")

        assert submit(postgres_url, "flows.py:errand", "e1") == (
            "workflow e1 is completed already; nothing was submitted\n"
        )
        told = json.loads(submit(postgres_url, "flows.py:errand", "e1", "--json"))
    assert told == {"workflow_id": "e1", "queue": "default", "submitted": False, "outcome": "completed"}
    assert log(folder) == ["a", "b"]


@pytest.mark.thorough
def test_one_that_failed_is_tried_again_and_keeps_its_completed_steps(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:shop_is_open", "s1")
    with worker(postgres_url) as running:
        assert "[FAIL] s1: enter (key: enter_2): ConnectionError: closed" in running.read_until("workflow s1 failed")
        (folder / "open").touch()

        assert submit(postgres_url, "flows.py:shop_is_open", "s1") == (
            "workflow s1 failed before; submitted to the queue 'default' again, its completed steps are kept\n"
        )
        running.read_until("workflow s1 completed")

    assert log(folder) == ["to the shop", "shop"]


@pytest.mark.thorough
def test_a_wait_is_no_step_in_flight(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:approval", "a1")
    with worker(postgres_url) as running:
        running.read_until("[DONE] a1: say (key: say_1)")
        eventually(lambda: waits(postgres_url, "a1"))
        running.interrupt()
        said = running.end(130)

    assert "approval" not in said
    assert "Error" not in said
    assert "no step is in flight, nothing new begins" in said
    assert "given back to the queue: a1." in said


def waits(url: str, workflow_id: str) -> bool:
    """Whether the row of its wait is saved."""
    with psycopg.connect(url) as connection:
        sql = "select 1 from dbos.operation_outputs where workflow_uuid = %s and function_name = 'approval_2'"
        return connection.execute(sql, [workflow_id]).fetchone() is not None


@pytest.mark.thorough
def test_a_worker_without_the_module_says_so_and_leaves_the_workflow_to_others(
    folder: Path, postgres_url: str, tmp_path: Path
) -> None:
    submit(postgres_url, "flows.py:errand", "e1")
    (tmp_path / "elsewhere").mkdir()
    with Running("worker", "--engine", postgres_url, "--concurrency", "1", cwd=tmp_path / "elsewhere") as lacking:
        said = lacking.read_until("left to other workers")
        durable("submit", "onboarding", "emp_1", "--input", '{"delay_seconds": 0}', "--engine", postgres_url)
        lacking.read_until("workflow emp_1 completed")  # its only place is free again
        lacking.interrupt()
        lacking.end(130)
    with worker(postgres_url) as able:
        able.read_until("workflow e1 completed")

    assert "[STOP] left to other workers: workflow 'e1': its function 'flows:errand' cannot be imported here" in said
    assert log(folder) == ["a", "b"]


# ---- Ctrl+C


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "Ctrl+C", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_signal_lets_the_step_end_and_gives_back_what_is_unfinished(
    folder: Path, postgres_url: str, number: int, name: str, code: int
) -> None:
    submit(postgres_url, "flows.py:gate", "g1")
    with worker(postgres_url) as running:
        running.read_until("wait_at_the_gate (key: wait_at_the_gate_2)")
        eventually(lambda: "at the gate" in log(folder))
        running.process.send_signal(number)
        said = running.read_until("nothing new begins")
        (folder / "gate").touch()
        said += running.end(code)

    assert f"[STOP] {name}: g1/wait_at_the_gate_2 may end, nothing new begins; {name} again leaves at once" in said
    assert "[DONE] g1: wait_at_the_gate" in said
    assert "[STOP] the worker has ended; what had completed is saved; given back to the queue: g1." in said
    assert status(postgres_url, "g1") == "ENQUEUED"
    with worker(postgres_url) as running:
        running.read_until("workflow g1 completed")
    assert log(folder) == ["before", "at the gate", "after", "and on"]


@pytest.mark.thorough
def test_a_second_ctrl_c_leaves_at_once_and_says_how_to_go_on(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:gate", "g1")
    with worker(postgres_url, "--queue", "default") as running:
        eventually(lambda: "at the gate" in log(folder))
        running.interrupt()
        running.read_until("nothing new begins")
        running.interrupt()
        said = running.end(130)

    assert "[STOP] left at once. To go on: python -m durable worker --engine 'postgresql://postgres@/test_" in said
    assert said.rstrip().endswith(" flows.py")
    assert status(postgres_url, "g1") == "PENDING"  # a dead worker's, to be taken over


@pytest.mark.thorough
def test_an_idle_worker_ends_with_ctrl_c(folder: Path, postgres_url: str) -> None:
    with worker(postgres_url) as running:
        running.interrupt()
        said = running.end(130)

    assert said == (
        "\n[STOP] Ctrl+C: no step is in flight, nothing new begins; Ctrl+C again leaves at once\n"
        "[STOP] the worker has ended; what had completed is saved.\n"
    )


# ---- death


@pytest.mark.thorough
def test_a_killed_worker_is_named_and_its_workflow_goes_on_elsewhere(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:gate", "g1")
    with worker(postgres_url) as first:
        eventually(lambda: "at the gate" in log(folder))
        with worker(postgres_url) as second:
            first.process.kill()
            said = second.read_until("back in the queue")
            (folder / "gate").touch()
            said += second.read_until("workflow g1 completed")

    assert f":{first.process.pid}:" in said
    assert "has died; back in the queue: g1" in said
    assert "goes on from what is saved" in said
    assert log(folder) == ["before", "at the gate", "at the gate", "after", "and on"]


@pytest.mark.thorough
def test_children_that_are_taken_over_do_not_wait_for_the_places_that_their_parents_hold(
    folder: Path, postgres_url: str, tmp_path: Path
) -> None:
    """The worker that takes them over is of another queue, and does not know their functions."""
    submit(postgres_url, "flows.py:family", "f1")
    with worker(postgres_url, "--concurrency", "1") as running:
        eventually(lambda: "at the gate" in log(folder))
        running.process.kill()
    (tmp_path / "elsewhere").mkdir()
    with Running("worker", "--engine", postgres_url, "--queue", "slow", cwd=tmp_path / "elsewhere") as other:
        other.read_until("back in the queue: ")
        with worker(postgres_url, "--concurrency", "1") as running:
            (folder / "gate").touch()
            running.read_until("workflow f1 failed")
            (folder / "open").touch()
            submit(postgres_url, "flows.py:family", "f1")
            running.read_until("workflow f1 completed")
        other.interrupt()
        assert "cannot be imported here" not in other.end(130)

    assert log(folder) == [*["before", "at the gate"], *["at the gate", "after", "and on"], *["to the shop", "shop"]]


@pytest.mark.thorough
def test_children_that_are_given_back_do_not_wait_for_the_places_that_their_parents_hold(
    folder: Path, postgres_url: str
) -> None:
    (folder / "open").touch()
    submit(postgres_url, "flows.py:family", "f1")
    with worker(postgres_url, "--concurrency", "1") as running:
        eventually(lambda: "at the gate" in log(folder))
        running.interrupt()
        running.read_until("nothing new begins")
        (folder / "gate").touch()
        said = running.end(130)
        assert "given back to the queue: f1, kid." in said
        assert "kid: say" not in said

    with worker(postgres_url, "--concurrency", "1") as running:
        running.read_until("workflow f1 completed")


@pytest.mark.thorough
def test_what_keeps_killing_its_worker_is_set_aside(folder: Path, postgres_url: str) -> None:
    submit(postgres_url, "flows.py:gate", "g1")
    for life in range(1, 3):
        with worker(postgres_url, "--max-crashes", "2") as running:
            eventually(lambda times=life: log(folder).count("at the gate") == times)
            running.process.send_signal(signal.SIGKILL)

    with worker(postgres_url, "--max-crashes", "2") as running:
        said = running.read_until("set aside")

        (folder / "gate").touch()
        assert submit(postgres_url, "flows.py:gate", "g1") == (
            "workflow g1 was set aside; submitted to the queue 'default' again, its completed steps are kept\n"
        )
        running.read_until("workflow g1 completed")
    assert "[STOP] workflow g1 set aside: its last runs all ended with their worker" in said
    assert log(folder) == ["before", "at the gate", "at the gate", "at the gate", "after", "and on"]


@pytest.mark.thorough
def test_a_lost_database_is_a_line_and_what_runs_is_saved_when_it_is_back(folder: Path, own_postgres: Server) -> None:
    url = own_postgres.new_database()
    submit(url, "flows.py:gate", "g1")
    with worker(url) as running:
        eventually(lambda: "at the gate" in log(folder))
        own_postgres.kill()
        said = running.read_until("does not answer")
        (folder / "gate").touch()
        eventually(lambda: "after" in log(folder))
        own_postgres.start()
        said += running.read_until("workflow g1 completed")
        running.interrupt()
        said += running.end(130)

    assert said.count("[WAIT] the database does not answer (") == 1
    assert said.count("[RUN]  the database answers again") == 1
    assert "Traceback" not in said
    assert log(folder) == ["before", "at the gate", "after", "and on"]


@pytest.mark.thorough
def test_ctrl_c_ends_a_worker_whose_database_is_away(folder: Path, own_postgres: Server) -> None:
    with worker(own_postgres.new_database()) as running:
        own_postgres.kill()
        running.read_until("does not answer")
        running.interrupt()
        said = running.end(130)

    assert said.endswith("[STOP] the worker has ended; what had completed is saved.\n")
    assert "Traceback" not in said


# ---- wrong use


@pytest.mark.thorough
def test_wrong_use_is_a_line_that_says_what_to_do(folder: Path, postgres_url: str) -> None:
    nowhere = "postgresql://me:secret@127.0.0.1:1/flows"

    assert "submit needs the database of the workers: --engine postgresql://user@host/database" in error_of(
        "submit", "flows.py:errand", "e1"
    )
    assert "expected postgresql://user@host/database; a file of SQLite is named by --db" in error_of(
        "worker", "--engine", "workflow.db"
    )
    for said in (
        error_of("worker", "--engine", nowhere, "flows.py"),
        error_of("submit", "flows.py:errand", "e1", "--engine", nowhere),
    ):
        assert "database postgresql://me:***@127.0.0.1:1/flows does not answer: " in said
        assert said.rstrip().endswith("start PostgreSQL, or correct the URL")
        assert "secret" not in said
        assert said.count("\n") == 1
    assert "did you mean 'errand'?" in error_of("submit", "flows.py:erand", "e1", "--engine", postgres_url)
    assert "there is no file 'nothing.py'" in error_of("worker", "--engine", postgres_url, "nothing.py")
    submit(postgres_url, "flows.py:errand", "e1")
    assert "use another workflow id, or delete this one" in error_of(
        "submit", "flows.py:gate", "e1", "--engine", postgres_url
    )


@pytest.mark.thorough
def test_the_database_may_stand_in_the_environment_where_ps_does_not_show_it(folder: Path, postgres_url: str) -> None:
    environment = os.environ | {"DURABLE_ENGINE": postgres_url}

    done = subprocess.run(
        [*PROGRAM, "submit", "flows.py:errand", "e1"], capture_output=True, text=True, check=True, env=environment
    )

    assert done.stdout == "workflow e1 submitted to the queue 'default'\n"


def test_without_dbos_the_error_names_the_extra(folder: Path) -> None:
    code = (
        "import sys; sys.modules['dbos'] = None; sys.argv = ['durable', 'worker', '--engine', 'postgresql://a@b/c'];"
        "from durable.__main__ import main; main()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert 'pip install "durable-lab[dbos]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.thorough
def test_a_file_named_by_db_is_a_file_whatever_the_environment_says(folder: Path, postgres_url: str) -> None:
    with Running("worker", "--db", "w.db", env=os.environ | {"DURABLE_ENGINE": postgres_url}) as running:
        assert "worker on w.db" in running.read_until("Ctrl+C ends it")
