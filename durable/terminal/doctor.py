"""`durable doctor`: facts about this machine and a database, measured if possible."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from durable.errors import DurableError
from durable.store.database import trial
from durable.terminal.output.tables import as_json, reading
from durable.terminal.output.usage import printable
from durable.terminal.output.versions import INSTALL_LAB, LAB_EXTRA, find_version, version_of
from durable.terminal.workers import fleet

if TYPE_CHECKING:
    from durable.store.reader import Reader
    from durable.terminal.workers.shared import Shared

COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red"}
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afp", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs"}
    | {"lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "vboxsf", "virtiofs"}
)
MAX_NAMED = 5  # rows that a line of the report names
SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


class Finding(NamedTuple):
    """A line of the report. `verdict` is ok, note (it is so), warn (take care) or fail (it is broken)."""

    subject: str
    verdict: str
    text: str


def examine(database: str | None, shared: str | None, *, json_wanted: bool) -> int:
    """Print all findings, on a file or on what workers share. Return 1 if one of them is a failure."""
    if shared is not None and database is None:
        findings = [*_versions(), *_shared(shared)]
    else:
        database = database or "workflow.db"
        path = Path(database).resolve()
        findings = [*_versions(), _sqlite(sqlite3.sqlite_version), *_folder(path.parent), *_database(database, path)]
    if json_wanted:
        typer.echo(as_json([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            typer.echo(_line(finding))
    return int(any(finding.verdict == "fail" for finding in findings))


def _line(finding: Finding) -> str:
    """Return a line for people, wrapped under its own beginning if the terminal is narrow."""
    mark = typer.style(f"{finding.verdict:<4}", fg=COLOURS[finding.verdict], bold=True)
    width = max(40, shutil.get_terminal_size((80, 24)).columns - 20)
    text = textwrap.wrap(printable(finding.text), width, break_long_words=False, break_on_hyphens=False)
    return f"{mark}  {finding.subject:<13} " + f"\n{'':20}".join(text)


# ---- versions


def _versions() -> Iterator[Finding]:
    yield Finding("durable", "ok", version_of("durable-lab"))
    python_is_fit = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if python_is_fit else "fail", f"{platform.python_version()} on {platform.system()}")
    for name in ("msgspec", "typer", "rich"):
        yield Finding(name, "ok", version_of(name))
    found = {name: find_version(name) for name in LAB_EXTRA}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        yield Finding("lab extra", "note", f"not installed: {', '.join(missing)}; {INSTALL_LAB}")
    else:
        yield Finding("lab extra", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))


def _sqlite(version: str) -> Finding:
    """Check for the WAL-reset fault: it is in 3.7.0 to 3.51.2; the fix is in 3.50.7 and 3.44.6 too."""
    numbers = tuple(map(int, version.split(".")))
    is_repaired = numbers >= (3, 51, 3) or (3, 50, 7) <= numbers < (3, 51) or (3, 44, 6) <= numbers < (3, 45)
    if is_repaired or numbers < (3, 7):
        return Finding("sqlite", "ok", f"{version}, no known fault that matters here")
    return Finding(
        "sqlite",
        "warn",
        f"{version} has the WAL-reset fault: very rarely, two processes that checkpoint a database at the same instant "
        f"damage it; fixed in 3.51.3, 3.50.7 and 3.44.6",
    )


# ---- the folder of the database: everything is tried out in a new database beside it


def _folder(folder: Path) -> Iterator[Finding]:
    yield _file_system(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".durable-doctor-", dir=folder) as scratch:
            yield from _try_out(Path(scratch) / "doctor.db")
    except (OSError, DurableError) as error:
        yield Finding("folder", "fail", f"{str(folder)!r} cannot hold a database: {error}")


def _try_out(path: Path) -> Iterator[Finding]:
    found = trial.try_out(path)
    pragmas = found.pragmas
    synchronous = SYNCHRONOUS.get(pragmas["synchronous"], "?")
    is_safe = pragmas["journal_mode"] == "wal" and synchronous == "FULL"
    wanted = "" if is_safe else "; expected wal and FULL"
    fullfsync = f", fullfsync={pragmas['fullfsync']}" if sys.platform == "darwin" else ""
    yield Finding(
        "pragmas",
        "ok" if is_safe else "fail",
        f"journal_mode={pragmas['journal_mode']}, synchronous={synchronous}{fullfsync}{wanted}",
    )
    seconds = found.commit_seconds
    yield Finding(
        "speed",
        "ok",
        f"{1000 * seconds:.2f} ms for a saved step, {1 / seconds:,.0f} per second (median of {trial.COMMITS})",
    )
    yield _locks(is_held=found.locks_hold)


def _locks(*, is_held: bool) -> Finding:
    if is_held:
        return Finding("locks", "ok", "one owner per workflow id")
    return Finding("locks", "fail", "the file system lets two owners run one workflow id; use a local disk")


def _file_system(folder: Path, read_mounts: Callable[[], str] | None = None) -> Finding:
    kind = find_file_system(folder, read_mounts or Path("/proc/self/mountinfo").read_text)
    if kind is None:
        return Finding("file system", "note", "not known on this platform; see that it is a local disk")
    if kind in NETWORK_FILE_SYSTEMS:
        return Finding(
            "file system", "warn", f"{kind} is shared with other machines, where WAL is not safe; use a local disk"
        )
    if kind in ("tmpfs", "ramfs"):
        return Finding("file system", "warn", f"{kind} is memory: it survives the death of a process, not a power cut")
    return Finding("file system", "ok", kind)


def find_file_system(folder: Path, read_mounts: Callable[[], str]) -> str | None:
    """Return the type of a folder's file system, as Linux names it; None if that cannot be found out."""
    if folder.drive.startswith("\\\\"):
        return "smb3"
    try:
        lines = read_mounts().splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:  # 36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw
        before, _, after = line.partition(" - ")
        point = Path(before.split(" ")[4].replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split(" ")[0]
    return kind


# ---- the database itself


def _database(database: str, path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("database", "note", f"there is no {database!r} yet; `durable run` makes it")
        return
    try:
        with reading(database) as file:
            yield Finding("database", "ok", f"{path}, {_count(file)}, {path.stat().st_size:,} bytes")
            yield from _contents(file, "SQLite and the checksums of all rows find nothing wrong")
    except DurableError as error:
        yield Finding("database", "fail", str(error))


def _shared(url: str) -> Iterator[Finding]:
    with fleet.looking(url) as records:
        yield Finding("database", "ok", f"{records.name}, {_count(records)}")
        yield from _contents(records, "the hashes of all large values find nothing wrong")


def _count(records: Reader | Shared) -> str:
    count = len(records.workflows())
    return f"{count} workflow{'s' if count != 1 else ''}"


def _contents(records: Reader | Shared, sound: str) -> Iterator[Finding]:
    faults, unused, pickled = records.check_integrity(), records.list_unused_values(), records.list_pickled()
    yield from (Finding("integrity", "fail", fault) for fault in faults)
    if not faults:
        yield Finding("integrity", "ok", sound)
    if unused:
        total, many = sum(size for _, size in unused), "s" if len(unused) != 1 else ""
        text = f"{len(unused)} large value{many} of {total:,} bytes, which no row names; `durable gc` drops them"
        yield Finding("values", "note", text)
    if pickled:
        named = ", ".join(f"{workflow_id}: {what}" for workflow_id, what in pickled[:MAX_NAMED])
        more = f", and {len(pickled) - MAX_NAMED} more" if len(pickled) > MAX_NAMED else ""
        yield Finding("pickle", "note", f"saved by pickle, and read only if the code asks for it: {named}{more}")
