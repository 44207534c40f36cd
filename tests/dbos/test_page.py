"""docs/explanation/fleet.md is executed, on a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks_of, faults_of

PAGE = (ROOT / "docs" / "explanation" / "fleet.md").read_text(encoding="utf-8")


@pytest.mark.thorough
def test_the_code_of_the_page_runs(postgres_url: str, tmp_path: Path) -> None:
    url = "postgresql://me@host/workflows"
    assert [block.code.count(url) for block in blocks_of(PAGE)] == [1, 1, 1, 3]

    assert list(faults_of(PAGE.replace(url, postgres_url), tmp_path)) == []
