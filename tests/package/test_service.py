"""durable/examples/service.py, as it is deployed: real server processes, restarted, killed, and ended by SIGTERM."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from durable import Engine
from durable.examples.effects import list_effects
from tests.support.patience import patient
from tests.support.processes import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is reached by a Unix socket, and killed by signals")


class Server:
    """The servers of one file, and a client of theirs."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.database, self._socket = folder / "orders.db", folder / "s"
        words = ["durable.examples.service:app", "--uds", str(self._socket), "--workers", str(workers)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", *words, "--timeout-graceful-shutdown", "30", "--log-level", "warning"],
            env=os.environ | {"ORDERS_DB": str(self.database)},
            start_new_session=True,
        )
        self.client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket)), base_url="http://orders", timeout=patient(20)
        )
        eventually(lambda: self.status("none") == 404)

    def status(self, order_id: str) -> int:
        """Return the status code of a look, 0 while no server answers."""
        try:
            return self.client.get(f"/orders/{order_id}").status_code
        except httpx.TransportError:
            return 0

    def look(self, order_id: str) -> dict[str, Any]:
        """Return how an order stands."""
        found: dict[str, Any] = self.client.get(f"/orders/{order_id}").json()
        return found

    def start(self, order_id: str, item: str = "chair", seconds: float = 0.0) -> int:
        """Start an order and return the status code."""
        return self.client.post(f"/orders/{order_id}", json={"item": item, "seconds": seconds}).status_code

    def approve(self, order_id: str, granted: bool = True) -> int:
        """Approve an order and return the status code."""
        return self.client.post(f"/orders/{order_id}/approval", params={"granted": granted}).status_code

    def wait_for(self, order_id: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until an order stands so."""
        eventually(lambda: condition(self.look(order_id)))
        return self.look(order_id)

    def wait_until(self, order_id: str, status: str) -> dict[str, Any]:
        """Wait until an order has this status."""
        return self.wait_for(order_id, lambda found: found["status"] == status)

    def effects(self) -> list[str]:
        """Return what has really happened."""
        return list_effects(self.database)

    def end(self) -> None:
        """Kill whatever is left of it."""
        self.client.close()
        for each in [*psutil.Process(self.process.pid).children(recursive=True)] if self.process.poll() is None else []:
            each.kill()
        self.process.kill()
        self.process.wait()
        self._socket.unlink(missing_ok=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since that of a socket has room for about 100 bytes."""
    path = Path(tempfile.mkdtemp(prefix="d "))
    yield path
    shutil.rmtree(path)


@contextmanager
def serving(folder: Path, workers: int = 1) -> Iterator[Server]:
    server = Server(folder, workers)
    try:
        yield server
    finally:
        server.end()


def waits_for_approval(found: dict[str, Any]) -> bool:
    return found["steps"].get("approval_3") == "running"


def test_an_order_is_started_looked_at_approved_and_asked_for_again(folder: Path) -> None:
    with serving(folder) as server:
        assert server.start("o1") == 202
        assert server.wait_for("o1", waits_for_approval)["status"] == "running"
        assert [server.start("o1"), server.start("o1", "table")] == [202, 409]
        assert server.approve("o1") == 202
        done = server.wait_until("o1", "completed")

        assert done["result"] == "paid, see o1/charge_4"
        assert set(done["steps"].values()) == {"completed"}
        assert [server.start("o1"), server.approve("o1"), server.approve("none"), server.status("none")] == [
            *(202, 202, 404, 404)
        ]
        assert server.effects() == ["reserved chair", "charged for chair"]


@pytest.mark.thorough
def test_an_order_that_is_cancelled_or_refused_is_undone(folder: Path) -> None:
    with serving(folder) as server:
        for order_id in ("o1", "o2"):
            server.start(order_id, order_id)
            server.wait_for(order_id, waits_for_approval)
        assert server.client.delete("/orders/o1").status_code == 202
        assert server.approve("o2", granted=False) == 202
        server.wait_until("o1", "cancelled")
        server.wait_until("o2", "failed")

        assert [server.approve("o1"), server.client.delete("/orders/none").status_code] == [409, 404]
        assert sorted(server.effects()) == ["released o1", "released o2", "reserved o1", "reserved o2"]


@pytest.mark.thorough
def test_an_order_outlives_servers_that_are_killed(folder: Path) -> None:
    with serving(folder) as server:
        server.start("o1")
        server.wait_for("o1", waits_for_approval)
    with serving(folder) as server:
        server.approve("o1")

        assert server.wait_until("o1", "completed")["result"] == "paid, see o1/charge_4"
        assert server.effects() == ["reserved chair", "charged for chair"]


@pytest.mark.thorough
def test_two_processes_serve_one_file_and_one_goes_on_for_the_other(folder: Path) -> None:
    orders = [f"o{number}" for number in range(6)]
    with serving(folder, workers=2) as server:
        for order_id in orders:
            assert server.start(order_id, order_id, seconds=0.3) == 202
            assert server.start(order_id, order_id, seconds=0.3) == 202
        for order_id in orders:
            server.wait_for(order_id, waits_for_approval)
        for order_id in orders:
            assert server.approve(order_id) == 202
        eventually(lambda: any(each.startswith("charged") for each in server.effects()))
        with Engine(server.database) as engine:
            owners = {engine.owner(order_id) for order_id in orders} - {None}
            if owners:
                os.kill(owners.pop(), signal.SIGKILL)  # uvicorn starts another in its place
        for order_id in orders:
            eventually(lambda order_id=order_id: server.status(order_id) == 200)
            eventually(lambda order_id=order_id: _status(server, order_id) == "completed")

        assert sorted(set(server.effects())) == sorted([f"{what} {each}" for what in DONE for each in orders])
        assert sum(each.startswith("reserved") for each in server.effects()) == len(orders)


DONE = ("reserved", "charged for")


def _status(server: Server, order_id: str) -> str:
    """Return the status of an order; nothing while the process that was asked has just been killed."""
    try:
        return str(server.look(order_id)["status"])
    except httpx.TransportError:
        return ""


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_in_the_middle_of_a_step_lets_it_end_and_the_next_server_goes_on(folder: Path, workers: int) -> None:
    with serving(folder, workers) as server:
        server.start("o1", seconds=1.5)
        server.approve("o1")
        server.wait_for("o1", lambda found: found["progress"] == ["charged 0 of 1 (0 %)"])
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(patient(40))

        with Engine(server.database) as engine:
            assert {step.step_key: step.status for step in engine.steps("o1")}["charge_4"] == "completed"
            assert [run.ended for run in engine.runs("o1")][-1] in ("interrupted", "completed")
    with serving(folder, workers) as server:
        assert server.wait_until("o1", "completed")["result"] == "paid, see o1/charge_4"
        assert server.effects() == ["reserved chair", "charged for chair"]
