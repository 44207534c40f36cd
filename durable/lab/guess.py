"""What a workflow will probably do next, read from its source. A guess, and shown as one: only running it tells."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_PARALLEL = {"step": False, "submit": True, "map": True, "branch": True}


@dataclass(frozen=True, slots=True)
class Guess:
    """An operation that the source calls. `step_key` is None where a loop or a condition decides about its number."""

    name: str
    step_key: str | None
    is_parallel: bool
    is_branch: bool = False


def guess_steps(workflow: Callable[..., Any]) -> list[Guess]:
    """The operations of a workflow function, in the order of its source. Empty where there is no source to read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(workflow)))
    except (OSError, TypeError, SyntaxError):
        return []
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not function.args.args:
        return []
    reader = _Reader(function.args.args[0].arg)
    for statement in function.body:
        reader.visit(statement)
    return reader.found


class _Reader(ast.NodeVisitor):
    """Collects the calls `ctx.step(...)` and the like, and counts as long as the count is certain."""

    def __init__(self, context: str) -> None:
        self.found: list[Guess] = []
        self._context = context
        self._is_certain = True

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)  # arguments are evaluated before the call
        function = node.func
        if not (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == self._context
            and function.attr in _PARALLEL
        ):
            return
        self._is_certain = self._is_certain and function.attr != "map"
        name = _name(node.args[0]) if node.args else None
        if name is not None:
            key = f"{name}_{len(self.found) + 1}" if self._is_certain else None
            self.found.append(Guess(name, key, _PARALLEL[function.attr], function.attr == "branch"))
        else:
            self._is_certain = False

    def _visit_uncertain(self, node: ast.AST) -> None:
        self._is_certain = False
        self.generic_visit(node)

    visit_If = visit_IfExp = visit_For = visit_AsyncFor = visit_While = visit_Try = visit_Match = _visit_uncertain  # noqa: N815
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_uncertain  # noqa: N815

    def _skip(self, node: ast.AST) -> None:
        """Another function's body is its own affair."""

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _skip  # noqa: N815


def _name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None
