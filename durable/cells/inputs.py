"""Inputs: digests of what a cell reads, by content; through functions and classes of the notebook what those read."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from durable.cells import notebook_code
from durable.cells.errors import CellError
from durable.cells.notebook_code import is_of_notebook
from durable.cells.variables.pack import TAG, Packer, Pickles, Refusal
from durable.values.formats.compare import describe

MISSING = "not bound"
_OF_THE_SHELL = re.compile(r"In|Out|exit|quit|get_ipython|open|_{1,3}|_i{1,3}|_i?\d+|_[ido]h|_exit_code|__\w+__")
CHUNK = 1 << 20


def is_of_shell(name: str) -> bool:
    """Return whether a variable is IPython's, and no part of the notebook."""
    return _OF_THE_SHELL.fullmatch(name) is not None


class Inputs:
    """The digests of what one cell reads. `refused` names what has no content."""

    def __init__(self, variables: dict[str, Any], pickled: frozenset[str], dropped: frozenset[str]) -> None:
        self._variables, self._pickled, self._dropped = variables, pickled, dropped
        self.digests: dict[str, str] = {}
        self.refused: list[Refusal] = []

    def add(self, names: Iterable[str]) -> None:
        """Add these names, and all that the functions and classes among them read."""
        for name in sorted(set(names) - self._dropped):
            if is_of_shell(name):
                continue
            if name in self.digests or name not in self._variables:
                self.digests.setdefault(name, MISSING)
                continue
            value = self._variables[name]
            if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] == "durable":
                continue
            self.digests[name] = self._digest(name, value)
            if is_of_notebook(value):
                self._follow(value)

    def _follow(self, value: Any) -> None:
        """Add what a function or a class of the user's own is made of."""
        for function in notebook_code.functions_in(value):
            self.add(self._read_by(function))
        for base in value.__mro__[1:] if isinstance(value, type) else ():
            self._add_code(base)

    def _add_code(self, value: Any) -> None:
        """Add a function or a class that another input holds."""
        name = value.__name__
        if self._variables.get(name) is value:
            self.add([name])
        elif is_of_notebook(value) and (held := f"{value.__module__}.{value.__qualname__}") not in self.digests:
            self.digests[held] = _digest_of_code(value) or ""
            self._follow(value)

    def _read_by(self, function: types.FunctionType) -> set[str]:
        if function.__globals__ is not self._variables and function.__module__ != "__main__":
            return set()  # its module lies beside the notebook, and is compared as a whole file
        return {name for name in notebook_code.globals_of(function.__code__) if name in self._variables}

    def _digest(self, name: str, value: Any) -> str:
        digest, refusals, code = digest_of(name, value, self._pickled)
        self.refused += refusals
        for held in filter(is_of_notebook, code):
            self._add_code(held)
        return digest


def digest_of(name: str, value: Any, pickled: frozenset[str] = frozenset()) -> tuple[str, list[Refusal], set[Any]]:
    """Return a digest of a variable's content, what of it has none, and the functions and classes in it."""
    if name in pickled:
        try:
            _, [data] = Pickles().dump(value)
        except Exception as error:
            return "", [Refusal((name,), type(value).__qualname__, f"it cannot be pickled ({error})")], set()
        return f"pickle {hashlib.sha256(data).hexdigest()[:24]}", [], set()
    if (digest := _digest_of_code(value)) is not None:
        return digest, [], set()
    packer = Packer()
    tree = packer.pack({name: value})
    if packer.refusals:
        return "", packer.refusals, packer.code
    try:
        return _digest_of_tree(tree), [], packer.code
    except _NoContentError as error:
        return "", [Refusal((name,), error.kind, "it has no content to compare")], packer.code


def _digest_of_code(value: Any) -> str | None:
    """Return the digest of a module, a function or a class; None for any other value."""
    if isinstance(value, types.ModuleType):
        return notebook_code.digest_of_module(value)
    function = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
    if isinstance(function, functools.partial):
        return None
    if isinstance(function, types.FunctionType):
        if not is_of_notebook(function):
            return f"function {function.__module__}:{function.__qualname__}"
        if function.__module__ != "__main__":
            return notebook_code.digest_of_module(sys.modules[function.__module__])
        return notebook_code.digest_of_function(function, _digest_or_type)
    if isinstance(value, type):
        if not is_of_notebook(value):
            return f"class {value.__module__}:{value.__qualname__}"
        return notebook_code.digest_of_class(value)
    if isinstance(function, types.BuiltinFunctionType | types.MethodWrapperType) or type(value).__name__ == "ufunc":
        return f"function {getattr(function, '__module__', '')}:{function.__name__}"
    return None


def _digest_or_type(value: Any) -> str:
    digest, refusals, _ = digest_of("it", value)
    return digest if not refusals else f"{type(value).__module__}:{type(value).__qualname__}"


class _NoContentError(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _digest_of_tree(tree: Any) -> str:
    def content_of(leaf: Any) -> Any:
        found = describe(leaf)
        if found is None:
            raise _NoContentError(f"{type(leaf).__module__}.{type(leaf).__qualname__}")
        return {TAG: found}

    text = msgspec.json.Encoder(enc_hook=content_of).encode(tree)
    return hashlib.sha256(text).hexdigest()[:24]


def digest_of_file(path: str | Path) -> str:
    """Return a digest of a file's content; of a file that is not there, a word."""
    found = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while data := file.read(CHUNK):
                found.update(data)
    except OSError:
        return "no file"
    return found.hexdigest()[:24]


def refuse(cell: str, refusals: list[Refusal], what: str, remedy: str) -> CellError:
    """Return the error that names all that was refused."""
    shown = "; ".join(map(str, refusals[:8]))
    names = sorted({each.name for each in refusals})
    remedy = remedy.replace("{names}", ",".join(names))
    return CellError(f"cell {cell!r}: {what}: {shown}; {remedy}", cell=cell, names=names)
