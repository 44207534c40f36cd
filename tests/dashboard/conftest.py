"""A database with workflows in every state, made once a module."""

from __future__ import annotations

import pytest

from tests.dashboard.flows import make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("a folder") / "my flow.db")
