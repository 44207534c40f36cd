"""The serializer that DBOS is given: JSON, never pickle. It knows our rows, our errors, and plain values.

A row names the serialization it was written in, and DBOS goes by that name, whatever serializer it was given. One of
the names stands for pickle. So a process that may write a row would run code in each process that reads it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from dbos import Serializer, StepInfo, _serialization

from durable.errors import CorruptionError
from durable.on_dbos.store.rows import AnyRow, ErrorRow, Row, StepRow
from durable.values.failures import encode_error

NAME = "durable_json"
_READ = (None, NAME, "portable_json")  # the last is how DBOS writes the ends of its own timers
_DECODERS = ("deserialize_value", "deserialize_args", "deserialize_exception")
_MARK = '{"durable":'
_encode = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(AnyRow).decode

Decode = Callable[[Any, str | None, Serializer], Any]


class StepFailed(Exception):  # noqa: N818 - it carries an outcome to DBOS, and never reaches a user
    """Carries a row that says `failed` through DBOS, so that its own tools show the step as failed."""

    def __init__(self, row: StepRow) -> None:
        super().__init__(f"step {row.key!r} has failed: {row.error_text}")
        self.row = row


class WorkflowFailed(Exception):  # noqa: N818 - as above
    """Carries the error of a workflow through DBOS. `record` is what `failure.py` has written."""

    def __init__(self, record: str) -> None:
        super().__init__(record)
        self.record = record


class JSONSerializer(Serializer):
    """Values that were never ours come back as plain JSON values; none in another serialization is read."""

    def __init__(self) -> None:
        refuse_other_serializations()

    def name(self) -> str:
        """Under which DBOS notes each value that was written so."""
        return NAME

    def serialize(self, data: Any) -> str:
        """The JSON text. Raises TypeError for a value that is neither ours nor plain."""
        if isinstance(data, StepFailed):
            data = data.row
        elif isinstance(data, WorkflowFailed):
            data = ErrorRow(msgspec.Raw(data.record.encode()))
        elif isinstance(data, Exception):
            data = ErrorRow(msgspec.Raw(encode_error(data).encode()))
        return _encode(data).decode()

    def deserialize(self, serialized_data: str) -> Any:
        """A row, an error, or a plain value."""
        if not serialized_data.startswith(_MARK):
            return msgspec.json.decode(serialized_data)
        row = _decode_row(serialized_data)
        if isinstance(row, ErrorRow):
            return WorkflowFailed(bytes(row.error).decode())
        return StepFailed(row) if isinstance(row, StepRow) and row.status == "failed" else row


def row_of(step: StepInfo, workflow_id: str) -> Row | None:
    """The row behind what DBOS gives for a step, or None where it is none of ours. Raises CorruptionError."""
    value: Any = step["output"] if step["error"] is None else step["error"]
    if isinstance(value, str) and value.startswith(_MARK):  # as DBOS gives what the serializer could not read
        raise CorruptionError(
            f"workflow {workflow_id!r}: what is stored of {step['function_name']!r} cannot be read; restore the "
            f"database from a copy, or delete this workflow",
            path=Path("dbos.operation_outputs"),
        )
    return value.row if isinstance(value, StepFailed) else value if isinstance(value, Row) else None


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
