"""`durable ui`: a server for one browser of this machine, which reads and changes nothing."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

import durable
from durable.dashboard.drawn.server import Server
from durable.store.reader import Reader
from tests.dashboard.flows import ATTACK
from tests.dashboard.test_report import WITHOUT_LAB
from tests.support.command_line import Running, error_of
from tests.support.patience import patient


@pytest.fixture(scope="module")
def server(world):
    with Reader(world) as reader, Server(reader) as server:
        yield server


def get(server, path, host=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=patient(10))
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{server.port}"})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


def ask(server, question):
    response, body = get(server, f"/{server.token}/snapshot?question={quote(json.dumps(question))}")
    return response.status, json.loads(body)


def test_a_question_is_answered_from_the_database(server) -> None:
    status, answer = ask(server, {"prefix": "order_", "sort": "id", "descending": False})

    assert (status, [row["id"] for row in answer["rows"]]) == (200, ["order_1", "order_1/parcel_4", "order_2"])
    assert answer["pause"] >= 1
    assert ask(server, {"open": "failed_1"})[1]["open"]["error"]["text"] == {"text": f"ValueError: no money: {ATTACK}"}


@pytest.mark.parametrize("question", [{"sort": "?"}, {"offset": -1}, [], {"step": 1 << 80}, "\ud800"])
def test_what_is_no_question_is_refused(server, question) -> None:
    status, answer = ask(server, question)

    assert status == 400
    assert answer["problem"].startswith("not a question: ")


@pytest.mark.parametrize("name", ["", "dashboard.js", "dashboard.css", "snapshot"])
def test_each_page_needs_the_token_and_the_host(server, name) -> None:
    path = f"/{server.token}/{name}"

    assert get(server, path)[0].status == 200
    assert get(server, path, f"localhost:{server.port}")[0].status == 200
    for wrong in (f"/{name}", f"/{server.token[:-1]}/{name}", f"/{server.token}x/{name}"):
        assert get(server, wrong)[0].status == 403
    for host in ("example.org", "127.0.0.1", f"127.0.0.1.example.org:{server.port}", f"example.org:{server.port}", "x"):
        response, body = get(server, path, host)
        assert (response.status, body) == (403, "This server answers to its own name only.\n")


def test_nothing_else_is_served_or_accepted(server) -> None:
    assert get(server, f"/{server.token}/../../etc/passwd")[0].status == 404
    assert get(server, f"/{server.token}/page.py")[0].status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert get(server, f"/{server.token}/snapshot", method=method)[0].status == 501


def test_the_headers_forbid_frames_scripts_of_others_and_a_trace_of_the_token(server) -> None:
    response, body = get(server, f"/{server.token}/")

    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers
    assert server.token not in body


def test_it_listens_on_this_machine_alone_and_each_server_has_its_own_token(server, world) -> None:
    with Reader(world) as reader, Server(reader) as other:
        assert other.token != server.token
        assert len(other.token) >= 32
        assert other._server.server_address[0] == "127.0.0.1"


def test_a_damaged_database_is_a_problem_in_words(tmp_path, world) -> None:
    path = tmp_path / "copy.db"
    path.write_bytes(world.read_bytes())
    with Reader(path) as reader, Server(reader) as server:
        assert ask(server, {})[0] == 200
        path.write_bytes(b"nothing" * 1000)

        status, answer = ask(server, {})
    assert status == 503
    assert "copy.db" in answer["problem"]


@pytest.mark.parametrize(("end", "code"), [("interrupt", 130), ("terminate", 143)])
def test_the_command_serves_until_a_signal_ends_it(world, end, code) -> None:
    with Running("ui", str(world), "--no-browser") as running:
        line = running.read_until("read-only")
        url = urlsplit(line.split()[-1])
        connection = http.client.HTTPConnection(url.netloc, timeout=patient(10))
        connection.request("GET", f"{url.path}snapshot")
        answer = json.loads(connection.getresponse().read())  # the connection stays open
        getattr(running, end)()

        assert running.end(code).endswith("the dashboard has ended\n")
    assert answer["total"] == 12


def test_a_taken_port_and_a_missing_database_are_wrong_use(world, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert error_of("ui", str(world), "--no-browser", "--port", port) == (
            f"error: port {port}: Address already in use; name another with --port, or leave it out for a free one\n"
        )
    assert "there is no database" in error_of("ui", str(tmp_path / "none.db"), "--no-browser")


def test_it_needs_no_extra(world) -> None:
    words = [sys.executable, "-c", WITHOUT_LAB, "ui", str(world), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(durable.__file__).parents[1]) as process:
        line = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=patient(20))

    assert "read-only: http://127.0.0.1:" in line
