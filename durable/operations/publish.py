"""Publishing: a value that others may read while the workflow runs. It is a step's row, so nothing is told twice."""

from __future__ import annotations

from typing import Any

from durable import codec
from durable.call import Operation
from durable.operations.record import record
from durable.replay import Frame


def publish(frame: Frame, name: str, value: Any) -> None:
    """Record it under its name."""
    record(frame, Operation("publish", name, codec.codec_of(type(value), f"published {name!r}"), value), lambda: value)
