"""Names: what a workflow function is called on record, today and before it was renamed or moved."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from durable.errors import InvalidNameError, WorkflowConflictError
from durable.values.modules import find_module, is_gone, is_name_of_file, module_of, note_move

F = TypeVar("F", bound=Callable[..., Any])

_declared: dict[str, Callable[..., Any]] = {}  # by the former names


def workflow(*, former_names: Sequence[str] = ()) -> Callable[[F], F]:
    """Mark a workflow function with the names that it had before it was renamed or moved.

    A former name is `module:function`, as `durable list` shows it, or `function` alone if the module is the same. A
    workflow that was begun under it goes on with this function: by `engine.run`, `resume` and `recover`, in workers,
    and as a child.

    Raises TypeError unless the names are a list of texts.
    """
    if isinstance(former_names, str) or not all(isinstance(name, str) for name in former_names):
        raise TypeError(f"@workflow: former_names: expected a list of names, got {former_names!r}")

    def mark(fn: F) -> F:
        module = name_of_workflow(fn).partition(":")[0]
        names = tuple(name if ":" in name else f"{module}:{name}" for name in former_names)
        fn.__durable_former_names__ = names  # type: ignore[attr-defined]
        _declared.update(dict.fromkeys(names, fn))
        note_moves(fn, *names)
        return fn

    return mark


def note_moves(fn: Callable[..., Any], *names: str) -> None:
    """Note that a function had these names. The classes beside it have moved with it."""
    for name in names:
        note_move(name.partition(":")[0], module_of(fn.__module__))


def former_names_of(fn: Any) -> tuple[str, ...]:
    """Return the names that a function was declared to have had."""
    names: tuple[str, ...] = getattr(fn, "__durable_former_names__", ())
    return names


def short_name(function: str) -> str:
    """Return the name of a function without its module and class."""
    return function.rpartition(":")[2].rpartition(".")[2]


def find_declared(name: str) -> Callable[..., Any] | None:
    """Return the function that was declared to have had this name, if the module that declares it is imported."""
    return _declared.get(name)


def name_of_workflow(fn: Callable[..., Any]) -> str:
    """Return a function as `module:qualname`, the same whether its file is run as a script or imported."""
    qualname = getattr(fn, "__qualname__", None)
    if not callable(fn) or qualname is None or qualname.endswith("<lambda>"):
        raise InvalidNameError(
            f"workflow {fn!r}: expected a function with a name; use def, and pass its arguments to run"
        )
    return f"{module_of(fn.__module__)}:{qualname}"


def is_name_of(recorded: str, fn: Callable[..., Any]) -> bool:
    """Return whether a recorded name is one of this function: today's, a former one, or one of a place it has left.

    It has left a place that is empty now: there is no such module, or nothing of this name in it.
    """
    if recorded == name_of_workflow(fn) or recorded in former_names_of(fn):
        return True
    module, _, qualname = recorded.partition(":")
    home = find_module(module)
    if home is not None:
        try:
            return bool(_look_up(home, qualname) == fn)  # a place that still offers it
        except AttributeError:
            pass
    if qualname != getattr(fn, "__qualname__", None):
        return False
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if is_name_of_file(module, getattr(code, "co_filename", None)):  # run as a script, as -m or by %run
        return True
    return "<locals>" not in qualname and (home is not None or is_gone(module))


def find_workflow_function(name: str) -> Callable[..., Any]:
    """Return the function of a recorded name, whose module is imported for it: see `Registry`.

    Raises ImportError or AttributeError if there is none.
    """
    module, _, qualname = name.partition(":")
    return _look_up(find_module(module) or importlib.import_module(module), qualname)


def conflict(
    workflow_id: str, function: str, recorded: str, fn: Callable[..., Any], arguments: str
) -> WorkflowConflictError:
    """Return the error that an id belongs to another call: to `function` with the arguments `recorded`."""
    was, called = f"{function} with {recorded}", f"{name_of_workflow(fn)} with {arguments}"
    moved = "" if is_name_of(function, fn) else f"{how_to_declare(function)} if it was renamed or moved, else "
    return WorkflowConflictError(
        f"workflow {workflow_id!r} is {was}, and was now called as {called}; {moved}use another workflow id, or delete "
        f"this one",
        workflow_id=workflow_id,
        recorded=was,
        called=called,
    )


def how_to_declare(function: str) -> str:
    """Return how a function says that it had this name."""
    return f"mark the function with @durable.workflow(former_names=[{function!r}])"


def _look_up(home: Any, qualname: str) -> Callable[..., Any]:
    *path, last = qualname.split(".")
    parent = home
    for part in path:
        parent = getattr(parent, part)
        if not isinstance(parent, type):  # an attribute of any other object may be a property, and do anything
            raise AttributeError(f"{qualname} is neither in a module nor in a class")  # noqa: TRY004 - no such name
    if isinstance(parent, type) and inspect.isfunction(inspect.getattr_static(parent, last)):
        raise AttributeError(f"{qualname} is a method, and its object is not on record")
    fn: Callable[..., Any] = getattr(parent, last)
    return fn
