"""The code of a notebook: what a cell reads, binds and defines, and digests of functions and classes.

Comments and spacing do not count. A digest of a function covers its code and what it is bound to, not what it reads:
each global that it reads is an input of its own.
"""

from __future__ import annotations

import ast
import builtins
import dis
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OWN = str(Path(__file__).parent.parent)
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
Definition = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Code(NamedTuple):
    """The code of one cell."""

    text: str  # without comments and spacing
    tree: ast.Module
    reads: frozenset[str]  # names that it reads and has not bound before
    binds: frozenset[str]  # names of variables that it may bind
    definitions: tuple[ast.stmt, ...]  # what is always executed: imports, functions, classes


def read_code(source: str) -> Code:
    """Return the code of a cell. Raises SyntaxError, and ValueError for a cell magic within it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "run_cell_magic":
            raise ValueError("it holds a cell magic, whose code cannot be seen; put that into a cell of its own")
    flow = _Flow()
    for statement in tree.body:
        flow.visit(statement)
    late = set().union(*map(globals_of, _inner(_compile(tree))), set())
    definitions = tuple(statement for statement in tree.body if _defines(statement))
    defined = {name for statement in definitions for name in _names_defined(statement)}
    return Code(
        ast.unparse(tree),
        tree,
        frozenset((flow.reads | (late - flow.bound - flow.ever)) - set(dir(builtins))),
        frozenset(flow.ever - defined),
        definitions,
    )


def _compile(tree: ast.Module) -> types.CodeType:
    code: types.CodeType = compile(tree, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def _inner(code: types.CodeType) -> Iterator[types.CodeType]:
    return (const for const in code.co_consts if isinstance(const, types.CodeType))


def globals_of(code: types.CodeType) -> set[str]:
    """Return the names of globals that a function reads, in functions within it too."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname in _LOADS}
    return names.union(*map(globals_of, _inner(code)))


def _defines(statement: ast.stmt) -> bool:
    if isinstance(statement, Definition):
        return True
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, ast.Lambda) and all(isinstance(each, ast.Name) for each in statement.targets)
    if isinstance(statement, ast.If):
        return all(map(_defines, [*statement.body, *statement.orelse]))
    if isinstance(statement, ast.Try):
        handlers = [each for handler in statement.handlers for each in handler.body]
        return all(_defines(each) or isinstance(each, ast.Pass) for each in [*statement.body, *handlers])
    return False


def _names_defined(statement: ast.stmt) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return names


