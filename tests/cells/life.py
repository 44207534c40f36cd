"""One life of a notebook: a forked process with a shell of IPython, which runs the cells one after the other."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from IPython.core.interactiveshell import InteractiveShell

from tests.cells import world
from tests.support.patience import PATIENCE_SECONDS

LOAD = "%load_ext durable"


class Told(NamedTuple):
    """What a life that was not killed tells: the text of each cell, its errors, the variables, the next numbers."""

    texts: list[str]
    errors: list[str]
    variables: dict[str, Any]
    numbers: list[float]


class Kill(NamedTuple):
    """When a life is killed: some time after an effect, or at a moment of a step."""

    after_effect: int | None = None
    delay: float = 0.0
    crash_at: str | None = None


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
    world.settings.update(effects=folder / "effects", kill_after=kill.after_effect, delay=kill.delay)
    if kill.crash_at is not None:
        os.environ["DURABLE_CRASH_AT"] = kill.crash_at
    if before is not None:
        before()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    shell = InteractiveShell.instance()
    shell.run_line_magic("colors", "nocolor")
    shell.history_manager.enabled = False
    texts, errors = [], []
    for cell in [LOAD, '%durable file "a notebook.durable.db"', *cells]:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            result = shell.run_cell(cell)
        error = result.error_before_exec or result.error_in_exec
        texts.append("" if error else text.getvalue())
        errors.append("" if error is None else f"{type(error).__name__}: {error}")
    end = Told(texts[2:], errors[2:], look(shell.user_ns), _next_numbers())
    told.write_text(json.dumps(end._asdict()))


def _next_numbers() -> list[float]:
    return [random.random(), float(np.random.rand())]  # noqa: NPY002


# ---- a look at variables


def look(variables: dict[str, Any]) -> dict[str, Any]:
    """Return what the variables of a notebook hold, and what they share, as plain data."""
    seen: dict[int, int] = {}
    kept: list[Any] = []
    hidden = ("In", "Out", "exit", "quit", "get_ipython", "open")
    return {
        name: _look(value, seen, kept)
        for name, value in sorted(variables.items())
        if not name.startswith("_") and name not in hidden and not hasattr(value, "__spec__")
    }


def _look(value: Any, seen: dict[int, int], kept: list[Any]) -> Any:
    kind = type(value)
    if kind in (int, str, bool, type(None)):
        return value
    if kind is float:
        return repr(value)
    if isinstance(value, type) or callable(value):
        return f"<{getattr(value, '__qualname__', kind.__qualname__)}>"
    if id(value) in seen:
        return f"<same as {seen[id(value)]}>"
    seen[id(value)] = len(seen)
    kept.append(value)
    return [f"{len(seen) - 1}: {kind.__qualname__}", *_inside(value, seen, kept)]


def _inside(value: Any, seen: dict[int, int], kept: list[Any]) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, value.tobytes().hex()]
    if isinstance(value, pd.DataFrame | pd.Series):
        hashes = pd.util.hash_pandas_object(value, index=True).to_numpy().tobytes().hex()
        types = str(value.dtypes) if isinstance(value, pd.DataFrame) else str(value.dtype)
        return [types, hashes]
    if isinstance(value, np.random.Generator):
        return [str(value.bit_generator.state)]
    if isinstance(value, random.Random):
        return [str(value.getstate())]
    if isinstance(value, dict):
        return [[_look(key, seen, kept), _look(part, seen, kept)] for key, part in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return [_look(part, seen, kept) for part in value]
    if hasattr(value, "__dict__"):
        return [[name, _look(part, seen, kept)] for name, part in sorted(vars(value).items())]
    return [repr(value)]
