"""The serializer that DBOS is given: JSON, never pickle. It knows our rows, our errors, and plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from dbos import Serializer, StepInfo

from durable.errors import CorruptionError
from durable.on_dbos.json_alone import NAME, refuse_other_serializations
from durable.on_dbos.rows import AnyRow, ErrorRow, Row, StepRow
from durable.values.failures import encode_error

_MARK = '{"durable":'
_encode = msgspec.json.Encoder().encode
_decode_row = msgspec.json.Decoder(AnyRow).decode


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
