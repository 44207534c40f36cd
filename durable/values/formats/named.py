"""Named: classes and functions within a stored value, by their names. No row has them imported."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from durable.values.formats.registry import FormatError
from durable.values.modules import find_module, module_of


def name_of(kind: Any) -> str:
    """Return a class or function as `module:qualname`."""
    return f"{module_of(kind.__module__)}:{kind.__qualname__}"


def find_named(name: str, classes: dict[str, type]) -> Any:
    """Return the class or function of a recorded name: one that an annotation holds, or of an imported module.

    Raises FormatError. A function of the standard library is not returned, since the caller will call it.
    """
    if name in classes:
        return classes[name]
    module, _, path = name.partition(":")
    found: Any = find_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type):
        return found
    if isinstance(found, FunctionType) and module.partition(".")[0] not in sys.stdlib_module_names:
        return found
    raise FormatError(f"which names {name}, and no imported module has it; import it, or bring it back")
