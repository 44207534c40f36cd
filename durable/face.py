"""Face: the type of the classes that users call. It decides what `dir` and tab completion show of them."""

from __future__ import annotations

from collections.abc import Iterable


class Face(type):
    """The type of a class of which `dir` shows only what its users call.

    It leaves out names that begin with an underscore, and what the class inherits from a class that is no face.
    """

    def __dir__(cls) -> Iterable[str]:
        shown = {name for base in cls.__mro__ if isinstance(base, Face) for name in vars(base) if name[0] != "_"}
        return sorted({*dir(object), "__module__", "__doc__"} | shown)
