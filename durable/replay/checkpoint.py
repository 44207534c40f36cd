"""Checkpoint: what is recorded of a step, and the packed row that a replay gets of it."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from durable.values.codec import checksum


class Checkpoint(NamedTuple):
    """What a run needs to know of a recorded step."""

    step_key: str
    status: str
    output: str | None
    name: str
    kind: str
    attempt: int
    epoch: int
    fingerprint: str | None
    error: str | None
    checksum: int | None

    def is_intact(self) -> bool:
        """Whether the stored outcome is what was saved."""
        return self.status == "running" or self.checksum == checksum(
            self.step_key, self.status, self.output, self.error
        )

    @classmethod
    def of(cls, row: Row) -> Checkpoint:
        """From a row of a history."""
        key, output, fingerprint, checksum, epoch, unusual = row
        usual = ("completed", "step", 1, None)
        status, kind, attempt, error = usual if unusual is None else msgspec.json.decode(unusual)
        name = key.rpartition("/")[2].rpartition("_")[0]
        return cls(key, status, output, name, kind, attempt, epoch, fingerprint, error, checksum)

    def row(self) -> Row:
        """As a row of a history."""
        unusual = msgspec.json.encode([self.status, self.kind, self.attempt, self.error]).decode()
        return self.step_key, self.output, self.fingerprint, self.checksum, self.epoch, unusual


Row: TypeAlias = tuple[str, str | None, str | None, int | None, int, str | None]
"""Of a recorded step: key, output, fingerprint, checksum, epoch; and status, kind, attempt and error in JSON, but None
for a step that has completed at its first attempt, as nearly all of a replay are: each column costs 0.1 us a row."""