class _Flow(ast.NodeVisitor):
    """Goes through a cell as it is executed. `bound` are the names that are bound for certain."""

    def __init__(self) -> None:
        self.bound, self.ever, self.reads = set[str](), set[str](), set[str]()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        elif node.id not in self.bound:
            self.reads.add(node.id)

    def _bind(self, name: str) -> None:
        self.bound.add(name)
        self.ever.add(name)

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def _maybe(self, *ways: Iterable[ast.AST]) -> set[str]:
        """Visit each way by itself. Return the names that all of them bind."""
        before, after = set(self.bound), list[set[str]]()
        for way in ways:
            self.bound = set(before)
            self._visit_all(way)
            after.append(self.bound)
        self.bound = set.intersection(*after)
        return self.bound

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit_all([node.value, *node.targets])

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name) and node.target.id not in self.bound:
            self.reads.add(node.target.id)
        self._visit_all([node.value, node.target])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_all([node.annotation, node.value])
        if node.value is not None:
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._visit_all([node.value, node.target])

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._maybe(node.body, node.orelse)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._maybe([node.target, *node.body], [])
        self._maybe(node.orelse, [])

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._maybe(node.body, [])
        self._maybe(node.orelse, [])

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self._visit_all([item.context_expr, item.optional_vars])
        self._maybe(node.body, [])

    visit_AsyncWith = visit_With  # noqa: N815

    def visit_Try(self, node: ast.Try) -> None:
        handlers = [[handler] for handler in node.handlers]
        self._maybe([*node.body, *node.orelse], *handlers)
        self._visit_all(node.finalbody)

    visit_TryStar = visit_Try  # type: ignore[assignment]  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._visit_all([node.type])
        if node.name is not None:
            self.bound.add(node.name)  # it is gone after the handler
        self._visit_all(node.body)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        self._maybe(*([case] for case in node.cases), [])

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._visit_all([node.pattern])
        if node.name is not None:
            self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name is not None:
            self._bind(node.name)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                if target.id not in self.bound:
                    self.reads.add(target.id)
                self.bound.discard(target.id)
            else:
                self.visit(target)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name in _names_defined(node):
            self.bound.add(name)

    visit_ImportFrom = visit_Import  # noqa: N815

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all([*node.decorator_list, *node.args.defaults, *node.args.kw_defaults])
        self.bound.add(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *(each.value for each in node.keywords)])
        self._within(node.body, set())
        self.bound.add(node.name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_all([*node.args.defaults, *node.args.kw_defaults])

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        targets = {
            name.id
            for each in node.generators
            for name in ast.walk(each.target)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        result = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        parts = [part for each in node.generators for part in (each.iter, *each.ifs)]
        self._within([*parts, *result], targets)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # noqa: N815

    def _within(self, nodes: Iterable[ast.AST], local: set[str]) -> None:
        """Visit what has names of its own."""
        bound, ever = set(self.bound), set(self.ever)
        self.bound |= local
        walrus = {
            each.target.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.NamedExpr)
        }  # these are the cell's
        self._visit_all(nodes)
        self.bound, self.ever = bound | walrus, ever | walrus


# ---- digests


def is_of_notebook(kind: Any) -> bool:
    """Return whether a class or a function is the user's own: of the notebook, or of a module beside it."""
    name = getattr(kind, "__module__", None)
    if name == "__main__":
        return True
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module is not None and is_own_module(module)


def is_own_module(module: types.ModuleType) -> bool:
    """Return whether a module is the user's own file."""
    path = getattr(module, "__file__", None)
    return path is not None and not path.startswith((_OWN, *_LIBRARIES)) and "site-packages" not in path


def digest_of_module(module: types.ModuleType) -> str:
    """Return the content of a module of the user's own; of another, its version."""
    name = module.__name__
    if is_own_module(module) and module.__file__ is not None:
        return f"module {name} {hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()[:16]}"
    root = sys.modules.get(name.partition(".")[0], module)
    return f"module {name} {getattr(root, '__version__', '')}".rstrip()


def digest_of_function(function: types.FunctionType, digest: Callable[[Any], str]) -> str:
    """Return a digest of a function's code, its defaults and what its closure holds."""
    held: list[Any] = [_shape(function.__code__)]
    bound = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            bound.append(cell.cell_contents)
        except ValueError:  # not bound yet
            bound.append(None)
    held += ["itself" if one is function else digest(one) for one in bound]
    return f"function {_short(held)}"


def digest_of_class(kind: type) -> str:
    """Return a digest of a class of the user's own: its bases, its functions and its other attributes."""
    held: list[Any] = [[f"{base.__module__}:{base.__qualname__}" for base in kind.__mro__[1:]]]
    for name, value in sorted(vars(kind).items()):
        if name in ("__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__"):
            continue
        for each in (getattr(value, "fget", None), getattr(value, "fset", None), getattr(value, "__func__", value)):
            if isinstance(each, types.FunctionType):
                held.append([name, _shape(each.__code__)])
            elif isinstance(each, int | float | str | bool | tuple | type(None)) and each is not None:
                held.append([name, repr(each)])
    if "__annotations__" in vars(kind):
        held.append(sorted(f"{name}: {hint}" for name, hint in inspect.get_annotations(kind).items()))
    return f"class {_short(held)}"


def functions_in(value: Any) -> list[types.FunctionType]:
    """Return the functions of the user's own that a function or a class is made of."""
    value = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
    if isinstance(value, types.FunctionType):
        return [value]
    if not isinstance(value, type):
        return []
    held = [getattr(each, "fget", None) or getattr(each, "__func__", each) for each in vars(value).values()]
    return [each for each in held if isinstance(each, types.FunctionType)]


def _shape(code: types.CodeType) -> list[Any]:
    """Return what a function does: its code without names of files and numbers of lines."""
    consts = [
        _shape(const) if isinstance(const, types.CodeType) else sorted(map(repr, const)) if isinstance(const, frozenset)
        else repr(const)
        for const in code.co_consts
    ]  # fmt: skip
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_argcount]
    return [code.co_code.hex(), consts, names, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags]


def _short(held: Any) -> str:
    return hashlib.sha256(repr(held).encode()).hexdigest()[:16]
