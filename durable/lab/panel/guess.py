"""The probable next steps of a workflow, read from its source. They are shown as guesses: only a run decides."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

_PARALLEL = {"step": False, "submit": True, "map": True, "branch": True, "child": True, "event": True, "timer": True}
# these go by the name of their first argument
_NAMED = ("step", "submit", "map", "branch", "child", "on_failure", "wait_event", "event", "publish")
_SLEEPS = ("sleep", "sleep_until", "timer")
_ONE_KEY = ("step", "submit", "branch", "child", "on_failure", "wait_event", "event", *_SLEEPS)  # each takes one number


@dataclass(frozen=True, slots=True)
class Guess:
    """An operation that the source calls. `step_key` is None where a loop or a condition decides about its number.

    `is_conditional` if it may not come at all, `is_repeated` if it is in a loop. `bounds` tells the limits of
    a map, and `count` is the number of its items, if the source or the arguments of the workflow tell.
    """

    name: str
    step_key: str | None
    is_parallel: bool
    is_branch: bool = False
    is_conditional: bool = False
    is_repeated: bool = False
    operation: str = field(default="", compare=False)
    bounds: str = ""
    count: int | None = None


def guess_steps(workflow: Callable[..., Any], arguments: Mapping[str, Any] | None = None) -> list[Guess]:
    """Return the operations of a workflow function, in the order of its source. Empty if there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(workflow)))
    except (OSError, TypeError, SyntaxError):
        return []
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not function.args.args:
        return []
    reader = _Reader(function.args.args[0].arg, _defaults_of(workflow) | dict(arguments or {}))
    for statement in function.body:
        reader.visit(statement)
    return reader.found


class _Reader(ast.NodeVisitor):
    """Collects the calls `ctx.step(...)` and the like, and counts as long as the count is certain."""

    def __init__(self, context: str, arguments: Mapping[str, Any]) -> None:
        self.found: list[Guess] = []
        self._context, self._arguments = context, arguments
        self._is_certain = True
        self._conditions = self._loops = 0  # how deep within them
        self._awaited: ast.expr | None = None

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "result":
            self._awaited = function.value  # ctx.submit(...).result() runs nothing in parallel with the next step
        is_awaited = self._awaited is node
        self.generic_visit(node)  # arguments are evaluated before the call
        if (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == self._context
        ):
            self._note(function.attr, node, is_awaited)

    def visit_Await(self, node: ast.Await) -> None:
        self._awaited = node.value
        self.generic_visit(node)

    def _note(self, operation: str, node: ast.Call, is_awaited: bool) -> None:
        """Add an operation. An unknown one goes by its own name, and makes the count uncertain, as a map does."""
        self._is_certain = self._is_certain and operation in _ONE_KEY
        if operation in _NAMED:
            name = _name(node.args[0]) if node.args else None
        else:
            name = "sleep" if operation in _SLEEPS else operation
        if name is None:
            self._is_certain = False
            return
        is_parallel = _PARALLEL.get(operation, False) and (operation == "map" or not is_awaited)
        key = f"{name}_{len(self.found) + 1}" if self._is_certain else None
        within = (self._conditions > 0, self._loops > 0)
        guess = Guess(name, key, is_parallel, operation == "branch", *within, operation)
        if operation == "map":
            guess = replace(guess, bounds=_bounds(node), count=self._count(node.args[1:2]))
        self.found.append(guess)

    def _count(self, items: Sequence[ast.expr]) -> int | None:
        """Return the number of items of a map: of a list, a range of a number, or an argument of the workflow."""
        match items:
            case [ast.List(elts) | ast.Tuple(elts)]:
                return len(elts)
            case [ast.Call(ast.Name("range"), [ast.Constant(int(count))])]:
                return count
            case [ast.Call(ast.Name("range"), [ast.Name(name)])] if isinstance(self._arguments.get(name), int):
                return int(self._arguments[name])
            case [ast.Name(name)] if isinstance(self._arguments.get(name), Sized):
                return len(self._arguments[name])
        return None

    def _visit_condition(self, *nodes: ast.AST) -> None:
        self._is_certain = False
        self._conditions += 1
        self._visit_all(nodes)
        self._conditions -= 1

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)  # the test itself runs in any case
        self._visit_condition(*node.body, *node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._visit_condition(node.body, node.orelse)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        self._visit_condition(*node.cases)

    def visit_Try(self, node: ast.Try) -> None:
        self._is_certain = False
        self._visit_all(node.body)
        self._visit_condition(*node.handlers, *node.orelse)
        self._visit_all(node.finalbody)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._visit_loop(*node.body)
        self._visit_all(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        self._visit_loop(node.test, *node.body)

    def _visit_loop(self, *nodes: ast.AST) -> None:
        self._is_certain = False
        self._loops += 1
        self._visit_all(nodes)
        self._loops -= 1

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def visit_ListComp(self, node: ast.AST) -> None:
        self._visit_loop(*ast.iter_child_nodes(node))

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # noqa: N815
    visit_AsyncFor = visit_For  # noqa: N815

    def _skip(self, node: ast.AST) -> None:
        """Skip the body of an inner function."""

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _skip  # noqa: N815


def _bounds(node: ast.Call) -> str:
    """Return the limits of a map in words, as far as they are numbers in the source."""
    told = {
        word.arg: word.value.value
        for word in node.keywords
        if isinstance(word.value, ast.Constant) and word.value.value is not None
    }
    words = {"per_second": "at most {} per second", "max_concurrent": "at most {} at once"}
    return ", ".join(text.format(told[name]) for name, text in words.items() if name in told)


def _defaults_of(workflow: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(workflow).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return None if "/" in node.value else node.value  # which no step can have in its name, as its run will say
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None
