"""Take-over: what a killed worker has left is gone on with by another, and nobody who lives is taken for dead."""

import os
import signal
import socket
import time
from pathlib import Path

import psycopg
import pytest

from durable.on_dbos.recovery.presence import VANISHED_SECONDS, Presence, is_worker, new_executor_id, queue_of
from durable.on_dbos.recovery.set_aside import CRASHES, SET_ASIDE, is_set_aside
from durable.on_dbos.workers import takeover
from durable.on_dbos.workers.queue import make_tables
from durable.on_dbos.workers.takeover import IDLE_SECONDS, TakenOver, TakeOver
from durable.store.records import MAX_CRASHES
from tests.dbos.workers import _client, effects, enqueue, start_without_a_lock, status, work
from tests.support.postgres import Server
from tests.support.processes import child, eventually

TAKEN_OVER_WITHIN_SECONDS = 3.0  # what the README says of a process that was killed


def begun(folder: Path, name: str, times: int = 1) -> bool:
    return sum(line.startswith(f"{name} second begins") for line in effects(folder)) == times


def runner(folder: Path, name: str) -> int:
    """The process that began the second step last."""
    return int([line for line in effects(folder) if line.startswith(f"{name} second begins")][-1].split()[-1])


def test_another_worker_goes_on_within_three_seconds_and_no_finished_step_runs_again(
    postgres_url: str, tmp_path: Path
) -> None:
    with child(work, postgres_url, str(tmp_path)) as first, child(work, postgres_url, str(tmp_path)) as second:
        executors = {first.pid: first.receive(), second.pid: second.receive()}
        enqueue(postgres_url, "wf")
        eventually(lambda: begun(tmp_path, "wf"))
        dead, alive = (first, second) if runner(tmp_path, "wf") == first.pid else (second, first)
        # the grace after the server's start is over when this is asked: the kill is what is timed
        eventually(lambda: psycopg.connect(postgres_url).execute(OLD_ENOUGH).fetchone() == (True,))

        dead.kill()
        killed_at = time.monotonic()
        eventually(lambda: begun(tmp_path, "wf", 2))
        seconds = time.monotonic() - killed_at
        (tmp_path / "open").touch()
        eventually(lambda: status(postgres_url, "wf") == "SUCCESS")

        assert alive.receive() == TakenOver(executors[dead.pid], resumed=["wf"])
    assert seconds < TAKEN_OVER_WITHIN_SECONDS
    assert effects(tmp_path) == [
        "wf first",
        f"wf second begins in {dead.pid}",
        f"wf second begins in {alive.pid}",
        "wf second ends",
    ]


OLD_ENOUGH = """
    select clock_timestamp() - backend_start > '4 s' from pg_stat_activity where backend_type = 'checkpointer'
"""


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_living_workers_are_not_taken_for_dead_when_the_database_is_restarted(
    own_postgres: Server, tmp_path: Path, how: str
) -> None:
    url = own_postgres.new_database()
    with child(work, url, str(tmp_path)) as first, child(work, url, str(tmp_path)) as second:
        first.receive(), second.receive()
        enqueue(url, "wf")
        eventually(lambda: begun(tmp_path, "wf"))

        getattr(own_postgres, how)()
        own_postgres.start()
        eventually(lambda: psycopg.connect(url).execute(OLD_ENOUGH).fetchone() == (True,))

        assert not first.pipe.poll(2)
        assert not second.pipe.poll(0)
        (tmp_path / "open").touch()
        eventually(lambda: status(url, "wf") == "SUCCESS")
    assert begun(tmp_path, "wf")


