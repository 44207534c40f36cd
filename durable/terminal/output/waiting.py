"""Waits in words, and the commands that end them."""

from __future__ import annotations

from datetime import UTC, datetime

from durable.store.records import WaitRecord
from durable.terminal.output.usage import command, printable


def describe_wait(wait: WaitRecord, *, short: bool = False) -> str:
    """Return `for 'approval' until 2026-11-25 14:30:00 UTC`; in short, without the day if that is today."""
    until = f"until {describe_instant(wait.wake_at, short=short)}" if wait.wake_at else ""
    subject = ""
    if wait.event is not None:
        subject = f"for {printable(wait.event)!r}"
    elif wait.child_id is not None:
        subject = f"for workflow {printable(wait.child_id)!r}"
    return f"{subject} {until}".strip()


def describe_instant(instant: datetime, *, short: bool = False) -> str:
    """Format an instant to the second, in UTC."""
    if short:
        return f"{instant:%H:%M:%S}" if instant.date() == datetime.now(UTC).date() else f"{instant:%Y-%m-%d %H:%M}"
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def send_command(wait: WaitRecord, database: str) -> str:
    """Return the command that sends the awaited message."""
    return command("send", wait.workflow_id, wait.event or "", database=database) + " JSON"
