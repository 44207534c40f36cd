"""Loops: `durable.each`, and where in its loops a cell is.

A place is a path: for each loop, from the outermost, its number in the pass around it, and the pass. The last entry is
the pass that was saved, `end` for a loop that has come to its end, or `left N` for one that was left in pass N.
"""

from __future__ import annotations

import ast
import copy
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from durable.cells.run import CellRun

T = TypeVar("T")
END = "end"
MAX_SHARE = 0.05  # the part of the time that may go into checkpoints
NAME = "__durable_loops__"  # the variable of a cell that has its `Loops`

Place = list[list[int | str]]


class Loop:
    """A loop that the cell is in."""

    def __init__(self, path: Place, number: int, every_seconds: float) -> None:
        self.path, self.number, self.every_seconds = path, number, every_seconds
        self.index = 0  # the pass that it is in
        self.loops = 0  # how many loops that pass has begun
        self.saved = -1  # the last pass that was saved
        self.is_left = False
        self.has_inner = False

    def place(self, at: int | str) -> Place:
        """Return the path to a pass, or to the end."""
        return [*self.path, [self.number, at]]


class Loops:
    """The loops of a running cell, outermost first."""

    def __init__(self, run: CellRun) -> None:
        self._run = run
        self.stack: list[Loop] = []
        self._begun = 0  # loops outside of any other
        self._started = self._saved_at = time.monotonic()
        self._spent = self._cost = 0.0  # seconds for all checkpoints, and for the last

    def each(self, items: Iterable[T], every_seconds: float) -> Iterator[T]:
        """Yield the items whose passes are not on record."""
        loop = self._begin(every_seconds)
        found = self._run.restore_latest(loop.place)
        start = 0
        if found == END:
            start = -1
        elif isinstance(found, str):  # left
            start, loop.is_left = int(found.split()[1]), True
        elif found is not None:
            start = found + 1
        loop.saved = max(start - 1, -1)
        self.stack.append(loop)
        try:
            yield from self._passes(loop, items, start)
        finally:
            del self.stack[self.stack.index(loop) :]

    def _passes(self, loop: Loop, items: Iterable[T], start: int) -> Iterator[T]:
        last = -1
        for index, item in enumerate(items):
            last = index
            if start < 0 or index < start:
                continue
            loop.index, loop.loops = index, 0
            yield item
            if self._is_due(loop):
                self._save(loop, index)
        if start >= 0 and last >= start and loop.saved < last and self._may_save(loop):
            self._save(loop, END)

    def begin_inner(self) -> tuple[Place, int]:
        """Return the path of what begins here, and its number in the pass around it."""
        if not self.stack:
            self._begun += 1
            return [], self._begun
        outer = self.stack[-1]
        outer.loops += 1
        outer.has_inner = True
        return outer.place(outer.index), outer.loops

    def _begin(self, every_seconds: float) -> Loop:
        path, number = self.begin_inner()
        return Loop(path, number, every_seconds)

    def leave(self) -> None:
        """Save that the innermost loop is left by `break`."""
        loop = self.stack[-1]
        if not loop.is_left and self._may_save(loop):
            self._save(loop, f"left {loop.index}")

    def is_left(self) -> bool:
        """Return whether the innermost loop was left by `break` in an earlier life."""
        return self.stack[-1].is_left

    # ---- when to save

    def _may_save(self, loop: Loop) -> bool:
        """Return whether a replay comes to this place without another pass of a loop around it."""
        return all(outer.saved == outer.index - 1 for outer in self.stack[: self.stack.index(loop)])

    def _is_due(self, loop: Loop) -> bool:
        if not self._may_save(loop):
            return False
        if loop.every_seconds <= 0:
            return True
        now = time.monotonic()
        if self._spent + self._cost > MAX_SHARE * (now - self._started):
            return False
        return loop.has_inner or now - self._saved_at >= loop.every_seconds

    def _save(self, loop: Loop, at: int | str) -> None:
        began = time.monotonic()
        self._run.save(loop.place(at))
        if isinstance(at, int):
            loop.saved = at
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began
        self._spent += self._cost


# ---- `break`


def note_breaks(tree: ast.Module) -> ast.Module:
    """Return the code of a cell with each `break` out of a loop over `each` noted, so that it is saved too."""
    changed: ast.Module = ast.fix_missing_locations(_Breaks().visit(copy.deepcopy(tree)))
    return changed


class _Breaks(ast.NodeTransformer):
    def __init__(self) -> None:
        self._is_each = [False]

    def visit_For(self, node: ast.For) -> Any:
        is_each = _is_each(node.iter)
        self._is_each.append(is_each)
        body = self._visit_all(node.body)
        self._is_each.pop()
        if is_each:
            left = ast.copy_location(ast.If(test=_call("is_left"), body=[ast.Break()], orelse=[]), node)
            body = [left, *body]
        node.body, node.orelse = body, self._visit_all(node.orelse)
        return node

    def visit_While(self, node: ast.While | ast.AsyncFor) -> Any:
        self._is_each.append(False)
        node.body = self._visit_all(node.body)
        self._is_each.pop()
        node.orelse = self._visit_all(node.orelse)
        return node

    visit_AsyncFor = visit_While  # noqa: N815

    def visit_Break(self, node: ast.Break) -> Any:
        return [ast.copy_location(ast.Expr(_call("leave")), node), node] if self._is_each[-1] else node

    def visit_FunctionDef(self, node: Any) -> Any:
        return node  # its loops may run outside of a cell

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def _visit_all(self, nodes: list[ast.stmt]) -> list[ast.stmt]:
        changed: list[ast.stmt] = []
        for node in nodes:
            new = self.visit(node)
            changed += new if isinstance(new, list) else [new]
        return changed


def _is_each(node: ast.expr) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "each"


def _call(name: str) -> ast.Call:
    return ast.Call(func=ast.Attribute(ast.Name(NAME, ast.Load()), name, ast.Load()), args=[], keywords=[])
