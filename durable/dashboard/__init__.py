"""The workflows of a database as one page, and the facts and drawings that the lab shares with it. Knows no Jupyter.

`snapshot` turns rows into data, `dashboard.js` draws the data. Three doors lead there: the widget of the lab,
`durable report` and `durable ui`.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
LOOK = _HERE / "look.css"  # the style sheet of the panel and the dashboard


def module_of(script: Path) -> str:
    """Return a script and what it draws with as one JavaScript module."""
    return (_HERE / "drawing.js").read_text(encoding="utf-8") + script.read_text(encoding="utf-8")
