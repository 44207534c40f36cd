"""The format of pickle. It has to be asked for by an annotation: reading a pickle runs whatever code it names."""

from __future__ import annotations

import pickle
from typing import Any

from durable.values.formats.registry import Dumped, Format, FormatError

MAX_ROUNDS = 3  # times to pickle, until the bytes stay the same: the first time, other parts may be shared


class Pickled(Format):
    """Stores a value by pickle, as in `-> Annotated[Model, durable.formats.Pickled]`.

    The row says so. The value is read only if the annotation asks for it, and under the version of its library that
    has saved it, or under one that makes the same bytes of it.
    """

    name = "pickle/1"

    def dump(self, value: Any) -> Dumped:
        data = self.pickled(value)
        for _ in range(MAX_ROUNDS):
            again = self.pickled(pickle.loads(data))
            if again == data:
                return {"class": f"{type(value).__module__}.{type(value).__qualname__}"}, [data]
            data = again
        raise FormatError("which pickle makes other bytes of each time; give its class a __getstate__ of its own")

    def pickled(self, value: Any) -> bytes:
        """Return the pickle of a value."""
        return pickle.dumps(value, 5)

    def load(self, head: Any, buffers: Any) -> Any:
        [data] = buffers
        return pickle.loads(data)

    def preview(self, value: Any) -> str:
        """Return the beginning of its text."""
        return repr(value)[:80]

    def libraries(self, value: Any) -> set[str]:
        """Return the package of the class."""
        return {type(value).__module__.partition(".")[0]}
