"""Print how large the package is: code lines by room, without comments, docstrings and blank lines.

python -m tests.sizes            one line per room
python -m tests.sizes --modules  one line per module as well
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "durable"
ROOMS = ("replay", "operations", "values", "parallel", "store", "waiting", "limits", "recovery")
TOP = "top level"  # the modules of the package itself
MODULE_LIMIT = 330


def count_lines(source: str) -> int:
    """Count the lines that hold code: no comment, no docstring, no blank line."""
    tree = ast.parse(source)
    lines = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt | ast.excepthandler | ast.expr | ast.arg | ast.keyword | ast.alias)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    text = source.splitlines()
    return sum(1 for line in lines if text[line - 1].strip() and not text[line - 1].lstrip().startswith("#"))


def measure() -> dict[str, int]:
    """Return the code lines of each module, by its path below the package."""
    return {
        path.relative_to(PACKAGE).as_posix(): count_lines(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def by_room(modules: dict[str, int]) -> Counter[str]:
    """Add the modules up by room."""
    rooms: Counter[str] = Counter()
    for path, lines in modules.items():
        rooms[path.partition("/")[0] if "/" in path else TOP] += lines
    return rooms


def engine_side(modules: dict[str, int]) -> int:
    """Return the code lines of the top level and the rooms from replay/ to recovery/."""
    rooms = by_room(modules)
    return rooms[TOP] + sum(rooms[room] for room in ROOMS)


def main() -> None:
    """Print the figures."""
    modules = measure()
    if "--modules" in sys.argv:
        for path, lines in modules.items():
            print(f"{lines:6,}  {path}")
        print()
    for room, lines in by_room(modules).most_common():
        print(f"{lines:6,}  {room}")
    largest = max(modules, key=lambda path: modules[path])
    print(f"\nengine side {engine_side(modules):,}; largest module {largest} {modules[largest]} (limit {MODULE_LIMIT})")


if __name__ == "__main__":
    main()