@pytest.mark.thorough
def test_a_worker_that_loses_its_session_alone_is_back_before_anybody_calls_it_dead(
    own_postgres: Server, tmp_path: Path
) -> None:
    url = own_postgres.new_database()
    with child(work, url, str(tmp_path)) as first, child(work, url, str(tmp_path)) as second:
        first.receive(), second.receive()
        enqueue(url, "wf")
        eventually(lambda: begun(tmp_path, "wf"))
        eventually(lambda: psycopg.connect(url).execute(OLD_ENOUGH).fetchone() == (True,))
        cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'durable presence'"

        for _ in range(5):
            psycopg.connect(url, autocommit=True).execute(cut)
            assert not first.pipe.poll(0.5)
            assert not second.pipe.poll(0)


@pytest.mark.thorough
def test_a_worker_that_stands_still_keeps_what_it_has(own_postgres: Server, tmp_path: Path) -> None:
    url = own_postgres.new_database()
    with child(work, url, str(tmp_path)) as first:
        first.receive()
        enqueue(url, "wf")
        eventually(lambda: begun(tmp_path, "wf"))
        first.stop()
        with child(work, url, str(tmp_path)) as second:
            second.receive()
            eventually(lambda: psycopg.connect(url).execute(OLD_ENOUGH).fetchone() == (True,))

            assert not second.pipe.poll(2)
        first.signal(signal.SIGCONT)
        (tmp_path / "open").touch()
        eventually(lambda: status(url, "wf") == "SUCCESS")
    assert begun(tmp_path, "wf")


@pytest.mark.thorough
def test_what_a_process_without_a_lock_runs_is_left_to_it(postgres_url: str, tmp_path: Path) -> None:
    with child(start_without_a_lock, postgres_url, str(tmp_path)) as foreign:
        foreign.receive()
        eventually(lambda: begun(tmp_path, "foreign"))
        foreign.kill()
    with child(work, postgres_url, str(tmp_path)) as worker:
        worker.receive()

        assert not worker.pipe.poll(3)
    assert begun(tmp_path, "foreign")


@pytest.mark.thorough
def test_one_of_several_workers_takes_over_from_a_dead_one(postgres_url: str, tmp_path: Path) -> None:
    with child(work, postgres_url, str(tmp_path)) as dead:
        dead.receive()
        enqueue(postgres_url, "wf")
        eventually(lambda: begun(tmp_path, "wf"))
    first, second = (Presence(postgres_url, new_executor_id("default")) for _ in range(2))
    for each in (first, second):
        each.keep()
    (executor,) = {each.executor_id for each in _client(postgres_url).list_workflows(status="PENDING")}
    assert executor is not None
    eventually(lambda: first.is_free(executor))

    with first.claim(executor) as is_mine, second.claim(executor) as is_theirs:
        assert (is_mine, is_theirs) == (True, False)
        assert TakeOver(second, _client(postgres_url))._take_over(executor) is None
    assert second.is_free(executor)
    taken = TakeOver(first, _client(postgres_url))._take_over(executor)
    assert taken == TakenOver(executor, resumed=["wf"])
    assert TakeOver(second, _client(postgres_url))._take_over(executor) == TakenOver(executor)


@pytest.mark.thorough
def test_what_keeps_killing_its_worker_without_getting_on_is_set_aside(postgres_url: str, tmp_path: Path) -> None:
    presence, client = Presence(postgres_url, new_executor_id("default")), None
    presence.keep()
    for crash in range(1, MAX_CRASHES + 1):
        with child(work, postgres_url, str(tmp_path)) as dead:
            executor = dead.receive()
            client = client or _client(postgres_url)
            if crash == 1:
                enqueue(postgres_url, "wf")
            eventually(lambda count=crash: begun(tmp_path, "wf", count))
        eventually(lambda dead=executor: presence.is_free(dead))
        taken = TakeOver(presence, client)._take_over(executor)
        is_last = crash == MAX_CRASHES
        assert taken == TakenOver(executor, [] if is_last else ["wf"], ["wf"] if is_last else [])

    (workflow,) = client.list_workflows(workflow_ids=["wf"])
    assert workflow.attributes == {CRASHES: MAX_CRASHES, "durable.steps": 1, SET_ASIDE: True}
    assert TakeOver(presence, client)._take_over(executor) == TakenOver(executor)


