"""JSON alone: what DBOS decodes for our serializer.

A row names the serialization it was written in, and DBOS goes by that name, whatever serializer it was given. One of
the names stands for pickle. So a process that may write a row would run code in each process that reads it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbos import _serialization

if TYPE_CHECKING:
    from dbos import Serializer

NAME = "durable_json"
_READ = (None, NAME, "portable_json")  # the last is how DBOS writes the ends of its own timers
_DECODERS = ("deserialize_value", "deserialize_args", "deserialize_exception")

Decode = Callable[[Any, str | None, "Serializer"], Any]


def refuse_other_serializations() -> None:
    """From now on DBOS decodes no row for our serializer that is not JSON. It has no option for that.

    Other serializers in this process are served as before.
    """
    for name in _DECODERS:
        decode = getattr(_serialization, name)
        if hasattr(decode, "__wrapped__"):
            continue
        guarded = _guarded(decode)
        for module in [each for each in sys.modules.values() if getattr(each, "__package__", None) == "dbos"]:
            if vars(module).get(name) is decode:
                setattr(module, name, guarded)


def _guarded(decode: Decode) -> Decode:
    @functools.wraps(decode)
    def guarded(serialized_value: Any, serialization: str | None, serializer: Serializer) -> Any:
        if serialized_value is not None and serializer.name() == NAME and serialization not in _READ:
            raise TypeError(f"a value in {serialization!r} is not read, since only {NAME!r} is")
        return decode(serialized_value, serialization, serializer)

    return guarded
