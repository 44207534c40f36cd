"""The format of pydantic's models: their fields, which of them were set, and what they hold beside."""

from __future__ import annotations

from typing import Any

from durable.values.formats.named import name_of
from durable.values.formats.registry import Dumped, Format, FormatError


class ModelFormat(Format):
    """Stores a model with its class. Nothing is validated again, so that validators change nothing."""

    name = "model/1"

    def dump(self, value: Any) -> Dumped:
        state = value.__getstate__()
        head = {"class": type(value), "fields": state["__dict__"], "set": state["__pydantic_fields_set__"]}
        more = {"extra": state["__pydantic_extra__"], "private": state["__pydantic_private__"]}
        return head | {name: part for name, part in more.items() if part is not None}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        kind, fields = head["class"], head["fields"]
        if not hasattr(kind, "__pydantic_validator__"):
            raise FormatError(f"which was saved as a model, and {name_of(kind)} is none; bring it back")
        known = kind.model_fields
        if lost := [name for name in fields if name not in known and not hasattr(kind, name)]:
            raise FormatError(f"whose class has no field {lost[0]!r} any more; bring it back, or use a new workflow id")
        for name, field in known.items():
            if name not in fields and field.is_required():
                raise FormatError(f"whose class has a new field {name!r}; give it a default, or use a new workflow id")
        news = {
            name: field.get_default(call_default_factory=True) for name, field in known.items() if name not in fields
        }
        model = kind.__new__(kind)
        model.__setstate__(
            {
                "__dict__": fields | news,
                "__pydantic_fields_set__": head["set"],
                "__pydantic_extra__": head.get("extra"),
                "__pydantic_private__": head.get("private"),
            }
        )
        return model
