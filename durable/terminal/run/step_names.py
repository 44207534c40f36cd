"""The names of a workflow's steps, read from its source; none if the source does not show them for certain."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from durable.errors import DurableError
from durable.replay.call import split_name

_NAMED = ("step", "submit", "map", "transaction", "on_failure", "wait_event", "event", "publish", "patched")
_OTHERS = ("sleep", "sleep_until", "timer", "first", "as_completed", "now", "random", "uuid4")  # named by the engine


def names_without(fn: Callable[..., Any], step: str) -> list[str]:
    """Return the names of all steps if a crash point's step is certainly none of them; else none."""
    names = _find_names(fn)
    last = step.rpartition("/")[2]  # the id of the workflow may stand before it
    if names is None or step == "workflow" or {last, re.sub(r"_\d+$", "", last)} & {*names, *_OTHERS, "workflow"}:
        return []
    return names


def _find_names(fn: Callable[..., Any]) -> list[str] | None:
    """Return all names that its calls of `ctx` give, or None if one is not plain or `ctx` goes elsewhere."""
    try:
        function = ast.parse(textwrap.dedent(inspect.getsource(fn))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    is_plain = isinstance(fn, FunctionType) and inspect.unwrap(fn) is fn
    if not (is_plain and isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.args.args):
        return None
    context = function.args.args[0].arg
    uses = sum(isinstance(node, ast.Name) and node.id == context for node in ast.walk(function))
    calls = sorted(_calls_of(function, context), key=lambda call: (call.lineno, call.col_offset))
    reads = sum(ast.unparse(node) == f"{context}.workflow_id" for node in ast.walk(function))
    if uses != len(calls) + reads:  # it is given to a helper, say, or kept under another name
        return None
    found = [_name_in(call, fn, function) for call in calls]
    return None if None in found else list(dict.fromkeys(name for name in found if name))


def _calls_of(function: ast.AST, context: str) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            subject = node.func.value
            if isinstance(subject, ast.Name) and subject.id == context:
                yield node


def _name_in(call: ast.Call, fn: Any, function: ast.AST) -> str | None:
    """Return the name that a call gives to its step; empty if the engine names it, None if it cannot be known."""
    operation = call.func.attr  # type: ignore[attr-defined]
    if operation in _OTHERS:
        return ""
    if operation not in _NAMED or not call.args:
        return None
    first = call.args[0]
    if isinstance(first, ast.Constant):
        return first.value if isinstance(first.value, str) else None
    if isinstance(first, ast.Name | ast.Attribute) and not _names_in(first) & _bound_in(function):
        try:
            return split_name(_value_of(first, fn.__globals__), ())[0]
        except (AttributeError, LookupError, TypeError, DurableError):
            return None
    return None


def _value_of(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names[node.id] if node.id in names else vars(builtins)[node.id]
    if isinstance(node, ast.Attribute):
        owner = _value_of(node.value, names)
        if isinstance(owner, ModuleType | type):
            return getattr(owner, node.attr)
    raise LookupError(ast.dump(node))


def _names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _bound_in(function: ast.AST) -> set[str]:
    """Return the names that are bound anywhere in a function: they are not globals."""
    bound = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node is not function:
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
    return bound
