"""Effects: steps declare what they do to the world outside, so that the crash matrix can count it.

The log is a text file beside the database, a line for each effect: text, tab, idempotency key. It survives a crash of
its process because the operating system holds it. The examples keep the same log.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from durable.errors import ScopeError
from durable.replay.keys import idempotency_key
from durable.replay.step_info import current_step


class Effect(NamedTuple):
    """Something that happened outside, and the step that declared it."""

    what: str
    step_key: str


class _Watch:
    """Return whether a crash matrix watches this process."""

    is_on = False


def watch_effects() -> None:
    """Make `effect` write into the log from now on."""
    _Watch.is_on = True


def effect(kind: str, /, *details: object, once_per_key: bool = False) -> None:
    """Declare, from within a step, that it now does something to the world: `effect("order", "laptop")`.

    Call it at the place of the effect. It costs nothing and does nothing unless a crash matrix watches, so it can stay
    in the step. `once_per_key` is for a world that gets the step's idempotency key, and so fulfils the same request
    only once, however often it comes.

    Raises ScopeError outside of a step, if a matrix watches.
    """
    if not _Watch.is_on:
        return
    try:
        step = current_step()
    except ScopeError as error:
        raise ScopeError(
            "effect() was called outside of a step; call it in the function that has the effect"
        ) from error
    what = " ".join(" ".join([kind, *map(str, details)]).split())
    entry = Effect(what, step.key)
    if once_per_key and entry in read_effects(step.database, step.workflow_id):
        return
    line = f"{what}\t{_on_one_line(step.idempotency_key)}\n".encode(errors="backslashreplace")
    descriptor = os.open(effects_log(step.database), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def effects_log(database: str | os.PathLike[str]) -> Path:
    """Return the file beside a database that holds its effects: `workflow.effects.log`."""
    return Path(database).with_suffix(".effects.log")


def read_effects(database: str | os.PathLike[str], workflow_id: str) -> list[Effect]:
    """Return the effects of a workflow so far, in order."""
    path, mine = effects_log(database), _on_one_line(idempotency_key(workflow_id, ""))
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = [line.rpartition("\t") for line in lines]
    return [Effect(what, key.removeprefix(mine)) for what, _, key in pairs if key.startswith(mine)]


def read_all_effects(database: str | os.PathLike[str]) -> list[tuple[str, Effect]]:
    """Return the effects of all workflows so far, in order, each with the workflow's id."""
    path = effects_log(database)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for line in lines:
        what, _, key = line.rpartition("\t")
        owner, _, step_key = key.partition("/")
        found.append((owner.replace("%2F", "/").replace("%25", "%"), Effect(what, step_key)))
    return found


def _on_one_line(text: str) -> str:
    """Escape the line ends that a workflow id can hold."""
    return text if text.isprintable() else ascii(text)[1:-1]
