"""The pages of the site that are made from other files at each build, so that they cannot be stale.

The course comes from `notebooks/`, the reference from the docstrings, the help of the commands and `schema.sql`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
COURSE = ROOT / "notebooks"
SCHEMA = ROOT / "durable" / "store" / "schema.sql"

# the classes with pages of their own; the other names of `durable` share one
FACES = ["Context", "Engine"]
MODULES = ["errors", "formats", "clock", "observer", "logs", "testing", "lab", "cells", "on_dbos", "on_pydantic_ai"]
MODULES += ["replay"]
RESULTS = {  # classes that the public functions return, and that no code constructs
    "durable.store.records": ["WorkflowRecord", "StepRecord", "RunRecord", "WaitRecord", "Published", "ProgressRecord"],
    "durable.recovery.recover": ["Recovery"],
    "durable.operations.open_step": ["OpenStep"],
    "durable.operations.race": ["AsCompleted"],
    "durable.values.large": ["Freed"],
}


GIVEN = ["Context", "Future", "Handle", "Moment", "StepInfo", "Transaction"]  # the same, of `durable` itself


def not_constructed() -> set[str]:
    """Return the full names of the classes whose constructor no code of a user calls."""
    return {f"durable.{name}" for name in GIVEN} | {
        f"{module}.{name}" for module, names in RESULTS.items() for name in names
    }


def make_pages() -> None:
    """Write all of them below `docs/`, into folders that git ignores."""
    _make_course(DOCS / "course")
    made = DOCS / "reference" / "made"
    pages = dict(list_name_pages()) | {"commands": commands_page(), "tables": tables_page()}
    made.mkdir(exist_ok=True)
    for old in made.glob("*.md"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        _write(made / f"{name}.md", text)


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:  # what has not changed is not read again
        path.write_text(text, encoding="utf-8")


# ---- the course


def _make_course(folder: Path) -> None:
    """Copy the solved notebooks, with their outputs, and the pages about them."""
    (folder / "solved").mkdir(parents=True, exist_ok=True)
    names = [path.name for path in sorted((COURSE / "solved").glob("*.ipynb"))]
    for old in (folder / "solved").glob("*.ipynb"):
        if old.name not in names:
            old.unlink()
    for name in names:
        if not (folder / "solved" / name).exists() or not _are_equal(
            COURSE / "solved" / name, folder / "solved" / name
        ):
            shutil.copyfile(COURSE / "solved" / name, folder / "solved" / name)
    contents = "\n".join(
        ["```{toctree}", ":hidden:", *[f"solved/{name}" for name in names], "glossary", "for_teachers", "```"]
    )
    index = (COURSE / "README.md").read_text(encoding="utf-8")
    _write(folder / "index.md", f"{_link_solved(index)}\n{contents}\n")
    for page in ("glossary.md", "for_teachers.md"):
        text = (COURSE / page).read_text(encoding="utf-8")
        _write(folder / page, _link_solved(re.sub(r"^### ", "## ", text, flags=re.MULTILINE)))


def _are_equal(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _link_solved(text: str) -> str:
    """Let links to notebooks lead to the solved ones, which are those that the site has."""
    return re.sub(r"\]\((\w+\.ipynb)\)", r"](solved/\1)", text).replace("[solved](solved)", "`solved`")


# ---- the reference


def list_name_pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page of the reference of public names."""
    shown: dict[int, str] = {}  # what has a place already; elsewhere there is a link to it
    durable = importlib.import_module("durable")
    for name in FACES:
        yield name.lower(), _page(f"durable.{name}", [_directive("durable", name, shown)])
    others = [name for name in durable.__all__ if name not in FACES and not _is_error(getattr(durable, name))]
    yield "durable", _page("durable", [_directive("durable", name, shown) for name in others])
    parts = [_directive(module, name, shown) for module, names in RESULTS.items() for name in names]
    text = "The functions of the package return them; no code of yours constructs one."
    yield "records", _page("Records and results", [text, *parts])
    for module in MODULES:
        yield module, _module_page(f"durable.{module}", shown)


def _module_page(name: str, shown: dict[int, str]) -> str:
    module = importlib.import_module(name)
    names = list(getattr(module, "__all__", None) or public_names(module))
    text = f"```{{eval-rst}}\n.. automodule:: {name}\n```"
    return _page(name, [text, *[_directive(name, each, shown) for each in names]])


def public_names(module: Any) -> list[str]:
    """Return the names that a module without `__all__` defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _directive(module: str, name: str, shown: dict[int, str]) -> str:
    value = getattr(importlib.import_module(module), name)
    kind, options = "data", ""
    if inspect.isclass(value):
        kind, options = ("exception" if _is_error(value) else "class"), "   :members:\n"
    elif inspect.isroutine(value):
        kind = "function"
    first = shown.setdefault(id(value), f"{module}.{name}")
    if first != f"{module}.{name}":
        return f"`{name}` is {{py:obj}}`{first}`."
    return f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}\n{options}```"


def _page(title: str, parts: list[str]) -> str:
    return "\n\n".join([f"# {title}", *parts]) + "\n"


# ---- the commands


def commands_page() -> str:
    """Return the page of the commands, each with its help."""
    import typer

    from durable.terminal.cli import app

    group: Any = typer.main.get_command(app)
    context = group.make_context("durable", [], resilient_parsing=True)
    parts = [_help_of("durable", group)]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if not command.hidden:
            parts += [f"## durable {name}", _help_of(f"durable {name}", command)]
    return _page("Commands", parts)


def _help_of(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    return f"```text\n{command.get_help(context)}\n```"


# ---- the tables


def tables_page() -> str:
    """Return the page of the tables, each with its columns."""
    text = SCHEMA.read_text(encoding="utf-8")
    head, _, rest = text.partition("\n\n")
    parts = [_prose(head)]
    for comment, name, columns in re.findall(
        r"((?:^--[^\n]*\n)+)create table if not exists (\w+) \(\n(.*?)^\)", rest, re.MULTILINE | re.DOTALL
    ):
        parts += [f"## {name}", _prose(comment), _column_table(columns)]
    parts += ["## The file", "```{literalinclude} ../../../durable/store/schema.sql\n:language: sql\n```"]
    return _page("Tables", parts)


def _prose(comment: str) -> str:
    """Return the text of a comment. Its indented lines are a list, each with a term of two or more spaces behind it."""
    text = re.sub(r"^-- ?", "", comment, flags=re.MULTILINE).strip()
    text = re.sub(r"\n {9,}", " ", text)
    text = re.sub(r"^\{.*\}$", r"\n`\g<0>`\n", text, flags=re.MULTILINE)
    return re.sub(r"^  (\w+) {2,}", r"- **\1**: ", text, flags=re.MULTILINE).replace(":\n- ", ":\n\n- ", 1)


def _column_table(columns: str) -> str:
    rows = ["| column | type | note |", "|---|---|---|"]
    for line in columns.splitlines():
        definition, _, note = line.strip().partition("--")
        name, _, kind = definition.strip().rstrip(",").partition(" ")
        cells = (
            (f"`{definition.strip().rstrip(',')}`", "", note)
            if "(" in name
            or kind.startswith("(")
            or name
            in (
                "primary",
                "unique",
            )
            else (f"`{name}`", " ".join(kind.split()), note.strip())
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|").strip() for cell in cells) + " |")
    return "\n".join(rows)
