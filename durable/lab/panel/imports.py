"""The imports of a notebook. A crash takes them too, and a new kernel can run them again at once."""

from __future__ import annotations

import ast

from IPython.core.getipython import get_ipython


def collect_imports() -> str:
    """Return the code of the cells of this kernel that only import; empty outside of a notebook."""
    shell = get_ipython()
    cells = [] if shell is None else shell.user_ns.get("In", [])
    return "\n".join(dict.fromkeys(cell.strip() for cell in cells if _only_imports(cell)))


def import_again(code: str) -> None:
    """Run imports in the namespace of the notebook.

    Raises ValueError for code that does anything else, and whatever an import raises.
    """
    if not _only_imports(code):
        raise ValueError("only imports are run again")
    shell = get_ipython()
    if shell is not None:
        exec(compile(code, "<imports>", "exec"), shell.user_ns)


def _only_imports(code: str) -> bool:
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError):
        return False
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)
