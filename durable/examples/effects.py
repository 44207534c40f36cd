"""The world outside, as a text file: one line for each effect that really happened. The engine does not read it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from durable import current_step
from durable.replay.keys import idempotency_key


def effects_log(database: str | os.PathLike[str]) -> Path:
    """Return the file beside a database to which the examples append their effects: `workflow.effects.log`."""
    return Path(database).with_suffix(".effects.log")


def have_effect(what: str, delay_seconds: float = 0.0) -> None:
    """Take some time, then append a line `what`, tab, idempotency key, from within a step.

    One write of one line to a file opened for appending, so that parallel steps and processes do not mix their lines.
    """
    time.sleep(delay_seconds)
    step = current_step()
    line = f"{' '.join(what.split())}\t{_on_one_line(step.idempotency_key)}\n".encode()
    descriptor = os.open(effects_log(step.database), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def list_effects(
    database: str | os.PathLike[str], workflow_id: str | None = None, step_key: str | None = None
) -> list[str]:
    """Return the effects so far, in order: all of them, or those of one workflow, or of one step of it."""
    path = effects_log(database)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = [line.rpartition("\t") for line in lines]
    if workflow_id is None:
        return [what for what, _, _ in pairs]
    wanted = _on_one_line(idempotency_key(workflow_id, step_key or ""))
    return [what for what, _, key in pairs if key == wanted or (step_key is None and key.startswith(wanted))]


def forget_effects(database: str | os.PathLike[str], workflow_id: str) -> None:
    """Remove the lines of a workflow from the log, so that a demonstration can begin anew. No real world can do that.

    Nothing else may be appending meanwhile.
    """
    path, wanted = effects_log(database), _on_one_line(idempotency_key(workflow_id, ""))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if not line.rpartition("\t")[2].startswith(wanted)]
    if kept != lines:
        path.write_text("".join(kept), encoding="utf-8")


def _on_one_line(text: str) -> str:
    """Escape the line ends that a workflow id can hold."""
    return text if text.isprintable() else ascii(text)[1:-1]
