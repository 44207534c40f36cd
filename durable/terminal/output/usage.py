"""Messages for people: wrong use, suggestions, and commands that can be pasted into a shell."""

from __future__ import annotations

import difflib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from durable.errors import DurableError


class UsageError(DurableError):
    """The command cannot do what was asked. Nothing has run. `details` is shown before the message."""

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or nothing if no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def program() -> str:
    """Return the command with which this program was started."""
    return "durable" if Path(sys.argv[0]).stem == "durable" else "python -m durable"


def spell(*words: str) -> str:
    """Return a command of this program as a user types it, quoted if the shell needs it."""
    quoted = subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
    return f"{program()} {quoted}"


def silence(stream: TextIO) -> None:
    """Discard all further output: its reader has ended (`| head`), or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def printable(text: str) -> str:
    """Return text of any origin without characters that would control the terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


def to_json(value: Any, **options: Any) -> str:
    """Return JSON as `json.dumps` does, with escapes only for characters that would control the terminal."""
    text = json.dumps(value, ensure_ascii=False, **options)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def resume_command(workflow: str, workflow_id: str, database: str) -> str:
    """Return `durable run WORKFLOW ID` with the options that it needs."""
    return command("run", workflow, workflow_id, database=database)


def command(name: str, *arguments: str, database: str, options: tuple[str, ...] = ()) -> str:
    """Return a command of this program on a database, as a user types it."""
    is_default = database == "workflow.db" and not os.environ.get("DURABLE_ENGINE")
    words = [name, *([] if is_default else ["--db", database]), *options]
    if any(argument.startswith("-") for argument in arguments):
        words.append("--")
    return spell(*words, *arguments)
