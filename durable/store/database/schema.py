"""Schema: which version a file has, and the tables of a new or an older file. `schema.sql` explains them."""

from __future__ import annotations

import functools
import re
import sqlite3
from pathlib import Path

from durable.errors import SchemaVersionError

VERSION = 5
APPLICATION_ID = 0x64757261  # "dura": tells our files from those of other programs, whatever their version

# one statement, so that it sees another process make its tables either not at all or wholly
_WHOSE_FILE = """
select user_version, application_id,
       exists (select 1 from sqlite_master where name in ('workflows', 'runs', 'steps', 'attempts', 'deleted'))
from pragma_user_version, pragma_application_id
"""


def check(db: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of the file, 0 for a new one. Raises SchemaVersionError for a file that is not ours."""
    version, application, is_taken = db.execute(_WHOSE_FILE).fetchone()
    if application != APPLICATION_ID and (application or version or is_taken):
        raise SchemaVersionError(
            f"database {str(path)!r} belongs to another program (application id {application:#x}, schema version "
            f"{version}); use another file",
            path=path,
        )
    if version > VERSION:
        raise SchemaVersionError(
            f"database {str(path)!r} has schema version {version}, this package knows up to {VERSION}; use a "
            f"newer version of durable-lab, or another file",
            path=path,
        )
    return int(version)


def _read_script(name: str) -> str:
    return Path(__file__).parent.parent.joinpath(name).read_text(encoding="utf-8")


@functools.cache
def list_own_tables() -> frozenset[str]:
    """Return the names of the engine's tables."""
    return frozenset(re.findall(r"^create table if not exists (\w+)", _read_script("schema.sql"), re.MULTILINE))


def create_tables(db: sqlite3.Connection, path: Path) -> None:
    """Make our tables in a new file, or migrate those of an older version, one version after the other."""
    version = check(db, path)
    if version == VERSION:  # another process was first
        return
    migrations = [f"migrations/{number}.sql" for number in range(version + 1, VERSION + 1)]
    for script in [*(migrations if version else []), "schema.sql"]:
        for statement in _read_script(script).split(";\n"):  # executescript would commit
            db.execute(statement)
    db.execute(f"pragma application_id = {APPLICATION_ID}")
    db.execute(f"pragma user_version = {VERSION}")
