"""Drawn: what draws the dashboard: one JavaScript module, its look, and the pages that carry both to a browser."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
LOOK = _HERE / "look.css"  # the style sheet of the panel and the dashboard


def module_of(script: Path) -> str:
    """Return a script and what it draws with as one JavaScript module."""
    return (_HERE / "drawing.js").read_text(encoding="utf-8") + script.read_text(encoding="utf-8")
