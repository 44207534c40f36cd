"""The commands about recorded workflows: their arguments, in the order of the help. The work is done elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from durable.terminal.commands.changing import cancel, delete, fork, rewind, send
from durable.terminal.commands.crashing import crash
from durable.terminal.commands.looking import export, list_workflows, read, report, steps, ui, watch
from durable.terminal.commands.working import recover, retry, submit, worker

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Callable[..., None]] = {
    "crash": crash,
    "steps": steps,
    "list": list_workflows,
    "send": send,
    "read": read,
    "watch": watch,
    "cancel": cancel,
    "rewind": rewind,
    "fork": fork,
    "recover": recover,
    "retry": retry,
    "worker": worker,
    "submit": submit,
    "export": export,
    "report": report,
    "ui": ui,
    "delete": delete,
}
