"""Page: the dashboard as HTML, alone as a report, or for the server of `durable ui`. It makes no request elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any, TextIO

from durable.dashboard.drawn import LOOK, module_of
from durable.dashboard.snapshot import take_all
from durable.dashboard.source import Source

_HERE = Path(__file__).parent
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">{policy}
<title>{title}</title>
<link rel="icon" href="data:,">
{style}
</head>
<body class="durable-page">
<main id="durable-dashboard"><noscript>The dashboard needs JavaScript.</noscript></main>
"""
_END = "</body>\n</html>\n"
_POLICY = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'"


def script() -> str:
    """Return the dashboard as one JavaScript module."""
    return module_of(_HERE / "dashboard.js")


def style() -> str:
    """Return the style sheet of the dashboard."""
    return LOOK.read_text(encoding="utf-8") + (_HERE / "dashboard.css").read_text(encoding="utf-8")


def live_page(database: str) -> str:
    """Return the page of `durable ui`: it loads `dashboard.js` and `dashboard.css` from where it came from."""
    link = '<link rel="stylesheet" href="dashboard.css">'
    page = _PAGE.format(policy="", title=html.escape(database), style=link)
    return f'{page}<script type="module" src="dashboard.js"></script>\n{_END}'


def live_script() -> str:
    """Return the module of `durable ui`."""
    return f'{script()}\nopenLive(document.getElementById("durable-dashboard"));\n'


LIVE_POLICY = f"{_POLICY}; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"


def write_report(reader: Source, out: TextIO, most: int) -> tuple[int, int]:
    """Write a page with the latest workflows, at most so many; return how many it has, and how many there are.

    The page has all that it shows. Its policy allows its own script and style and nothing else, and no request.
    """
    listed, shown = take_all(reader, most)
    code = f'\n{script()}\nopenReport(document.getElementById("durable-dashboard"));\n'
    look = f"\n{style()}"
    policy = f"{_POLICY}; script-src {_hash(code)}; style-src {_hash(look)}"
    meta = f'\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    title = html.escape(f"{listed['database']}, {listed['at'][:10]}")
    out.write(_PAGE.format(policy=meta, title=title, style=f"<style>{look}</style>"))
    out.write(_data("durable-list", listed))
    out.write(f'<script type="module" async>{code}</script>\n')  # it draws the list while the rest is still read
    out.writelines(_data(f"durable-workflow-{place}", each) for place, each in enumerate(shown))
    out.write(_END)
    return len(listed["rows"]), listed["total"]


def _data(name: str, values: Any) -> str:
    """Return values as a block that no browser runs. No text in it can end the block or begin another."""
    text = json.dumps(values, separators=(",", ":"))  # ASCII, so that U+2028 and lone surrogates are escaped
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
