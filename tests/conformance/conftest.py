"""Fixtures: each test is run on both engines, and those of the replay rule on the log in memory, too."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dbos import DBOS

from tests.conformance import world
from tests.conformance.engines import Lab
from tests.support.postgres import Server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def dbos_database(postgres_server: Server) -> Callable[[], str]:
    """Makes a database that has DBOS's tables already: copying one takes a tenth of the time of making them."""
    DBOS.migrate(postgres_server.create_database("conformance"))
    return lambda: postgres_server.create_database(f"conformance_{next(_numbers)}", template="conformance")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on what keeps its promise."""
    if "lab" in metafunc.fixturenames:
        names = ["sqlite", "dbos", "memory"] if hasattr(metafunc.function, "is_also_in_memory") else ["sqlite", "dbos"]
        metafunc.parametrize("lab", names, indirect=True)


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """An engine with nothing in it, and a world in which nothing has happened."""
    monkeypatch.setenv(world.WORLD, str(tmp_path / "world.log"))
    place = str(tmp_path / "workflow.db")
    if request.param == "dbos":
        place = request.getfixturevalue("dbos_database")()
    yield Lab(request.param, place)
    world.settings.clear()
