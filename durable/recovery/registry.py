"""Registry: the workflow functions that an engine may run by their recorded names.

A database names functions. Another process that writes to it must not choose the code that this process runs.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

from durable.errors import DurableError, WorkflowNotFoundError
from durable.recovery.names import (
    find_declared,
    find_workflow_function,
    former_names_of,
    how_to_declare,
    name_of_workflow,
    note_moves,
)
from durable.replay import Frame
from durable.store.records import WorkflowRecord
from durable.values import codec
from durable.values.exactness import is_typed
from durable.values.modules import find_module, module_of

if typing.TYPE_CHECKING:  # few workflows need it: `import durable` stays fast
    from durable.values.large import Read

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Registry:
    """The functions of one engine. A recorded function is run in one of three cases.

    It was passed to this engine. Or its module is imported, and its first parameter is annotated `Context`. Or it is
    defined in one of `modules`, and its first parameter is annotated `Context` or has no annotation (one that cannot
    be evaluated counts as none). A class does not count, nor does a function that a module has imported from
    elsewhere. A function that declares a former name is run by that name.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        """Raises TypeError unless `modules` are names. They are imported when a function of theirs is looked for."""
        if isinstance(modules, str) or not all(isinstance(module, str) for module in modules):
            raise TypeError(f"modules: expected a list of names, as in ['shop.flows'], got {modules!r}")
        self._modules = {module_of(module) for module in modules}
        self._passed: dict[str, Callable[..., Any]] = {}

    def add(self, fn: Callable[..., Any], *recorded: str) -> str:
        """Note a function that was passed to the engine, and return its name. Raises InvalidNameError.

        `recorded` is another name of it, under which it is on record.
        """
        name = name_of_workflow(fn)
        self._passed |= dict.fromkeys((name, *former_names_of(fn), *recorded), fn)
        note_moves(fn, *recorded)
        return name

    def find(self, workflow_id: str, function: str) -> Callable[..., Any]:
        """Return the function of a recorded name.

        Raises WorkflowNotFoundError if it is not to be run by its name alone, and whatever its module raises as it is
        imported.
        """
        passed = self._passed.get(function)
        if passed is not None and name_of_workflow(passed) != function:  # a former name
            return passed
        return self._find_declared(function, lambda: self._find_by_name(workflow_id, function, passed))

    def find_asked(self, _: str, function: str) -> Callable[..., Any]:
        """Return any function of a recorded name: a caller asks for this workflow.

        Raises what its module raises as it is imported.
        """
        return self._find_declared(function, lambda: find_workflow_function(function))

    def is_passed(self, function: str) -> bool:
        """Return whether a function of this name was passed to the engine."""
        return function in self._passed

    def _find_declared(self, function: str, find_otherwise: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """Return the function that declares this former name, in an imported module; else what is found otherwise.

        If nothing is, `modules` are imported to look for it there.
        """
        if (declared := find_declared(function)) is not None:
            return declared
        try:
            return find_otherwise()
        except Exception:
            for module in self._modules:
                if find_module(module) is None:
                    with contextlib.suppress(Exception):  # it may raise anything; the first error says more
                        importlib.import_module(module)
            if (declared := find_declared(function)) is not None:
                return declared
            raise

    def _find_by_name(self, workflow_id: str, function: str, passed: Any) -> Callable[..., Any]:
        module = function.partition(":")[0]
        is_named = module in self._modules
        subject = f"workflow {workflow_id!r}: its function {function!r}"
        name_it = f"name its module (modules=[{module!r}] of the engine, or `durable worker {module}`)"
        by_hand = f"run it with engine.run({workflow_id!r}, function)"
        if not is_named and find_module(module) is None:
            raise WorkflowNotFoundError(
                f"{subject} cannot be imported here by its name alone; {name_it}, or {by_hand}", workflow_id=workflow_id
            )
        fn = find_workflow_function(function)
        # a bound method is a new object each time
        is_same = passed is not None and passed == fn
        if is_same or takes_context(fn) or (is_named and _is_defined_as(function, fn)):
            return fn
        raise WorkflowNotFoundError(
            f"{subject} is not run by its name alone, since its first parameter is not annotated durable.Context "
            f"(imported at run time, too); annotate it{'' if is_named else f', or {name_it}'}, or {by_hand}",
            workflow_id=workflow_id,
        )


def takes_context(fn: Any) -> bool:
    """Return whether it is a function whose first parameter is annotated `Context`, or a wrapper of one."""
    hint = _hint_of_first(fn)
    return isinstance(hint, type) and issubclass(hint, Frame)


def recorded_call(record: WorkflowRecord, find: Callable[[str, str], Callable[..., Any]], read: Read | None) -> Call:
    """Return the function and the arguments on record. `find(workflow_id, function)` looks for the function.

    `read` reads large values.

    Raises WorkflowNotFoundError if it cannot be imported here.
    """
    workflow_id = record.workflow_id
    fn = import_for(workflow_id, record.function, find)
    return fn, *codec.decode_arguments(fn, record.arguments, f"workflow {workflow_id!r}", read)


def import_for(workflow_id: str, function: str, find: Callable[[str, str], Callable[..., Any]]) -> Callable[..., Any]:
    """Return what `find` finds. Raises WorkflowNotFoundError, whatever a module raises as it is imported."""
    try:
        return find(workflow_id, function)
    except WorkflowNotFoundError:
        raise
    except Exception as error:
        raise WorkflowNotFoundError(
            f"workflow {workflow_id!r}: its function {function!r} cannot be imported here ({error}); install its "
            f"module in every process that runs it, run it with engine.run({workflow_id!r}, function), or, if it was "
            f"renamed, {how_to_declare(function)}",
            workflow_id=workflow_id,
        ) from error


def _is_defined_as(function: str, fn: Any) -> bool:
    """Return whether a function was defined under this name, and its first parameter may be the context."""
    try:
        return name_of_workflow(fn) == function and not is_typed(_hint_of_first(fn))
    except DurableError:  # it has no name
        return False


def _hint_of_first(fn: Any) -> Any:
    """The annotation of the first parameter, evaluated; `Any` if that is not possible, and None without one to call."""
    if isinstance(fn, type) or not callable(fn):
        return None
    inner = inspect.unwrap(fn)
    try:
        first = next(iter(codec.signature_of(inner).parameters.values()))
    except (StopIteration, TypeError, ValueError):  # a built-in function may have no signature
        return None
    if first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        return None
    try:
        hint = codec.hints_of(inner, "", {first.name}).get(first.name, Any)
    except Exception:  # the type is known to type checkers alone, say
        return Any
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
