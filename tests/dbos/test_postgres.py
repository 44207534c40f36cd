"""Postgres: a server of one's own, for notebooks and tests, that leaves nothing behind."""

import os
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import psycopg
import pytest

from durable import lab
from durable.lab.postgres import Postgres, PostgresError
from tests.support.postgres import Server
from tests.support.processes import child, eventually

module = sys.modules["durable.lab.postgres"]  # by its name alone one gets the function


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question).fetchone()
        return row and row[0]


def test_each_test_has_an_empty_database_of_its_own(postgres_server: Server) -> None:
    first, second = postgres_server.new_database(), postgres_server.new_database()
    with psycopg.connect(first) as connection:
        connection.execute("create table only_here (id int)")

    assert ask(first, "select count(*) from pg_tables where tablename = 'only_here'") == 1
    assert ask(second, "select count(*) from pg_tables where tablename = 'only_here'") == 0


def test_what_was_committed_survives_the_kill_of_the_server(own_postgres: Server) -> None:
    url = own_postgres.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 42 as answer")
    first = own_postgres.pid

    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    own_postgres.start()

    assert own_postgres.pid != first
    assert ask(url, "select answer from kept") == 42


@pytest.mark.thorough
def test_it_can_be_stopped_and_started_again(own_postgres: Server) -> None:
    url = own_postgres.new_database()

    own_postgres.stop()
    with pytest.raises(PostgresError, match="does not run"):
        _ = own_postgres.pid
    own_postgres.start()

    assert ask(url, "select 1") == 1


@pytest.mark.thorough
def test_a_database_can_be_a_copy_of_another(own_postgres: Server) -> None:
    with psycopg.connect(own_postgres.create_database("model")) as connection:
        connection.execute("create table kept as select 42 as answer")

    assert ask(own_postgres.create_database("copy", template="model"), "select answer from kept") == 42


@pytest.mark.thorough
def test_nothing_is_left_behind() -> None:
    with Server() as server:
        folder, processes = server.folder, [psutil.Process(server.pid), *psutil.Process(server.pid).children()]

    assert not folder.exists()
    assert not any(process.is_running() for process in processes)


def serve(pipe: Connection) -> None:
    server = Postgres().start()
    pipe.send((server.pid, str(server.folder)))
    pipe.recv()


@pytest.mark.thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a process has no way to ask for this")
def test_the_server_of_a_process_that_is_killed_ends_and_its_folder_goes_with_the_next_server() -> None:
    with child(serve) as process:
        pid, folder = process.receive(60)
        process.kill()

    eventually(lambda: not _runs(pid))
    assert Path(folder).exists()
    Postgres().close()
    assert not Path(folder).exists()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another place for temporary files, with a blank in its name, that `nobody` can reach too."""
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "my files"
        folder.mkdir()
        for each in (folder, Path(outer)):
            each.chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.mark.thorough
def test_the_folder_may_have_blanks_in_its_name(temporary_folder: Path) -> None:
    with Server() as server:
        assert server.folder.parent == temporary_folder
        assert ask(server.new_database(), "select 1") == 1


@pytest.mark.thorough
def test_a_path_that_is_too_long_for_a_socket_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "long" * 20)

    with Server() as server:
        assert ask(server.url(), "select 1") == 1


@pytest.mark.thorough
def test_programs_in_a_private_folder_are_copied_where_the_server_can_reach_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    programs = module._copy_programs(module._find_programs(), private)
    private.chmod(0o700)
    monkeypatch.setattr(module, "_candidates", lambda: [programs])

    with Server() as server:
        assert ask(server.url(), "select 1") == 1
        executable = psutil.Process(server.pid).exe()
    is_copy = executable.startswith(str(server.folder))
    assert is_copy == (os.geteuid() == 0)


def test_where_there_is_no_postgresql_a_notebook_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_candidates", list)

    assert lab.postgres() is None
    assert capsys.readouterr().out == (
        'there is no PostgreSQL on this machine; pip install "durable-lab[postgres]", '
        "or install PostgreSQL (apt install postgresql, brew install postgresql)\n"
    )


@pytest.mark.thorough
def test_a_setting_that_the_server_refuses_is_said_with_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    before = _folders()
    assert lab.postgres(max_connections="none") is None

    said = capsys.readouterr().out
    assert said.startswith("PostgreSQL did not start; its last lines:")
    assert 'invalid value for parameter "max_connections"' in said
    assert _folders() == before


def test_a_notebook_gets_a_running_server() -> None:
    server = lab.postgres()
    assert server is not None
    try:
        assert ask(server.url(), "select 1") == 1
    finally:
        server.close()


def test_ctrl_c_is_not_for_the_server(own_postgres: Server) -> None:
    assert os.getsid(own_postgres.pid) == own_postgres.pid != os.getsid(0)


def _folders() -> set[Path]:
    """The folders of servers that this process has started."""
    return set(Path(tempfile.gettempdir()).glob(f"{module.PREFIX}{os.getpid()}-*"))
