"""The format of pydantic's models: their fields, which of them were set, and what they hold beside."""

from __future__ import annotations

from functools import partial
from typing import Any

from durable.values.formats.named import name_of
from durable.values.formats.objects import Known, complete
from durable.values.formats.registry import Dumped, Format, FormatError


class ModelFormat(Format):
    """Stores a model with its class. Nothing is validated again, so that validators change nothing."""

    name = "model/1"

    def dump(self, value: Any) -> Dumped:
        state = value.__getstate__()
        head = {"class": type(value), "fields": state["__dict__"], "set": state["__pydantic_fields_set__"]}
        more = {name: state.get(f"__pydantic_{name}__") for name in ("extra", "private")}  # a RootModel has none
        return head | {name: part for name, part in more.items() if part is not None}, ()

    def load(self, head: Any, buffers: Any) -> Any:
        kind, fields = head["class"], head["fields"]
        if not hasattr(kind, "__pydantic_validator__"):
            raise FormatError(f"which was saved as a model, and {name_of(kind)} is none; bring it back")
        known: Known = {
            name: None if field.is_required() else partial(field.get_default, call_default_factory=True)
            for name, field in kind.model_fields.items()
        }
        model = kind.__new__(kind)
        model.__setstate__(
            {
                "__dict__": complete(kind, fields, known),
                "__pydantic_fields_set__": head["set"],
                "__pydantic_extra__": head.get("extra"),
                "__pydantic_private__": head.get("private"),
            }
        )
        return model
