"""docs/howto/cells.md is executed: its kernel is killed in the loop, and the next one brings back what was done."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cells.life import live
from tests.cells.world import Kill

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "cells.md").read_text(encoding="utf-8")
CELLS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_cells_of_the_page_survive_their_kernel(tmp_path: Path) -> None:
    killed = live(tmp_path, CELLS, Kill(crash_at="pass_4:executed"))
    lives = [live(tmp_path, CELLS) for _ in range(2)]
    edited = live(tmp_path, [cell.replace("SCALE = 2", "SCALE = 3") for cell in CELLS])

    assert killed is None
    for told in lives:
        assert told is not None
        assert told.errors == [""] * len(CELLS)
        assert told.texts[2:4] == ["10 numbers\n", "".join(f"epoch {number}\n" for number in range(6))]
    assert lives[0] is not None
    assert lives[1] is not None
    assert lives[0].variables["losses"][1:] == lives[1].variables["losses"][1:]
    assert edited is not None
    assert "load runs again: SCALE changed\n" in edited.texts[2]
    assert "load runs again: SCALE changed" in PAGE
    assert [line.split()[:2] for line in lives[1].texts[-1].splitlines()[1:]] == [
        [name, "done"] for name in ("load", "train", "fetch", "pattern")
    ]
