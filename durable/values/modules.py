"""Modules: the names under which they are recorded, in whichever way their file is run or imported."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import PurePath
from types import ModuleType
from typing import Any

_moved: dict[str, str] = {}  # where modules are now, by their former names


def module_of(module: str) -> str:
    """Return a module's name as it is recorded; for `__main__`, the name under which its file would be imported."""
    if module not in ("__main__", "__mp_main__"):  # the latter in a process that multiprocessing has spawned
        return module
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return file.replace("\\", "/").rpartition("/")[2].removesuffix(".py") if file else module


def find_module(name: str) -> ModuleType | None:
    """Return the imported module of a recorded name. The main one has each name that its file could have."""
    main = sys.modules["__main__"]
    if name == module_of("__main__"):
        return main
    found = sys.modules.get(name)
    return main if found is None and is_name_of_file(name, getattr(main, "__file__", None)) else found


def note_move(name: str, new_name: str) -> None:
    """Note that the classes of a module may be in another one now, which is asked for those that are missing."""
    if name != new_name:
        _moved[name] = new_name


def find_attribute(name: str, attribute: str) -> Any:
    """Return an attribute of an imported module, or of the one that it was moved to. Raises AttributeError."""
    for module in (find_module(name), find_module(_moved.get(name, name))):
        if hasattr(module, attribute):
            return getattr(module, attribute)
    raise AttributeError(f"no imported module {name!r} has {attribute!r}")


def is_name_of_file(name: str, file: str | None) -> bool:
    """Return whether a file could be imported or run under this name: `flow` and `pkg.flow` for `.../pkg/flow.py`."""
    if not file or not file.endswith(".py"):
        return False
    *folders, last = PurePath(file).with_suffix("").parts
    names = name.split(".")
    return [*folders, last][-len(names) :] == names or (
        last in ("__main__", "__init__") and folders[-len(names) :] == names
    )


def is_gone(name: str) -> bool:
    """Return whether there is no module of this name any more. Nothing is imported to find out."""
    if name in sys.modules or name in sys.builtin_module_names:
        return False
    path, parts = None, name.split(".")
    for number in range(len(parts)):
        loaded = sys.modules.get(".".join(parts[: number + 1]))
        if loaded is not None:
            path = getattr(loaded, "__path__", None)
        else:
            spec = PathFinder.find_spec(".".join(parts[: number + 1]), path)
            if spec is None:
                return True
            path = spec.submodule_search_locations
        if path is None and number + 1 < len(parts):
            return True
    return False
