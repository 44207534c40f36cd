"""What waits, in words, and what to type so that it goes on."""

from __future__ import annotations

from datetime import UTC, datetime

from durable.store.records import WaitRecord
from durable.terminal.usage import command, printable


def describe_wait(wait: WaitRecord, *, short: bool = False) -> str:
    """`for 'approval' until 2026-11-25 14:30:00 UTC`; in short, without the day where that is today."""
    until = f"until {describe_instant(wait.wake_at, short=short)}" if wait.wake_at else ""
    subject = ""
    if wait.event is not None:
        subject = f"for {printable(wait.event)!r}"
    elif wait.child_id is not None:
        subject = f"for workflow {printable(wait.child_id)!r}"
    return f"{subject} {until}".strip()


def describe_instant(instant: datetime, *, short: bool = False) -> str:
    """To the second, in UTC."""
    if short:
        return f"{instant:%H:%M:%S}" if instant.date() == datetime.now(UTC).date() else f"{instant:%Y-%m-%d %H:%M}"
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def send_command(wait: WaitRecord, database: str) -> str:
    """The command that sends what is waited for."""
    return command("send", wait.workflow_id, wait.event or "", database=database) + " JSON"
