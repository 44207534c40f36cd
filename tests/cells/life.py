"""One life of a notebook: a forked process with a shell of IPython, which runs the cells one after the other."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt  # noqa: F401 - here, so that a forked life need not import it
import sklearn.linear_model  # noqa: F401
from IPython.core.interactiveshell import InteractiveShell

from tests.cells.look import look, next_numbers
from tests.cells.world import Kill, begin
from tests.support.patience import PATIENCE_SECONDS

LOAD = "%load_ext durable"
FILE = '%durable file "a notebook.durable.db"'


class Shell(InteractiveShell):
    """A shell in which `%matplotlib inline` works, as it does in a kernel."""

    def enable_gui(self, gui: Any = None) -> None:
        """Have no window."""


class Told(NamedTuple):
    """What a life that was not killed tells: the text of each cell, its errors, the variables, the next numbers."""

    texts: list[str]
    errors: list[str]
    variables: dict[str, Any]
    numbers: list[float]


def live(
    folder: Path,
    cells: Sequence[str],
    kill: Kill = Kill(),  # noqa: B008 - it cannot be changed
    before: Callable[[], object] | None = None,
) -> Told | None:
    """Run the cells in a process of their own. Return what it tells, or None if it was killed.

    `before` is called in it first, to make it wrong on purpose.
    """
    told = folder / "told.json"
    told.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process hold no lock of ours
        pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _live(folder, cells, kill, before, told)
        os._exit(0)
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("a life of the notebook did not end")
        time.sleep(0.005)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return None
    return Told(**json.loads(told.read_text()))


def _live(folder: Path, cells: Sequence[str], kill: Kill, before: Callable[[], object] | None, told: Path) -> None:
    os.chdir(folder)
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    mpl.use("agg")
    if before is not None:
        before()
    shell = Shell.instance()
    shell.run_line_magic("colors", "nocolor")
    shell.history_manager.enabled = False
    begin(shell, folder, kill)
    texts, errors = [], []
    for cell in [LOAD, FILE, *cells]:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            result = shell.run_cell(cell)
        error = result.error_before_exec or result.error_in_exec
        texts.append("" if error else text.getvalue())
        errors.append("" if error is None else f"{type(error).__name__}: {error}")
    end = Told(texts[2:], errors[2:], look(shell.user_ns), next_numbers())
    told.write_text(json.dumps(end._asdict()))
