"""Publishing: a value that others may read while the workflow runs. It is a step's row, so it is published once."""

from __future__ import annotations

from typing import Any

from durable.operations.record import record
from durable.replay import Frame, Operation
from durable.values import codec


def publish(frame: Frame, name: str, value: Any, kind: Any) -> None:
    """Record a value under its name."""
    of_value = codec.codec_of_value(value, kind, f"published {name!r}")
    record(frame, Operation("publish", name, of_value, value), lambda: value)
