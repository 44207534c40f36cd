"""Lives of a notebook: its cells in a shell of IPython, in a process of its own that may be killed.

`live` starts one process, which imports what takes long and forks each life. So it needs Linux or macOS.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from IPython.core.getipython import get_ipython

from durable.observer import crash

LIFE_SECONDS = 60
BILL = Path("bill.txt")
BEFORE = ['%load_ext durable\n%durable file "lives.durable.db"\n%colors nocolor']


@dataclass
class _Kill:
    calls_left: int = 0  # until this process dies; 0 is never
    notice_seconds: float = 0.0


_kill = _Kill()


class Life(NamedTuple):
    """The cells of a life, and the call of `ask_price` in which its process dies, counted from 1; 0 is in none."""

    cells: Sequence[str]
    dies_in: int = 0


class Told(NamedTuple):
    """The end of a life: the text of each cell that ended, the shops that it asked, whether it was killed."""

    texts: list[str]
    calls: list[int]
    is_killed: bool


def live(*stories: Sequence[Life]) -> list[list[Told]]:
    """Live each story in a folder of its own, one life after the other. Raises RuntimeError if a life does not end."""
    path = [os.path.abspath(entry or ".") for entry in sys.path]  # noqa: PTH100 - "" is the current folder
    code = f"import sys; sys.path[:] = {path!r}; from durable.lab.course.lives import serve; serve()"
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(stories), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return [[Told(*told) for told in story] for story in json.loads(done.stdout)]


# ---- the service


def price_of(shop: int) -> int:
    """Return what a shop wants for a laptop."""
    return 900 + shop * 37 % 200


def ask_price(shop: int) -> int:
    """Ask a shop what it wants for a laptop. Each call costs a euro: it is a line of `bill.txt`."""
    with BILL.open("a", encoding="utf-8") as bill:
        bill.write(f"{shop}\n")
    if _kill.calls_left:
        _kill.calls_left -= 1
        if not _kill.calls_left:
            sys.stdout.flush()
            time.sleep(_kill.notice_seconds)
            crash()
    return price_of(shop)


def read_bill() -> list[int]:
    """Return the shops that were asked in this folder, in order."""
    return [int(line) for line in BILL.read_text(encoding="utf-8").split()] if BILL.exists() else []


def die_in(call: int, notice_seconds: float = 0.0) -> None:
    """Have this process killed in a call of `ask_price`, counted from now, some seconds after it was paid."""
    _kill.calls_left, _kill.notice_seconds = call, notice_seconds


# ---- the cells of this notebook


def cell_of(name: str) -> str:
    """Return the durable cell of this name, as it was run last in this kernel. Raises LookupError."""
    shell: Any = get_ipython()
    cells = [] if shell is None else shell.history_manager.input_hist_raw
    for cell in reversed(cells):
        if re.match(rf"%%durable\s+{re.escape(name)}(\s|$)", cell):
            return str(cell)
    raise LookupError(f"no cell %%durable {name} was run in this kernel; run it first")


def run_again(name: str) -> None:
    """Run a durable cell again, as if it were clicked."""
    shell: Any = get_ipython()
    head, _, body = cell_of(name).partition("\n")
    shell.run_cell_magic("durable", head.removeprefix("%%durable").strip(), body)


# ---- in the process that forks the lives: it never opens SQLite itself


def serve() -> None:
    """Read stories from stdin, live them, and write to stdout what each life told."""
    stories = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # stdout is for the answer

        import durable.lab  # noqa: F401 - here, so that no life need import it

        told = []
        for story in stories:
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                told.append([_live(Life(*life)) for life in story])
                os.chdir(tempfile.gettempdir())
        json.dump(told, out)


def _live(life: Life) -> Told:
    before, said = len(read_bill()), Path("said.jsonl")
    said.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _be_born(life, said)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if status and not is_killed:
        raise RuntimeError(f"the cells took longer than {LIFE_SECONDS} seconds")
    lines = said.read_text(encoding="utf-8").splitlines() if said.exists() else []
    return Told([json.loads(line) for line in lines], read_bill()[before:], is_killed)


def _be_born(life: Life, said: Path) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    signal.alarm(LIFE_SECONDS)
    die_in(life.dies_in)
    os.environ["IPYTHONDIR"] = str(Path("ipython").resolve())
    shell: Any = InteractiveShell.instance()
    shell.history_manager.enabled = False
    for number, cell in enumerate([*BEFORE, *life.cells]):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            result = shell.run_cell(cell)
        error = result.error_before_exec or result.error_in_exec
        if number >= len(BEFORE):
            words = text.getvalue() if error is None else f"{type(error).__name__}: {error}"
            with said.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(words) + "\n")
