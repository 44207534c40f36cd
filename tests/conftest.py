"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.postgres import Server


def left_out(config: pytest.Config) -> set[str]:
    """Return the markers of the tests that this call leaves out; see the markers in pyproject.toml.

    A call that names markers (-m) or single tests (file.py::test) has chosen for itself. Only a soak must be named.
    """
    has_chosen = bool(config.option.markexpr) or any("::" in argument for argument in config.args)
    return ({"soak"} if "soak" not in config.option.markexpr else set()) | (set() if has_chosen else {"thorough"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless it is asked for."""
    names = left_out(config)
    dropped, kept = [], []
    for item in items:
        (dropped if any(item.get_closest_marker(name) for name in names) else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI everything that the tests need is installed, so a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI"):
        return
    skipped = reporter.stats.get("skipped", [])
    for report in skipped:
        reporter.write_line(f"SKIPPED, which CI counts as a failure: {report.nodeid}: {report.longrepr}")
    if skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database file that does not exist yet."""
    return tmp_path / "workflow.db"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The server of this process. A test that stops it or kills it uses `own_postgres`."""
    from tests.support.postgres import Server  # it loads pandas and matplotlib, which most tests do without

    with Server({"max_connections": "300"}) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """The URL of an empty database of the test's own."""
    return postgres_server.new_database()


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A server of the test's own, which it may stop, kill and start."""
    from tests.support.postgres import Server

    with Server({"max_connections": "300"}) as server:
        yield server
