"""Target: the workflow function that `durable run` names, and its arguments from `--input`."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from durable.errors import DurableError, SerializationError
from durable.recovery.names import name_of_workflow
from durable.terminal.output.failure import short_traceback
from durable.terminal.output.usage import UsageError, suggest
from durable.values import codec

EXAMPLES = ("onboarding", "loop", "conditional", "zombie", "approval", "saga")
FORMS = f"an example ({', '.join(EXAMPLES)}), package.module:function or path/to/file.py:function"


@dataclass(frozen=True)
class Target:
    """A workflow function, and the name that the user gave."""

    text: str
    fn: Callable[..., Any]

    @property
    def function(self) -> str:
        """Return `module:qualname`, as the database has it."""
        return name_of_workflow(self.fn)

    def arguments(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode the arguments in a JSON object by parameter name, as the annotated types of the parameters."""
        try:
            given = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except msgspec.ValidationError:
            raise UsageError(f"--input {text}: expected a JSON object of arguments, as in {self._example()}") from None
        except ValueError as error:  # a lone surrogate is one too
            raise UsageError(
                f"--input {text!r} is not valid JSON ({error}); expected an object, as in {self._example()}"
            ) from None
        try:
            named = msgspec.json.encode(self._sort_out(given)).decode()
            return codec.decode_arguments(self.fn, named, "--input")
        except SerializationError as error:
            cause = error.__cause__ or error
            raise UsageError(f"{error.subject.rstrip(',')} does not fit {error.type_name}: {cause}") from None

    def _sort_out(self, given: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
        """Split the arguments: those of named parameters, and the rest as `**kwargs` if the function takes them."""
        parameters = self._parameters()
        known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        rest = {name: raw for name, raw in given.items() if name not in known}
        taker = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
        if not rest:
            return given
        if not taker:
            name = next(iter(rest))
            hint = suggest(name, known) or f"; it takes {', '.join(known) or 'none'}"
            raise UsageError(f"--input: {self.text} has no argument {name!r}{hint}")
        kept: dict[str, msgspec.Raw] = {name: raw for name, raw in given.items() if name in known}
        return kept | {taker[0]: msgspec.Raw(msgspec.json.encode(rest))}

    def _parameters(self) -> list[inspect.Parameter]:
        return list(codec.signature_of(self.fn).parameters.values())[1:]

    def _example(self) -> str:
        for parameter in self._parameters():
            try:
                return msgspec.json.encode({parameter.name: parameter.default}).decode()
            except TypeError:
                return f'{{"{parameter.name}": ...}}'
        return "{}"


def find_target(text: str) -> Target:
    """Return the function that a WORKFLOW argument names. Raises UsageError."""
    if text in EXAMPLES:
        return Target(text, getattr(importlib.import_module(f"durable.examples.{text}"), text))
    place, qualname = split(text)
    if not qualname:
        raise _incomplete(text)
    module = _load_file(Path(place)) if is_file_name(place) else _load_module(place)
    try:
        fn = functools.reduce(getattr, qualname.split("."), module)
    except AttributeError:
        functions = [name for name, value in vars(module).items() if callable(value)]
        raise UsageError(f"{place} has no function {qualname!r}{suggest(qualname, functions)}") from None
    try:
        name_of_workflow(fn)  # type: ignore[arg-type]
    except DurableError as error:
        raise UsageError(f"{text}: {error}") from None
    return Target(text, fn)  # type: ignore[arg-type]


def import_modules(places: Iterable[str]) -> list[str]:
    """Import modules and files, and return the names of all whose functions may be run, our examples among them.

    Raises UsageError.
    """
    sys.path.insert(0, "")
    modules = [_load_file(Path(place)) if is_file_name(place) else _load_module(place) for place in places]
    return [*(module.__name__ for module in modules), *(f"durable.examples.{example}" for example in EXAMPLES)]


def split(text: str) -> tuple[str, str]:
    """Split `place:function`; the second is empty if no function is named. The colon of a drive names none."""
    place, _, qualname = text.rpartition(":")
    if place and all(part.isidentifier() for part in qualname.split(".")):
        return place, qualname
    return text, ""


def is_file_name(place: str) -> bool:
    """Return whether this is the path of a file; else it is the name of a module."""
    return place.endswith(".py") or "/" in place or "\\" in place


def _incomplete(text: str) -> UsageError:
    place = text.rstrip(":")
    if is_file_name(place):
        return UsageError(f"{place}: name the function too, as in {place}:{_guess_function(Path(place))}")
    if "." in place:
        return UsageError(f"{place}: name the function too, as in {place}:FUNCTION")
    return UsageError(f"no example {text!r}{suggest(text, EXAMPLES) or f'; expected {FORMS}'}")


def _guess_function(path: Path) -> str:
    """Return a function of the file that looks like a workflow. The file is read, not run."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return "FUNCTION"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = (node.args.posonlyargs + node.args.args)[:1]
            annotation = first and first[0].annotation
            if first and (first[0].arg == "ctx" or (annotation and "Context" in ast.unparse(annotation))):
                return node.name
    return "FUNCTION"


def _load_file(path: Path) -> ModuleType:
    """Import a file under the name it would have as a module, so that its workflows are the same ones as elsewhere."""
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}")
    path = path.resolve()
    name = path.name.removesuffix(".py")
    loaded = sys.modules.get(name)
    if loaded is not None:
        raise UsageError(f"{str(path)!r}: a module {name!r} is in use by Python itself; give the file another name")
    sys.path.insert(0, str(path.parent))
    loader = SourceFileLoader(name, str(path))
    spec = ModuleSpec(name, loader, origin=str(path))
    spec.has_location = True
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    _import(path.name, lambda: loader.exec_module(module))
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, "")  # the current folder, as `python -m` does
    _import(name, lambda: importlib.import_module(name))
    return sys.modules[name]


def _import(name: str, load: Callable[[], object]) -> None:
    try:
        load()
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {error.name!r} here; expected {FORMS}") from None
        raise UsageError(f"{name} cannot be imported: {error}", details=short_traceback(error)) from error
    except Exception as error:
        raise UsageError(
            f"{name} cannot be imported: {type(error).__name__}: {error}", details=short_traceback(error)
        ) from error
    except SystemExit as error:
        raise UsageError(
            f"{name} ends the process when it is imported; put that under if __name__ == '__main__'"
        ) from error
