"""The site: `sphinx-build -W -b html docs OUT`. It asks the network for nothing, and neither do its pages."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from made import make_pages, not_constructed  # noqa: E402 - beside this file

import durable.errors  # noqa: E402

make_pages()

project = "durable"
author = copyright = "the authors of durable"  # noqa: A001 - the name that Sphinx asks for
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

nb_execution_mode = "off"  # the notebooks come with their outputs, and tests run them
nb_ipywidgets_js: dict[str, str] = {}  # else each page asks a server for scripts
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
highlight_language = "text"
default_role = "py:obj"  # `Context.step` in a docstring is a link; what is no name of ours is code

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "durable"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_search_summary = False  # it would fetch each page, and a page that is opened as a file may not
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
}
html_sidebars = {"index": []}


def _without_overloads(analyze: Any) -> Any:
    """Show the signature that runs. The overloads are for type checkers; `ctx.map` alone has eight."""

    def analyze_and_forget(self: ModuleAnalyzer) -> None:
        analyze(self)
        self.overloads = {}

    return analyze_and_forget


ModuleAnalyzer.analyze = _without_overloads(ModuleAnalyzer.analyze)  # type: ignore[method-assign]


ERRORS = {name for name in vars(durable.errors) if name[0].isupper()}
TEXT, CODE, ERROR = r"[*|\\_]", r"(`[^`]*`)", rf"\b({'|'.join(sorted(ERRORS))})\b"


def to_rst(lines: list[str]) -> list[str]:
    """Turn a docstring of ours into reStructuredText: indented lines are code, and no character but ` is markup."""
    done: list[str] = []
    block: list[str] = []
    for line in [*lines, "end"]:
        if line.startswith(("    ", ">>>")) or (block and not line.strip()) or _is_output(block, line):
            block.append(line)
            continue
        if block:
            done += ["", f".. code-block:: {_language_of(block)}", "", *(f"    {each}" for each in block), ""]
            block = []
        done.append(_to_text(line))
    return done[:-1]


def _is_output(block: list[str], line: str) -> bool:
    """Return whether a line that is not indented belongs to an example that is not indented either."""
    return bool(block) and block[0].startswith(">>>") and bool(block[-1].strip()) and bool(line.strip())


def _language_of(block: list[str]) -> str:
    code = textwrap.dedent("\n".join(block))
    if code.startswith(">>>"):
        return "pycon"
    try:
        ast.parse(code)
    except SyntaxError:
        return "text"
    return "python"


def _to_text(line: str) -> str:
    return "".join(_to_code(part) if part.startswith("`") else _to_prose(part) for part in re.split(CODE, line))


def _to_code(part: str) -> str:
    return part if re.fullmatch(r"`[\w.]+`", part) else f"`{part}`"  # a name can be a link, other code is literal


def _to_prose(part: str) -> str:
    return _link_errors(re.sub(TEXT, r"\\\g<0>", part))


def _link_errors(text: str) -> str:
    return re.sub(ERROR, r"\\ :py:obj:`~durable.errors.\1`\\ ", text)


def _convert(_app: Any, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    is_of_type = what == "data" and getattr(obj, "__doc__", None) == type(obj).__doc__
    lines[:] = [] if is_of_type else to_rst(lines)


def _shorten(
    _app: Any, what: str, name: str, _obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Leave out the constructor of what only the engine constructs, and `Any`, which says nothing."""
    if what == "class" and name in not_constructed():
        return "", None
    if signature is None:
        return None
    short = re.sub(r": (?:~?typing\.)?Any(?=[,)])", "", signature)
    short = re.sub(r": (?:~?typing\.)?Any = ", "=", short).replace("=typing.Any", "=Any")
    return short, None if returns in ("Any", "typing.Any", "~typing.Any") else returns


def setup(app: Any) -> None:
    """Have each docstring and each signature converted."""
    app.connect("autodoc-process-docstring", _convert)
    app.connect("autodoc-process-signature", _shorten)
