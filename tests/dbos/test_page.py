"""docs/explanation/fleet.md and docs/howto/moving_to_postgresql.md are executed, on a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks_of, faults_of

URL = "postgresql://me@host/workflows"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("page", "addresses"),
    [("explanation/fleet.md", [1, 1, 1, 3]), ("howto/moving_to_postgresql.md", [0, 0, 1, 2, 1, 0])],
)
def test_the_code_of_the_page_runs(postgres_url: str, tmp_path: Path, page: str, addresses: list[int]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [block.code.count(URL) for block in blocks_of(text)] == addresses

    assert list(faults_of(text.replace(URL, postgres_url), tmp_path)) == []