def test_what_this_process_has_given_up_goes_back_to_the_queue_and_what_it_runs_does_not(postgres_url: str) -> None:
    make_tables(postgres_url)
    enqueue(postgres_url, "given up", "running")
    presence = Presence(postgres_url, new_executor_id("default"))
    presence.keep()
    with psycopg.connect(postgres_url) as connection:  # as DBOS leaves it where it could not save how a run has ended
        connection.execute(
            "update dbos.workflow_status set status = 'PENDING', executor_id = %s", [presence.executor_id]
        )
    look = TakeOver(presence, _client(postgres_url), is_active=lambda name: name == "running").look

    begun_at = time.monotonic()
    eventually(lambda: list(look()) or status(postgres_url, "given up") == "ENQUEUED")

    assert time.monotonic() - begun_at >= IDLE_SECONDS
    assert status(postgres_url, "running") == "PENDING"


def test_what_a_worker_cannot_run_is_put_back_however_often_and_never_set_aside(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "IDLE_SECONDS", 0.0)
    make_tables(postgres_url)
    enqueue(postgres_url, "wf")
    presence, lacking = Presence(postgres_url, new_executor_id("default")), set[str]()
    presence.keep()
    client = _client(postgres_url)
    look = TakeOver(presence, client, is_active=lambda _: False, lacking=lacking).look
    for _ in range(MAX_CRASHES + 1):
        with psycopg.connect(postgres_url) as connection:  # as DBOS leaves it where its function could not be called
            connection.execute(
                "update dbos.workflow_status set status = 'PENDING', executor_id = %s", [presence.executor_id]
            )
        lacking.add("wf")
        eventually(lambda: list(look()) or status(postgres_url, "wf") == "ENQUEUED")

    (workflow,) = client.list_workflows(workflow_ids=["wf"])
    assert not is_set_aside(workflow)
    assert lacking == set()


def test_an_executor_id_tells_a_worker_from_other_processes_and_its_queue() -> None:
    assert is_worker(new_executor_id("default"))
    assert new_executor_id("default") != new_executor_id("default")
    assert queue_of(new_executor_id("a:b c")) == "a:b c"
    assert queue_of("durable-worker:machine:17:0123abcd") == "default"
    assert not is_worker("local")
    assert not is_worker(None)


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["stop", "kill", "crash"])
def test_no_worker_is_declared_dead_soon_after_the_server_lost_all_sessions(own_postgres: Server, how: str) -> None:
    presence = Presence(own_postgres.url(), new_executor_id("default"))
    presence.keep()
    eventually(presence.may_judge)

    lost_at = time.monotonic()
    if how == "crash":  # of one server process: the others then end too, and the server goes on with new ones
        victim = psycopg.connect(own_postgres.url())
        os.kill(victim.info.backend_pid, signal.SIGKILL)
    else:
        getattr(own_postgres, how)()
        own_postgres.start()
    eventually(lambda: not is_back(presence))
    eventually(lambda: is_back(presence))
    eventually(presence.may_judge)

    assert time.monotonic() - lost_at >= 3.0


def is_back(presence: Presence) -> bool:
    try:
        presence.keep()
    except psycopg.Error:
        return False
    return True


@pytest.mark.thorough
def test_a_machine_that_vanishes_is_noticed_by_the_server_in_eleven_seconds(free_port: int) -> None:
    """As far as it can be seen on one machine: the server's own settings of the session, over TCP."""
    with Server({"listen_addresses": "127.0.0.1", "port": str(free_port)}):
        presence = Presence(f"postgresql+psycopg://postgres@127.0.0.1:{free_port}/postgres", new_executor_id("default"))
        presence.keep()
        idle, interval, count = (
            int(presence._ask(f"select setting from pg_settings where name = 'tcp_keepalives_{name}'"))
            for name in ("idle", "interval", "count")
        )
        presence.close()

    assert idle + interval * count == VANISHED_SECONDS == 11


@pytest.fixture
def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
